//! Defaults and rules of each kind but Service, which has a module of its own.
//!
//! These kinds are documents: the rules read and fill the JSON itself, so nothing that they do not know is lost.
//! Each kind has up to three functions: `default`, `validate`, and `update`, which compares with the old object
//! and carries over what a client may not change.

mod access_list;
mod address_pool;
mod annotation;
pub(crate) mod document;
mod endpoint_address;
mod endpoint_slice;
mod endpoints;
mod event;
mod ip_address;
mod lease;
mod load_balancer;
mod namespace;
mod node;
mod pod;
mod rbac;
mod secret;
mod service_cidr;
#[cfg(test)]
mod tests;
pub(crate) mod token;
mod weights;

use crate::admission::Subresource;
use crate::resource::Resource;
use document::{Document, Errors};

/// Fills in what a new object leaves out, and takes away a `status` that is not the client's to write.
pub(crate) fn create(resource: Resource, object: &mut Document) {
    match resource {
        Resource::Namespaces => namespace::create(object),
        Resource::Pods => pod::create(object),
        Resource::ServiceCidrs => {
            object.remove("status");
        }
        // The kubelet registers a Node together with its status.
        Resource::Nodes => node::default(object),
        Resource::Endpoints => endpoints::default(object),
        Resource::EndpointSlices => endpoint_slice::default(object),
        Resource::Events | Resource::EventsV1 => event::default(object),
        Resource::RoleBindings | Resource::ClusterRoleBindings => rbac::default_binding(object),
        Resource::Leases
        | Resource::IpAddresses
        | Resource::Services
        | Resource::ServiceAccounts
        | Resource::Roles
        | Resource::ClusterRoles
        | Resource::Tokens
        | Resource::AccessLists => {}
        Resource::AddressPools => address_pool::create(object),
        Resource::LoadBalancers => load_balancer::create(object),
        Resource::Secrets => secret::default(object),
    }
}

/// Fills in what a changed object leaves out. Spec, status and metadata are already those that this subresource
/// lets a client write.
pub(crate) fn update(resource: Resource, sub: Subresource, old: &Document, new: &mut Document) {
    match resource {
        Resource::Namespaces => namespace::update(sub, old, new),
        Resource::Pods => pod::update(sub, old, new),
        Resource::Nodes => node::default(new),
        Resource::Endpoints => endpoints::default(new),
        Resource::EndpointSlices => endpoint_slice::default(new),
        Resource::Events | Resource::EventsV1 => event::default(new),
        Resource::RoleBindings | Resource::ClusterRoleBindings => rbac::default_binding(new),
        Resource::Leases
        | Resource::IpAddresses
        | Resource::Services
        | Resource::ServiceCidrs
        | Resource::ServiceAccounts
        | Resource::Roles
        | Resource::ClusterRoles
        | Resource::Tokens
        | Resource::AccessLists => {}
        Resource::AddressPools => address_pool::default(new),
        Resource::LoadBalancers => load_balancer::default(new),
        Resource::Secrets => secret::default(new),
    }
}

/// Validates all but the metadata; `old` is what a changed object replaces. The object has the form that it is stored in,
/// whatever form the client wrote: `resource` says by whose rules.
pub(crate) fn validate(
    resource: Resource,
    sub: Subresource,
    old: Option<&Document>,
    object: &Document,
    errors: &mut Errors,
) {
    match resource {
        Resource::Namespaces => namespace::validate(sub, old, object, errors),
        Resource::Pods => pod::validate(sub, old, object, errors),
        Resource::Nodes => node::validate(old, object, errors),
        Resource::Endpoints => endpoints::validate(old, object, errors),
        Resource::Events => event::validate(object, errors),
        Resource::EventsV1 => event::validate_strictly(old, object, errors),
        Resource::EndpointSlices => endpoint_slice::validate(old, object, errors),
        Resource::ServiceCidrs => service_cidr::validate(old, object, errors),
        Resource::IpAddresses => ip_address::validate(old, object, errors),
        Resource::Leases => lease::validate(object, errors),
        Resource::Roles => rbac::validate_role(object, errors),
        Resource::ClusterRoles => rbac::validate_cluster_role(object, errors),
        Resource::RoleBindings => rbac::validate_binding(false, old, object, errors),
        Resource::ClusterRoleBindings => rbac::validate_binding(true, old, object, errors),
        Resource::Tokens => token::validate(old, object, errors),
        Resource::AddressPools => address_pool::validate(object, errors),
        Resource::LoadBalancers => load_balancer::validate(old, object, errors),
        Resource::AccessLists => access_list::validate(object, errors),
        Resource::Secrets => secret::validate(old, object, errors),
        Resource::Services | Resource::ServiceAccounts => {}
    }
}

/// What is worth telling a client about an object that is right.
pub(crate) fn warnings(resource: Resource) -> Vec<String> {
    match resource {
        Resource::Endpoints => {
            vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
        }
        _ => Vec::new(),
    }
}
