//! Namespaces: what must be there before an object comes, and goes with its namespace.
//!
//! Deleting a namespace deletes its contents in the same transaction, Pods without their grace period. Only what has
//! finalizers stays, and then the namespace stays with it, terminating, until the last such object is gone; its conditions
//! say what remains. It also stays while somebody else's finalizer stands in its spec: that goes by way of `…/finalize`. Who
//! takes `kubernetes` from there, which is the server's own, does not leave objects without a namespace behind: unlike in
//! Kubernetes the namespace stays until it is empty all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Object, Resource};
use serde_json::{Value, json};

use super::collect::set_finalizers;
use super::stamp::broken;
use super::state::State;
use super::update::mark_terminating;
use super::{Engine, written};
use crate::error::Refusal;
use crate::request::{Outcome, Written};

/// What stands in a namespace's `spec.finalizers` as long as it has contents.
const FINALIZER: &str = "kubernetes";

/// The namespaces that every cluster has.
pub(super) const BOOTSTRAP: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

impl Engine {
    /// Whether an object may come into a namespace.
    pub(super) fn check_namespace(&self, resource: Resource, namespace: &str, name: &str) -> Result<(), Refusal> {
        if !resource.info().namespaced {
            return Ok(());
        }
        let namespace = namespace.to_owned();
        match self.state.get(Resource::Namespaces, "", &namespace) {
            None => Err(Refusal::NamespaceMissing { namespace }),
            Some(object) if object.meta().terminating() => {
                Err(Refusal::NamespaceTerminating { resource, name: name.to_owned(), namespace })
            }
            Some(_) => Ok(()),
        }
    }

    /// Marks the namespace, deletes what is in it, and the namespace itself if that was all.
    pub(super) fn delete_namespace(&mut self, old: &Arc<Object>, finalizers: Vec<String>) -> Result<Written, Refusal> {
        let name = &*old.key.name;
        let mut marked = Arc::clone(old);
        let begins = !old.meta().terminating();
        if begins || old.meta().finalizers != finalizers {
            let mut value = old.value().map_err(broken)?;
            if begins {
                mark_terminating(&mut value, self.timestamp(), 0);
            }
            set_finalizers(&mut value, &finalizers);
            value["status"]["phase"] = "Terminating".into();
            marked = self.put(old.resource, value, Some(old))?;
        }
        // Services first: their slices, Endpoints and addresses go with them.
        let mut resources: Vec<Resource> = Resource::all_stored().filter(|r| r.info().namespaced).collect();
        resources.sort_by_key(|resource| *resource != Resource::Services);
        for resource in resources {
            for object in self.state.shelf(resource).collect(Some(name)) {
                // An earlier one may have taken it along.
                if let Some(object) = self.state.get(resource, name, &object.key.name).cloned() {
                    self.delete_at_once(&object)?;
                }
            }
        }
        if let Some(last) = self.settle_namespace(name)? {
            return Ok(written(last, Outcome::Deleted, Vec::new()));
        }
        let now = self.state.get(old.resource, "", name).cloned().unwrap_or(marked);
        Ok(written(now, Outcome::Deleting, Vec::new()))
    }

    /// Brings a terminating namespace up to date with its contents: removes it when it is empty and nothing else holds it,
    /// and returns its last state then; takes our finalizer when somebody else's holds it; says what remains otherwise.
    pub(super) fn settle_namespace(&mut self, name: &str) -> Result<Option<Arc<Object>>, Refusal> {
        let Some(namespace) = self.state.get(Resource::Namespaces, "", name).cloned() else { return Ok(None) };
        if !namespace.meta().terminating() {
            return Ok(None);
        }
        let before = namespace.value().map_err(broken)?;
        let finalizers = before["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
        let mut value = before.clone();
        let remains = Remains::of(&self.state, name);
        if remains.nothing() {
            let foreign: Vec<Value> = finalizers.iter().filter(|held| *held != FINALIZER).cloned().collect();
            if foreign.is_empty() && namespace.meta().finalizers.is_empty() {
                return self.remove(&namespace).map(Some);
            }
            value["spec"]["finalizers"] = foreign.into();
        }
        remains.write_conditions(&mut value, &self.timestamp());
        if value != before {
            self.put(namespace.resource, value, Some(&namespace))?;
        }
        Ok(None)
    }
}

/// Why a namespace may not be deleted, if so.
pub(super) fn undeletable(name: &str) -> Option<&'static str> {
    BOOTSTRAP.contains(&name).then_some("this namespace may not be deleted")
}

/// What is left in a namespace that is being deleted.
#[derive(Default)]
struct Remains {
    /// How many objects of each resource there are.
    objects: Vec<(Resource, usize)>,
    /// On how many of them each finalizer stands.
    finalizers: BTreeMap<String, usize>,
}

impl Remains {
    fn of(state: &State, namespace: &str) -> Self {
        let mut remains = Self::default();
        for resource in Resource::all_stored().filter(|resource| resource.info().namespaced) {
            let mut count = 0;
            for object in state.shelf(resource).within(namespace) {
                count += 1;
                for finalizer in &object.meta().finalizers {
                    *remains.finalizers.entry(finalizer.clone()).or_default() += 1;
                }
            }
            if count > 0 {
                remains.objects.push((resource, count));
            }
        }
        remains
    }

    fn nothing(&self) -> bool {
        self.objects.is_empty()
    }

    /// The conditions that Kubernetes' namespace controller maintains, in its order and words
    /// (`pkg/controller/namespace/deletion/status_condition_utils.go`). One that says what it said keeps its time.
    fn write_conditions(&self, namespace: &mut Value, now: &str) {
        let mut objects: Vec<String> = (self.objects.iter())
            .map(|(resource, count)| {
                let info = resource.info();
                format!("{}.{} has {count} resource instances", info.plural, info.group)
            })
            .collect();
        objects.sort();
        let finalizers: Vec<String> = (self.finalizers.iter())
            .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
            .collect();
        let fine = |reason, message: &str| ("False", reason, message.to_owned());
        let conditions = [
            ("NamespaceDeletionDiscoveryFailure", fine("ResourcesDiscovered", "All resources successfully discovered")),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                fine("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            (
                "NamespaceDeletionContentFailure",
                fine("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            ),
            (
                "NamespaceContentRemaining",
                if objects.is_empty() {
                    fine("ContentRemoved", "All content successfully removed")
                } else {
                    let text = format!("Some resources are remaining: {}", objects.join(", "));
                    ("True", "SomeResourcesRemain", text)
                },
            ),
            (
                "NamespaceFinalizersRemaining",
                if finalizers.is_empty() {
                    fine("ContentHasNoFinalizers", "All content-preserving finalizers finished")
                } else {
                    let list = finalizers.join(", ");
                    let text = format!("Some content in the namespace has finalizers remaining: {list}");
                    ("True", "SomeFinalizersRemain", text)
                },
            ),
        ];
        let mut known = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for (kind, (status, reason, message)) in conditions {
            let mut condition = json!({ "type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message });
            match known.iter_mut().find(|known| known["type"] == kind) {
                Some(known) => {
                    let same = ["status", "reason", "message"].iter().all(|field| known[field] == condition[field]);
                    if same {
                        condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
                    }
                    *known = condition;
                }
                None => known.push(condition),
            }
        }
        namespace["status"]["conditions"] = known.into();
    }
}
