//! Clients that stay with their backend, for relayed connections: by address, for a time after their last new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::l7::clock;

/// Clients of a listener that are remembered; who comes when there are so many is not.
const MOST: usize = 65_536;

/// Backends by client, and until when ([`clock`]).
#[derive(Debug, Default)]
pub struct Affinity {
    clients: Mutex<HashMap<IpAddr, (u64, u64)>>,
}

impl Affinity {
    /// Who served this client.
    pub fn wanted(&self, client: IpAddr) -> Option<u64> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(&client.to_canonical()).filter(|(_, until)| clock::millis() < *until).map(|(id, _)| *id)
    }

    pub fn note(&self, client: IpAddr, backend: u64, stays: Duration) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (client, now) = (client.to_canonical(), clock::millis());
        if clients.len() >= MOST && !clients.contains_key(&client) {
            clients.retain(|_, (_, until)| now < *until);
            if clients.len() >= MOST {
                return;
            }
        }
        clients.insert(client, (backend, now + clock::in_millis(stays)));
    }
}
