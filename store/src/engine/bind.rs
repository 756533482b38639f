//! Binding: a scheduler says which node a Pod runs on, once.
//!
//! Source: `pkg/registry/core/pod/storage/storage.go` (`BindingREST`). As there, whether the Node exists is not asked.

use std::sync::Arc;

use model::admission::{Subresource, prepare_update};
use model::{Object, Resource};
use serde_json::{Value, json};

use super::stamp::{broken, edit_metadata};
use super::{Engine, written};
use crate::error::Refusal;
use crate::request::{Binding, Outcome, Written};

impl Engine {
    pub(super) fn bind(&mut self, old: &Arc<Object>, binding: Binding) -> Result<Written, Refusal> {
        let name = &*old.key.name;
        super::delete::check_preconditions(Resource::Pods, old, &binding.preconditions)?;
        let refused = |detail: String| Err(Refusal::NotBindable { name: name.to_owned(), detail });
        if old.meta().terminating() {
            return refused(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let current = old.value().map_err(broken)?;
        if let Some(node) = current["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            return refused(format!("pod {name} is already assigned to node {node:?}"));
        }
        if current["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return refused(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut new = current.clone();
        new["spec"]["nodeName"] = binding.node.into();
        edit_metadata(&mut new, |metadata| {
            if !binding.annotations.is_empty()
                && let Value::Object(annotations) = metadata.entry("annotations").or_insert_with(|| json!({}))
            {
                annotations.extend(binding.annotations);
            }
        });
        let warnings = prepare_update(Resource::Pods, Subresource::None, old, &current, &mut new, &self.cluster)
            .map_err(Refusal::Invalid)?;
        // It is not the Pod's author who changes it.
        edit_metadata(&mut new, |metadata| {
            if let Some(generation) = current["metadata"].get("generation") {
                metadata.insert("generation".to_owned(), generation.clone());
            }
        });
        self.set_scheduled(&mut new);
        let object = self.put(Resource::Pods, new, Some(old))?;
        Ok(written(object, Outcome::Updated, warnings))
    }

    fn set_scheduled(&self, pod: &mut Value) {
        let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let scheduled = json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": self.timestamp() });
        match conditions.iter_mut().find(|condition| condition["type"] == "PodScheduled") {
            Some(condition) if condition["status"] == "True" => {}
            Some(condition) => *condition = scheduled,
            None => conditions.push(scheduled),
        }
        pod["status"]["conditions"] = conditions.into();
    }
}
