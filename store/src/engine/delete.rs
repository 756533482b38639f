//! Deleting (research B.5: preconditions, finalizers, propagation, the grace period of Pods, what goes along).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::types::Pod;
use model::{Object, Resource};

use super::collect::{FOREGROUND, ORPHAN, set_finalizers};
use super::stamp::{broken, timestamp};
use super::update::mark_terminating;
use super::{Engine, written};
use crate::error::Refusal;
use crate::event::EventKind;
use crate::request::{DeleteOptions, Outcome, Preconditions, Propagation, Written};

/// Kubernetes' default grace period of a Pod, in seconds.
const DEFAULT_GRACE_SECONDS: i64 = 30;

impl Engine {
    /// `resource` is the one that was asked.
    pub(super) fn delete(
        &mut self,
        resource: Resource,
        old: &Arc<Object>,
        options: &DeleteOptions,
    ) -> Result<Written, Refusal> {
        check_preconditions(resource, old, &options.preconditions)?;
        let answer = self.delete_as(old, options.propagation, options.grace_period_seconds)?;
        if answer.outcome == Outcome::Deleted {
            return Ok(answer);
        }
        // What it waited for may go with it in this very transaction.
        self.settle()?;
        let last = self.state.journal().iter().rev().find(|event| {
            event.kind == EventKind::Deleted && event.object.resource == old.resource && event.object.key == old.key
        });
        Ok(match last.filter(|_| self.state.get(old.resource, &old.key.namespace, &old.key.name).is_none()) {
            Some(last) => written(Arc::clone(&last.object), Outcome::Deleted, answer.warnings),
            None => match self.state.get(old.resource, &old.key.namespace, &old.key.name) {
                Some(now) => written(Arc::clone(now), answer.outcome, answer.warnings),
                None => answer,
            },
        })
    }

    /// Deletes an object in the way of its kind. `asked` outweighs what its finalizers say of its dependents.
    pub(super) fn delete_as(
        &mut self,
        old: &Arc<Object>,
        asked: Option<Propagation>,
        grace_seconds: Option<i64>,
    ) -> Result<Written, Refusal> {
        self.check_deletable(old)?;
        let finalizers = self.finalizers_for_deletion(old, propagation(old, asked));
        let waits = finalizers.iter().any(|finalizer| matches!(finalizer.as_str(), FOREGROUND | ORPHAN));
        let answer = match old.resource {
            Resource::Namespaces => self.delete_namespace(old, finalizers),
            Resource::ServiceCidrs => self.delete_cidr(old, finalizers),
            Resource::IpAddresses => self.delete_address(old, finalizers),
            Resource::Nodes => self.delete_node(old, finalizers),
            Resource::AddressPools => self.delete_pool(old, finalizers),
            Resource::Pods => {
                let grace = old.pod().map_or(0, |pod| grace(pod, grace_seconds));
                self.delete_or_mark(old, finalizers, grace)
            }
            _ => self.delete_or_mark(old, finalizers, 0),
        }?;
        if waits {
            self.state.look_at_dependents(&answer.object);
        }
        Ok(answer)
    }

    /// Deletes for the server's own reasons: what depends on the object goes after it.
    pub(super) fn delete_at_once(&mut self, old: &Arc<Object>) -> Result<Written, Refusal> {
        let finalizers = self.finalizers_for_deletion(old, Propagation::Background);
        self.delete_or_mark(old, finalizers, 0)
    }

    /// Deletes what has no finalizers and no grace period, and marks what has.
    pub(super) fn delete_or_mark(
        &mut self,
        old: &Arc<Object>,
        finalizers: Vec<String>,
        grace_seconds: i64,
    ) -> Result<Written, Refusal> {
        if finalizers.is_empty() && grace_seconds == 0 {
            let last = self.remove_with_contents(old)?;
            return Ok(written(last, Outcome::Deleted, Vec::new()));
        }
        self.begin_deletion(old, &finalizers, grace_seconds)
    }

    /// Marks an object that its finalizers or its grace period keep. Marking it again changes nothing, except that a grace
    /// period may become shorter, and that another propagation may be asked for while no grace period runs.
    fn begin_deletion(
        &mut self,
        old: &Arc<Object>,
        finalizers: &[String],
        grace_seconds: i64,
    ) -> Result<Written, Refusal> {
        let meta = old.meta();
        let current = meta.deletion_grace_period_seconds.unwrap_or(0);
        let until = match meta.deletion_timestamp.as_deref().and_then(|text| text.parse::<Timestamp>().ok()) {
            Some(_) if grace_seconds >= current => None,
            // Counted from when the deletion began, not from now.
            Some(until) => Some(later(until, grace_seconds - current)),
            None => Some(later(self.now, grace_seconds)),
        };
        let other_finalizers = meta.finalizers != finalizers && (until.is_some() || current == 0);
        if until.is_none() && !other_finalizers {
            return Ok(written(Arc::clone(old), Outcome::Deleting, Vec::new()));
        }
        let mut value = old.value().map_err(broken)?;
        if let Some(until) = until {
            mark_terminating(&mut value, timestamp(until), grace_seconds);
        }
        if other_finalizers {
            set_finalizers(&mut value, finalizers);
        }
        let object = self.put(old.resource, value, Some(old))?;
        Ok(written(object, Outcome::Deleting, Vec::new()))
    }

    /// Removes a terminating object that nothing holds any more; returns its last state if it went.
    pub(super) fn end_deletion(&mut self, object: &Arc<Object>) -> Result<Option<Arc<Object>>, Refusal> {
        let meta = object.meta();
        if !meta.terminating() || !meta.finalizers.is_empty() || meta.deletion_grace_period_seconds.unwrap_or(0) != 0 {
            return Ok(None);
        }
        if object.resource == Resource::Namespaces {
            return self.settle_namespace(&object.key.name);
        }
        self.remove_with_contents(object).map(Some)
    }

    /// Removes an object and, in the same transaction, what cannot be without it.
    pub(super) fn remove_with_contents(&mut self, old: &Arc<Object>) -> Result<Arc<Object>, Refusal> {
        let last = self.remove(old)?;
        if let Some(service) = old.service() {
            self.remove_service_contents(old, service)?;
        }
        if old.resource == Resource::Endpoints {
            self.remove_owned_slices(old)?;
        }
        if old.resource == Resource::Nodes {
            self.remove_pods_on(&old.key.name, usize::MAX)?;
        }
        Ok(last)
    }

    fn check_deletable(&self, old: &Object) -> Result<(), Refusal> {
        let detail = match old.resource {
            Resource::Namespaces => super::namespaces::undeletable(&old.key.name),
            Resource::ServiceCidrs => super::cidrs::undeletable(&old.key.name),
            _ => None,
        };
        match detail {
            Some(detail) => Err(Refusal::Forbidden {
                resource: old.resource,
                name: old.key.name.to_string(),
                detail: detail.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// What becomes of the dependents: what was asked, else what the object says itself. Nothing can own an Event, and an Event
/// owns nothing.
fn propagation(old: &Object, asked: Option<Propagation>) -> Propagation {
    if old.resource == Resource::Events {
        return Propagation::Background;
    }
    let has = |name: &str| old.meta().finalizers.iter().any(|finalizer| finalizer == name);
    asked.unwrap_or_else(|| {
        if has(ORPHAN) {
            Propagation::Orphan
        } else if has(FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        }
    })
}

/// How long a Pod has to end: what was asked, else its own; 0 where no kubelet runs it, or it has ended.
fn grace(pod: &Pod, asked: Option<i64>) -> i64 {
    let ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    if pod.spec.node_name.is_empty() || ended {
        return 0;
    }
    let already = pod.metadata.deletion_grace_period_seconds.filter(|_| pod.metadata.terminating());
    let grace = asked.or(already).or(pod.spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE_SECONDS);
    if grace < 0 { 1 } else { grace }
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    // Past the end of time is the end of time.
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

pub(super) fn check_preconditions(
    resource: Resource,
    old: &Object,
    preconditions: &Preconditions,
) -> Result<(), Refusal> {
    let differs = |what: &str, wanted: &str, stored: &str| {
        let detail = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({stored}). \
             The object might have been deleted and then recreated"
        );
        Err(Refusal::Conflict { resource, name: old.key.name.to_string(), detail })
    };
    if let Some(uid) = &preconditions.uid
        && uid != old.meta().uid()
    {
        return differs("UID", uid, old.meta().uid());
    }
    if let Some(version) = &preconditions.resource_version
        && *version != old.revision.to_string()
    {
        return differs("ResourceVersion", version, &old.revision.to_string());
    }
    Ok(())
}
