//! How IPVS goes when another dataplane has taken over: without harm to connections that go through it.
//!
//! They need their virtual server, its address and the destination; nothing else, for rules are about first packets. So every
//! destination loses its weight, and each server goes when its connections have ended, its address with the last
//! server there, and the interface, the sets and the settings with the last address. Clients of UDP go over at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::error::ProgramError;
use super::leaving::Servers;
use super::machine::Machine;
use super::remove_rest;
use super::sets::{Element, Entry, Set};
use super::state::Place;

/// What an agent before has left.
pub struct Drain {
    machine: Machine,
    servers: Servers,
    addresses: BTreeSet<IpAddr>,
}

impl Drain {
    /// Takes the weight of all that there is of ours in the calling thread's network namespace. `None`: there was nothing, or
    /// nothing had connections, and all is gone. To be called when the other dataplane does what IPVS did, and no rules
    /// of ours for IPVS are left.
    ///
    /// # Errors
    /// When the kernel or a program refuses.
    pub fn begin() -> Result<Option<Self>, ProgramError> {
        if !Machine::has_anything()? {
            // There may be settings, of an agent that was ended just then.
            return remove_rest().map(|_| None);
        }
        let mut machine = Machine::open()?;
        let addresses = machine.addresses()?.ours;
        let owned: BTreeSet<Place> = machine.elements()?.into_iter().filter_map(owned).collect();
        let mut servers = machine.servers()?;
        servers.retain(|place, _| owned.contains(place) || addresses.contains(&place.address));
        let mut servers = Servers::found(servers);
        let places: Vec<Place> = servers.places().copied().collect();
        let now = Instant::now();
        for command in places.into_iter().flat_map(|place| servers.want(place, None, now)) {
            machine.command(&command)?;
        }
        let mut drain = Self { machine, servers, addresses };
        Ok((!drain.tend(now)?).then_some(drain))
    }

    /// Lets go of what has no connections any more. `true`: everything is gone. To be called every few seconds until then.
    ///
    /// # Errors
    /// When the kernel or a program refuses.
    pub fn tend(&mut self, now: Instant) -> Result<bool, ProgramError> {
        let mut counts = BTreeMap::new();
        for place in self.servers.waiting() {
            let of_place = self.machine.connections(&place)?;
            counts.extend(of_place.into_iter().map(|(destination, count)| ((place, destination), count)));
        }
        let commands =
            self.servers.tend(now, |_| false, |place, destination| counts.get(&(*place, *destination)).copied());
        for command in commands {
            self.machine.command(&command)?;
        }
        let servers = &self.servers;
        for address in self.addresses.extract_if(.., |address| !servers.has(*address)) {
            self.machine.remove_address(address)?;
        }
        if self.servers.places().next().is_some() {
            return Ok(false);
        }
        remove_rest()?;
        Ok(true)
    }
}

fn owned(element: Element) -> Option<Place> {
    match element {
        Element { set: Set::Owned, entry: Entry::Port(place) } => Some(place),
        _ => None,
    }
}
