//! Up to 64 messages that are received by one call and answered by one, in buffers that stay.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use crate::door::{Door, Now, Way, seed};
use crate::log::Answered;
use crate::message::{QUERY_SIZE_MAX, UDP_SIZE_MAX};
use crate::respond::{Facts, Spin};

/// Messages of one call. More wait in the socket.
const SIZE: usize = 64;

pub(super) struct Batch {
    spin: Spin,
    received: Vec<Received>,
    queries: Vec<[u8; QUERY_SIZE_MAX]>,
    /// One for each family: the kernel notes in a header how long the last address was, and takes that for the room there is.
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
    answers: Vec<Vec<u8>>,
    /// Parallel: which message is answered, with what facts; and where to.
    filled: Vec<(usize, Facts)>,
    to: Vec<Option<SockaddrStorage>>,
    from: MultiHeaders<SockaddrStorage>,
}

struct Received {
    length: usize,
    from: SockaddrStorage,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            spin: Spin::new(seed()),
            received: Vec::with_capacity(SIZE),
            queries: vec![[0; QUERY_SIZE_MAX]; SIZE],
            v4: MultiHeaders::preallocate(SIZE, None),
            v6: MultiHeaders::preallocate(SIZE, None),
            answers: (0..SIZE).map(|_| Vec::with_capacity(UDP_SIZE_MAX.into())).collect(),
            filled: Vec::with_capacity(SIZE),
            to: Vec::with_capacity(SIZE),
            from: MultiHeaders::preallocate(SIZE, None),
        }
    }

    /// Takes what waits.
    pub(super) fn receive(&mut self, socket: &UdpSocket, address: SocketAddr) -> Result<(), Errno> {
        self.received.clear();
        let into = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let mut slices: Vec<_> = self.queries.iter_mut().map(|query| [IoSliceMut::new(query)]).collect();
        let messages = recvmmsg(socket.as_raw_fd(), into, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        self.received
            .extend(messages.filter_map(|message| Some(Received { length: message.bytes, from: message.address? })));
        Ok(())
    }

    /// Has each message answered into a buffer of its own.
    pub(super) fn fill(&mut self, mut answer: impl FnMut(SocketAddr, &[u8], &mut Spin, &mut Vec<u8>) -> Option<Facts>) {
        self.filled.clear();
        self.to.clear();
        for (index, (received, query)) in self.received.iter().zip(&self.queries).enumerate() {
            let Some(client) = address(&received.from) else { continue };
            let (Some(bytes), Some(out)) = (query.get(..received.length), self.answers.get_mut(self.filled.len()))
            else {
                continue;
            };
            if let Some(facts) = answer(client, bytes, &mut self.spin, out) {
                self.filled.push((index, facts));
                self.to.push(Some(received.from));
            }
        }
    }

    /// Sends what was answered. What the kernel refuses is dropped: for want of room all that is left, for another reason
    /// the one message (its client may have gone, or cannot be reached).
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        let slices: Vec<_> = self.answers.iter().take(self.to.len()).map(|out| [IoSlice::new(out)]).collect();
        let mut sent = 0;
        while let (Some(slices), Some(to)) = (slices.get(sent..), self.to.get(sent..))
            && !to.is_empty()
        {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmmsg(socket.as_raw_fd(), &mut self.from, slices, to, [], flags) {
                Ok(results) => sent += results.count().max(1),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return,
                Err(_) => sent += 1,
            }
        }
    }

    pub(super) fn count(&self, door: &Door, way: &Way, began: Now) {
        let took = began.elapsed();
        for ((index, facts), answer) in self.filled.iter().zip(&self.answers) {
            let (Some(received), Some(query)) = (self.received.get(*index), self.queries.get(*index)) else { continue };
            let Some(query) = query.get(..received.length) else { continue };
            way.block.count(facts, query.len(), answer.len(), took);
            if let (Some(log), Some(client)) = (&door.log, address(&received.from)) {
                log.answered(&Answered { transport: way.transport, client, query, answer, code: facts.code, took });
            }
        }
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
