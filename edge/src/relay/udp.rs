//! Datagrams with a PROXY header in front: each client has a socket of its own towards its backend, by which the answers
//! find their way.
//!
//! The header stands in front of every datagram. PROXY's document leaves open whether the first would do; a server that
//! looks at each datagram alone, as those of DNS do, could not know what the first one said.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::header::{Transport, encode};
use crate::l7::backend::Busy;
use crate::l7::clock;
use crate::l7::listening::Listening;

/// Clients of one listener at a time; who comes when there are so many is not heard.
const CLIENTS_MOST: usize = 4096;

/// A client that is silent, and whose backend is, too, is forgotten.
const SILENCE: Duration = Duration::from_secs(60);

/// What a datagram can be at most.
const DATAGRAM_MOST: usize = 65_535;

/// Clients and what leads to their backends.
type Clients = Arc<Mutex<HashMap<SocketAddr, Arc<Session>>>>;

/// A client that asks.
struct Session {
    towards: UdpSocket,
    header: Vec<u8>,
    busy: Busy,
    /// By [`clock`].
    last: AtomicU64,
}

impl Session {
    fn moved(&self) {
        self.last.store(clock::millis(), Ordering::Relaxed);
    }
}

/// Relays what comes to a socket, until it is aborted.
pub async fn run(socket: UdpSocket, listening: Arc<Listening>) {
    let socket = Arc::new(socket);
    let clients = Clients::default();
    let mut buffer = vec![0; DATAGRAM_MOST];
    let mut datagram = Vec::new();
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // Of an answer to somebody before.
            Err(error) => {
                tracing::debug!("a socket for datagrams: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let known = lock(&clients).get(&client).map(Arc::clone);
        let session = match known {
            Some(session) => session,
            None => match begin(client, &socket, &listening, &clients).await {
                Ok(Some(session)) => session,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!("a socket towards a backend: {error}");
                    continue;
                }
            },
        };
        session.moved();
        datagram.clear();
        datagram.extend_from_slice(&session.header);
        datagram.extend_from_slice(buffer.get(..length).unwrap_or_default());
        // Refused, as the one before told: a datagram may be lost.
        if let Err(error) = session.towards.send(&datagram).await {
            tracing::debug!("a datagram to {}: {error}", session.busy.backend().address);
        }
    }
}

/// A new client. None: nobody serves, or there are too many.
async fn begin(
    client: SocketAddr,
    socket: &Arc<UdpSocket>,
    listening: &Arc<Listening>,
    clients: &Clients,
) -> io::Result<Option<Arc<Session>>> {
    if lock(clients).len() >= CLIENTS_MOST {
        return Ok(None);
    }
    let settings = listening.settings();
    let Some(backend) = settings.backends.choose(listening.asked(client.ip()), &[]) else { return Ok(None) };
    let any: IpAddr =
        if backend.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let towards = UdpSocket::bind((any, 0)).await?;
    towards.connect(backend.address).await?;
    listening.counts.backend_connections.inc();
    let asked = SocketAddr::new(listening.place.address, listening.place.port);
    let session = Arc::new(Session {
        towards,
        header: encode(client, asked, Transport::Datagram),
        busy: backend.busy(),
        last: AtomicU64::new(clock::millis()),
    });
    lock(clients).insert(client, Arc::clone(&session));
    let (socket, clients, answered) = (Arc::clone(socket), Arc::clone(clients), Arc::clone(&session));
    tokio::spawn(async move {
        answers(&answered, &socket, client).await;
        lock(&clients).remove(&client);
    });
    Ok(Some(session))
}

/// Takes answers back to the client, until both are silent, or the backend has gone or refuses.
async fn answers(session: &Session, socket: &UdpSocket, client: SocketAddr) {
    let mut departure = session.busy.backend().departure();
    let gone = async {
        match departure.wait_for(Option::is_some).await.map(|until| *until) {
            Ok(Some(until)) => sleep_until(until).await,
            _ => std::future::pending().await,
        }
    };
    let relay = async {
        let mut buffer = vec![0; DATAGRAM_MOST];
        loop {
            let quiet = Duration::from_millis(clock::millis().saturating_sub(session.last.load(Ordering::Relaxed)));
            let Some(rest) = SILENCE.checked_sub(quiet).filter(|r| !r.is_zero()) else { return };
            match timeout_at(Instant::now() + rest, session.towards.recv(&mut buffer)).await {
                Ok(Ok(length)) => {
                    session.moved();
                    // The client may have gone; it will not miss it.
                    let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), client).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!("answers of {}: {error}", session.busy.backend().address);
                    session.busy.backend().rests();
                    return;
                }
                Err(_) => {}
            }
        }
    };
    tokio::select! {
        () = gone => {}
        () = relay => {}
    }
}

fn lock(clients: &Clients) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Arc<Session>>> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}
