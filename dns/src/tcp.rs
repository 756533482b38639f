//! Answers by TCP: messages behind two octets of their length, as many on a connection as the client likes (RFC 7766).
//!
//! Everything is bounded: connections in all and of one client, octets of a query, questions of a connection that wait for
//! other servers, the time until the next query and the time that a client takes to take an answer. What can be said at
//! once is said in turn, and nothing more is read before it is sent, so that a slow reader fills no memory but its own
//! socket's; what others must be asked about is answered when they have answered, out of turn (section 6.2.1.1).

mod connection;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::door::{Door, Way};
use crate::forward::Forwarder;
use connection::Connection;

/// Connections at a time, over all addresses.
const CONNECTIONS_MAX: usize = 512;
/// Connections of one client's address.
const CONNECTIONS_OF_CLIENT_MAX: usize = 32;
/// After an accept that failed for want of descriptors or memory, which others may give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is connected.
#[derive(Debug, Default)]
pub(crate) struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place among them.
pub(super) struct Seat {
    guests: Arc<Guests>,
    client: IpAddr,
}

impl Guests {
    /// `None`: there are too many, of this client or in all.
    fn seat(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.entry(client).or_default();
        if all >= CONNECTIONS_MAX || *own >= CONNECTIONS_OF_CLIENT_MAX {
            if *own == 0 {
                open.remove(&client);
            }
            return None;
        }
        *own += 1;
        Some(Seat { guests: self.clone(), client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
    }
}

/// Takes connections until the task is dropped. Those that are open then end by themselves.
pub(crate) async fn run(
    listener: TcpListener,
    way: Way,
    door: Arc<Door>,
    forwarder: Arc<Forwarder>,
    guests: Arc<Guests>,
) {
    let way = Arc::new(way);
    loop {
        let (stream, client): (_, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, address = %way.address, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = guests.seat(client.ip()) else { continue };
        let connection = Connection::new(stream, client, seat, way.clone(), door.clone(), forwarder.clone());
        tokio::spawn(connection.run());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_client_and_in_all_and_given_back() {
        let guests = Arc::new(Guests::default());
        let client = |number: u32| IpAddr::V4(number.into());
        let mut seats: Vec<_> = (0..CONNECTIONS_OF_CLIENT_MAX).map(|_| guests.seat(client(1)).unwrap()).collect();
        assert!(guests.seat(client(1)).is_none());
        seats.pop();
        seats.push(guests.seat(client(1)).unwrap());
        for number in 2.. {
            let Some(seat) = guests.seat(client(number)) else { break };
            seats.push(seat);
        }
        assert_eq!(seats.len(), CONNECTIONS_MAX);
        seats.clear();
        assert!(guests.0.lock().unwrap().is_empty());
    }
}
