//! What a node may: the wishes that are granted by its name alone, without any stored role.
//!
//! Kubernetes' node authorizer and its NodeRestriction admission in one place, for what there is here: a node reads what it
//! needs to forward packets and answer names, sees no Pod but those that are bound to it, and writes only what is its own. What
//! depends on an object's content is asked by [`restriction`], where the write is decided; that holds for a node whatever a
//! role may have allowed it besides.

pub mod restriction;

use crate::attributes::{Attributes, Item, What};

/// The namespace of the nodes' Leases.
pub const LEASES: &str = "kube-node-lease";
/// The group of Portolan's own routes.
pub const OWN_GROUP: &str = "portolan.dev";

/// What a decision about a node needs to know of the cluster.
pub trait Bound {
    /// The node that a Pod is bound to: empty if to none, None if there is no such Pod.
    fn node_of_pod(&self, namespace: &str, name: &str) -> Option<String>;
}

/// Read by every node: group, resource, subresource.
const READ: [(&str, &str, &str); 7] = [
    ("", "services", ""),
    ("", "nodes", ""),
    ("", "namespaces", ""),
    ("discovery.k8s.io", "endpointslices", ""),
    ("networking.k8s.io", "servicecidrs", ""),
    // Where edge nodes are, for the way back of what they send.
    (OWN_GROUP, "loadbalancers", ""),
    // What nodes have programmed, which an agent waits for before it lets a workload end.
    (OWN_GROUP, "services", "programmed"),
];

/// The verb and the subresource of its own Node that a node has in Portolan's group.
const OWN: [(&str, &str); 5] = [
    ("update", "acknowledgement"),
    ("update", "heartbeat"),
    ("get", "questions"),
    ("create", "answers"),
    ("create", "certificate"),
];

/// Whether a node of this name may do this; `selected` is the node that a list or watch of Pods is restricted to.
pub fn allows(node: &str, attributes: &Attributes<'_>, selected: Option<&str>, bound: &dyn Bound) -> bool {
    let What::Resource(item) = attributes.what else { return false };
    let verb = attributes.verb;
    let reads = matches!(verb, "get" | "list" | "watch");
    if reads && READ.contains(&(item.group, item.resource, item.subresource)) {
        return true;
    }
    match (item.group, item.resource) {
        ("", "pods") => may_use_pods(node, verb, &item, selected, bound),
        ("", "nodes") => match item.subresource {
            // A create names the object in its body: the restriction looks there.
            "" => verb == "create" || matches!(verb, "update" | "patch") && item.name == node,
            "status" => matches!(verb, "get" | "update" | "patch") && item.name == node,
            _ => false,
        },
        ("coordination.k8s.io", "leases") => {
            item.namespace == LEASES
                && item.subresource.is_empty()
                && (verb == "create" || matches!(verb, "get" | "update" | "patch" | "delete") && item.name == node)
        }
        ("" | "events.k8s.io", "events") => {
            item.subresource.is_empty() && matches!(verb, "create" | "update" | "patch") && !item.namespace.is_empty()
        }
        (OWN_GROUP, "nodes") => item.name == node && OWN.contains(&(verb, item.subresource)),
        (OWN_GROUP, "programmed") => reads,
        _ => false,
    }
}

fn may_use_pods(node: &str, verb: &str, item: &Item<'_>, selected: Option<&str>, bound: &dyn Bound) -> bool {
    // Of a Pod that is not there a node may know that: it was its own, perhaps, and is gone.
    let own = || bound.node_of_pod(item.namespace, item.name).is_none_or(|at| at == node);
    match (item.subresource, verb) {
        ("", "list" | "watch") => selected == Some(node),
        ("", "get" | "delete") | ("status", "get" | "update" | "patch") => own(),
        // Which one stands in the body.
        ("", "create") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
