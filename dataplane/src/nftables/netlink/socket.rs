//! The netlink socket. Everything is synchronous: when `sendmsg` returns, the kernel has done the batch and its
//! answers wait in the socket.

use std::io;

use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use crate::nftables::layout::Owner;

use super::batch::{Batch, FAMILY_HEADER, HEADER, NLM_F_DUMP, NLM_F_REQUEST, finish, header};
use super::{NetlinkError, Writer, attribute};

/// How much the kernel may hold for us; a batch is one message. Only memory that a batch really needs is taken.
const SEND_BUFFER_BYTES: usize = 256 << 20;
/// Answers are small: one per failed message.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Larger than any answer to what is asked here.
const ANSWER_BYTES: usize = 64 << 10;
/// How often a dump is begun anew when what it reads changes.
const DUMP_ATTEMPTS: usize = 8;
/// A refused batch answers for each bad message; the first one is what is reported.
const MAX_ANSWERS: usize = 100_000;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Something changed between two parts of a dump.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A question to netfilter.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `nlmsg_type`: the subsystem, and the message within it.
    pub kind: u16,
    /// `NLM_F_ACK` or [`NLM_F_DUMP`]: something must tell where the answer ends.
    pub flags: u16,
    /// `nfgen_family`; 0 is any.
    pub family: u8,
    /// For errors, e.g. `reading the rules`.
    pub what: &'a str,
}

/// What a batch took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub bytes: usize,
    /// Pieces, each of them a generation of the ruleset: one as a rule.
    pub frames: u32,
}

/// A bound socket of the network namespace in which it was opened.
pub struct Socket {
    raw: Raw,
    /// The largest message that the kernel takes from this socket.
    limit: usize,
    owner: Owner,
}

impl Socket {
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Self::open_to(NETLINK_NETFILTER)
    }

    /// As [`Socket::open`]; what is read is of the tables of `owner`.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open_for(owner: Owner) -> io::Result<Self> {
        Ok(Self { owner, ..Self::open()? })
    }

    /// Whose tables are read and written.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Opens a socket to another part of the kernel.
    pub(crate) fn open_to(protocol: isize) -> io::Result<Self> {
        let mut raw = Raw::new(protocol)?;
        raw.bind_auto()?;
        raw.connect(&SocketAddr::new(0, 0))?;
        // Errors name the reason, and do not repeat the message. Both are niceties that old kernels lack.
        let _ = raw.set_ext_ack(true);
        let _ = raw.set_cap_ack(true);
        // Only the machine's root may go beyond net.core.wmem_max; root of a user namespace gets what that allows.
        if setsockopt(&raw, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&raw, sockopt::SndBuf, &SEND_BUFFER_BYTES);
        }
        if setsockopt(&raw, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&raw, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
        }
        let limit = getsockopt(&raw, sockopt::SndBuf).map_err(io::Error::from)?.saturating_sub(64);
        Ok(Self { raw, limit, owner: Owner::Agent })
    }

    /// The number by which the kernel knows this socket, and which is in every message about what it did.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn port(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.raw.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// Sends a batch and waits for its outcome.
    ///
    /// A batch is atomic unless it is larger than the socket's send buffer, which only happens without the
    /// machine's root rights; then it goes out in pieces, in order.
    ///
    /// # Errors
    /// The first thing that went wrong. Nothing was done then, except where it is [`NetlinkError::Torn`].
    pub fn commit(&self, batch: &Batch) -> Result<Sent, NetlinkError> {
        let mut sent = Sent::default();
        for frame in batch.frames(self.limit) {
            let bytes = frame.bytes.len();
            let outcome = self.raw.send(&frame.bytes, 0).map_err(|source| NetlinkError::Send { bytes, source });
            outcome.and_then(|_| self.outcome(batch, frame.last)).map_err(|error| match sent.frames {
                0 => error,
                _ => NetlinkError::Torn(Box::new(error)),
            })?;
            sent.bytes += bytes;
            sent.frames += 1;
        }
        Ok(sent)
    }

    fn outcome(&self, batch: &Batch, last: u32) -> Result<(), NetlinkError> {
        let mut acknowledged = false;
        let mut failed: Option<NetlinkError> = None;
        for _ in 0..MAX_ANSWERS {
            let Some(answer) = self.receive(libc::MSG_DONTWAIT)? else { break };
            for message in Messages(&answer) {
                let Some(Err((source, detail))) = (message.kind == NLMSG_ERROR).then(|| message.error()) else {
                    acknowledged |= message.kind == NLMSG_ERROR && message.sequence == last;
                    continue;
                };
                let what = batch.what(message.sequence).to_owned();
                failed.get_or_insert(NetlinkError::Refused { what, detail, source });
            }
        }
        match failed {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(NetlinkError::NoAnswer),
        }
    }

    /// Asks for one object; `None` when there is none. The answer is the object's attributes.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that there is none.
    pub fn get(
        &self,
        family: u8,
        kind: u8,
        what: &str,
        body: impl FnOnce(&mut Writer),
    ) -> Result<Option<Vec<u8>>, NetlinkError> {
        let mut writer = Writer::default();
        let kind = super::batch::NFTABLES << 8 | u16::from(kind);
        header(&mut writer.bytes, kind, NLM_F_REQUEST, 1, family, 0);
        body(&mut writer);
        finish(&mut writer.bytes, 0);
        let bytes = writer.bytes.len();
        self.raw.send(&writer.bytes, 0).map_err(|source| NetlinkError::Send { bytes, source })?;
        let answer = self.receive(libc::MSG_DONTWAIT)?.ok_or(NetlinkError::NoAnswer)?;
        let message = Messages(&answer).next().ok_or(NetlinkError::NoAnswer)?;
        match message.kind {
            NLMSG_ERROR => match message.error() {
                Err((source, _)) if source.raw_os_error() == Some(libc::ENOENT) => Ok(None),
                Err((source, detail)) => Err(NetlinkError::Refused { what: what.to_owned(), detail, source }),
                Ok(()) => Err(NetlinkError::NoAnswer),
            },
            NLMSG_DONE => Ok(None),
            _ => Ok(Some(message.body.get(FAMILY_HEADER..).unwrap_or_default().to_vec())),
        }
    }

    /// Asks, and hands over the attributes of every object of the answer. `false`: what was read changed meanwhile,
    /// so that objects may be missing or come twice.
    ///
    /// # Errors
    /// When the kernel refuses; objects may have been handed over before.
    pub fn exchange(
        &self,
        request: Request<'_>,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&[u8]),
    ) -> Result<bool, NetlinkError> {
        let mut buffer = Vec::with_capacity(ANSWER_BYTES);
        // What an exchange that failed half-way has left.
        while self.receive_into(&mut buffer, libc::MSG_DONTWAIT)? {}
        let mut writer = Writer::default();
        header(&mut writer.bytes, request.kind, request.flags | NLM_F_REQUEST, 1, request.family, 0);
        body(&mut writer);
        finish(&mut writer.bytes, 0);
        let bytes = writer.bytes.len();
        self.raw.send(&writer.bytes, 0).map_err(|source| NetlinkError::Send { bytes, source })?;
        let mut consistent = true;
        // Each part of a dump is made when the one before it is taken, so nothing has to be waited for.
        while self.receive_into(&mut buffer, libc::MSG_DONTWAIT)? {
            for message in Messages(&buffer) {
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    // Both begin with an error number, which is 0 when all went well.
                    NLMSG_ERROR | NLMSG_DONE => {
                        let refused =
                            |(source, detail)| NetlinkError::Refused { what: request.what.to_owned(), detail, source };
                        return message.error().map(|()| consistent).map_err(refused);
                    }
                    _ => each(message.body.get(FAMILY_HEADER..).unwrap_or_default()),
                }
            }
        }
        Err(NetlinkError::NoAnswer)
    }

    /// Every object that `body` selects, as `read` has it; from a single moment, except that a hash table of more than
    /// some hundred elements which the kernel is just resizing may lack some.
    ///
    /// # Errors
    /// When the kernel refuses, or when what is read does not rest.
    pub fn dump<T>(
        &self,
        kind: u16,
        family: u8,
        what: &str,
        body: impl Fn(&mut Writer),
        mut read: impl FnMut(&[u8], &mut Vec<T>),
    ) -> Result<Vec<T>, NetlinkError> {
        let request = Request { kind, flags: NLM_F_DUMP, family, what };
        for _ in 0..DUMP_ATTEMPTS {
            let mut all = Vec::new();
            if self.exchange(request, &body, |object| read(object, &mut all))? {
                return Ok(all);
            }
        }
        Err(NetlinkError::Changing { what: what.to_owned(), attempts: DUMP_ATTEMPTS })
    }

    /// One datagram, or `None` when nothing waits.
    fn receive(&self, flags: i32) -> Result<Option<Vec<u8>>, NetlinkError> {
        let mut buffer = Vec::with_capacity(ANSWER_BYTES);
        Ok(self.receive_into(&mut buffer, flags)?.then_some(buffer))
    }

    /// One datagram in place of what is in `buffer`; `false` when nothing waits.
    fn receive_into(&self, buffer: &mut Vec<u8>, flags: i32) -> Result<bool, NetlinkError> {
        buffer.clear();
        loop {
            match self.raw.recv(buffer, flags) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NetlinkError::Receive(error)),
            }
        }
    }
}

/// A received message.
pub(in crate::nftables) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// Of the socket whose request this is about.
    pub port: u32,
    /// What follows `struct nlmsghdr`.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Reads an `NLMSG_ERROR`: error 0 is an acknowledgement.
    pub fn error(&self) -> Result<(), (io::Error, String)> {
        let code = self.body.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
        if code == 0 {
            return Ok(());
        }
        let mut detail = String::new();
        if self.flags & NLM_F_ACK_TLVS != 0 {
            // The header of the message in question, and unless capped the message, come first.
            let original = self.body.get(4..8).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_ne_bytes(*b));
            let skip = if self.flags & NLM_F_CAPPED != 0 {
                HEADER
            } else {
                usize::try_from(original).unwrap_or(usize::MAX).max(HEADER)
            };
            let tail = skip.checked_add(4).and_then(|at| self.body.get(at..)).unwrap_or_default();
            if let Some(text) = attribute(tail, NLMSGERR_ATTR_MSG) {
                detail = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
            }
        }
        Err((io::Error::from_raw_os_error(-code), detail))
    }
}

/// The messages in a datagram.
pub(in crate::nftables) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let word = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_ne_bytes(*b));
        let half = |at: usize| bytes.get(at..).and_then(|b| b.first_chunk::<2>()).map(|b| u16::from_ne_bytes(*b));
        let length = usize::try_from(word(0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let message = Message { kind: half(4)?, flags: half(6)?, sequence: word(8)?, port: word(12)?, body };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}
