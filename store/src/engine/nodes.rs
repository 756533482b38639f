//! Deleting a Node: the Pods that are bound to it go with it, in the same transaction and without their grace period.
//!
//! Whoever runs them is gone, so nobody would end their deletion. Kubernetes' garbage collector of Pods comes by for that
//! some 40 s later (`pkg/controller/podgc`, "orphaned"); until then they are endpoints of a Node that does not exist. As
//! there, finalizers of a Pod are respected: such a Pod is marked, and stays until they are empty.
//!
//! A Node with more Pods than [`COLLECT_LIMIT`] would make a transaction that holds up all others. It is marked with the
//! finalizer [`PODS`] instead, its Pods go in groups of that size, and it goes with the last. So what is left to do is
//! what stored objects say, and is found again after a restart. Whoever empties the finalizers by hand has them all go
//! at once.

use std::sync::Arc;

use model::Object;

use super::Engine;
use super::collect::COLLECT_LIMIT;
use crate::error::Refusal;
use crate::request::Written;

/// The finalizer of a Node that waits until its Pods are gone.
pub(super) const PODS: &str = "portolan.dev/pods";

impl Engine {
    pub(super) fn delete_node(&mut self, old: &Arc<Object>, mut finalizers: Vec<String>) -> Result<Written, Refusal> {
        finalizers.retain(|finalizer| finalizer != PODS);
        let many = self.left_on(&old.key.name).nth(COLLECT_LIMIT).is_some();
        if many {
            finalizers.push(PODS.to_owned());
        }
        let answer = self.delete_or_mark(old, finalizers, 0)?;
        if many {
            self.state.look_at_dependents(&answer.object);
        }
        Ok(answer)
    }

    /// Deletes at most so many of the Pods that are bound to a Node; whether that were all.
    pub(super) fn remove_pods_on(&mut self, node: &str, limit: usize) -> Result<bool, Refusal> {
        let some: Vec<Arc<Object>> = self.left_on(node).take(limit).cloned().collect();
        for pod in &some {
            self.delete_at_once(pod)?;
        }
        Ok(self.left_on(node).next().is_none())
    }

    /// The Pods bound to a Node whose deletion is not a matter of their finalizers alone.
    fn left_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.state.pods_on(node).filter(|pod| {
            let meta = pod.meta();
            !meta.terminating() || meta.deletion_grace_period_seconds.unwrap_or(0) != 0
        })
    }
}
