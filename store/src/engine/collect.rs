//! What owners mean (`metadata.ownerReferences`): dependents go with the last of their owners, and an owner may wait for
//! them.
//!
//! Kubernetes has a garbage collector for this, which comes by later; here it happens in the transaction that deletes the
//! owner. Who depends on whom is an index of the state ([`super::index::Dependents`]), so nothing is searched. What a
//! request brings about is settled with it up to [`COLLECT_LIMIT`] objects; the rest is owed, and done with the following
//! groups or in idle moments. The debt is no record of its own: it is what stored objects say that should not be so, and
//! is found again by a look at all of them when the store starts or a commit has failed.
//!
//! The rules are those of Kubernetes (`pkg/controller/garbagecollector`):
//! - An owner is there if the object that a reference names, in the dependent's namespace, has the reference's uid. A
//!   reference into another namespace names nobody.
//! - An owner of a kind that is not served, or a namespaced owner of a cluster-scoped object, cannot be known to be gone:
//!   its dependents stay.
//! - A dependent with no owner left is deleted, with its finalizers and, a Pod, its grace period. One that has another
//!   owner loses the references to those that are gone.
//! - *Orphan* takes the reference out of the dependents. *Foreground* deletes the dependents first: the owner is there,
//!   terminating, as long as one of them that has `blockOwnerDeletion` is.
//! - An object that is created with owners none of which exists is stored, and deleted soon after.

use std::sync::Arc;

use model::Object;
use serde_json::Value;

use super::Engine;
use super::index::Id;
use super::nodes::PODS;
use super::stamp::{broken, edit_metadata};
use super::state::{Owner, State};
use crate::error::Refusal;
use crate::request::Propagation;

/// Dependents and waiting owners that one request, or one group of the writer's own, looks at.
pub(super) const COLLECT_LIMIT: usize = 256;

/// The finalizer of an owner that waits until its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// The finalizer of an owner that waits until its dependents have forgotten it.
pub(super) const ORPHAN: &str = "orphan";

/// How an object stands with its owners.
struct Standing<'a> {
    /// Whether one is there and does not wait for its dependents to go.
    kept: bool,
    /// Whether one is there that does.
    waited_for: bool,
    /// The uids of all owners that do not keep it.
    lost: Vec<&'a str>,
}

impl Engine {
    /// Does what is owed, up to a bound. What fails is left for the next start to find.
    pub(crate) fn collect(&mut self) {
        for place in self.state.take_owed(COLLECT_LIMIT) {
            self.settle_owner(&place);
            self.collect_one(&place);
        }
    }

    /// Whether something is owed.
    pub(crate) fn owes(&self) -> bool {
        self.state.owes()
    }

    /// Takes on what stored objects say that should not be so.
    pub(super) fn find_owed(&mut self) {
        let mut owed: Vec<Id> = Vec::new();
        for resource in model::Resource::all_stored() {
            for object in self.state.shelf(resource).all() {
                let (waits, due) = (waits_for_dependents(object), !object.meta().owner_references.is_empty());
                if waits || (due && is_due(&self.state, object)) {
                    owed.push((resource, object.key.clone()));
                }
            }
        }
        owed.into_iter().for_each(|place| self.state.owe(place));
    }

    /// The finalizers that an object has once its deletion is asked for: in place of Kubernetes' own there is at most one,
    /// and that only if there are dependents that it waits for.
    pub(super) fn finalizers_for_deletion(&self, old: &Object, mode: Propagation) -> Vec<String> {
        let theirs = |finalizer: &&String| !matches!(finalizer.as_str(), FOREGROUND | ORPHAN);
        let mut finalizers: Vec<String> = old.meta().finalizers.iter().filter(theirs).cloned().collect();
        let dependents = self.state.dependents();
        match mode {
            Propagation::Foreground if self.is_blocked(old) => finalizers.push(FOREGROUND.to_owned()),
            Propagation::Orphan if dependents.of(old.meta().uid()).next().is_some() => {
                finalizers.push(ORPHAN.to_owned());
            }
            _ => {}
        }
        finalizers
    }

    /// Whether an object depends on this one that keeps it from going in the foreground.
    fn is_blocked(&self, owner: &Object) -> bool {
        let uid = owner.meta().uid();
        self.state.dependents().of(uid).any(|(resource, key)| {
            self.state.get(*resource, &key.namespace, &key.name).is_some_and(|dependent| {
                let mut references = dependent.meta().owner_references.iter();
                references.any(|reference| reference.uid == uid && reference.block_owner_deletion == Some(true))
            })
        })
    }

    /// Lets go of an owner whose dependents are gone, or have been made to forget it.
    pub(super) fn settle_owner(&mut self, place: &Id) {
        self.attempt(place, Self::try_settle_owner);
    }

    /// Deletes an object that no owner keeps, or takes the references out of it to those that are gone.
    pub(super) fn collect_one(&mut self, place: &Id) {
        self.attempt(place, Self::try_collect);
    }

    /// What fails on one object must not fail the request that brought it about.
    fn attempt(&mut self, place: &Id, act: fn(&mut Self, &Arc<Object>) -> Result<(), Refusal>) {
        let (resource, key) = place;
        let Some(object) = self.state.get(*resource, &key.namespace, &key.name).cloned() else { return };
        let mark = self.state.mark();
        if let Err(error) = act(self, &object) {
            self.state.undo(mark);
            // A namespace that must not be deleted is no fault.
            if !matches!(error, Refusal::Forbidden { .. }) {
                tracing::error!(%resource, namespace = &*key.namespace, name = &*key.name, %error, "not collected");
            }
        }
    }

    fn try_settle_owner(&mut self, owner: &Arc<Object>) -> Result<(), Refusal> {
        let meta = owner.meta();
        if !waits_for_dependents(owner) {
            return Ok(());
        }
        let mut finalizers = meta.finalizers.clone();
        if finalizers.iter().any(|finalizer| finalizer == ORPHAN) {
            let uid = meta.uid();
            let some: Vec<Id> = self.state.dependents().of(uid).take(COLLECT_LIMIT).cloned().collect();
            for (resource, key) in some {
                if let Some(dependent) = self.state.get(resource, &key.namespace, &key.name).cloned() {
                    self.drop_references(&dependent, &[uid])?;
                }
            }
            if self.state.dependents().of(uid).next().is_some() {
                self.state.owe((owner.resource, owner.key.clone()));
            } else {
                finalizers.retain(|finalizer| finalizer != ORPHAN);
            }
        }
        if !self.is_blocked(owner) {
            finalizers.retain(|finalizer| finalizer != FOREGROUND);
        }
        if finalizers.iter().any(|finalizer| finalizer == PODS) {
            if self.remove_pods_on(&owner.key.name, COLLECT_LIMIT)? {
                finalizers.retain(|finalizer| finalizer != PODS);
            } else {
                self.state.owe((owner.resource, owner.key.clone()));
            }
        }
        if finalizers == meta.finalizers {
            return Ok(());
        }
        let mut value = owner.value().map_err(broken)?;
        set_finalizers(&mut value, &finalizers);
        let released = self.put(owner.resource, value, Some(owner))?;
        self.end_deletion(&released)?;
        Ok(())
    }

    fn try_collect(&mut self, object: &Arc<Object>) -> Result<(), Refusal> {
        if object.meta().terminating() {
            return Ok(());
        }
        let Some(standing) = standing(&self.state, object).filter(|standing| !standing.lost.is_empty()) else {
            return Ok(());
        };
        if standing.kept {
            return self.drop_references(object, &standing.lost);
        }
        let has_dependents = self.state.dependents().of(object.meta().uid()).next().is_some();
        let mode = (standing.waited_for && has_dependents).then_some(Propagation::Foreground);
        let mut object = Arc::clone(object);
        if mode.is_some() && self.is_part_of_a_circle(&object) {
            object = self.unblock(&object)?;
        }
        self.delete_as(&object, mode, None)?;
        Ok(())
    }

    /// Whether one of its own dependents waits already: the two would wait for each other.
    fn is_part_of_a_circle(&self, object: &Object) -> bool {
        let mut dependents = self.state.dependents().of(object.meta().uid());
        dependents.any(|(resource, key)| {
            self.state.get(*resource, &key.namespace, &key.name).is_some_and(|object| waits_for_dependents(object))
        })
    }

    /// Has an object keep none of its owners from going.
    fn unblock(&mut self, object: &Arc<Object>) -> Result<Arc<Object>, Refusal> {
        self.edit_references(object, |references| {
            for reference in references {
                if let Some(reference) = reference.as_object_mut() {
                    reference.insert("blockOwnerDeletion".to_owned(), false.into());
                }
            }
        })
    }

    fn drop_references(&mut self, object: &Arc<Object>, uids: &[&str]) -> Result<(), Refusal> {
        self.edit_references(object, |references| {
            references.retain(|reference| !reference["uid"].as_str().is_some_and(|uid| uids.contains(&uid)));
        })?;
        Ok(())
    }

    fn edit_references(
        &mut self,
        object: &Arc<Object>,
        edit: impl FnOnce(&mut Vec<Value>),
    ) -> Result<Arc<Object>, Refusal> {
        let mut value = object.value().map_err(broken)?;
        edit_metadata(&mut value, |metadata| {
            if let Some(Value::Array(references)) = metadata.get_mut("ownerReferences") {
                edit(references);
                if references.is_empty() {
                    metadata.remove("ownerReferences");
                }
            }
        });
        self.put(object.resource, value, Some(object))
    }
}

/// Whether it is an owner that stays because of its dependents, or a Node that stays because of its Pods.
pub(super) fn waits_for_dependents(object: &Object) -> bool {
    let meta = object.meta();
    meta.terminating()
        && meta.finalizers.iter().any(|finalizer| matches!(finalizer.as_str(), FOREGROUND | ORPHAN | PODS))
}

/// Whether it is an owner that stays until its dependents are gone.
pub(super) fn waits_in_foreground(object: &Object) -> bool {
    object.meta().terminating() && object.meta().finalizers.iter().any(|finalizer| finalizer == FOREGROUND)
}

/// Whether something is to be done about an object because of how its owners are.
pub(super) fn is_due(state: &State, object: &Object) -> bool {
    standing(state, object).is_some_and(|standing| !standing.lost.is_empty())
}

/// None where it cannot be known.
fn standing<'a>(state: &State, object: &'a Object) -> Option<Standing<'a>> {
    let mut standing = Standing { kept: false, waited_for: false, lost: Vec::new() };
    for reference in &object.meta().owner_references {
        match state.owner(object, reference) {
            Owner::Unknown => return None,
            Owner::Present(owner) if waits_in_foreground(owner) => {
                standing.waited_for = true;
                standing.lost.push(&reference.uid);
            }
            Owner::Present(_) => standing.kept = true,
            Owner::Absent => standing.lost.push(&reference.uid),
        }
    }
    Some(standing)
}

/// Writes the finalizers of an object; none are left out.
pub(super) fn set_finalizers(value: &mut Value, finalizers: &[String]) {
    edit_metadata(value, |metadata| {
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), finalizers.to_vec().into());
        }
    });
}
