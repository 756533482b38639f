//! Replacing and patching (research B.4: preconditions, no-op writes, finalizers).

use std::borrow::Cow;
use std::sync::Arc;

use model::admission::{Subresource, prepare_update};
use model::patch::{self, PatchError, PatchKind};
use model::types::{Service, ServiceCidr};
use model::{FieldError, Object, Resource, events, protobuf, schema};
use serde::Deserialize;
use serde_json::Value;

use super::owners::Owners;
use super::stamp::{broken, cannot_handle, edit_metadata, metadata_text};
use super::{Engine, written};
use crate::error::Refusal;
use crate::request::{Outcome, Written};

/// The newest state of an object that a write is to change.
pub(super) struct Current<'a> {
    pub(super) old: &'a Arc<Object>,
    /// The object without `managedFields`.
    pub(super) value: &'a Value,
    /// The text of its `managedFields`.
    pub(super) managers: Option<&'a str>,
}

const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

impl Engine {
    pub(super) fn update(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        mut object: Value,
        subresource: Subresource,
        manager: String,
    ) -> Result<Written, Refusal> {
        let owners = Owners::Tracked(manager);
        let Some(old) = self.state.get(resource.stored(), namespace, name).cloned() else {
            // A client that names a version or a uid means an object that it has seen, and that is gone.
            let knew = version(&object).is_some() || metadata_text(&object, "uid").is_some();
            if resource.info().create_on_update && subresource == Subresource::None && !knew {
                return self.create(resource, namespace, name, object, owners);
            }
            return Err(Refusal::NotFound { resource, name: name.to_owned() });
        };
        let (current, managers) = old.value_and_managers().map_err(broken)?;
        let current = Current { old: &old, value: &current, managers };
        events::to_stored(resource, &mut object);
        self.replace(resource, current, object, subresource, owners)
    }

    /// A patch speaks of the form that clients of `resource` see.
    pub(super) fn patch(
        &mut self,
        resource: Resource,
        old: &Arc<Object>,
        (kind, patch): (PatchKind, &Value),
        subresource: Subresource,
        strict: bool,
        manager: String,
    ) -> Result<Written, Refusal> {
        let refused = |detail: String| Refusal::Invalid(vec![FieldError::invalid("patch", patch.to_string(), detail)]);
        let (mut current, managers) = old.value_and_managers().map_err(broken)?;
        let whole = patch::reaches_managed_fields(kind, patch);
        if let (true, Some(managers)) = (whole, managers) {
            let managers = serde_json::from_str(managers).map_err(broken)?;
            edit_metadata(&mut current, |metadata| {
                metadata.insert("managedFields".to_owned(), managers);
            });
        }
        let shown = shown(resource, &current);
        let mut new = patch::apply(kind, resource, &shown, patch).map_err(|error| match error {
            PatchError::TooManyOperations { .. } => Refusal::TooLarge(error.to_string()),
            PatchError::Malformed { .. } => Refusal::BadRequest(error.to_string()),
            PatchError::Unprocessable { .. } => refused(error.to_string()),
        })?;
        let checked = schema::check(resource, &new);
        if let Some(first) = checked.mismatched.first() {
            return Err(refused(first.clone()));
        }
        let unknown: Vec<String> = checked.unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
        if !unknown.is_empty() {
            if strict {
                return Err(refused(format!("strict decoding error: {}", unknown.join(", "))));
            }
            schema::prune(resource, &mut new);
        }
        for field in ["name", "namespace"] {
            if metadata_text(&new, field) != metadata_text(&current, field) {
                return Err(Refusal::BadRequest(format!("the {field} of the object cannot be changed by a patch")));
            }
        }
        if whole {
            edit_metadata(&mut current, |metadata| {
                metadata.remove("managedFields");
            });
        }
        events::to_stored(resource, &mut new);
        let current = Current { old, value: &current, managers };
        let mut answer = self.replace(resource, current, new, subresource, Owners::Tracked(manager))?;
        answer.warnings.splice(0..0, unknown);
        Ok(answer)
    }

    /// Makes `new` the state of an object that is there.
    pub(super) fn replace(
        &mut self,
        resource: Resource,
        current: Current<'_>,
        mut new: Value,
        subresource: Subresource,
        owners: Owners,
    ) -> Result<Written, Refusal> {
        let Current { old, value: current, managers: stored } = current;
        let owners = owners.begin(old.resource, subresource, self.now, &mut new);
        check_preconditions(resource, old, &new)?;
        let warnings =
            prepare_update(resource, subresource, old, current, &mut new, &self.cluster).map_err(Refusal::Invalid)?;
        // A client in Go sends back `"spec":{}` where nothing was.
        if let (Some(before), Some(after)) = (current.as_object(), new.as_object())
            && protobuf::same(old.resource, before, after, &[])
        {
            new.clone_from(current);
        }
        let managers = owners.finish(Some(current), &new, stored);
        let changed = match old.resource {
            Resource::Services => {
                let service: Service = serde_json::from_value(new).map_err(|e| cannot_handle(old.resource, &e))?;
                self.replace_service(old, service, managers)?
            }
            Resource::ServiceCidrs => {
                self.check_ranges(&ServiceCidr::deserialize(&new).map_err(|e| cannot_handle(old.resource, &e))?)?;
                self.put_changed(new, old, &managers)?
            }
            Resource::AddressPools => self.replace_pool(old, new, &managers)?,
            Resource::LoadBalancers => self.replace_balancer(old, new, &managers)?,
            _ => self.put_changed(new, old, &managers)?,
        };
        let Some(object) = changed else { return Ok(written(Arc::clone(old), Outcome::Unchanged, warnings)) };
        Ok(match self.end_deletion(&object)? {
            Some(last) => written(last, Outcome::Deleted, warnings),
            None => written(object, Outcome::Updated, warnings),
        })
    }
}

/// The object as clients of `resource` see it.
fn shown(resource: Resource, current: &Value) -> Cow<'_, Value> {
    if resource.info().stored_as.is_none() {
        return Cow::Borrowed(current);
    }
    let mut shown = current.clone();
    events::to_shown(resource, &mut shown);
    Cow::Owned(shown)
}

/// The version that a client wrote; "0" means any, as in Kubernetes.
fn version(object: &Value) -> Option<&str> {
    metadata_text(object, "resourceVersion").filter(|version| *version != "0")
}

fn check_preconditions(resource: Resource, old: &Object, new: &Value) -> Result<(), Refusal> {
    let conflict = |detail: String| Err(Refusal::Conflict { resource, name: old.key.name.to_string(), detail });
    if let Some(uid) = metadata_text(new, "uid")
        && uid != old.meta().uid()
    {
        let stored = old.meta().uid();
        return conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}"));
    }
    let path = "metadata.resourceVersion";
    match version(new).map(|text| (text, text.parse::<u64>())) {
        Some((_, Ok(version))) if version == old.revision => Ok(()),
        Some((_, Ok(_))) => conflict(MODIFIED.to_owned()),
        Some((text, Err(_))) => Err(Refusal::Invalid(vec![FieldError::invalid(
            path,
            text,
            "must be a number that the server has given out",
        )])),
        None if old.resource.info().update_needs_revision => {
            Err(Refusal::Invalid(vec![FieldError::invalid(path, 0, "must be specified for an update")]))
        }
        None => Ok(()),
    }
}

/// Sets `deletionTimestamp` and the grace period of an object that stays for a while.
pub(super) fn mark_terminating(value: &mut Value, at: String, grace_seconds: i64) {
    edit_metadata(value, |metadata| {
        metadata.insert("deletionTimestamp".to_owned(), at.into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace_seconds.into());
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    });
}
