//! Deleting (research B.5: preconditions, finalizers, the grace period of Pods, what goes along).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::types::Pod;
use model::{Object, Resource};

use super::stamp::{broken, timestamp};
use super::update::mark_terminating;
use super::{Engine, written};
use crate::error::Refusal;
use crate::request::{DeleteOptions, Outcome, Preconditions, Written};

/// Kubernetes' default grace period of a Pod, in seconds.
const DEFAULT_GRACE_SECONDS: i64 = 30;

impl Engine {
    pub(super) fn delete(&mut self, old: &Arc<Object>, options: &DeleteOptions) -> Result<Written, Refusal> {
        check_preconditions(old, &options.preconditions)?;
        match old.resource {
            Resource::Namespaces => self.delete_namespace(old),
            Resource::ServiceCidrs => self.delete_cidr(old),
            Resource::Pods => self.delete_pod(old, options.grace_period_seconds),
            Resource::IpAddresses => self.delete_address(old),
            _ => self.delete_at_once(old),
        }
    }

    /// Deletes what has no finalizers, and marks what has.
    pub(super) fn delete_at_once(&mut self, old: &Arc<Object>) -> Result<Written, Refusal> {
        if old.meta().finalizers.is_empty() {
            let last = self.remove_with_contents(old)?;
            return Ok(written(last, Outcome::Deleted, Vec::new()));
        }
        self.begin_deletion(old, 0)
    }

    /// Marks an object that its finalizers or its grace period keep. Marking it again changes nothing, except that a grace
    /// period may become shorter.
    pub(super) fn begin_deletion(&mut self, old: &Arc<Object>, grace_seconds: i64) -> Result<Written, Refusal> {
        let began = old.meta().deletion_timestamp.as_deref();
        let current = old.meta().deletion_grace_period_seconds.unwrap_or(0);
        let until = match began.and_then(|text| text.parse::<Timestamp>().ok()) {
            Some(_) if grace_seconds >= current => return Ok(written(Arc::clone(old), Outcome::Deleting, Vec::new())),
            // Counted from when the deletion began, not from now.
            Some(until) => later(until, grace_seconds - current),
            None => later(self.now, grace_seconds),
        };
        let mut value = old.value().map_err(broken)?;
        mark_terminating(&mut value, timestamp(until), grace_seconds);
        let object = self.put(old.resource, value, Some(old))?;
        Ok(written(object, Outcome::Deleting, Vec::new()))
    }

    fn delete_pod(&mut self, old: &Arc<Object>, asked: Option<i64>) -> Result<Written, Refusal> {
        match old.pod().map_or(0, |pod| grace_seconds(pod, asked)) {
            0 => self.delete_at_once(old),
            grace => self.begin_deletion(old, grace),
        }
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
        Ok(last)
    }
}

/// How long a Pod has to end: what was asked, else its own; 0 where no kubelet runs it, or it has ended.
fn grace_seconds(pod: &Pod, asked: Option<i64>) -> i64 {
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

fn check_preconditions(old: &Object, preconditions: &Preconditions) -> Result<(), Refusal> {
    let differs = |what: &str, wanted: &str, stored: &str| {
        let detail = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({stored}). \
             The object might have been deleted and then recreated"
        );
        Err(Refusal::Conflict { resource: old.resource, name: old.key.name.to_string(), detail })
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
