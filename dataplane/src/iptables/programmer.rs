//! From plan to plan: which chains are written, and what is done when that is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::{Key, Revision};

use super::spelling::Spelling;
use super::{ProgramError, RuleCount, service};
use crate::nftables;
use crate::nftables::netlink::socket::Socket;
use crate::nftables::split::split;
use crate::plan::{Family, Plan, ServicePlan};
use crate::program::{Dirty, Refused, Repairs, Report};
use crate::xtables::settings::ROUTE_LOCALNET;
use crate::xtables::shadow::Batch;
use crate::xtables::{Changes, RunError, Shadow, Table, Tools, Variant, read};

/// How many Services are found out one by one by what a program says.
const MAX_CULPRITS: usize = 64;
/// How often it is tried to find Services that are to blame where it does not say.
const MAX_ATTEMPTS: usize = 40;

/// The programs, and what is known of the tables.
pub(super) struct Programmer {
    pub tools: Tools,
    spelling: Spelling,
    /// `None` when what the tables have is not known.
    shadow: Option<Shadow>,
    /// Names of chains that say what settings were.
    marks: Vec<String>,
    /// The newest revision that was ever programmed from here.
    revision: Revision,
    /// Services that the kernel refused, as they were then.
    held: BTreeMap<Key, (Arc<ServicePlan>, String)>,
    /// What was programmed last.
    good: BTreeMap<Key, Arc<ServicePlan>>,
    repairs: Repairs,
    /// How many rules were written last.
    last: BTreeMap<Table, usize>,
    /// The generation of nf_tables in which the tables were as the shadow says.
    intact: Option<u32>,
    beside: Option<Beside>,
    /// All that it adds is to be added anew.
    beside_is_new: bool,
}

/// Adds rules to changes, for a dataplane that is not made of rules alone: all of its own where it is told so, else those of
/// the built-in chains whose rules are among the changes.
pub(crate) type Beside = Box<dyn Fn(bool, &mut Changes) + Send>;

impl Programmer {
    pub fn new(tools: Tools) -> Self {
        Self {
            tools,
            spelling: Spelling::default(),
            shadow: None,
            marks: Vec::new(),
            revision: 0,
            held: BTreeMap::new(),
            good: BTreeMap::new(),
            repairs: Repairs::default(),
            last: BTreeMap::new(),
            intact: None,
            beside: None,
            beside_is_new: false,
        }
    }

    pub fn set_beside(&mut self, beside: Beside) {
        self.beside = Some(beside);
        self.beside_is_new = true;
    }

    pub fn forget(&mut self) {
        self.shadow = None;
    }

    pub fn begin_epoch(&mut self) {
        self.revision = 0;
    }

    pub fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        if plan.revision < self.revision {
            return Err(ProgramError::Stale { plan: plan.revision, programmed: self.revision });
        }
        // What was refused is tried again when it is different.
        self.held.retain(|key, (held, _)| plan.services.get(key) == Some(held));
        let mut dirty = Cow::Borrowed(dirty);
        let mut culprits = 0;
        let report = loop {
            let (sayable, _) = self.sayable(plan);
            match self.write(&sayable, &dirty) {
                Ok(report) => break report,
                Err(error) => {
                    self.forget();
                    culprits += 1;
                    if culprits <= MAX_CULPRITS && self.hold(plan, &error) {
                        dirty = Cow::Owned(Dirty::All);
                        continue;
                    }
                    let sayable = sayable.into_owned();
                    break self.divide(&sayable, error)?;
                }
            }
        };
        let (sayable, refused) = self.sayable(plan);
        match &*dirty {
            Dirty::Services(keys) if !report.full => {
                for key in keys {
                    match sayable.services.get(key) {
                        Some(service) => self.good.insert(key.clone(), Arc::clone(service)),
                        None => self.good.remove(key),
                    };
                }
            }
            _ => self.good = sayable.into_owned().services,
        }
        let report = Report { refused, ..report };
        self.revision = plan.revision;
        Ok(Report { repairs: std::mem::take(&mut self.repairs), ..report })
    }

    /// The plan without what cannot be said or was refused, and what that is.
    fn sayable<'a>(&self, plan: &'a Plan) -> (Cow<'a, Plan>, Vec<Refused>) {
        let mut refused: Vec<Refused> = Vec::new();
        for (key, service) in &plan.services {
            let error = service::refusal(service).or_else(|| self.held.get(key).map(|(_, error)| error.clone()));
            refused.extend(error.map(|error| Refused { service: key.clone(), error }));
        }
        if refused.is_empty() {
            return (Cow::Borrowed(plan), refused);
        }
        let mut plan = plan.clone();
        refused.iter().for_each(|refused| drop(plan.services.remove(&refused.service)));
        (Cow::Owned(plan), refused)
    }

    /// Finds the Service that is to blame for a refusal, if it can be known.
    fn hold(&mut self, plan: &Plan, error: &RunError) -> bool {
        let RunError::Refused { line: Some(line), words, .. } = error else { return false };
        let Some(chain) = line.strip_prefix("-A ").and_then(|rule| rule.split(' ').next()) else { return false };
        let Some(key) = self.spelling.owner_of(chain).cloned() else { return false };
        let Some(service) = plan.services.get(&key) else { return false };
        self.held.insert(key, (Arc::clone(service), words.clone())).is_none()
    }

    /// What legacy iptables refuses when everything is committed may lie in any Service. So what worked before is written, and
    /// what is different is tried by halves on top of it; a Service that is refused alone is held.
    fn divide(&mut self, plan: &Plan, error: RunError) -> Result<Report, ProgramError> {
        if !matches!(error, RunError::Refused { .. }) || error.not_permitted() {
            return Err(error.into());
        }
        tracing::warn!(%error, "rules were refused; looking for the Services that are to blame");
        let mut known = Plan { revision: plan.revision, node: plan.node.clone(), services: BTreeMap::new() };
        let before = plan.services.keys().filter_map(|key| self.good.get_key_value(key));
        known.services.extend(before.map(|(key, service)| (key.clone(), Arc::clone(service))));
        let mut report = match self.write(&known, &Dirty::All) {
            // What worked then does not any more. If this is refused as well, it lies in the node.
            Err(RunError::Refused { .. }) if !known.services.is_empty() => {
                self.forget();
                known.services.clear();
                self.write(&known, &Dirty::All)?
            }
            outcome => outcome?,
        };
        let differs = |(key, service): &(&Key, &Arc<ServicePlan>)| known.services.get(*key) != Some(*service);
        let candidates: Vec<Key> = plan.services.iter().filter(differs).map(|(key, _)| key.clone()).collect();
        let culprits = split(&candidates, MAX_ATTEMPTS, |keys| {
            let mut attempt = known.clone();
            let pieces = keys.iter().filter_map(|key| plan.services.get_key_value(key));
            attempt.services.extend(pieces.map(|(key, service)| (key.clone(), Arc::clone(service))));
            match self.write(&attempt, &Dirty::All) {
                Ok(part) => {
                    report.elements_added += part.elements_added;
                    report.elements_removed += part.elements_removed;
                    report.bytes += part.bytes;
                    known = attempt;
                    Ok(Ok(()))
                }
                Err(RunError::Refused { words, .. }) => {
                    self.forget();
                    Ok(Err(words))
                }
                Err(error) => {
                    self.forget();
                    Err(error)
                }
            }
        })?;
        for (key, error) in culprits {
            if let Some(service) = plan.services.get(&key) {
                self.held.insert(key, (Arc::clone(service), error));
            }
        }
        // Without those that are held, even where they worked before they changed.
        let (sayable, _) = self.sayable(plan);
        let last = self.write(&sayable, &Dirty::All)?;
        report.elements_removed += last.elements_removed;
        report.bytes += last.bytes;
        Ok(Report { full: true, ..report })
    }

    /// Writes what is different.
    fn write(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, RunError> {
        let (mut shadow, full) = match self.shadow.take() {
            Some(shadow) => (shadow, false),
            None => (self.find()?, true),
        };
        let updated = if full {
            self.spelling = Spelling::default();
            self.spelling.update(plan, &Dirty::All)
        } else {
            self.spelling.update(plan, dirty)
        };
        let adopted = full && !shadow.tables.is_empty();
        let mut changes = updated.changes;
        if let Some(beside) = &self.beside {
            beside(full || updated.whole || self.beside_is_new, &mut changes);
        }
        if full || updated.whole {
            changes.complete(&shadow);
        }
        changes.reduce(&shadow);
        let batches = changes.batches(&shadow);
        self.restore(&batches)?;
        shadow.apply(changes);
        self.settle(plan)?;
        self.shadow = Some(shadow);
        self.beside_is_new = false;
        Ok(Report { full, adopted, ..count(&batches) })
    }

    fn restore(&mut self, batches: &[Batch]) -> Result<(), RunError> {
        let before = self.generation();
        self.last.clear();
        for batch in batches.iter().filter(|batch| has(batch.family)) {
            let restored = self.tools.restore(batch)?;
            *self.last.entry(batch.table).or_default() += batch.text.matches("\n-").count() - batch.gone;
            tracing::debug!(
                table = batch.table.name(),
                family = %batch.family,
                bytes = restored.bytes,
                milliseconds = restored.took.as_millis(),
                "rules were written"
            );
        }
        // Each batch is one generation, if nobody else wrote meanwhile.
        let own = u32::try_from(batches.iter().filter(|batch| has(batch.family)).count()).unwrap_or(u32::MAX);
        let undisturbed = self.intact.is_some() && self.intact == before;
        let after = self.generation();
        self.intact = after.filter(|now| undisturbed && before.map(|b| b.wrapping_add(own)) == Some(*now));
        Ok(())
    }

    /// What the tables have; also where a process before this one left off.
    fn find(&mut self) -> Result<Shadow, RunError> {
        let mut shadow = Shadow::default();
        self.marks.clear();
        for family in Family::ALL.into_iter().filter(|family| has(*family)) {
            let tables = read::saved(&self.tools.save_all(family)?);
            self.marks.extend(tables.values().flat_map(|found| &found.marks).cloned());
            shadow.find(family, &tables);
        }
        Ok(shadow)
    }

    /// What rules cannot say: see `layout`.
    fn settle(&mut self, plan: &Plan) -> Result<(), RunError> {
        let before = |marks: &[String]| marks.iter().find_map(|mark| ROUTE_LOCALNET.before(mark).map(str::to_owned));
        let (wanted, now) = (plan.node.localhost_node_ports, ROUTE_LOCALNET.get());
        let set = |value: &str| {
            // Without the right to set it, node ports answer everywhere but on loopback addresses.
            if let Err(error) = ROUTE_LOCALNET.set(value) {
                tracing::warn!(%error, "route_localnet cannot be set; node ports do not answer on 127.0.0.1");
            }
        };
        if wanted && now.as_deref() == Some("0") {
            if before(&self.marks).is_none()
                && let Some(mark) = ROUTE_LOCALNET.mark("0")
            {
                self.tools.restore(&Batch::of_mark(&mark, true))?;
                self.intact = None;
                self.marks.push(mark);
            }
            set("1");
        } else if !wanted && let Some(value) = before(&self.marks) {
            set(&value);
            for mark in self.marks.extract_if(.., |mark| ROUTE_LOCALNET.before(mark).is_some()).collect::<Vec<_>>() {
                self.tools.restore(&Batch::of_mark(&mark, false))?;
                self.intact = None;
            }
        }
        Ok(())
    }

    /// `route_localnet` was off before, though no agent of these rules found it so: another dataplane had set it.
    pub fn take_over_localnet(&mut self) -> Result<(), RunError> {
        let known = self.marks.iter().any(|mark| ROUTE_LOCALNET.before(mark).is_some());
        if let Some(mark) = ROUTE_LOCALNET.mark("0").filter(|_| !known) {
            self.tools.restore(&Batch::of_mark(&mark, true))?;
            self.intact = None;
            self.marks.push(mark);
        }
        Ok(())
    }

    /// How many rules each table has of ours, both families together.
    pub fn count_rules(&self) -> BTreeMap<Table, RuleCount> {
        let mut counts: BTreeMap<Table, RuleCount> = BTreeMap::new();
        let lines = |body: &str| body.bytes().filter(|byte| *byte == b'\n').count();
        for ((_, table), written) in self.shadow.iter().flat_map(|shadow| &shadow.tables) {
            let of_chains: usize = written.chains.values().map(|body| lines(body)).sum();
            counts.entry(*table).or_default().total += of_chains + written.jumps.len();
        }
        for (table, last) in &self.last {
            counts.entry(*table).or_default().last = *last;
        }
        counts
    }

    pub fn repair(&mut self, plan: &Plan) -> Result<Report, ProgramError> {
        let Some(shadow) = self.shadow.take() else { return self.program(plan, &Dirty::All) };
        let now = self.generation();
        if now.is_some() && now == self.intact {
            self.settle(plan)?;
            self.shadow = Some(shadow);
            return Ok(self.unchanged(plan));
        }
        let found = self.find()?;
        let changes = shadow.mend(&found);
        let batches = changes.batches(&found);
        if batches.is_empty() {
            self.intact = now;
        } else {
            // Where most of a table was gone, that is one repair, and not one of each chain.
            let most = |batch: &Batch| {
                let table = shadow.tables.get(&(batch.family, batch.table));
                batch.written * 2 > table.map_or(0, |table| table.chains.len())
            };
            let table = batches.iter().any(most);
            self.repairs.tables += u64::from(table);
            self.repairs.elements += u64::from(!table);
            tracing::warn!(batches = batches.len(), "somebody else changed the rules; they are put back");
            self.restore(&batches)?;
        }
        self.settle(plan)?;
        self.shadow = Some(shadow);
        Ok(Report { repairs: std::mem::take(&mut self.repairs), ..self.unchanged(plan) })
    }

    fn unchanged(&self, plan: &Plan) -> Report {
        Report { refused: self.sayable(plan).1, ..Report::default() }
    }

    /// By which it is known, without reading them, that no rules were changed.
    fn generation(&self) -> Option<u32> {
        if self.tools.variant != Variant::Nft {
            return None;
        }
        crate::nftables::read::generation(&Socket::open().ok()?).ok()
    }
}

/// Whether the kernel has the family.
pub(super) fn has(family: Family) -> bool {
    family == Family::V4 || Path::new("/proc/sys/net/ipv6").exists()
}

fn count(batches: &[Batch]) -> Report {
    Report {
        elements_added: batches.iter().map(|batch| batch.written).sum(),
        elements_removed: batches.iter().map(|batch| batch.gone).sum(),
        bytes: batches.iter().map(|batch| batch.text.len()).sum(),
        ..Report::default()
    }
}

/// Removes every chain of ours, whoever made it, of both variants, in the calling thread's network namespace, and puts back the
/// settings that they say were changed. Returns whether there was anything.
///
/// # Errors
/// When a program refuses.
pub fn cleanup() -> Result<bool, ProgramError> {
    remove(true)
}

/// As [`cleanup`]; `put_back`: `route_localnet` becomes what it was.
///
/// # Errors
/// As [`cleanup`].
pub fn remove(put_back: bool) -> Result<bool, ProgramError> {
    let mut all: Vec<Tools> = Variant::ALL.map(|variant| Tools { variant, named: true }).into();
    all.push(Tools { variant: Variant::Legacy, named: false });
    let mut removed = false;
    for tools in all {
        let mut programmer = Programmer::new(tools);
        let found = match programmer.find() {
            Ok(found) => found,
            Err(error) if error.missing() => continue,
            Err(error) => return Err(error.into()),
        };
        let mut batches = found.removal().batches(&found);
        // First nothing is marked any more, then marks mean nothing.
        batches.reverse();
        batches.sort_by_key(|batch| batch.table != Table::Nat);
        removed |= !batches.is_empty() || !programmer.marks.is_empty();
        for batch in &batches {
            programmer.tools.restore(batch)?;
        }
        for mark in std::mem::take(&mut programmer.marks) {
            let Some(before) = ROUTE_LOCALNET.before(&mark) else { continue };
            if put_back && let Err(error) = ROUTE_LOCALNET.set(before) {
                tracing::warn!(%error, "route_localnet cannot be set back to {before}");
            }
            programmer.tools.restore(&Batch::of_mark(&mark, false))?;
        }
        if programmer.tools.variant == Variant::Nft && removed {
            remove_emptied();
        }
    }
    Ok(removed)
}

/// Removes the tables that iptables made for chains of ours, where nobody else has any rule in them. Those that stay do no harm.
pub fn remove_emptied() {
    for (family, table) in Family::ALL.into_iter().flat_map(|family| Table::ALL.map(|table| (family, table))) {
        if let Err(error) = nftables::remove_emptied(family, table.name()) {
            tracing::debug!(%error, table = table.name(), "an empty table stays");
        }
    }
}

/// Whether chains of ours say, in either variant, that `route_localnet` was off before they were.
///
/// # Errors
/// When a program refuses.
pub fn localnet_was_off() -> Result<bool, ProgramError> {
    for variant in Variant::ALL {
        let found = match (Tools { variant, named: true }).save_all(Family::V4) {
            Ok(text) => read::saved(&text),
            Err(error) if error.missing() => continue,
            Err(error) => return Err(error.into()),
        };
        let mut marks = found.values().flat_map(|found| &found.marks);
        if marks.any(|mark| ROUTE_LOCALNET.before(mark) == Some("0")) {
            return Ok(true);
        }
    }
    Ok(false)
}
