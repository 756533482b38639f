//! What a programmer writes to: a machine, or a test's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::ipvs::error::ProgramError;
use crate::ipvs::leaving::Command;
use crate::ipvs::sets::Element;
use crate::ipvs::state::{Connections, Place, Server};
use crate::nftables::netlink::NetlinkError;
use crate::plan::{NodePlan, Plan};
use crate::program::Dirty;

/// What a machine has of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its own addresses, without loopback addresses and those that are ours.
    pub machine: BTreeSet<IpAddr>,
    /// The addresses on our interface.
    pub addresses: BTreeSet<IpAddr>,
    /// What is in our sets.
    pub elements: BTreeSet<Element>,
}

/// What holds virtual servers, sets, addresses and rules.
pub trait Target {
    /// Makes what everything else stands on where it is missing: interface, settings and empty sets. Returns what is
    /// there.
    ///
    /// # Errors
    /// When the machine lacks something, or the process the right.
    fn prepare(&mut self) -> Result<Found, ProgramError>;

    /// Every virtual server of the machine, others' too.
    ///
    /// # Errors
    /// When they cannot be read.
    fn servers(&mut self) -> Result<BTreeMap<Place, Server>, NetlinkError>;

    /// The virtual server at a place.
    ///
    /// # Errors
    /// When it cannot be read.
    fn server(&mut self, place: Place) -> Result<Option<Server>, NetlinkError>;

    /// The connections of the destinations of a server.
    ///
    /// # Errors
    /// When they cannot be read.
    fn connections(&mut self, place: Place) -> Result<BTreeMap<SocketAddr, Connections>, NetlinkError>;

    /// Does what is said. That something is there already, or gone, is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn command(&mut self, command: &Command) -> Result<(), NetlinkError>;

    /// # Errors
    /// When the kernel refuses; some may have been added.
    fn add_elements(&mut self, elements: &[Element]) -> Result<(), NetlinkError>;

    /// # Errors
    /// When the kernel refuses; some may have been removed.
    fn remove_elements(&mut self, elements: &[Element]) -> Result<(), NetlinkError>;

    /// # Errors
    /// When the kernel refuses.
    fn add_address(&mut self, address: IpAddr) -> Result<(), NetlinkError>;

    /// # Errors
    /// When the kernel refuses.
    fn remove_address(&mut self, address: IpAddr) -> Result<(), NetlinkError>;

    /// Makes the rules those of the node, with those of the plan `inside` ([`crate::ipvs::inside`]), of which only what
    /// `dirty` names is different from the time before. Returns how many chains were written, and how many bytes that
    /// took.
    ///
    /// # Errors
    /// When they cannot be written.
    fn rules(&mut self, node: &NodePlan, inside: &Plan, dirty: &Dirty) -> Result<(usize, usize), ProgramError>;

    /// Compares the rules with those that were written last, and puts them right. Returns how many chains were
    /// different.
    ///
    /// # Errors
    /// When they cannot be read or written.
    fn mend_rules(&mut self, inside: &Plan) -> Result<usize, ProgramError>;

    /// What there is is not known any more.
    fn forget(&mut self);
}
