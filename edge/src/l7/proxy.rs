//! The proxy as the rest of the edge node sees it: started once, told what to do as often as that changes, stopped in order.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use model::types::ListenerProtocol;
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::accept::{Door, accept};
use super::idle::SWEEP;
use super::listening::Listening;
use super::metrics::Metrics;
use super::routes::{Place, Problem, Route, Routes};
use super::table::Table;
use super::worker::Workers;
use crate::relay;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;

/// What a proxy is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The edge node's own addresses: what is translated to come to the proxy is translated to one of these. At most one
    /// per family is used, the first.
    pub addresses: Vec<IpAddr>,
    /// Threads. 0: one per core.
    pub workers: usize,
    /// Connections of clients that are open at once; more wait until some have ended. Each may need two descriptors.
    pub connections: usize,
}

impl Options {
    /// As many threads as there are cores, and 16,384 connections.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, workers: 0, connections: 16_384 }
    }
}

/// Why a proxy cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("starting the proxy's threads")]
    Threads(#[source] io::Error),
    #[error("listening at {0}; check that it is an address of this machine")]
    Listen(IpAddr, #[source] io::Error),
}

/// What accepting and serving share.
pub struct Shared {
    pub workers: Workers,
    pub metrics: Metrics,
    table: RwLock<Arc<Table>>,
    listening: Mutex<BTreeMap<Place, Served>>,
}

/// A listener that is served.
struct Served {
    listening: Arc<Listening>,
    route: Route,
    /// Of a listener on UDP: where its datagrams are to be translated to, and what relays them.
    datagrams: Option<(SocketAddr, AbortHandle)>,
}

impl Shared {
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn all(&self) -> Vec<Arc<Listening>> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.values().map(|s| Arc::clone(&s.listening)).collect()
    }
}

/// The proxy. Dropping it cuts everything; [`Proxy::stop`] does not.
pub struct Proxy {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    ports: BTreeMap<bool, SocketAddr>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Proxy {
    /// Starts threads and listens at a free port of each family's own address. Nothing is served yet.
    ///
    /// # Errors
    /// When threads or sockets are not to be had.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if options.workers == 0 { cores() } else { options.workers };
        let shared = Arc::new(Shared {
            workers: Workers::start(count).map_err(StartError::Threads)?,
            metrics: Metrics::default(),
            table: RwLock::default(),
            listening: Mutex::default(),
        });
        let mut proxy = Self {
            shared,
            permits: Arc::new(Semaphore::new(options.connections.clamp(1, Semaphore::MAX_PERMITS))),
            ports: BTreeMap::new(),
            tasks: Mutex::default(),
        };
        for address in &options.addresses {
            if proxy.ports.contains_key(&address.is_ipv6()) {
                continue;
            }
            let failed = |error| StartError::Listen(*address, error);
            let socket = listen(*address).map_err(failed)?;
            proxy.ports.insert(address.is_ipv6(), socket.local_addr().map_err(failed)?);
            proxy.open(socket, Door::Translated);
        }
        proxy.sweep();
        Ok(proxy)
    }

    /// Does as `routes` says from now on, and tells what keeps listeners from serving as they should. Connections of listeners
    /// that stay are not touched; those of others finish what is under way.
    pub fn set(&self, routes: &Routes, now: Timestamp) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut listening = self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *listening);
        for route in &routes.routes {
            // An instance's address can become another's; its counts are the other's, then.
            let former = before.remove(&route.place()).and_then(|was| {
                let is_the_same = was.route.instance == route.instance;
                if !is_the_same {
                    self.forget(&was);
                }
                is_the_same.then_some(was)
            });
            let (served, messages) = match former {
                Some(stays) => {
                    let messages = stays.listening.follow(route, now);
                    (Served { route: route.clone(), ..stays }, messages)
                }
                None => self.serve(route, now),
            };
            problems.extend(messages.into_iter().map(|message| Problem {
                instance: Arc::clone(&route.instance),
                address: route.address,
                port: route.listener.port,
                protocol: route.listener.protocol,
                message,
            }));
            listening.insert(route.place(), served);
        }
        let table = Arc::new(Table::new(listening.values().map(|s| &s.listening)));
        *self.shared.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        for was in before.into_values() {
            self.forget(&was);
        }
        problems
    }

    fn serve(&self, route: &Route, now: Timestamp) -> (Served, Vec<String>) {
        let (listening, mut messages) = Listening::new(route, self.shared.workers.count(), &self.shared.metrics, now);
        let listening = Arc::new(listening);
        let datagrams = (route.listener.protocol == ListenerProtocol::Udp).then(|| self.relay(&listening));
        let datagrams = datagrams.transpose().unwrap_or_else(|error| {
            messages.push(format!("no socket for its datagrams: {error}; look at the edge node's limits"));
            None
        });
        (Served { listening, route: route.clone(), datagrams }, messages)
    }

    /// A socket for a listener's datagrams. The answers leave by it, so the kernel knows them.
    fn relay(&self, listening: &Arc<Listening>) -> io::Result<(SocketAddr, AbortHandle)> {
        let family = listening.place.address.is_ipv6();
        let own = self.ports.get(&family).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = UdpSocket::bind((own.ip(), 0))?;
        socket.set_nonblocking(true)?;
        let at = socket.local_addr()?;
        let workers = self.shared.workers.count();
        let handle = self.shared.workers.handles().nth(usize::from(at.port()) % workers);
        let listening = Arc::clone(listening);
        let relay = async move {
            match tokio::net::UdpSocket::from_std(socket) {
                Ok(socket) => relay::udp::run(socket, listening).await,
                Err(error) => tracing::error!("a socket for datagrams: {error}"),
            }
        };
        let task = handle.ok_or(io::ErrorKind::NotFound)?.spawn(relay);
        Ok((at, task.abort_handle()))
    }

    fn forget(&self, was: &Served) {
        was.listening.end(true);
        if let Some((_, task)) = &was.datagrams {
            task.abort();
        }
        self.shared.metrics.forget(&was.route);
    }

    /// Where connections to TCP listeners of a family are to be translated to: an address of this node, and the one port for
    /// all. None: there is no own address of that family.
    pub fn tcp(&self, is_ipv6: bool) -> Option<SocketAddr> {
        self.ports.get(&is_ipv6).copied()
    }

    /// Where datagrams for a listener's address and port are to be translated to. None: no such listener is proxied.
    pub fn udp(&self, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let listening = self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place { address, port, protocol: ListenerProtocol::Udp };
        listening.get(&place)?.datagrams.as_ref().map(|(at, _)| *at)
    }

    /// Serves what comes to a socket as if it had come to a listener's address: for tests and measurements, where nothing is
    /// translated. False: there is no such listener on TCP.
    pub fn serve_on(&self, socket: TcpListener, to: SocketAddr) -> bool {
        let Some(listening) = self.shared.table().find(to).cloned() else { return false };
        self.open(socket, Door::Of(listening));
        true
    }

    /// Adds what it counts.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Takes no more connections, lets those that are there finish, and returns when all have ended or the time is over.
    pub async fn stop(self, longest: Duration) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        for listening in self.shared.all() {
            listening.end(false);
        }
        let end = Instant::now() + longest;
        while self.shared.workers.connections() > 0 && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
        let open = self.shared.workers.connections();
        if open > 0 {
            tracing::warn!("stopping with {open} proxied connections still open");
        }
    }

    fn open(&self, socket: TcpListener, door: Door) {
        if let Err(error) = socket.set_nonblocking(true) {
            return tracing::error!("a socket of the proxy: {error}");
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.shared.workers.count();
        // They accept for all; who does it does not matter.
        if let Some(handle) = self.shared.workers.handles().nth(tasks.len() % count.max(1)) {
            let (shared, permits) = (Arc::clone(&self.shared), Arc::clone(&self.permits));
            tasks.push(handle.spawn(accept(socket, door, shared, permits)).abort_handle());
        }
    }

    /// Each worker looks after its idle connections.
    fn sweep(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for (worker, handle) in self.shared.workers.handles().enumerate() {
            let shared = Arc::clone(&self.shared);
            let sweep = async move {
                loop {
                    sleep(SWEEP).await;
                    for listening in shared.all() {
                        for backend in listening.settings().all() {
                            if let Some(mut idle) = backend.idle(worker) {
                                idle.sweep(Instant::now());
                            }
                        }
                    }
                }
            };
            tasks.push(handle.spawn(sweep).abort_handle());
        }
    }
}

impl Drop for Proxy {
    /// The tasks hold what the threads wait for the end of.
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

/// IPv6 for itself: an IPv4 address has a socket of its own.
fn listen(address: IpAddr) -> io::Result<TcpListener> {
    let at = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
