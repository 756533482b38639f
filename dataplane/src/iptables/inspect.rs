//! What the kernel of this machine would do with a packet: the rules that it has, read back and walked.
//!
//! It shares nothing with who programs, changes nothing, and may be used on another thread. The rules are read once, all
//! of them: after a change, open another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use super::spelling::Spelling;
use crate::nftables::netlink::routes::Routes;
use crate::nftables::walk::Way;
use crate::plan::{Family, Plan, ServicePlan};
use crate::program::Dirty;
use crate::route::Packet;
use crate::xtables::walk::{Seen, WalkError, Walker, World};
use crate::xtables::{Direction, Rule, Ruleset, RunError, Shadow, Tools, Variant, read, variant};

/// The rules of the calling thread's network namespace, as they were when this was opened.
pub struct Inspector {
    rules: Ruleset,
    routes: Routes,
    pub variant: Variant,
}

/// The rules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    NoIptables(#[from] variant::NoIptables),
    #[error("reading the rules of iptables")]
    Read(#[from] RunError),
    /// Somebody else wrote into chains of ours.
    #[error(transparent)]
    NotOurs(#[from] read::Unreadable),
    #[error("opening a routing socket")]
    Routes(#[source] std::io::Error),
}

/// The way of a packet. An error says that the rules are not ones that this program has made.
pub type Outcome = Result<Way, WalkError<Infallible>>;

impl Inspector {
    /// Reads the rules of the variant that has chains of ours; where none has, of the one that the host uses.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn open() -> Result<Self, InspectError> {
        let mut last = None;
        for variant in Variant::ALL {
            match Self::open_with(&Tools { variant, named: true }) {
                Ok(inspector) if !inspector.is_empty() => return Ok(inspector),
                Err(InspectError::Read(error)) if error.missing() => {}
                Err(error) => last = Some(error),
                Ok(_) => {}
            }
        }
        match last {
            Some(error) => Err(error),
            None => Self::open_with(&variant::choose(variant::look())?.tools),
        }
    }

    /// As [`Inspector::open`], of this variant.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn open_with(tools: &Tools) -> Result<Self, InspectError> {
        let mut rules = Ruleset::default();
        for family in Family::ALL.into_iter().filter(|family| super::programmer::has(*family)) {
            read::rules(family, &read::saved(&tools.save_all(family)?), &mut rules)?;
        }
        Ok(Self { rules, routes: Routes::open().map_err(InspectError::Routes)?, variant: tools.variant })
    }

    /// Whether there is no chain of ours.
    pub fn is_empty(&self) -> bool {
        self.rules.tables.values().all(|chains| chains.is_empty())
    }

    pub fn rules(&self) -> &Ruleset {
        &self.rules
    }

    /// What of the rules is not as `plan` has them, e.g. `nat of IPv4: the rules of chain PORTOLAN-SERVICES`; the first that differs.
    /// `None`: nothing.
    pub fn difference(&self, plan: &Plan) -> Option<String> {
        let said = |service: &&Arc<ServicePlan>| super::service::refusal(service).is_none();
        let services = plan.services.iter().filter(|(_, service)| said(service));
        let services = services.map(|(key, service)| (key.clone(), Arc::clone(service))).collect();
        let plan = Plan { revision: plan.revision, node: plan.node.clone(), services };
        let mut wanted = Shadow::default();
        wanted.apply(Spelling::default().update(&plan, &Dirty::All).changes);
        let wanted = match wanted.rules() {
            Ok(wanted) => wanted,
            Err(error) => return Some(error.to_string()),
        };
        let places =
            wanted.tables.keys().chain(self.rules.tables.keys()).filter(|(family, _)| super::programmer::has(*family));
        places.collect::<BTreeSet<_>>().into_iter().find_map(|(family, table)| {
            let chains = |rules: &'_ Ruleset| rules.tables.get(&(*family, *table)).cloned().unwrap_or_default();
            let what = differs(&chains(&wanted), &chains(&self.rules))?;
            Some(format!("{} of {family}: {what}", table.name()))
        })
    }

    /// What the kernel does with each of these packets. Whether a destination is [here](Packet::here) is asked of the kernel,
    /// and so is whether it remembers a client.
    pub fn ways<'a>(
        &'a self,
        packets: impl IntoIterator<Item = &'a Packet> + 'a,
    ) -> impl Iterator<Item = Outcome> + 'a {
        let mut here: HashMap<IpAddr, bool> = HashMap::new();
        packets.into_iter().map(move |packet| {
            let local = || self.routes.is_local(packet.destination).unwrap_or(false);
            let packet = Packet { here: *here.entry(packet.destination).or_insert_with(local), ..*packet };
            Walker::new(&self.rules, self).walk(&packet)
        })
    }
}

/// The first chain that is different.
fn differs(wanted: &Chains, found: &Chains) -> Option<String> {
    let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    names.into_iter().find_map(|name| match (wanted.get(name), found.get(name)) {
        (Some(rules), Some(there)) if rules == there => None,
        (None, _) => Some(format!("chain {name}, which nobody wrote")),
        (_, None) => Some(format!("chain {name} is not there")),
        _ => Some(format!("the rules of chain {name}")),
    })
}

type Chains = BTreeMap<String, Vec<Rule>>;

impl World for Inspector {
    type Error = Infallible;

    /// No rule of this dataplane asks one.
    fn in_set(&self, _: &str, _: &[Direction], _: &Seen) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn remembers(&self, list: &str, client: IpAddr, _seconds: u32) -> Result<bool, Infallible> {
        let directory = if client.is_ipv4() { "xt_recent" } else { "xt_recent6" };
        let text = fs::read_to_string(format!("/proc/net/{directory}/{list}"))
            .or_else(|_| fs::read_to_string(format!("/proc/net/xt_recent/{list}")))
            .unwrap_or_default();
        Ok(text.lines().any(|line| listed(line) == Some(client)))
    }
}

/// The client of a line: `src=10.244.1.2 ttl: 64 last_seen: …`, in IPv6 with all its digits.
fn listed(line: &str) -> Option<IpAddr> {
    line.strip_prefix("src=")?.split(' ').next()?.parse().ok()
}
