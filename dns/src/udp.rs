//! Answers by UDP: a few threads, each with one socket of every address, each answering what comes in batches.
//!
//! A thread sleeps in `poll` over its sockets and one event, by which it is told of addresses that come and go and of the end.
//! What has come to a socket is received by one call, answered under one read lock of the names, and sent by one call. Nothing
//! here blocks: an answer that the kernel does not take at once is dropped, as the network might have done, and the client asks
//! again.

mod batch;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::door::{Ahead, Door, Step, Way};
use crate::message::Transport;
use crate::metrics::Writer;
use batch::Batch;

/// What a thread is told. It ends when whoever tells has gone.
enum Order {
    Listen(Place),
    /// Answered by dropping the sender, when the socket is closed.
    Leave(SocketAddr, Sender<()>),
}

/// What one thread has of an address.
struct Place {
    way: Way,
    socket: Arc<UdpSocket>,
}

/// The threads. Dropping it ends them and waits for that: milliseconds, since none of them ever blocks.
pub(crate) struct Threads {
    threads: Vec<Thread>,
}

struct Thread {
    orders: Option<Sender<Order>>,
    wake: Arc<EventFd>,
    handle: Option<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn start(count: usize, door: &Arc<Door>) -> io::Result<Self> {
        let threads = (0..count).map(|number| Thread::start(number, door.clone())).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Gives each thread one of these sockets, which are as many as threads.
    pub(crate) fn listen(&self, address: SocketAddr, sockets: Vec<UdpSocket>, door: &Door) {
        for (number, (thread, socket)) in self.threads.iter().zip(sockets).enumerate() {
            let way = door.way(address, Transport::Udp, Writer::Thread(number));
            thread.tell(Order::Listen(Place { way, socket: Arc::new(socket) }));
        }
    }

    /// Returns when the sockets of this address are closed, but for answers that other servers still owe.
    pub(crate) fn leave(&self, address: SocketAddr) {
        let (done, left) = channel();
        for thread in &self.threads {
            thread.tell(Order::Leave(address, done.clone()));
        }
        drop(done);
        while left.recv().is_ok() {}
    }
}

impl Thread {
    fn start(number: usize, door: Arc<Door>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (orders, told) = channel();
        let woken = wake.clone();
        let handle = std::thread::Builder::new()
            .name(format!("dns-udp-{number}"))
            .spawn(move || Worker { door, told, woken, places: HashMap::new(), batch: Batch::new() }.run())?;
        Ok(Self { orders: Some(orders), wake, handle: Some(handle) })
    }

    fn tell(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A thread that has ended has no sockets to leave.
            let _ = orders.send(order);
        }
        let _ = self.wake.write(1);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.wake.write(1);
        if self.handle.take().is_some_and(|handle| handle.join().is_err()) {
            tracing::error!("a thread that answers DNS by UDP had panicked");
        }
    }
}

struct Worker {
    door: Arc<Door>,
    told: Receiver<Order>,
    woken: Arc<EventFd>,
    places: HashMap<SocketAddr, Place>,
    batch: Batch,
}

impl Worker {
    fn run(mut self) {
        loop {
            let (woken, ready) = match self.wait() {
                Ok(found) => found,
                Err(Errno::EINTR) => continue,
                Err(error) => return tracing::error!(%error, "DNS by UDP has ended: nothing can be waited for"),
            };
            if woken && !self.take_orders() {
                return;
            }
            for address in ready {
                if let Some(place) = self.places.get(&address) {
                    answer(&self.door, place, &mut self.batch);
                }
            }
        }
    }

    /// Sleeps until an order or a query has come.
    fn wait(&self) -> Result<(bool, Vec<SocketAddr>), Errno> {
        let wake: BorrowedFd<'_> = self.woken.as_fd();
        let mut events = vec![PollFd::new(wake, PollFlags::POLLIN)];
        events.extend(self.places.values().map(|place| PollFd::new(place.socket.as_fd(), PollFlags::POLLIN)));
        poll(&mut events, PollTimeout::NONE)?;
        let mut found = events.iter().map(|event| event.any().unwrap_or(true));
        let woken = found.next().unwrap_or(false);
        Ok((woken, self.places.keys().zip(found).filter_map(|(address, ready)| ready.then_some(*address)).collect()))
    }

    /// False: the end.
    fn take_orders(&mut self) -> bool {
        // Another order may set it again; what it stands for is in the channel.
        let _ = self.woken.read();
        loop {
            match self.told.try_recv() {
                Ok(Order::Listen(place)) => drop(self.places.insert(place.way.address, place)),
                Ok(Order::Leave(address, done)) => {
                    drop(self.places.remove(&address));
                    drop(done);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }
}

/// Answers what has come to one socket, one batch of it.
fn answer(door: &Door, place: &Place, batch: &mut Batch) {
    let Place { way, socket } = place;
    match batch.receive(socket, way.address) {
        Ok(()) => {}
        Err(Errno::EAGAIN | Errno::EINTR) => return,
        // An error that waits in the socket is taken out by reading it.
        Err(error) => return tracing::debug!(%error, address = %way.address, "receiving queries"),
    }
    let now = door.now();
    {
        let names = door.names.read().unwrap_or_else(PoisonError::into_inner);
        batch.fill(|client, bytes, spin, out| match door.first(&names, way, client.ip(), bytes, now, spin, out) {
            Step::Silence => None,
            Step::Said(facts) => Some(facts),
            Step::Ask(pending, room) => {
                door.ask_others(Ahead {
                    pending,
                    room,
                    socket: socket.clone(),
                    address: way.address,
                    client,
                    query: bytes.into(),
                    began: now,
                });
                None
            }
        });
    }
    batch.send(socket);
    batch.count(door, way, now);
}
