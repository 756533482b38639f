//! What an edge node may beside its role: what is its own, and the certificates that it serves.
//!
//! What every edge node reads stands in the role `portolan:edge`. Here is what a role cannot say: that a Lease is its own, and
//! that of all Secrets those of type kubernetes.io/tls alone are for it to see. A role can grant Secrets only whole, and an edge
//! node stands outside: whoever takes one over is to find the keys of the listeners there, and no password.

use model::balancing::lease::{NAMESPACE, edge_of, name_of};
use model::{Object, Resource};

use crate::attributes::{Attributes, What};
use crate::node::OWN_GROUP;

/// The type of the Secrets that it sees.
pub const TLS: &str = "kubernetes.io/tls";

/// Whether an edge node of this name may do this; `selected` is the type that a list or watch of Secrets is restricted to.
pub fn allows(edge: &str, attributes: &Attributes<'_>, selected: Option<&str>) -> bool {
    let What::Resource(item) = attributes.what else { return false };
    let verb = attributes.verb;
    match (item.group, item.resource, item.subresource) {
        ("", "secrets", "") => matches!(verb, "list" | "watch") && selected == Some(TLS),
        ("coordination.k8s.io", "leases", "") => {
            // A create names the object in its body: the restriction looks there.
            let own = edge_of(item.name) == Some(edge);
            item.namespace == NAMESPACE
                && (verb == "create" || matches!(verb, "get" | "update" | "patch" | "delete") && own)
        }
        // Of which instance is asked where the write is decided.
        (OWN_GROUP, "loadbalancers", "status") => matches!(verb, "get" | "update" | "patch"),
        (OWN_GROUP, "nodes", "certificate") => verb == "create" && item.name == edge,
        _ => false,
    }
}

/// Whether an edge node may write to this object at all, as it was before; None if there was none.
///
/// # Errors
/// With the reason, without the object's name.
pub fn before(edge: &str, resource: Resource, old: Option<&Object>) -> Result<(), String> {
    match resource {
        Resource::Leases => own_lease(edge, old),
        Resource::LoadBalancers => {
            let holder = old.and_then(Object::load_balancer).and_then(|balancer| balancer.status.edge.as_ref());
            if holder.is_some_and(|holder| holder.name == edge) {
                return Ok(());
            }
            Err(format!("edge node {edge:?} may only write the status of LoadBalancers that it holds"))
        }
        _ => Ok(()),
    }
}

/// Whether an edge node may leave this object so.
///
/// # Errors
/// With the reason, without the object's name.
pub fn after(edge: &str, resource: Resource, old: Option<&Object>, new: &Object) -> Result<(), String> {
    match resource {
        Resource::Leases => own_lease(edge, Some(new)),
        Resource::LoadBalancers => {
            let of = |object: &Object| object.load_balancer().and_then(|balancer| balancer.status.edge.clone());
            if old.and_then(of) == of(new) {
                return Ok(());
            }
            Err(format!("edge node {edge:?} may not say who holds a LoadBalancer"))
        }
        _ => Ok(()),
    }
}

fn own_lease(edge: &str, object: Option<&Object>) -> Result<(), String> {
    let own = |object: &Object| &*object.key.namespace == NAMESPACE && edge_of(&object.key.name) == Some(edge);
    if object.is_none_or(own) {
        return Ok(());
    }
    Err(format!("edge node {edge:?} may only write the Lease {NAMESPACE}/{}", name_of(edge)))
}
