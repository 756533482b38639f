//! The way of a connection's first packet through rules, sets and virtual servers: the same wherever they are, in the memory of
//! a test or read from a kernel.
//!
//! Rules are executed by [`xtables::walk`](crate::xtables::walk); what is IPVS's own is little: what comes in for this
//! machine, or what its processes send, and finds a server gets one of its destinations, and is routed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;

use ipnet::IpNet;

use super::sets::{Element, Entry, Kind, Set};
use super::state::{Place, Server};
use crate::Scheduler;
use crate::nftables::walk::Way;
use crate::plan::Family;
use crate::route::{Origin, Packet, Verdict};
use crate::xtables::walk::{End, Ends, Seen, WalkError, Walker, World, verdict};
use crate::xtables::{Direction, Hook, Ruleset, Table};

/// Everything that decides about a packet.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub rules: Ruleset,
    pub elements: BTreeSet<Element>,
    pub servers: BTreeMap<Place, Server>,
}

impl Tables {
    /// What becomes of a packet.
    ///
    /// # Errors
    /// When the rules are not ones that this program has made.
    pub fn walk(&self, packet: &Packet) -> Result<Way, WalkError<Infallible>> {
        let mut chains = Vec::new();
        if Family::of(packet.client) != Family::of(packet.destination) {
            return Ok(Way { verdict: Verdict::NotOurs, probabilities: Vec::new(), remembered: false, chains });
        }
        let walker = Walker::new(&self.rules, self);
        let mut go = |ends: Ends, table: Table, hook: Hook| walker.hook(table, hook, ends, &mut chains);
        let first = if packet.origin == Origin::ThisNode { Hook::Output } else { Hook::Prerouting };
        let mut ends = Ends::from([((End::Pass, Seen::new(packet)), 1.0)]);
        for table in [Table::Raw, Table::Mangle, Table::Nat] {
            ends = go(ends, table, first)?;
        }
        // What is for this machine, and what is not: another destination is another machine's.
        let (local, other): (Ends, Ends) = ends.into_iter().partition(|((_, seen), _)| self.is_local(seen));
        let mut after = Ends::new();
        let mut add = |ends: Ends| ends.into_iter().for_each(|(end, p)| *after.entry(end).or_insert(0.0) += p);
        if packet.origin == Origin::ThisNode {
            let (sent, kept) = self.balance(local.into_iter().chain(other).collect());
            add(go(sent.into_iter().chain(kept).collect(), Table::Filter, Hook::Output)?);
        } else {
            add(go(other, Table::Filter, Hook::Forward)?);
            let (sent, kept) = self.balance(go(local, Table::Filter, Hook::Input)?);
            add(kept);
            add(go(sent, Table::Filter, Hook::Output)?);
        }
        let ends = go(after, Table::Nat, Hook::Postrouting)?;
        verdict(packet, &ends, chains)
    }

    fn is_local(&self, seen: &Seen) -> bool {
        let ours = || Element { set: Set::Addresses, entry: Entry::Address(seen.destination.ip()) };
        !seen.translated && (seen.here || self.elements.contains(&ours()))
    }

    /// What IPVS takes, with its new destination, and what it leaves alone.
    fn balance(&self, ends: Ends) -> (Ends, Ends) {
        let (mut sent, mut kept) = (Ends::new(), Ends::new());
        for ((end, seen), probability) in ends {
            let place = Place::new(seen.destination.ip(), seen.protocol, seen.destination.port());
            // A loopback address does not leave the machine, and IPVS does not let it.
            let takes = end == End::Pass && !seen.translated && !seen.source.is_loopback();
            let Some(server) = self.servers.get(&place).filter(|_| takes) else {
                *kept.entry((end, seen)).or_insert(0.0) += probability;
                continue;
            };
            let parts = parts(server);
            if parts.is_empty() {
                *kept.entry((End::Reject, seen)).or_insert(0.0) += probability;
                continue;
            }
            for (destination, part) in parts {
                let mut seen = seen.clone();
                seen.destination = destination;
                seen.translated = true;
                seen.seconds = server.persistence_seconds;
                *sent.entry((End::Pass, seen)).or_insert(0.0) += probability * part;
            }
        }
        (sent, kept)
    }
}

/// Which part of the connections each destination gets in the long run.
fn parts(server: &Server) -> Vec<(std::net::SocketAddr, f64)> {
    let weight = |weight: u32| match server.scheduler {
        Scheduler::RoundRobin | Scheduler::LeastConnections => weight.min(1),
        Scheduler::WeightedRoundRobin
        | Scheduler::WeightedLeastConnections
        | Scheduler::SourceHashing
        | Scheduler::MaglevHashing => weight,
    };
    let total: f64 = server.destinations.values().map(|w| f64::from(weight(*w))).sum();
    let takes = server.destinations.iter().filter(|(_, w)| **w > 0);
    takes.map(|(destination, w)| (*destination, f64::from(weight(*w)) / total)).collect()
}

impl World for Tables {
    type Error = Infallible;

    fn in_set(&self, name: &str, by: &[Direction], packet: &Seen) -> Result<bool, Infallible> {
        let Some((set, family)) = Set::named(name) else { return Ok(false) };
        if family != packet.family() {
            return Ok(false);
        }
        let address = |direction: Option<&Direction>| match direction {
            Some(Direction::Source) => packet.source,
            _ => packet.destination.ip(),
        };
        let (first, last) = (address(by.first()), address(by.last()));
        // Clients have other ports than servers: rules ask for the destination's.
        let place = Place::new(first, packet.protocol, packet.destination.port());
        let has = |entry: Entry| self.elements.contains(&Element { set, entry });
        Ok(match set.kind() {
            Kind::Address => has(Entry::Address(first)),
            Kind::Net => ranges(first).any(|range| has(Entry::Net(range))),
            Kind::Port => has(Entry::Port(place)),
            Kind::PortAddress => has(Entry::PortAddress(place, last)),
            Kind::PortNet => ranges(last).any(|range| has(Entry::PortNet(place, range))),
        })
    }
}

/// Every range that has the address.
fn ranges(address: IpAddr) -> impl Iterator<Item = IpNet> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (0..=longest).filter_map(move |length| IpNet::new(address, length).ok()).map(|range| range.trunc())
}

#[cfg(test)]
mod tests;
