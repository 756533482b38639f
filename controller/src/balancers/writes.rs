//! What is asked of the store's writer for a Service or an instance, spelled.

use model::Resource;
use model::admission::Subresource;
use model::object::Key;
use model::patch::PatchKind;
use model::types::{Condition, LoadBalancerIngress, LoadBalancerSpec, TextMap};
use serde_json::{Value, json};
use store::{Verb, Write};

use super::report::CONDITION;
use crate::writes::{only, write_as};

/// Who writes: Kubernetes' name of the part that sees to load balancers.
pub(crate) const COMPONENT: &str = "service-controller";

/// Kubernetes' finalizer of a Service whose load balancer has to go before it.
pub(crate) const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// Label of a Service: the instance that it uses.
pub(crate) const LABEL: &str = "portolan.dev/load-balancer";

/// Puts the finalizer on a Service, and the name of its instance.
pub(crate) fn claim(service: &Key, instance: &str) -> Write {
    let patch = json!({ "metadata": { "finalizers": [FINALIZER], "labels": { LABEL: instance } } });
    patch_service(service, patch, Subresource::None)
}

/// Takes both away.
pub(crate) fn release(service: &Key) -> Write {
    let patch = json!({ "metadata": {
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
        "labels": { LABEL: null },
    } });
    patch_service(service, patch, Subresource::None)
}

/// What the Service's status is to say; None: as it is.
pub(crate) fn status(service: &Key, condition: Option<&Condition>, ingress: Option<&[LoadBalancerIngress]>) -> Write {
    let mut status = json!({});
    if let Some(condition) = condition {
        status["conditions"] = json!([condition]);
    }
    if let Some(ingress) = ingress {
        status["loadBalancer"]["ingress"] = if ingress.is_empty() { Value::Null } else { json!(ingress) };
    }
    patch_service(service, json!({ "status": status }), Subresource::Status)
}

/// Takes everything out of a Service's status that tells of a load balancer.
pub(crate) fn clear_status(service: &Key) -> Write {
    let patch = json!({ "status": {
        "conditions": [{ "type": CONDITION, "$patch": "delete" }],
        "loadBalancer": { "ingress": null },
    } });
    patch_service(service, patch, Subresource::Status)
}

/// Makes an instance.
pub(crate) fn create(name: &str, labels: &TextMap, spec: &LoadBalancerSpec) -> Write {
    let object = json!({
        "apiVersion": Resource::LoadBalancers.info().api_version(),
        "kind": Resource::LoadBalancers.info().kind,
        "metadata": { "name": name, "labels": labels },
        "spec": spec,
    });
    write(Resource::LoadBalancers, "", name, Verb::Create { object })
}

/// Changes an instance, if nobody has written it since it was read.
pub(crate) fn change(name: &str, revision: u64, mut patch: Value) -> Write {
    patch["metadata"]["resourceVersion"] = revision.to_string().into();
    let verb = Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::None, strict: true };
    write(Resource::LoadBalancers, "", name, verb)
}

/// Deletes this very instance.
pub(crate) fn delete(name: &str, uid: &str) -> Write {
    write(Resource::LoadBalancers, "", name, only(uid))
}

fn patch_service(service: &Key, patch: Value, subresource: Subresource) -> Write {
    let verb = Verb::Patch { kind: PatchKind::StrategicMerge, patch, subresource, strict: true };
    write(Resource::Services, &service.namespace, &service.name, verb)
}

fn write(resource: Resource, namespace: &str, name: &str, verb: Verb) -> Write {
    write_as(COMPONENT, resource, namespace, name, verb)
}
