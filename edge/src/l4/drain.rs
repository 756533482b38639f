//! What becomes of connections to backends that have gone. Pure: time is an argument.
//!
//! The kernel leads a connection where its first packet went, whatever the tables say by now. So when a backend goes (it is
//! no endpoint any more, or fails its health check), its connections end: at once, or where the listener drains after so many
//! seconds. To end means that conntrack forgets them: what the client sends next goes to another backend, which knows nothing
//! of it and resets it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dataplane::Family;
use dataplane::conntrack::{Lasting, Stray};
use model::types::Protocol;

use super::compile::{Input, relayed};

/// Where connections come in.
type Place = (Protocol, SocketAddr);

/// Who has connections, and until when.
#[derive(Debug, Default)]
pub struct Drain {
    /// `None` before the first listeners are known.
    places: Option<BTreeMap<Place, Served>>,
    /// Backends that have gone from a place, and when their connections end.
    leaving: BTreeMap<(Place, SocketAddr), Instant>,
    /// Some have gone that do not drain.
    cut: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Served {
    backends: BTreeSet<SocketAddr>,
    drains: Option<Duration>,
}

impl Drain {
    /// The listeners are these from now on.
    pub fn update(&mut self, input: &Input<'_>, now: Instant) {
        let new = places(input);
        for (place, old) in self.places.replace(new).unwrap_or_default() {
            let served = self.places.as_ref().and_then(|places| places.get(&place));
            let gone: Vec<SocketAddr> = match served {
                Some(served) => old.backends.difference(&served.backends).copied().collect(),
                None => old.backends.iter().copied().collect(),
            };
            let drains = served.map_or(old.drains, |served| served.drains);
            for backend in gone {
                self.goes(place, backend, drains, now);
            }
        }
        let places = self.places.as_ref();
        let back = |place: &Place, backend: &SocketAddr| {
            places.and_then(|places| places.get(place)).is_some_and(|served| served.backends.contains(backend))
        };
        self.leaving.retain(|(place, backend), _| !back(place, backend));
    }

    /// What connections were found at the start that lead to nobody who is known: their backends went while nobody looked.
    pub fn found(&mut self, strays: &BTreeSet<Stray>, now: Instant) {
        for stray in strays {
            let place = (stray.protocol, stray.destination);
            let drains = self.places.as_ref().and_then(|places| places.get(&place)).and_then(|served| served.drains);
            self.goes(place, stray.backend, drains, now);
        }
    }

    fn goes(&mut self, place: Place, backend: SocketAddr, drains: Option<Duration>, now: Instant) {
        match drains.and_then(|drains| now.checked_add(drains)) {
            Some(end) => {
                self.leaving.entry((place, backend)).or_insert(end);
            }
            None => self.cut = true,
        }
    }

    /// When connections end next; `now` or earlier: at once.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        if self.cut { Some(now) } else { self.leaving.values().min().copied() }
    }

    /// Who may still have connections, now that those which are due end.
    pub fn sweep(&mut self, addresses: &BTreeSet<IpAddr>, now: Instant) -> Lasting {
        self.leaving.retain(|_, end| *end > now);
        self.cut = false;
        self.lasting(addresses)
    }

    /// Some that were due did not end.
    pub fn again(&mut self) {
        self.cut = true;
    }

    /// Who may have connections.
    pub fn lasting(&self, addresses: &BTreeSet<IpAddr>) -> Lasting {
        let mut lasting = Lasting { addresses: addresses.clone(), ..Lasting::default() };
        for (place, served) in self.places.iter().flatten() {
            lasting.backends.insert(*place, served.backends.clone());
        }
        for (place, backend) in self.leaving.keys() {
            lasting.backends.entry(*place).or_default().insert(*backend);
        }
        lasting
    }
}

/// Who serves which port of which address.
fn places(input: &Input<'_>) -> BTreeMap<Place, Served> {
    let mut places = BTreeMap::new();
    for active in input.active {
        let listener = &*active.listener;
        let protocol = listener.protocol.transport();
        let at = SocketAddr::new(active.address, listener.port);
        let family = Family::of(active.address);
        let backends: BTreeSet<SocketAddr> = if relayed(listener) {
            let relay = match protocol {
                Protocol::Udp => input.relays.udp.get(&at),
                _ => input.relays.tcp.get(&family),
            };
            relay.copied().into_iter().collect()
        } else {
            let of_family = active.backends.iter().filter(|b| Family::of(b.address.ip()) == family);
            of_family.map(|b| b.address).collect()
        };
        // What the proxy serves it drains itself.
        let drains = listener.drain_seconds.filter(|_| !relayed(listener));
        let served = Served { backends, drains: drains.map(|s| Duration::from_secs(s.into())) };
        let last = listener.end_port.unwrap_or(listener.port).max(listener.port);
        for port in listener.port..=last {
            places.insert((protocol, SocketAddr::new(active.address, port)), served.clone());
        }
    }
    places
}

#[cfg(test)]
mod tests;
