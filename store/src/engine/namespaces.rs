//! Namespaces: what must be there before an object comes, and goes with its namespace.
//!
//! Deleting a namespace deletes its contents in the same transaction, Pods without their grace period. Only what has
//! finalizers stays, and then the namespace stays with it, terminating, until the last such object is gone.

use std::sync::Arc;

use model::{Object, Resource};
use serde_json::{Value, json};

use super::stamp::broken;
use super::update::mark_terminating;
use super::{Engine, written};
use crate::error::Refusal;
use crate::request::{Outcome, Written};

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

    pub(super) fn delete_namespace(&mut self, old: &Arc<Object>) -> Result<Written, Refusal> {
        let name = &*old.key.name;
        if BOOTSTRAP.contains(&name) {
            let detail = "this namespace may not be deleted".to_owned();
            return Err(Refusal::Forbidden { resource: old.resource, name: name.to_owned(), detail });
        }
        // Services first: their slices, Endpoints and addresses go with them.
        let mut resources = Resource::ALL;
        resources.sort_by_key(|resource| *resource != Resource::Services);
        for resource in resources.into_iter().filter(|resource| resource.info().namespaced) {
            for object in self.state.shelf(resource).collect(Some(name)) {
                // An earlier one may have taken it along.
                if self.state.get(resource, name, &object.key.name).is_some() {
                    self.delete_at_once(&object)?;
                }
            }
        }
        if self.is_empty(name) && old.meta().finalizers.is_empty() {
            let last = self.remove(old)?;
            return Ok(written(last, Outcome::Deleted, Vec::new()));
        }
        if old.meta().terminating() {
            return Ok(written(Arc::clone(old), Outcome::Deleting, Vec::new()));
        }
        let mut value = old.value().map_err(broken)?;
        mark_terminating(&mut value, self.timestamp(), 0);
        if let Value::Object(namespace) = &mut value {
            let status = namespace.entry("status").or_insert_with(|| json!({}));
            if let Value::Object(status) = status {
                status.insert("phase".to_owned(), "Terminating".into());
            }
        }
        let object = self.put(old.resource, value, Some(old))?;
        Ok(written(object, Outcome::Deleting, Vec::new()))
    }

    fn is_empty(&self, namespace: &str) -> bool {
        Resource::ALL
            .iter()
            .filter(|resource| resource.info().namespaced)
            .all(|resource| self.state.shelf(*resource).within(namespace).next().is_none())
    }

    /// Removes a terminating namespace that has become empty.
    pub(super) fn settle_namespace(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(namespace) = self.state.get(Resource::Namespaces, "", name).cloned() else { return Ok(()) };
        if namespace.meta().terminating() && namespace.meta().finalizers.is_empty() && self.is_empty(name) {
            self.remove(&namespace)?;
        }
        Ok(())
    }
}
