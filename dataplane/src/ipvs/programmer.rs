//! From plan to plan: what is written, and in which order.
//!
//! A place is opened from behind and closed from the front. A new virtual server is there with its destinations before a set
//! says that it is, and that before its address is the machine's; where one goes, its destinations have no weight before the
//! sets say otherwise, and the address stays as long as connections to it do ([`Servers`]).
//!
//! A virtual server that the kernel refuses (for want of its scheduler's module, say) does not keep the others out: its Service
//! is named in every [`Report`], and is tried again with every plan. Any other failure leaves what is there, and the next plan
//! begins with a look at that, as the first plan of a process does: what is there is changed into what is wanted, so that no
//! connection notices that an agent was restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use model::{Key, Revision};

use super::claims::Ground;
use super::error::{ProgramError, may_lie_in_a_server};
use super::inside;
use super::leaving::{Command, Servers};
use super::sets::{Element, Entry, Set};
use super::shadow::{Changes, Shadow};
use super::state::Place;
use crate::Scheduler;
use crate::nftables::netlink::NetlinkError;
use crate::plan::{NodePlan, Plan};
use crate::program::{Dirty, Refused, Repairs, Report};

mod target;
#[cfg(test)]
pub(super) mod tests;

pub use target::{Found, Target};

/// How many virtual servers are looked at in one repair, destinations and all; all of them are in turn.
const LOOKED_AT: usize = 1_000;

/// A target, and what is known of it.
pub struct Programmer<T> {
    pub target: T,
    scheduler: Scheduler,
    /// `None` when what the target has is not known: the next plan looks.
    known: Option<Known>,
    /// The newest revision that was ever programmed from here.
    revision: Revision,
    repairs: Repairs,
}

struct Known {
    shadow: Shadow,
    servers: Servers,
    machine: BTreeSet<IpAddr>,
    /// On our interface, and in [`Set::Addresses`].
    addresses: BTreeSet<IpAddr>,
    /// Those of them that are wanted no more, and wait for connections.
    late: BTreeSet<IpAddr>,
    inside: Plan,
    /// Places that the kernel refused to make what they should be.
    refused: BTreeMap<Place, String>,
    /// Where the next repair goes on.
    looked_at: Option<Place>,
    /// For which rules were written.
    node: Option<NodePlan>,
}

impl<T: Target> Programmer<T> {
    pub fn new(target: T, scheduler: Scheduler) -> Self {
        Self { target, scheduler, known: None, revision: 0, repairs: Repairs::default() }
    }

    /// What the target has is not known any more.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Revisions count anew.
    pub fn begin_epoch(&mut self) {
        self.revision = 0;
    }

    /// Whether destinations wait for their connections, for which [`Programmer::repair`] must be called.
    pub fn is_waiting(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.servers.waiting().is_empty())
    }

    /// Makes the target do what the plan says.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn program(&mut self, plan: &Plan, dirty: &Dirty, now: Instant) -> Result<Report, ProgramError> {
        if plan.revision < self.revision {
            return Err(ProgramError::Stale { plan: plan.revision, programmed: self.revision });
        }
        let mut report = match self.known.take() {
            Some(known) => self.write(known, plan, dirty, None, now)?,
            None => self.begin(plan, now)?,
        };
        self.revision = plan.revision;
        report.repairs = std::mem::take(&mut self.repairs);
        report.refused = self.known.as_ref().map(Known::refused).unwrap_or_default();
        Ok(report)
    }

    /// Undoes what others have done, and lets go of destinations whose connections have ended. `plan` is the one that was
    /// programmed last.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn repair(&mut self, plan: &Plan, now: Instant) -> Result<Report, ProgramError> {
        let Some(mut known) = self.known.take() else { return self.program(plan, &Dirty::All, now) };
        // Nobody is to see a plan that was not asked for.
        let nothing = Dirty::Services(BTreeSet::new());
        let found = self.target.prepare()?;
        let mut mended = known.compare(&found);
        for place in known.next_to_look_at() {
            let (is, was) = (self.target.server(place)?, known.servers.get(&place));
            if is != was {
                mended += 1;
                known.servers.correct(place, is);
            }
        }
        mended += self.target.mend_rules(&known.inside)?;
        self.repairs.elements += u64::try_from(mended).unwrap_or(u64::MAX);
        known.machine = found.machine;
        let mut report = self.write(known, plan, &nothing, Some(&found.elements), now)?;
        report.repairs = std::mem::take(&mut self.repairs);
        report.refused = self.known.as_ref().map(Known::refused).unwrap_or_default();
        Ok(report)
    }

    /// The first plan, whatever is there.
    fn begin(&mut self, plan: &Plan, now: Instant) -> Result<Report, ProgramError> {
        self.target.forget();
        let found = self.target.prepare()?;
        let mut servers = self.target.servers()?;
        let ours = |place: &Place| found.elements.contains(&owned(*place)) || found.addresses.contains(&place.address);
        servers.retain(|place, _| ours(place));
        let adopted = !servers.is_empty() || !found.elements.is_empty();
        let known = Known {
            shadow: Shadow::default(),
            servers: Servers::found(servers),
            machine: found.machine.clone(),
            addresses: found.addresses.clone(),
            late: BTreeSet::new(),
            inside: Plan::default(),
            refused: BTreeMap::new(),
            looked_at: None,
            node: None,
        };
        let report = self.write(known, plan, &Dirty::All, Some(&found.elements), now)?;
        Ok(Report { full: true, adopted, ..report })
    }

    /// Writes what is different: from what was written, or, where `there` says it, from what is there.
    fn write(
        &mut self,
        mut known: Known,
        plan: &Plan,
        dirty: &Dirty,
        there: Option<&BTreeSet<Element>>,
        now: Instant,
    ) -> Result<Report, ProgramError> {
        let mut report = Report::default();
        let changes = known.shadow.update(plan, &known.machine, self.scheduler, dirty);
        // Virtual servers, from which nobody's way leads yet, or any more.
        let retried = std::mem::take(&mut known.refused);
        let mut places: BTreeSet<Place> = changes.servers.keys().chain(retried.keys()).copied().collect();
        if there.is_some() {
            places.extend(known.servers.places());
            places.extend(known.shadow.servers().map(|(place, _)| place));
        }
        let mut commands = Vec::new();
        for place in places {
            commands.extend(known.servers.want(place, known.shadow.server(&place), now));
        }
        let (mut added, mut removed) = known.elements(&changes, there);
        let new = commands.iter().filter_map(|command| match command {
            Command::AddServer { place, .. } => Some(owned(*place)),
            _ => None,
        });
        let (ours, mut opened): (Vec<_>, Vec<_>) = added.drain(..).partition(|element| element.set == Set::Owned);
        let ours: BTreeSet<Element> = new.chain(ours).collect();
        self.add(ours.into_iter().collect(), &mut report)?;
        self.run(&mut known, commands, &mut report)?;
        let (wanted, unwanted) = known.settle_addresses(&changes, there.is_some());
        match there {
            None => opened.extend(wanted.iter().map(|address| address_element(*address))),
            Some(there) => {
                let all = known.addresses.iter().map(|address| address_element(*address));
                opened.extend(all.filter(|element| !there.contains(element)));
                let extra = |e: &&Element| matches!(e.entry, Entry::Address(a) if !known.addresses.contains(&a));
                removed.extend(there.iter().filter(|e| e.set == Set::Addresses).filter(extra));
            }
        }
        self.add(opened, &mut report)?;
        self.rules(&mut known, plan, dirty, &changes, &mut report)?;
        for address in &wanted {
            self.target.add_address(*address)?;
        }
        for address in &unwanted {
            self.target.remove_address(*address)?;
        }
        removed.extend(unwanted.iter().map(|address| address_element(*address)));
        self.remove(removed, &mut report)?;
        self.tend(&mut known, now, &mut report)?;
        self.known = Some(known);
        Ok(report)
    }

    /// Rules for what IPVS cannot say.
    fn rules(
        &mut self,
        known: &mut Known,
        plan: &Plan,
        dirty: &Dirty,
        changes: &Changes,
        report: &mut Report,
    ) -> Result<(), ProgramError> {
        let anew = known.node.is_none();
        let ground = Ground::new(&plan.node, &known.machine, self.scheduler);
        let node = inside::node(&plan.node);
        let keys: BTreeSet<Key> = match dirty {
            Dirty::Services(keys) if !anew && !changes.everything && node == known.inside.node => {
                keys.iter().chain(&changes.claimants).cloned().collect()
            }
            _ => plan.services.keys().chain(known.inside.services.keys()).cloned().collect(),
        };
        let mut different = BTreeSet::new();
        for key in keys {
            let reduced = plan
                .services
                .get(&key)
                .and_then(|service| inside::service(&plan.node, &ground, &known.shadow, &key, service));
            if known.inside.services.get(&key).map(AsRef::as_ref) != reduced.as_ref() {
                match reduced {
                    Some(reduced) => known.inside.services.insert(key.clone(), Arc::new(reduced)),
                    None => known.inside.services.remove(&key),
                };
                different.insert(key);
            }
        }
        if !anew && different.is_empty() && known.node.as_ref() == Some(&plan.node) {
            return Ok(());
        }
        known.inside.node = node;
        known.inside.revision = plan.revision;
        known.node = Some(plan.node.clone());
        let dirty = if anew { Dirty::All } else { Dirty::Services(different) };
        let (chains, bytes) = self.target.rules(&plan.node, &known.inside, &dirty)?;
        report.elements_added += chains;
        report.bytes += bytes;
        Ok(())
    }

    /// Lets go of who has no connections any more.
    fn tend(&mut self, known: &mut Known, now: Instant, report: &mut Report) -> Result<(), ProgramError> {
        let waiting = known.servers.waiting();
        let mut counts: BTreeMap<(Place, SocketAddr), _> = BTreeMap::new();
        for place in waiting {
            let of_place = self.target.connections(place)?;
            counts.extend(of_place.into_iter().map(|(destination, count)| ((place, destination), count)));
        }
        let Known { shadow, servers, .. } = known;
        let is_wanted = |place: &Place| shadow.server(place).is_some();
        let commands = servers.tend(now, is_wanted, |place, destination| counts.get(&(*place, *destination)).copied());
        self.run(known, commands, report)?;
        let (_, unwanted) = known.settle_addresses(&Changes::default(), false);
        for address in &unwanted {
            self.target.remove_address(*address)?;
        }
        self.remove(unwanted.iter().map(|address| address_element(*address)).collect(), report)
    }

    /// Does what is said of virtual servers. Where the kernel refuses one, what is left of its place is what is there.
    fn run(&mut self, known: &mut Known, commands: Vec<Command>, report: &mut Report) -> Result<(), ProgramError> {
        let mut refused: BTreeMap<Place, String> = BTreeMap::new();
        let mut gone = Vec::new();
        for command in commands {
            let place = command.place();
            if refused.contains_key(&place) {
                continue;
            }
            match self.target.command(&command) {
                Ok(()) => {
                    match command {
                        Command::RemoveServer { place } => gone.push(owned(place)),
                        Command::RemoveDestination { .. } => report.elements_removed += 1,
                        _ => report.elements_added += 1,
                    };
                }
                Err(error) if may_lie_in_a_server(&error) => {
                    tracing::warn!(%place, error = causes(&error), "the kernel refuses a virtual server");
                    refused.insert(place, causes(&error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for (place, error) in refused {
            let found = self.target.server(place)?;
            gone.extend(found.is_none().then(|| owned(place)));
            known.servers.correct(place, found);
            known.refused.insert(place, error);
        }
        self.remove(gone, report)
    }

    fn add(&mut self, elements: Vec<Element>, report: &mut Report) -> Result<(), ProgramError> {
        if !elements.is_empty() {
            self.target.add_elements(&elements)?;
            report.elements_added += elements.len();
        }
        Ok(())
    }

    fn remove(&mut self, elements: Vec<Element>, report: &mut Report) -> Result<(), ProgramError> {
        if !elements.is_empty() {
            self.target.remove_elements(&elements)?;
            report.elements_removed += elements.len();
        }
        Ok(())
    }
}

impl Known {
    /// How much is different from what was written. What is there is taken for what it is.
    fn compare(&mut self, found: &Found) -> usize {
        let wanted = |element: &Element| match (element.set, element.entry) {
            (Set::Owned, Entry::Port(place)) => self.servers.contains(&place),
            (Set::Addresses, Entry::Address(address)) => self.addresses.contains(&address),
            _ => self.shadow.contains(element),
        };
        let extra = found.elements.iter().filter(|element| !wanted(element)).count();
        let all = self.shadow.elements().filter(|element| element.set != Set::Addresses).copied();
        let all = all.chain(self.addresses.iter().map(|a| address_element(*a)));
        let all = all.chain(self.servers.places().map(|place| owned(*place)));
        let missing = all.filter(|element| !found.elements.contains(element)).count();
        let addresses = self.addresses.symmetric_difference(&found.addresses).count();
        self.addresses.clone_from(&found.addresses);
        extra + missing + addresses
    }

    fn next_to_look_at(&mut self) -> Vec<Place> {
        let after = self.looked_at;
        let behind = self.servers.places().filter(|place| after.is_none_or(|after| **place > after));
        let places: Vec<Place> = behind.take(LOOKED_AT).copied().collect();
        self.looked_at = places.last().copied().filter(|_| places.len() == LOOKED_AT);
        places
    }

    /// The elements to add and to remove, but for [`Set::Addresses`], which goes with the addresses.
    fn elements(&self, changes: &Changes, there: Option<&BTreeSet<Element>>) -> (Vec<Element>, Vec<Element>) {
        let other = |element: &&Element| element.set != Set::Addresses;
        let Some(there) = there else {
            let list = |elements: &BTreeSet<Element>| elements.iter().filter(other).copied().collect();
            return (list(&changes.added), list(&changes.removed));
        };
        let owned: BTreeSet<Element> = self.servers.places().map(|place| owned(*place)).collect();
        let all = self.shadow.elements().filter(other).chain(&owned);
        let added = all.filter(|element| !there.contains(element)).copied().collect();
        let gone = |element: &&Element| !self.shadow.contains(element) && !owned.contains(*element);
        (added, there.iter().filter(other).filter(gone).copied().collect())
    }

    /// Which addresses are to come and to go. One that is wanted no more stays as long as a virtual server there.
    fn settle_addresses(&mut self, changes: &Changes, all: bool) -> (BTreeSet<IpAddr>, BTreeSet<IpAddr>) {
        let touched = changes.added.iter().chain(&changes.removed).filter(|element| element.set == Set::Addresses);
        let touched = touched.filter_map(|element| match element.entry {
            Entry::Address(address) => Some(address),
            _ => None,
        });
        let mut touched: BTreeSet<IpAddr> = touched.chain(self.late.iter().copied()).collect();
        if all {
            touched.extend(self.addresses.iter().copied().chain(self.shadow.addresses()));
        }
        let (mut come, mut go) = (BTreeSet::new(), BTreeSet::new());
        for address in touched {
            let wanted = self.shadow.contains(&address_element(address));
            let held = !wanted && self.addresses.contains(&address) && self.servers.has(address);
            if held {
                self.late.insert(address);
                continue;
            }
            self.late.remove(&address);
            if wanted {
                if self.addresses.insert(address) {
                    come.insert(address);
                }
            } else if self.addresses.remove(&address) {
                go.insert(address);
            }
        }
        (come, go)
    }

    fn refused(&self) -> Vec<Refused> {
        let mut refused = self.shadow.refused();
        for (place, error) in &self.refused {
            if let Some(key) = self.shadow.owner(place).map(|order| &order.service)
                && !refused.iter().any(|known| known.service == *key)
            {
                refused.push(Refused { service: key.clone(), error: format!("{place}: {error}") });
            }
        }
        refused.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        refused
    }
}

/// What the kernel said, in one line.
fn causes(error: &NetlinkError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn owned(place: Place) -> Element {
    Element { set: Set::Owned, entry: Entry::Port(place) }
}

fn address_element(address: IpAddr) -> Element {
    Element { set: Set::Addresses, entry: Entry::Address(address) }
}
