//! What the controller asks of the writer, spelled.

use jiff::Timestamp;
use model::Resource;
use model::admission::Subresource;
use model::patch::PatchKind;
use serde_json::{Value, json};
use store::{DeleteOptions, Preconditions, Verb, Write};

/// Who writes: Kubernetes' name of the part that judges nodes.
pub(crate) const COMPONENT: &str = "node-controller";

/// Sets a Node's `Ready`; whatever else its status says stays.
pub(crate) fn ready(node: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> Write {
    let condition = json!({
        "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": time(now),
    });
    let verb = Verb::Patch {
        kind: PatchKind::StrategicMerge,
        patch: json!({ "status": { "conditions": [condition] } }),
        subresource: Subresource::Status,
        strict: true,
    };
    write(Resource::Nodes, "", node, verb)
}

/// Creates an object with a name of its own.
pub(crate) fn create(resource: Resource, namespace: &str, name: &str, object: Value) -> Write {
    write(resource, namespace, name, Verb::Create { object })
}

/// Deletes this very object, and none of its name that has come since.
pub(crate) fn delete(resource: Resource, name: &str, uid: &str) -> Write {
    write(resource, "", name, only(uid))
}

/// The deletion of the object with this UID.
pub(crate) fn only(uid: &str) -> Verb {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    Verb::Delete { options: DeleteOptions { preconditions, ..DeleteOptions::default() } }
}

fn write(resource: Resource, namespace: &str, name: &str, verb: Verb) -> Write {
    write_as(COMPONENT, resource, namespace, name, verb)
}

/// What one of the controllers asks, by its name.
pub(crate) fn write_as(component: &str, resource: Resource, namespace: &str, name: &str, verb: Verb) -> Write {
    let (namespace, name, manager) = (namespace.to_owned(), name.to_owned(), component.to_owned());
    Write { resource, namespace, name, verb, manager, dry_run: false }
}

/// Kubernetes' `Time`: whole seconds.
pub(crate) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
