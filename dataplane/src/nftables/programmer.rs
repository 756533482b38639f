//! From plan to plan: what is written, and what is done when it is refused.
//!
//! As a rule a plan is one batch, which [`Target`] takes or refuses as a whole. When it is refused for a reason that may
//! lie in a single Service, the others shall not wait for it. So the tables are filled with what was there before, and
//! the Services that were to change are tried by halves ([`split`]) until each is either programmed or known to be
//! refused. A Service that is refused keeps what it had (nothing, if it is new), is named in every [`Report`] until it
//! is taken, and is left out of further batches until somebody names it as dirty again: then it is tried apart, on a copy
//! of the shadow, so that the tables need not be filled again for it.
//!
//! The shadow is copied only when something was refused. A plan that is taken, which is every plan in a life without
//! faults, costs nothing more for all this than to remember the old plans of the dirty Services.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Key, Revision};

use super::apply::ProgramError;
use super::changes::Changes;
use super::netlink::NetlinkError;
use super::shadow::Shadow;
use super::split::split;
use super::{Dirty, Refused, Report};
use crate::plan::{Plan, ServicePlan};

mod before;
mod target;
#[cfg(test)]
mod tests;

use before::{Before, plans};
pub use target::Target;

/// Attempts to find culprits cost a copy of the shadow each: the larger it is, the fewer there are. 400 with 50,000
/// Services find a dozen of them in less than the time that a node's lease lasts.
const MAX_COPIED: usize = 20_000_000;
/// How often tables that are there are looked at before they are replaced, when others change nftables meanwhile.
const MAX_ADOPTIONS: usize = 3;
/// The part of an attempt that does not depend on the number of Services, in Services.
const ATTEMPT: usize = 100;

/// A target, and what is known of it.
pub struct Programmer<T> {
    pub target: T,
    /// `None` when what the target has is not known: the next plan fills it.
    shadow: Option<Shadow>,
    /// What the target had when that was last known, where it is not.
    good: Option<Services>,
    /// The newest revision that was ever programmed from here.
    revision: Revision,
    held: BTreeMap<Key, Held>,
}

type Services = BTreeMap<Key, Arc<ServicePlan>>;

/// A Service that was refused.
struct Held {
    /// As it was refused.
    plan: Arc<ServicePlan>,
    /// What it has instead.
    instead: Option<Arc<ServicePlan>>,
    error: String,
}

impl<T: Target> Programmer<T> {
    pub fn new(target: T) -> Self {
        Self { target, shadow: None, good: None, revision: 0, held: BTreeMap::new() }
    }

    /// What the target has is not known any more.
    pub fn forget(&mut self) {
        if let Some(shadow) = self.shadow.take() {
            self.good = Some(plans(&shadow));
        }
    }

    /// See [`Table::begin_epoch`](super::Table::begin_epoch).
    pub fn begin_epoch(&mut self) {
        self.revision = 0;
    }

    /// See [`Table::program`](super::Table::program).
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        if plan.revision < self.revision {
            return Err(ProgramError::Stale { plan: plan.revision, programmed: self.revision });
        }
        self.held.retain(|key, _| plan.services.contains_key(key));
        let (dirty, suspects) = self.suspects(plan, dirty);
        let mut report = match self.write(plan, &dirty) {
            Err(error) if error.may_lie_in_a_service() => {
                tracing::warn!(
                    error = causes(&error),
                    "a batch was refused; looking for the Services that are to blame"
                );
                self.divide(plan)?
            }
            outcome => outcome?,
        };
        self.try_apart(plan, &suspects, &mut report)?;
        self.revision = plan.revision;
        Ok(self.report(report))
    }

    /// Adds to a report what is not about one batch.
    pub fn report(&mut self, report: Report) -> Report {
        let refused = |(key, held): (&Key, &Held)| Refused { service: key.clone(), error: held.error.clone() };
        let refused = self.held.iter().map(refused).collect();
        Report { repairs: self.target.take_repairs(), refused, ..report }
    }

    /// Where to look for changes, without those Services that were refused before and may be taken now, and these.
    fn suspects<'a>(&self, plan: &Plan, dirty: &'a Dirty) -> (Cow<'a, Dirty>, Vec<Key>) {
        if self.held.is_empty() {
            return (Cow::Borrowed(dirty), Vec::new());
        }
        match dirty {
            Dirty::Services(keys) => {
                let held = |key: &&Key| self.held.contains_key(*key);
                let rest = keys.iter().filter(|key| !held(key)).cloned().collect();
                (Cow::Owned(Dirty::Services(rest)), keys.iter().filter(held).cloned().collect())
            }
            Dirty::All => {
                let changed = |(key, held): &(&Key, &Held)| plan.services.get(*key) != Some(&held.plan);
                let suspects = self.held.iter().filter(changed).map(|(key, _)| key.clone()).collect();
                (Cow::Borrowed(dirty), suspects)
            }
        }
    }

    /// The plan with what is there in place of what was refused.
    fn without_held<'a>(&self, plan: &'a Plan) -> Cow<'a, Plan> {
        if self.held.is_empty() {
            return Cow::Borrowed(plan);
        }
        let mut plan = plan.clone();
        for (key, held) in &self.held {
            match &held.instead {
                Some(instead) => plan.services.insert(key.clone(), Arc::clone(instead)),
                None => plan.services.remove(key),
            };
        }
        Cow::Owned(plan)
    }

    /// Writes what is different, all at once.
    fn write(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        let Some(mut shadow) = self.shadow.take() else {
            return self.fill(&self.without_held(plan));
        };
        let before = Before::of(&shadow, dirty);
        let updated = match dirty {
            Dirty::All => shadow.update(&self.without_held(plan), dirty),
            // Of the others, those that were refused among them, nothing is looked at.
            Dirty::Services(_) => shadow.update(plan, dirty),
        };
        let outcome = match updated {
            Ok(changes) if changes.is_empty() => return Ok(self.done(shadow, &changes, 0)),
            Ok(changes) => self.target.change(&changes).map(|sent| sent.map(|bytes| (changes, bytes))),
            // Its numbers are used up; from the beginning there may be enough.
            Err(_) => Ok(None),
        };
        match outcome {
            Ok(Some((changes, bytes))) => Ok(self.done(shadow, &changes, bytes)),
            Ok(None) => {
                self.good = Some(before.restore(&shadow, dirty));
                self.fill(&self.without_held(plan))
            }
            Err(error) => {
                self.good = Some(before.restore(&shadow, dirty));
                Err(error)
            }
        }
    }

    /// Writes all elements.
    fn fill(&mut self, plan: &Plan) -> Result<Report, ProgramError> {
        let localhost = plan.node.localhost_node_ports;
        for _ in 0..MAX_ADOPTIONS {
            // If anything goes wrong with what is there, it is replaced, and what is wrong for good shows there.
            let found = self.target.adoptable().unwrap_or_else(|error| {
                tracing::debug!(%error, "the tables that are there cannot be read");
                None
            });
            let Some(chains) = found else { break };
            let mut shadow = Shadow::with_chains(chains);
            let changes = shadow.update(plan, &Dirty::All)?;
            match self.target.refill(&changes, localhost) {
                Ok(bytes) => {
                    let report = self.done(shadow, &changes, bytes);
                    return Ok(Report { full: true, adopted: true, ..report });
                }
                Err(error) => {
                    tracing::debug!(error = causes(&error), "the tables that are there cannot be kept");
                    if !error.overtaken() {
                        break;
                    }
                }
            }
        }
        let mut shadow = Shadow::default();
        let changes = shadow.update(plan, &Dirty::All)?;
        let bytes = self.target.replace(&changes, localhost)?;
        Ok(Report { full: true, ..self.done(shadow, &changes, bytes) })
    }

    /// The target has what the shadow says.
    fn done(&mut self, shadow: Shadow, changes: &Changes, bytes: usize) -> Report {
        self.shadow = Some(shadow);
        self.good = None;
        let (elements_added, elements_removed) = changes.count();
        Report { elements_added, elements_removed, bytes, ..Report::default() }
    }

    /// Fills the tables with what is known to work, and finds out what of the rest does.
    fn divide(&mut self, wanted: &Plan) -> Result<Report, ProgramError> {
        let plan = self.without_held(wanted);
        let mut known = Plan { revision: plan.revision, node: plan.node.clone(), services: Services::new() };
        let good = self.good.clone().unwrap_or_default();
        let before = plan.services.keys().filter_map(|key| good.get_key_value(key));
        known.services.extend(before.map(|(key, service)| (key.clone(), Arc::clone(service))));
        let mut report = match self.fill(&known) {
            // What worked then does not any more. If this is refused as well, it lies in the node.
            Err(error) if error.may_lie_in_a_service() && !known.services.is_empty() => {
                known.services.clear();
                self.fill(&known)?
            }
            outcome => outcome?,
        };
        let differs = |(key, service): &(&Key, &Arc<ServicePlan>)| known.services.get(*key) != Some(*service);
        let candidates: Vec<Key> = plan.services.iter().filter(differs).map(|(key, _)| key.clone()).collect();
        for (key, error) in split(&candidates, attempts(&plan), |keys| self.place(&plan, keys, &mut report))? {
            if let Some(service) = wanted.services.get(&key) {
                let instead = known.services.get(&key).cloned();
                self.held.insert(key, Held { plan: Arc::clone(service), instead, error });
            }
        }
        Ok(report)
    }

    /// Tries those that were refused before.
    fn try_apart(&mut self, plan: &Plan, suspects: &[Key], report: &mut Report) -> Result<(), ProgramError> {
        let mut culprits: BTreeMap<Key, String> =
            split(suspects, attempts(plan), |keys| self.place(plan, keys, report))?.into_iter().collect();
        for key in suspects {
            match (culprits.remove(key), self.held.get_mut(key), plan.services.get(key)) {
                (Some(error), Some(held), Some(service)) => {
                    held.plan = Arc::clone(service);
                    held.error = error;
                }
                _ => {
                    self.held.remove(key);
                }
            }
        }
        Ok(())
    }

    /// Programs these Services, all or none: then the inner error says why.
    fn place(&mut self, plan: &Plan, keys: &[Key], report: &mut Report) -> Result<Result<(), String>, ProgramError> {
        let dirty = Dirty::Services(keys.iter().cloned().collect());
        for _ in 0..2 {
            let Some(mut shadow) = self.shadow.clone() else { break };
            let changes = match shadow.update(plan, &dirty) {
                Ok(changes) => changes,
                Err(exhausted) => return Ok(Err(exhausted.to_string())),
            };
            if changes.is_empty() {
                self.shadow = Some(shadow);
                return Ok(Ok(()));
            }
            match self.target.change(&changes) {
                Ok(Some(bytes)) => {
                    let part = self.done(shadow, &changes, bytes);
                    report.elements_added += part.elements_added;
                    report.elements_removed += part.elements_removed;
                    report.bytes += part.bytes;
                    return Ok(Ok(()));
                }
                // Somebody else has been at the tables.
                Ok(None) => self.fill_again(plan)?,
                Err(error) if error.may_lie_in_a_service() => {
                    if matches!(&error, ProgramError::Kernel(NetlinkError::Torn(_))) {
                        self.fill_again(plan)?;
                    }
                    return Ok(Err(causes(&error)));
                }
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
        }
        Err(ProgramError::Kernel(NetlinkError::NoAnswer))
    }

    /// Fills the tables with what they had.
    fn fill_again(&mut self, plan: &Plan) -> Result<(), ProgramError> {
        let services = self.shadow.take().map(|shadow| plans(&shadow)).unwrap_or_default();
        self.good = Some(services.clone());
        self.fill(&Plan { revision: plan.revision, node: plan.node.clone(), services }).map(drop)
    }
}

/// How often it is tried to find culprits.
fn attempts(plan: &Plan) -> usize {
    MAX_COPIED / (ATTEMPT + plan.services.len())
}

/// What the kernel said, in one line. That it was nftables is known.
fn causes(error: &ProgramError) -> String {
    let error: &dyn std::error::Error = match error {
        ProgramError::Kernel(error) => error,
        other => other,
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
