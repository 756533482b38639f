//! The thin end: a machine with its rules and settings, as the programmer writes to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::error::ProgramError;
use super::leaving::Command;
use super::machine::Machine;
use super::programmer::{Found, Target};
use super::rules;
use super::sets::Element;
use super::settings::{WANTED, Wanted};
use super::state::{Connections, Place, Server};
use crate::iptables;
use crate::nftables::netlink::NetlinkError;
use crate::plan::{Family, NodePlan, Plan};
use crate::program::Dirty;
use crate::xtables::shadow::Batch;
use crate::xtables::{RunError, Table, Tools, read};

/// The network namespace in which this was opened.
pub(super) struct Kernel {
    pub machine: Machine,
    pub rules: iptables::Tables,
    /// For which the rules beside IPVS were made.
    node: Option<NodePlan>,
    /// Addresses that the interface would have if IPv6 were not turned off on this machine: nobody can ask them here.
    without: BTreeSet<IpAddr>,
}

/// Whether interfaces can have addresses of IPv6.
const WITHOUT_IPV6: &str = "/proc/sys/net/ipv6/conf/portolan-ipvs/disable_ipv6";

impl Kernel {
    pub fn new(machine: Machine, rules: iptables::Tables) -> Self {
        Self { machine, rules, node: None, without: BTreeSet::new() }
    }

    /// Makes the settings what IPVS needs, and keeps in the namespace what they were.
    fn settle(&self) -> Result<(), ProgramError> {
        let different = |wanted: &&Wanted| wanted.setting.get().is_some_and(|now| now != wanted.value);
        let mut marks = None;
        for Wanted { setting, value } in WANTED.iter().filter(different) {
            let marks = match &mut marks {
                Some(marks) => marks,
                none => none.insert(found_marks(self.rules.tools())?),
            };
            if let Some(mark) = setting.get().and_then(|now| setting.mark(&now))
                && !marks.iter().any(|mark| setting.before(mark).is_some())
            {
                self.rules.tools().restore(&Batch::of_mark(&mark, true))?;
                marks.push(mark);
            }
            if let Err(source) = setting.set(value) {
                return Err(ProgramError::Setting { setting: setting.path, source });
            }
        }
        Ok(())
    }
}

fn has_ipv6() -> bool {
    std::fs::read_to_string(WITHOUT_IPV6).is_ok_and(|text| text.trim() == "0")
}

/// What chains say that settings were.
fn found_marks(tools: &Tools) -> Result<Vec<String>, RunError> {
    let found = read::saved(&tools.save(Family::V4, Table::Filter)?);
    Ok(found.into_values().flat_map(|found| found.marks).collect())
}

/// Puts the settings back that were made here, and forgets what they were. `false`: there were none.
///
/// # Errors
/// When the rules cannot be read or written.
pub(super) fn restore_settings(tools: &Tools) -> Result<bool, RunError> {
    let mut restored = false;
    for mark in found_marks(tools)? {
        let of = WANTED.iter().find_map(|wanted| Some((wanted.setting, wanted.setting.before(&mark)?)));
        let Some((setting, before)) = of else { continue };
        // Those of IPVS are gone with its module.
        if setting.get().is_some()
            && let Err(error) = setting.set(before)
        {
            tracing::warn!(%error, "{} cannot be set back to {before}", setting.path);
        }
        tools.restore(&Batch::of_mark(&mark, false))?;
        restored = true;
    }
    Ok(restored)
}

impl Target for Kernel {
    fn prepare(&mut self) -> Result<Found, ProgramError> {
        self.settle()?;
        let mut addresses = self.machine.addresses()?;
        if has_ipv6() {
            self.without.clear();
        }
        addresses.ours.extend(&self.without);
        let elements = self.machine.elements()?;
        Ok(Found { machine: addresses.machine, addresses: addresses.ours, elements })
    }

    fn servers(&mut self) -> Result<BTreeMap<Place, Server>, NetlinkError> {
        self.machine.servers()
    }

    fn server(&mut self, place: Place) -> Result<Option<Server>, NetlinkError> {
        self.machine.server(&place)
    }

    fn connections(&mut self, place: Place) -> Result<BTreeMap<SocketAddr, Connections>, NetlinkError> {
        self.machine.connections(&place)
    }

    fn command(&mut self, command: &Command) -> Result<(), NetlinkError> {
        self.machine.command(command)
    }

    fn add_elements(&mut self, elements: &[Element]) -> Result<(), NetlinkError> {
        self.machine.add_elements(elements)
    }

    fn remove_elements(&mut self, elements: &[Element]) -> Result<(), NetlinkError> {
        self.machine.remove_elements(elements)
    }

    fn add_address(&mut self, address: IpAddr) -> Result<(), NetlinkError> {
        if address.is_ipv6() && !has_ipv6() {
            self.without.insert(address);
            return Ok(());
        }
        self.machine.add_address(address)
    }

    fn remove_address(&mut self, address: IpAddr) -> Result<(), NetlinkError> {
        if self.without.remove(&address) {
            return Ok(());
        }
        self.machine.remove_address(address)
    }

    fn rules(&mut self, node: &NodePlan, inside: &Plan, dirty: &Dirty) -> Result<(usize, usize), ProgramError> {
        if self.node.as_ref() != Some(node) {
            let of_node = node.clone();
            self.rules.set_beside(Box::new(move |whole, changes| rules::add(&of_node, whole, changes)));
            self.node = Some(node.clone());
        }
        let report = self.rules.program(inside, dirty)?;
        Ok((report.elements_added, report.bytes))
    }

    fn mend_rules(&mut self, inside: &Plan) -> Result<usize, ProgramError> {
        let repairs = self.rules.repair(inside)?.repairs;
        Ok(usize::try_from(repairs.elements + repairs.tables).unwrap_or(usize::MAX))
    }

    fn forget(&mut self) {
        self.rules.forget();
        // Its plans may be of another database.
        self.rules.begin_epoch();
    }
}
