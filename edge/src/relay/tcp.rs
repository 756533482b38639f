//! A connection of a client, joined with one to a backend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::header::{self, Transport};
use super::{Ended, copy};
use crate::l7::backend::Busy;
use crate::l7::exchange::CONNECT_LONGEST;
use crate::l7::listening::{Listening, Settings};

/// How many backends are tried for one connection.
const TRIES: usize = 4;

/// Serves a client's connection, which has nothing left between it and the backend but octets.
pub async fn run<S>(client: S, peer: SocketAddr, to: SocketAddr, listening: &Arc<Listening>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let settings = listening.settings();
    // Nobody to send it to: the client sees it closed, as from a port that has nobody.
    let Some((mut backend, busy)) = connect(&settings, peer, listening).await else { return };
    if settings.listener.proxy_protocol
        && let Err(error) = backend.write_all(&header::encode(peer, to, Transport::Stream)).await
    {
        tracing::debug!("the PROXY header to {}: {error}", busy.backend().address);
        return;
    }
    let ended = copy(client, backend, settings.established, busy.backend().departure()).await;
    if let Ended::Broken(error) = ended {
        tracing::debug!("a relayed connection to {}: {error}", busy.backend().address);
    }
}

/// A connection to the backend whose turn it is, or to the next that takes one.
async fn connect(settings: &Settings, peer: SocketAddr, listening: &Listening) -> Option<(TcpStream, Busy)> {
    let stays = Duration::from_secs(settings.listener.persistence_seconds.into());
    let wanted = if stays.is_zero() { None } else { listening.affinity.wanted(peer.ip()) };
    let mut wanted = wanted.and_then(|id| settings.backends.by_id(id));
    let mut tried = Vec::new();
    while tried.len() < TRIES {
        let backend = wanted.take().or_else(|| settings.backends.choose(listening.asked(peer.ip()), &tried))?;
        let busy = backend.busy();
        let address = busy.backend().address;
        listening.counts.backend_connections.inc();
        match timeout(CONNECT_LONGEST, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                if !stays.is_zero() {
                    listening.affinity.note(peer.ip(), backend.id, stays);
                }
                return Some((stream, busy));
            }
            Ok(Err(error)) => tracing::debug!("connecting to {address}: {error}"),
            Err(_) => tracing::debug!("connecting to {address}: no answer"),
        }
        busy.backend().rests();
        tried.push(address);
    }
    None
}
