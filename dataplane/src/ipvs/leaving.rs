//! Virtual servers as they are, and how a destination leaves without harm. Pure: time and the kernel's counts come in.
//!
//! A destination that is removed takes its connections with it: the kernel drops their packets. So it stays with weight
//! 0, which takes no new ones, until the kernel counts no connection to it any more, or [`PATIENCE`] is over; if it is
//! wanted again before, it has its weight back and nothing was lost. A virtual server stays as long as one of its
//! destinations. UDP has no connections that end: there a destination goes at once, and with it the kernel's memory of
//! who was sent there, so that the next packet goes elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::types::Protocol;

use super::state::{Connections, Place, Server};
use crate::Scheduler;

/// How long a destination without weight waits for its connections. Two connections in a row that keep each other alive
/// (a proxy's pool) would else keep it forever.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// One request to the kernel. In the order in which they are given, no connection is lost to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    AddServer {
        place: Place,
        scheduler: Scheduler,
        persistence_seconds: Option<u32>,
    },
    /// Its connections stay.
    SetServer {
        place: Place,
        scheduler: Scheduler,
        persistence_seconds: Option<u32>,
    },
    RemoveServer {
        place: Place,
    },
    AddDestination {
        place: Place,
        destination: SocketAddr,
        weight: u32,
    },
    SetWeight {
        place: Place,
        destination: SocketAddr,
        weight: u32,
    },
    RemoveDestination {
        place: Place,
        destination: SocketAddr,
    },
}

/// Every virtual server of ours that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    there: BTreeMap<Place, There>,
    /// Destinations that leave, and since when.
    leaving: BTreeMap<(Place, SocketAddr), Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct There {
    scheduler: Scheduler,
    persistence_seconds: Option<u32>,
    weights: BTreeMap<SocketAddr, u32>,
}

impl Command {
    /// Whose virtual server it is about.
    pub fn place(&self) -> Place {
        match self {
            Self::AddServer { place, .. }
            | Self::SetServer { place, .. }
            | Self::RemoveServer { place }
            | Self::AddDestination { place, .. }
            | Self::SetWeight { place, .. }
            | Self::RemoveDestination { place, .. } => *place,
        }
    }
}

impl Servers {
    /// What a kernel has. Whatever of it is not wanted must be taken out with [`Servers::want`].
    pub fn found(servers: BTreeMap<Place, Server>) -> Self {
        let there = |(place, s): (Place, Server)| {
            let Server { scheduler, persistence_seconds, destinations: weights } = s;
            (place, There { scheduler, persistence_seconds, weights })
        };
        Self { there: servers.into_iter().map(there).collect(), leaving: BTreeMap::new() }
    }

    /// Where there are virtual servers, those included that wait for their end.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.there.keys()
    }

    pub fn contains(&self, place: &Place) -> bool {
        self.there.contains_key(place)
    }

    /// Whether there is a virtual server at the address.
    pub fn has(&self, address: IpAddr) -> bool {
        // Places are sorted by address, and TCP is the first protocol.
        let first = Place::new(address, Protocol::Tcp, 0);
        self.there.range(first..).next().is_some_and(|(place, _)| place.address == address)
    }

    /// Whether the server takes no new connections and waits for the end of those that it has.
    pub fn is_leaving(&self, place: &Place) -> bool {
        self.there.get(place).is_some_and(|there| {
            !there.weights.is_empty() && there.weights.keys().all(|d| self.leaving.contains_key(&(*place, *d)))
        })
    }

    /// The virtual server as the kernel has it, destinations that leave included.
    pub fn get(&self, place: &Place) -> Option<Server> {
        self.there.get(place).map(|there| Server {
            scheduler: there.scheduler,
            persistence_seconds: there.persistence_seconds,
            destinations: there.weights.clone(),
        })
    }

    /// What the kernel has at a place was found to be another than was written.
    pub fn correct(&mut self, place: Place, found: Option<Server>) {
        self.leaving.retain(|(at, destination), _| {
            *at != place || found.as_ref().is_some_and(|server| server.destinations.contains_key(destination))
        });
        match found {
            Some(Server { scheduler, persistence_seconds, destinations: weights }) => {
                self.there.insert(place, There { scheduler, persistence_seconds, weights });
            }
            None => {
                self.there.remove(&place);
            }
        }
    }

    /// Makes the place what is wanted of it.
    pub fn want(&mut self, place: Place, wanted: Option<&Server>, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        if let Some(Server { scheduler, persistence_seconds, .. }) = wanted {
            let (scheduler, persistence_seconds) = (*scheduler, *persistence_seconds);
            match self.there.get_mut(&place) {
                None => {
                    commands.push(Command::AddServer { place, scheduler, persistence_seconds });
                    let there = There { scheduler, persistence_seconds, weights: BTreeMap::new() };
                    self.there.insert(place, there);
                }
                Some(there) if (there.scheduler, there.persistence_seconds) != (scheduler, persistence_seconds) => {
                    commands.push(Command::SetServer { place, scheduler, persistence_seconds });
                    (there.scheduler, there.persistence_seconds) = (scheduler, persistence_seconds);
                }
                Some(_) => {}
            }
        }
        let Some(there) = self.there.get_mut(&place) else { return commands };
        // Who is to be there first, so that at no time nobody is.
        for (destination, weight) in wanted.iter().flat_map(|server| &server.destinations) {
            let (destination, weight) = (*destination, *weight);
            self.leaving.remove(&(place, destination));
            match there.weights.insert(destination, weight) {
                None => commands.push(Command::AddDestination { place, destination, weight }),
                Some(before) if before != weight => commands.push(Command::SetWeight { place, destination, weight }),
                Some(_) => {}
            }
        }
        let stays = |d: &SocketAddr| wanted.is_some_and(|server| server.destinations.contains_key(d));
        let gone: Vec<SocketAddr> = there.weights.keys().filter(|d| !stays(d)).copied().collect();
        for destination in gone {
            if place.protocol == Protocol::Udp {
                there.weights.remove(&destination);
                commands.push(Command::RemoveDestination { place, destination });
                continue;
            }
            self.leaving.entry((place, destination)).or_insert(now);
            if there.weights.insert(destination, 0) != Some(0) {
                commands.push(Command::SetWeight { place, destination, weight: 0 });
            }
        }
        if wanted.is_none() && there.weights.is_empty() {
            self.there.remove(&place);
            commands.push(Command::RemoveServer { place });
        }
        commands
    }

    /// The servers with destinations that leave: whose connections are to be counted for [`Servers::tend`].
    pub fn waiting(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.leaving.keys().map(|(place, _)| *place).collect();
        places.dedup();
        places
    }

    /// Removes destinations that leave and have no connection any more, or have waited long enough, and servers that
    /// are wanted no more with the last of them. `None` counts as none: the kernel has no such destination.
    pub fn tend(
        &mut self,
        now: Instant,
        is_wanted: impl Fn(&Place) -> bool,
        count: impl Fn(&Place, &SocketAddr) -> Option<Connections>,
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        let leaving = std::mem::take(&mut self.leaving);
        for ((place, destination), since) in leaving {
            let counted = count(&place, &destination);
            let idle = counted.is_none_or(|c| c == Connections::default());
            if !idle && now.saturating_duration_since(since) < PATIENCE {
                self.leaving.insert((place, destination), since);
                continue;
            }
            let Some(there) = self.there.get_mut(&place) else { continue };
            if there.weights.remove(&destination).is_some() && counted.is_some() {
                commands.push(Command::RemoveDestination { place, destination });
            }
            if there.weights.is_empty() && !is_wanted(&place) {
                self.there.remove(&place);
                commands.push(Command::RemoveServer { place });
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn place(protocol: Protocol) -> Place {
        Place::new("10.96.0.1".parse().unwrap(), protocol, 80)
    }

    fn server(destinations: &[(&str, u32)]) -> Server {
        Server {
            scheduler: Scheduler::RoundRobin,
            persistence_seconds: None,
            destinations: destinations.iter().map(|(d, w)| (d.parse().unwrap(), *w)).collect(),
        }
    }

    fn text(commands: &[Command]) -> String {
        let line = |command: &Command| match command {
            Command::AddServer { scheduler, persistence_seconds, .. } => {
                format!("add server {scheduler} {persistence_seconds:?}\n")
            }
            Command::SetServer { scheduler, persistence_seconds, .. } => {
                format!("set server {scheduler} {persistence_seconds:?}\n")
            }
            Command::RemoveServer { .. } => "remove server\n".to_owned(),
            Command::AddDestination { destination, weight, .. } => format!("add {destination} {weight}\n"),
            Command::SetWeight { destination, weight, .. } => format!("set {destination} {weight}\n"),
            Command::RemoveDestination { destination, .. } => format!("remove {destination}\n"),
        };
        commands.iter().map(line).collect()
    }

    fn check(commands: &[Command], expected: Expect) {
        expected.assert_eq(&text(commands));
    }

    const IDLE: Option<Connections> = Some(Connections { active: 0, inactive: 0 });
    const BUSY: Option<Connections> = Some(Connections { active: 0, inactive: 1 });

    #[test]
    fn a_destination_leaves_when_its_connections_have_ended() {
        let (mut servers, at, now) = (Servers::default(), place(Protocol::Tcp), Instant::now());
        let both = server(&[("10.244.1.2:8080", 1), ("10.244.2.2:8080", 1)]);
        check(
            &servers.want(at, Some(&both), now),
            expect![[r#"
                add server rr None
                add 10.244.1.2:8080 1
                add 10.244.2.2:8080 1
            "#]],
        );
        check(&servers.want(at, Some(&both), now), expect![""]);
        let one = server(&[("10.244.1.2:8080", 1)]);
        check(&servers.want(at, Some(&one), now), expect![["set 10.244.2.2:8080 0\n"]]);
        assert_eq!(servers.waiting(), [at]);
        let minute = now + Duration::from_secs(60);
        check(&servers.tend(minute, |_| true, |_, _| BUSY), expect![""]);
        check(&servers.tend(minute, |_| true, |_, _| IDLE), expect![["remove 10.244.2.2:8080\n"]]);
        assert!(servers.waiting().is_empty());
        check(&servers.tend(minute, |_| true, |_, _| IDLE), expect![""]);
    }

    #[test]
    fn who_comes_back_has_its_weight_and_patience_ends() {
        let (mut servers, at, now) = (Servers::default(), place(Protocol::Tcp), Instant::now());
        servers.want(at, Some(&server(&[("10.244.1.2:8080", 3), ("10.244.2.2:8080", 1)])), now);
        servers.want(at, Some(&server(&[("10.244.2.2:8080", 1)])), now);
        check(
            &servers.want(at, Some(&server(&[("10.244.1.2:8080", 3), ("10.244.2.2:8080", 1)])), now),
            expect![["set 10.244.1.2:8080 3\n"]],
        );
        assert!(servers.waiting().is_empty());
        servers.want(at, Some(&server(&[("10.244.2.2:8080", 1)])), now);
        // Wanted as it is, it waits from when it was taken out.
        servers.want(at, Some(&server(&[("10.244.2.2:8080", 1)])), now + Duration::from_secs(600));
        check(&servers.tend(now + PATIENCE - Duration::from_secs(1), |_| true, |_, _| BUSY), expect![""]);
        check(&servers.tend(now + PATIENCE, |_| true, |_, _| BUSY), expect![["remove 10.244.1.2:8080\n"]]);
    }

    #[test]
    fn a_server_goes_with_its_last_connection() {
        let (mut servers, at, now) = (Servers::default(), place(Protocol::Sctp), Instant::now());
        servers.want(at, Some(&server(&[("10.244.1.2:8080", 1), ("10.244.2.2:8080", 1)])), now);
        check(
            &servers.want(at, None, now),
            expect![[r#"
                set 10.244.1.2:8080 0
                set 10.244.2.2:8080 0
            "#]],
        );
        assert!(servers.is_leaving(&at));
        let here = |_: &Place, d: &SocketAddr| if d.ip().to_string() == "10.244.1.2" { BUSY } else { IDLE };
        check(&servers.tend(now, |_| false, here), expect![["remove 10.244.2.2:8080\n"]]);
        assert!(servers.contains(&at));
        check(
            &servers.tend(now, |_| false, |_, _| IDLE),
            expect![[r#"
                remove 10.244.1.2:8080
                remove server
            "#]],
        );
        assert!(!servers.contains(&at));
    }

    #[test]
    fn addresses_are_found() {
        let mut servers = Servers::default();
        servers.want(place(Protocol::Sctp), Some(&server(&[("10.244.1.2:8080", 1)])), Instant::now());
        let has = |address: &str| servers.has(address.parse().unwrap());
        assert!(has("10.96.0.1") && !has("10.96.0.0") && !has("10.96.0.2"));
    }

    #[test]
    fn udp_waits_for_nobody() {
        let (mut servers, at, now) = (Servers::default(), place(Protocol::Udp), Instant::now());
        servers.want(at, Some(&server(&[("10.244.1.2:8080", 1)])), now);
        check(
            &servers.want(at, Some(&server(&[("10.244.2.2:8080", 1)])), now),
            expect![[r#"
                add 10.244.2.2:8080 1
                remove 10.244.1.2:8080
            "#]],
        );
        check(
            &servers.want(at, None, now),
            expect![[r#"
                remove 10.244.2.2:8080
                remove server
            "#]],
        );
        assert!(servers.waiting().is_empty());
    }

    #[test]
    fn a_server_is_changed_in_place_and_one_that_is_empty_goes_at_once() {
        let (mut servers, at, now) = (Servers::default(), place(Protocol::Tcp), Instant::now());
        let before = server(&[("10.244.1.2:8080", 1)]);
        servers.want(at, Some(&before), now);
        let after = Server { scheduler: Scheduler::MaglevHashing, persistence_seconds: Some(60), ..before };
        check(&servers.want(at, Some(&after), now), expect![["set server mh Some(60)\n"]]);
        servers.correct(at, Some(Server { destinations: BTreeMap::new(), ..after.clone() }));
        check(&servers.want(at, Some(&after), now), expect![["add 10.244.1.2:8080 1\n"]]);
        servers.correct(at, Some(Server { destinations: BTreeMap::new(), ..after }));
        check(&servers.want(at, None, now), expect![["remove server\n"]]);
    }
}
