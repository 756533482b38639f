//! Stale UDP flows are removed behind every change that can have made some.
//!
//! The core loop says what it has programmed ([`Flows::programmed`]) and goes on; whether a change calls for a clean-up
//! is told from the two plans of a Service, and nearly none does. The clean-up reads every UDP flow of the machine, so it
//! happens on a thread of its own, and not more often than [`RESTS`] say: what falls due meanwhile is done in one.
//!
//! After a repair ([`Flows::repaired`]) connections of every protocol that began while the tables were not whole are
//! removed, too.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dataplane::Dirty;
use dataplane::conntrack::{Index, Report, due};
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

/// What is programmed for UDP, and whether flows are to be looked at.
#[derive(Debug, Default)]
pub struct Flows {
    known: Mutex<Known>,
    due: Notify,
}

#[derive(Debug, Default)]
struct Known {
    node: NodePlan,
    /// Services with UDP ports.
    services: BTreeMap<Key, Arc<ServicePlan>>,
    missed: Option<Missed>,
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
    fn take(&self) -> (Index, Option<Missed>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = known.missed.take();
        let index = Index::new(&known.node, known.services.values())
            .with_missed(missed.iter().flat_map(|missed| &missed.services));
        (index, missed)
    }

    /// Calls for another look; `missed` is forgotten if there was another repair meanwhile.
    fn again(&self, missed: Option<Missed>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.missed = known.missed.take().or(missed);
        self.due.notify_one();
    }
}

impl Known {
    /// Whether node ports may answer at other addresses than before.
    fn update_node(&mut self, node: &NodePlan) -> bool {
        let differs = self.node != *node;
        if differs {
            self.node = node.clone();
        }
        differs && !self.services.is_empty()
    }

    fn update(&mut self, key: &Key, new: Option<&Arc<ServicePlan>>) -> bool {
        let new = new.filter(|plan| !plan.serving.is_empty());
        let look = due(self.services.get(key).map(|old| &**old), new.map(|new| &**new));
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
        let ((index, missed), clean) = (flows.take(), Arc::clone(&clean));
        if index.is_empty() {
            continue;
        }
        let rest = match tokio::task::spawn_blocking(move || clean(&index)).await {
            Ok(Ok(report)) => {
                debug!(?report, "UDP flows were looked at");
                removed.inc_by(report.removed as u64);
                known_cause = None;
                if let Some(Missed { services, looks: 2.. }) = missed {
                    flows.again(Some(Missed { services, looks: 1 }));
                }
                rests.rest
            }
            Ok(Err(error)) => {
                let cause = chain(&error);
                if known_cause.as_ref() != Some(&cause) {
                    warn!(error = cause, "UDP clients of endpoints that are gone may go unanswered; trying on");
                    known_cause = Some(cause);
                }
                flows.again(missed);
                rests.retry
            }
            // The runtime ends.
            Err(_) => return,
        };
        tokio::time::sleep(rest).await;
    }
}
