//! Stale UDP flows, and connections that nobody answers any more, are removed behind every change that can have made some.
//!
//! The core loop says what it has programmed ([`Flows::programmed`]) and goes on; whether a change calls for a clean-up
//! is told from the two plans of a Service. The clean-up reads every UDP flow of the machine, or every connection that
//! nobody has answered, so it happens on a thread of its own, and not more often than [`RESTS`] say: what falls due meanwhile
//! is done in one.
//!
//! An endpoint that leaves may have been dead for seconds, and connections to it unanswered for as long: they are forgotten,
//! so that their clients' next attempt goes to somebody who lives. Those that are still unanswered a rest later, that is: by
//! then an answer that was on its way has come.
//!
//! After a repair ([`Flows::repaired`]) connections of every protocol that began while the tables were not whole are
//! removed, too.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dataplane::Dirty;
use dataplane::conntrack::{Index, Left, Report, due, left};
use dataplane::nftables::netlink::NetlinkError;
use dataplane::{NodePlan, Plan, ServicePlan};
use model::Key;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::chain;

/// Between two clean-ups, and before one that failed is tried again.
pub const RESTS: Rests = Rests { rest: Duration::from_millis(250), retry: Duration::from_secs(10) };

#[derive(Clone, Copy, Debug)]
pub struct Rests {
    rest: Duration,
    retry: Duration,
}

/// What is programmed, and whether flows are to be looked at.
#[derive(Debug, Default)]
pub struct Flows {
    known: Mutex<Known>,
    due: Notify,
}

#[derive(Debug, Default)]
struct Known {
    node: NodePlan,
    services: BTreeMap<Key, Arc<ServicePlan>>,
    /// Whether UDP flows may be stale. An index of them goes through all Services, so it is not made for anything else.
    udp: bool,
    missed: Option<Missed>,
    leaving: Leaving,
}

/// Endpoints that have left, until connections to them were looked for.
#[derive(Debug, Default)]
struct Leaving {
    /// Looked for the next time but one.
    fresh: HashSet<Left>,
    /// Looked for the next time.
    due: HashSet<Left>,
}

/// What a clean-up looks for, and must look for again, should it fail.
#[derive(Debug, Default)]
struct Wanted {
    udp: bool,
    missed: Option<Missed>,
    left: HashSet<Left>,
}

/// Every Service, after a repair: connections to them may have been missed.
#[derive(Debug)]
struct Missed {
    services: Vec<Arc<ServicePlan>>,
    /// How often they are looked for. A packet that was on its way when the tables came back may become an entry after the
    /// first look.
    looks: u8,
}

impl Flows {
    /// The kernel does what `plan` says again, and for a moment did not.
    pub fn repaired(&self, plan: &Plan) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.missed = Some(Missed { services: plan.services.values().cloned().collect(), looks: 2 });
        known.udp = true;
        self.due.notify_one();
    }

    /// The kernel does what `plan` says; only what is `dirty` may differ from the last time.
    pub fn programmed(&self, plan: &Plan, dirty: &Dirty) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut look = known.update_node(&plan.node);
        match dirty {
            Dirty::Services(keys) => {
                for key in keys {
                    look |= known.update(key, plan.services.get(key));
                }
            }
            Dirty::All => {
                let gone: BTreeSet<Key> =
                    known.services.keys().filter(|key| !plan.services.contains_key(*key)).cloned().collect();
                for key in gone {
                    known.services.remove(&key);
                }
                for (key, service) in &plan.services {
                    look |= known.update(key, Some(service));
                }
            }
        }
        if look {
            self.due.notify_one();
        }
    }

    /// What a clean-up needs, and what to look for again, should it fail.
    fn take(&self) -> (Index, Wanted) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Leaving { fresh, due } = &mut known.leaving;
        let left = std::mem::replace(due, std::mem::take(fresh));
        if !due.is_empty() {
            self.due.notify_one();
        }
        let wanted = Wanted { udp: std::mem::take(&mut known.udp), missed: known.missed.take(), left };
        let services = wanted.udp.then(|| known.services.values());
        let index = Index::new(&known.node, services.into_iter().flatten())
            .with_missed(wanted.missed.iter().flat_map(|missed| &missed.services))
            .with_left(wanted.left.iter().copied());
        (index, wanted)
    }

    /// Calls for another look; what was missed is forgotten if there was another repair meanwhile.
    fn again(&self, wanted: Wanted) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.udp |= wanted.udp;
        known.missed = known.missed.take().or(wanted.missed);
        known.leaving.due.extend(wanted.left);
        self.due.notify_one();
    }
}

impl Leaving {
    /// What a Service's change says of who leaves, and of who is back.
    fn update(&mut self, old: &ServicePlan, new: &ServicePlan) -> bool {
        if !(self.fresh.is_empty() && self.due.is_empty()) {
            for back in left(new, old) {
                self.fresh.remove(&back);
                self.due.remove(&back);
            }
        }
        let gone = left(old, new);
        let any = !gone.is_empty();
        self.fresh.extend(gone);
        any
    }
}

impl Known {
    /// Whether node ports may answer at other addresses than before.
    fn update_node(&mut self, node: &NodePlan) -> bool {
        let differs = self.node != *node;
        if differs {
            self.node = node.clone();
        }
        let look = differs && !self.services.is_empty();
        self.udp |= look;
        look
    }

    /// Whether a Service's change calls for a look.
    fn update(&mut self, key: &Key, new: Option<&Arc<ServicePlan>>) -> bool {
        let old = self.services.get(key);
        let mut look = due(old.map(|old| &**old), new.map(|new| &**new));
        self.udp |= look;
        if let (Some(old), Some(new)) = (old, new) {
            look |= self.leaving.update(old, new);
        }
        match new {
            Some(new) => self.services.insert(key.clone(), Arc::clone(new)),
            None => self.services.remove(key),
        };
        look
    }
}

/// Cleans up whenever it is due, for ever. `clean` may block.
pub async fn keep_clean<C>(flows: Arc<Flows>, clean: C, removed: Counter, rests: Rests)
where
    C: Fn(&Index) -> Result<Report, NetlinkError> + Send + Sync + 'static,
{
    let clean = Arc::new(clean);
    let mut known_cause = None;
    loop {
        flows.due.notified().await;
        let ((index, wanted), clean) = (flows.take(), Arc::clone(&clean));
        if index.is_empty() {
            tokio::time::sleep(rests.rest).await;
            continue;
        }
        let rest = match tokio::task::spawn_blocking(move || clean(&index)).await {
            Ok(Ok(report)) => {
                debug!(?report, "tracked connections were looked at");
                removed.inc_by(report.removed as u64);
                known_cause = None;
                if let Some(Missed { services, looks: 2.. }) = wanted.missed {
                    let missed = Some(Missed { services, looks: 1 });
                    flows.again(Wanted { udp: true, missed, left: HashSet::new() });
                }
                rests.rest
            }
            Ok(Err(error)) => {
                let cause = chain(&error);
                if known_cause.as_ref() != Some(&cause) {
                    warn!(error = cause, "clients of endpoints that are gone may go unanswered; trying on");
                    known_cause = Some(cause);
                }
                flows.again(wanted);
                rests.retry
            }
            // The runtime ends.
            Err(_) => return,
        };
        tokio::time::sleep(rest).await;
    }
}
