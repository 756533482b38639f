//! The server: sockets, threads and limits, put together. What is answered is decided elsewhere.
//!
//! A few threads answer by UDP ([`crate::udp`]). One more thread runs a Tokio runtime of its own for everything that waits: TCP and
//! what other servers are asked. So nothing that the process does beside, however long it blocks, delays an answer.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

use crate::access::Access;
use crate::door::{Ahead, Door};
use crate::forward::{Forwarder, Upstream, UpstreamError};
use crate::limit::Rates;
use crate::log::Log;
use crate::message::Transport;
use crate::metrics::{Metrics, Writer};
use crate::names::SharedNames;
use crate::sockets::{ListenError, bind};
use crate::tcp::Guests;
use crate::udp::Threads;
use crate::{ahead, tcp};

/// Threads that answer by UDP where nothing is said: one for each core, and no more than this. One thread answers more than a
/// node's pods ask; the others are for bursts.
const THREADS_MAX: usize = 4;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Addresses to answer on from the beginning. Port 0: one that is free.
    pub listen: Vec<SocketAddr>,
    /// Who is asked about names that are not the cluster's.
    pub upstream: Upstream,
    pub allow: Access,
    pub rates: Rates,
    /// Writes a line for each query.
    pub log: bool,
    /// Threads that answer by UDP. `None`: one for each core, up to four.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            upstream: Upstream::host(),
            allow: Access::default(),
            rates: Rates::default(),
            log: false,
            threads: None,
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("cannot start a thread for DNS")]
    Thread(#[source] io::Error),
}

/// A server that answers. Dropping it closes its sockets and ends its threads.
pub struct Server {
    // In this order they are dropped: first nothing comes in, then what waits is given up.
    udp: Threads,
    runtime: Runtime,
    door: Arc<Door>,
    forwarder: Arc<Forwarder>,
    listening: Mutex<HashSet<SocketAddr>>,
}

impl Server {
    /// Starts to answer. Sockets are made in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When an address cannot be had, or an upstream is no good. Nothing is left behind then.
    pub fn start(options: Options, names: SharedNames, metrics: Metrics) -> Result<Self, StartError> {
        let zone = names.read().unwrap_or_else(PoisonError::into_inner).zone().domain.to_ascii();
        metrics.set_zone(zone);
        let forwarder =
            Arc::new(Forwarder::new(options.upstream, options.listen.clone())?.counting(metrics.forward.clone()));
        let log = options.log.then(Log::start).transpose().map_err(StartError::Thread)?;
        let (ahead, queries) = unbounded_channel();
        let door = Arc::new(Door::new(names, options.allow, options.rates, log, metrics, ahead));
        let threads = options.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX),
            NonZeroUsize::get,
        );
        let server = Self {
            udp: Threads::start(threads, &door).map_err(StartError::Thread)?,
            runtime: Runtime::start(queries, door.clone(), forwarder.clone()).map_err(StartError::Thread)?,
            door,
            forwarder,
            listening: Mutex::default(),
        };
        for address in options.listen {
            server.listen(address)?;
        }
        Ok(server)
    }

    /// Answers on one more address, which need not be this machine's yet; returns it with the port that it has.
    ///
    /// # Errors
    /// When it cannot be had. All others are answered on as before.
    pub fn listen(&self, address: SocketAddr) -> Result<SocketAddr, ListenError> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.contains(&address) {
            return Err(ListenError::Twice(address));
        }
        let sockets = bind(address, self.udp.count())?;
        self.runtime.tell(Order::Listen(sockets.address, sockets.tcp))?;
        self.udp.listen(sockets.address, sockets.udp, &self.door);
        listening.insert(sockets.address);
        self.forwarder.answers_on(listening.iter().copied().collect());
        Ok(sockets.address)
    }

    /// Answers on this address no more. Connections that are open are served until they end.
    pub fn leave(&self, address: SocketAddr) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if !listening.remove(&address) {
            return;
        }
        let (done, left) = std::sync::mpsc::channel();
        if self.runtime.tell(Order::Leave(address, done)).is_ok() {
            let _ = left.recv();
        }
        self.udp.leave(address);
        self.forwarder.answers_on(listening.iter().copied().collect());
    }

    /// Where it answers, in no order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

enum Order {
    Listen(SocketAddr, TcpListener),
    /// Answered by dropping the sender.
    Leave(SocketAddr, std::sync::mpsc::Sender<()>),
}

/// The thread of everything that waits.
struct Runtime {
    orders: Option<UnboundedSender<Order>>,
    handle: Option<JoinHandle<()>>,
}

impl Runtime {
    fn start(queries: UnboundedReceiver<Ahead>, door: Arc<Door>, forwarder: Arc<Forwarder>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, told) = unbounded_channel();
        let handle = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut tasks = JoinSet::new();
                tasks.spawn(ahead::run(queries, door.clone(), forwarder.clone()));
                follow(told, &mut tasks, door, forwarder).await;
            });
            // What is still open goes with the runtime.
        })?;
        Ok(Self { orders: Some(orders), handle: Some(handle) })
    }

    fn tell(&self, order: Order) -> Result<(), ListenError> {
        let orders = self.orders.as_ref().ok_or(ListenError::Ended)?;
        orders.send(order).map_err(|_| ListenError::Ended)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.orders = None;
        if self.handle.take().is_some_and(|handle| handle.join().is_err()) {
            tracing::error!("the thread that answers DNS by TCP had panicked");
        }
    }
}

/// Does as it is told, until nobody is left who could tell.
async fn follow(
    mut told: UnboundedReceiver<Order>,
    tasks: &mut JoinSet<()>,
    door: Arc<Door>,
    forwarder: Arc<Forwarder>,
) {
    let guests = Arc::new(Guests::default());
    let mut listeners: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    while let Some(order) = told.recv().await {
        match order {
            Order::Listen(address, listener) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let way = door.way(address, Transport::Tcp, Writer::Runtime);
                    let run = tcp::run(listener, way, door.clone(), forwarder.clone(), guests.clone());
                    listeners.insert(address, tasks.spawn(run));
                }
                Err(error) => tracing::error!(%error, %address, "DNS does not answer by TCP"),
            },
            Order::Leave(address, done) => {
                if let Some(listener) = listeners.remove(&address) {
                    listener.abort();
                    // The socket is closed when the task is gone; tasks end one by one, and only listeners end at all.
                    while !listener.is_finished() && tasks.join_next().await.is_some() {}
                }
                drop(done);
            }
        }
    }
}
