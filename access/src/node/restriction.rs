//! What a node may write, by what it writes (Kubernetes' NodeRestriction admission, `plugin/pkg/admission/noderestriction`).
//!
//! Asked where the write is decided, with the state before and after, so that no change can slip in between.

use model::{Object, Resource, View};

use super::LEASES;

/// The annotation of a Pod that stands for one which runs without the API's doing.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Labels by which an administrator tells nodes apart for security: no node sets them.
const RESTRICTED_PREFIX: &str = "node-restriction.kubernetes.io/";
/// Labels of Kubernetes' own that a node knows of itself.
const OWN_LABELS: [&str; 9] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
];
/// Beginnings of others.
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io/", "node.kubernetes.io/"];

/// Whether a node may write to this object at all, as it was before; None if there was none. Asked before anything is looked
/// at that the answer could tell of.
///
/// # Errors
/// With the reason, without the object's name.
pub fn before(node: &str, resource: Resource, old: Option<&Object>) -> Result<(), String> {
    match (resource, old.map(|old| &old.view)) {
        (Resource::Pods, Some(View::Pod(pod))) if pod.spec.node_name != node => Err(strangers_pod(node)),
        (Resource::Nodes, Some(_)) => own_name(node, old),
        (Resource::Leases, _) => own_lease(node, old),
        _ => Ok(()),
    }
}

/// Whether a node may leave this object so; `status` says whether the write is to the status alone.
///
/// # Errors
/// With the reason, without the object's name.
pub fn after(node: &str, resource: Resource, old: Option<&Object>, new: &Object) -> Result<(), String> {
    match resource {
        Resource::Pods => {
            let View::Pod(pod) = &new.view else { return Ok(()) };
            if pod.spec.node_name != node {
                return Err(strangers_pod(node));
            }
            if old.is_none() && !pod.metadata.annotations.contains_key(MIRROR) {
                return Err(format!("node {node:?} creates no Pods but mirror Pods: annotation {MIRROR} is missing"));
            }
            Ok(())
        }
        Resource::Nodes => {
            own_name(node, Some(new))?;
            labels(node, old, new)?;
            taints(node, old, new)
        }
        Resource::Leases => own_lease(node, Some(new)),
        _ => Ok(()),
    }
}

fn strangers_pod(node: &str) -> String {
    format!("node {node:?} may only write Pods that are bound to it")
}

fn own_name(node: &str, object: Option<&Object>) -> Result<(), String> {
    if object.is_none_or(|object| &*object.key.name == node) {
        return Ok(());
    }
    Err(format!("node {node:?} may only write its own Node"))
}

fn own_lease(node: &str, object: Option<&Object>) -> Result<(), String> {
    if object.is_none_or(|object| &*object.key.name == node && &*object.key.namespace == LEASES) {
        return Ok(());
    }
    Err(format!("node {node:?} may only write the Lease {LEASES}/{node}"))
}

fn labels(node: &str, old: Option<&Object>, new: &Object) -> Result<(), String> {
    let before = old.map(Object::labels);
    let value = |key: &str| before.and_then(|labels| labels.get(key));
    let set = new.labels().iter().filter(|(key, now)| value(key) != Some(*now)).map(|(key, _)| key);
    let removed = before.into_iter().flat_map(|labels| labels.keys()).filter(|key| !new.labels().contains_key(key));
    match set.chain(removed).find(|key| !may_set(key)) {
        Some(key) => Err(format!("node {node:?} may not change the label {key}")),
        None => Ok(()),
    }
}

/// Labels of others are free; of those that are Kubernetes' a node has some.
fn may_set(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return true };
    let domain = |of: &str| prefix == of || prefix.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if key.starts_with(RESTRICTED_PREFIX) || prefix.ends_with(".node-restriction.kubernetes.io") {
        return false;
    }
    !(domain("kubernetes.io") || domain("k8s.io"))
        || OWN_LABELS.contains(&key)
        || OWN_PREFIXES.iter().any(|own| key.starts_with(own))
}

/// A node may come with taints, and changes none later: it could draw work to itself.
fn taints(node: &str, old: Option<&Object>, new: &Object) -> Result<(), String> {
    let Some(old) = old else { return Ok(()) };
    let of = |object: &Object| object.value().ok().map(|mut value| value["spec"]["taints"].take());
    if of(old) == of(new) {
        return Ok(());
    }
    Err(format!("node {node:?} may not change taints"))
}
