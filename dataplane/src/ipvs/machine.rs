//! What a [`Programmer`](super::programmer::Programmer) writes to on a real machine, but for rules: virtual servers, sets and
//! the interface, in the network namespace in which this was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::leaving::Command;
use super::link::{self, Link, Links};
use super::message::FoundDestination;
use super::netlink::{Found, Ipvs, IpvsError};
use super::sets::{Element, Entry, Set};
use super::state::{Connections, Place, Server};
use crate::ipset::Sets;
use crate::nftables::netlink::NetlinkError;
use crate::plan::Family;

/// Why a machine cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error(transparent)]
    Ipvs(#[from] IpvsError),
    #[error("opening a netlink socket")]
    Socket(#[from] io::Error),
}

/// The parts of a machine.
pub struct Machine {
    ipvs: Ipvs,
    sets: Sets,
    links: Links,
    /// Once it was made.
    link: Option<Link>,
}

/// Its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Those that are its own, without loopback addresses.
    pub machine: BTreeSet<IpAddr>,
    /// Those on our interface.
    pub ours: BTreeSet<IpAddr>,
}

impl Machine {
    /// Changes nothing, but that the kernel loads its module.
    ///
    /// # Errors
    /// When the kernel has no IPVS.
    pub fn open() -> Result<Self, MachineError> {
        Ok(Self { ipvs: Ipvs::open()?, sets: Sets::open()?, links: Links::open()?, link: None })
    }

    /// Whether there is an interface or a set of ours. The module is not loaded for the sake of looking.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn has_anything() -> Result<bool, MachineError> {
        let ask = |error| MachineError::Ipvs(IpvsError::Ask(error));
        let names = Sets::open()?.names().map_err(ask)?;
        let set = Family::ALL.iter().any(|family| Set::ALL.iter().any(|set| names.contains(set.name(*family))));
        Ok(set || Links::open()?.find(link::NAME).map_err(ask)?.is_some())
    }

    /// Makes the interface where it is missing, and says which addresses there are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn addresses(&mut self) -> Result<Addresses, NetlinkError> {
        let link = self.links.ensure(link::NAME)?;
        self.link = Some(link);
        let mut addresses = Addresses::default();
        for (index, address) in self.links.addresses()? {
            if index == link.index {
                addresses.ours.insert(address);
            } else if !address.is_loopback() {
                addresses.machine.insert(address);
            }
        }
        // What the interface has is no address of the machine's own, even if that has it elsewhere too.
        addresses.machine.retain(|address| !addresses.ours.contains(address));
        Ok(addresses)
    }

    /// Makes sets where they are missing, and says what is in them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn elements(&self) -> Result<BTreeSet<Element>, NetlinkError> {
        let mut elements = BTreeSet::new();
        for family in Family::ALL {
            for set in Set::ALL {
                let name = set.name(family);
                if self.sets.create(name, set.kind(), family)? {
                    continue;
                }
                let contents = self.sets.read(name)?;
                let entries = contents.into_iter().flat_map(|contents| contents.entries);
                elements.extend(entries.map(|entry| Element { set, entry }));
            }
        }
        Ok(elements)
    }

    /// Every virtual server of the machine that is like ours: with a scheduler that is offered here.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn servers(&self) -> Result<BTreeMap<Place, Server>, NetlinkError> {
        let found = self.ipvs.all()?.into_iter();
        Ok(found.filter_map(|(place, found)| Some((place, server(found)?))).collect())
    }

    /// The virtual server at a place, if it is like ours. One that is not is made so when it is added.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn server(&self, place: &Place) -> Result<Option<Server>, NetlinkError> {
        Ok(self.ipvs.find(place)?.and_then(server))
    }

    /// The connections of the destinations of a server.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn connections(&self, place: &Place) -> Result<BTreeMap<SocketAddr, Connections>, NetlinkError> {
        let found = self.ipvs.destinations(place)?.unwrap_or_default();
        Ok(found.into_iter().map(|(at, FoundDestination { connections, .. })| (at, connections)).collect())
    }

    /// Does what is said. That something is there already, or gone, is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn command(&self, command: &Command) -> Result<(), NetlinkError> {
        self.ipvs.apply(command)
    }

    /// # Errors
    /// When the kernel refuses; some may have been added.
    pub fn add_elements(&self, elements: &[Element]) -> Result<(), NetlinkError> {
        for (name, entries) in by_set(elements) {
            self.sets.add(name, entries)?;
        }
        Ok(())
    }

    /// # Errors
    /// When the kernel refuses; some may have been removed.
    pub fn remove_elements(&self, elements: &[Element]) -> Result<(), NetlinkError> {
        for (name, entries) in by_set(elements) {
            self.sets.remove(name, entries)?;
        }
        Ok(())
    }

    /// # Errors
    /// When the kernel refuses.
    pub fn add_address(&self, address: IpAddr) -> Result<(), NetlinkError> {
        let Some(link) = self.link else { return Ok(()) };
        self.links.add(link, address).map(|_| ())
    }

    /// # Errors
    /// When the kernel refuses.
    pub fn remove_address(&self, address: IpAddr) -> Result<(), NetlinkError> {
        let Some(link) = self.link else { return Ok(()) };
        self.links.take(link, address).map(|_| ())
    }
}

/// `None`: its scheduler is not offered here. A destination that is not translated to is left out.
fn server(found: Found) -> Option<Server> {
    let translated = found.destinations.into_iter().filter(|(_, destination)| destination.translated);
    Some(Server {
        scheduler: found.server.scheduler?,
        persistence_seconds: found.server.persistence_seconds,
        destinations: translated.map(|(at, destination)| (at, destination.weight)).collect(),
    })
}

/// By the name of the set.
fn by_set(elements: &[Element]) -> BTreeMap<&'static str, Vec<&Entry>> {
    let mut sets: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for Element { set, entry } in elements {
        sets.entry(set.name(entry.family())).or_default().push(entry);
    }
    sets
}

/// Takes away every virtual server that was made here, the sets, and the interface. Rules that ask the sets must be gone.
/// `false`: there was nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup() -> Result<bool, MachineError> {
    let (sets, links) = (Sets::open()?, Links::open()?);
    let ask = |error| MachineError::Ipvs(IpvsError::Ask(error));
    let names = sets.names().map_err(ask)?;
    let mut removed = false;
    let mut owned = Vec::new();
    for family in Family::ALL {
        let name = Set::Owned.name(family);
        if names.contains(name) {
            owned.extend(sets.read(name).map_err(ask)?.into_iter().flat_map(|contents| contents.entries));
        }
    }
    // Without any of ours the module is not to be loaded for the sake of looking.
    if !owned.is_empty() {
        let ipvs = Ipvs::open()?;
        for entry in owned {
            if let Entry::Port(place) = entry {
                ipvs.apply(&Command::RemoveServer { place }).map_err(ask)?;
                removed = true;
            }
        }
    }
    for name in Family::ALL.iter().flat_map(|family| Set::ALL.map(|set| set.name(*family))) {
        removed |= names.contains(name) && sets.destroy(name).map_err(ask)?;
    }
    removed |= links.remove(link::NAME).map_err(ask)?;
    Ok(removed)
}
