//! What follows for an edge or an instance, spelled for the store's writer.

use jiff::Timestamp;
use model::admission::Subresource;
use model::balancing::lease::{NAMESPACE, name_of};
use model::patch::PatchKind;
use model::types::EdgeAssignment;
use model::{Resource, Revision};
use serde_json::{Value, json};
use store::{Verb, Write};

use crate::writes::{time, write_as};

/// Who writes.
pub(crate) const COMPONENT: &str = "edge-controller";

/// The condition of an instance that says whether an edge holds it that lives.
pub(crate) const CONDITION: &str = "EdgeReady";

/// What the condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) is: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Takes a Lease from its edge, if nobody has written it since it was judged by.
pub(crate) fn take_lease(edge: &str, judged: Revision) -> Write {
    let patch = json!({ "metadata": { "resourceVersion": judged.to_string() }, "spec": { "holderIdentity": "" } });
    write(Resource::Leases, NAMESPACE, &name_of(edge), PatchKind::Merge, patch, Subresource::None)
}

/// Says who holds an instance, and whether it lives; what the edge writes into the status stays.
pub(crate) fn status(
    instance: &str,
    assignment: Option<&EdgeAssignment>,
    held: Option<&Held>,
    generation: Option<i64>,
    now: Timestamp,
) -> Write {
    let mut status = json!({});
    if let Some(assignment) = assignment {
        status["edge"] = json!({
            "name": assignment.name,
            "term": assignment.term,
            "since": assignment.since,
            "addresses": assignment.addresses,
        });
    }
    if let Some(held) = held {
        status["conditions"] = json!([{
            "type": CONDITION,
            "status": if held.is { "True" } else { "False" },
            "reason": held.reason,
            "message": held.message,
            "observedGeneration": generation.unwrap_or_default(),
            "lastTransitionTime": time(now),
        }]);
    }
    let patch = json!({ "status": status });
    write(Resource::LoadBalancers, "", instance, PatchKind::StrategicMerge, patch, Subresource::Status)
}

fn write(
    resource: Resource,
    namespace: &str,
    name: &str,
    kind: PatchKind,
    patch: Value,
    subresource: Subresource,
) -> Write {
    write_as(COMPONENT, resource, namespace, name, Verb::Patch { kind, patch, subresource, strict: true })
}
