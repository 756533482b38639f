//! What of a write can be judged only by what it makes of an object. The store asks ([`store::Guard`]) with both states at hand.
//!
//! - A node writes what is its own ([`access::node::restriction`]), and so does an edge node ([`access::edge`]).
//! - Nobody makes a role that may more than they may, and binds none; but for who has the verb `escalate` on the role, or
//!   `bind` on the role that is bound (`pkg/registry/rbac`, its `policybased` storages).
//! - An update or an apply that would create needs the verb `create`.

use std::fmt;
use std::sync::Arc;

use access::rbac::{Binding, GROUP, Policy, PolicyRule, Role, RoleRef, covers};
use access::{Attributes, Item, User, edge, node};
use model::{Object, Resource};
use store::{Guard, Outcome};

use crate::asked::Asked;

/// The guard of one request.
struct Writing {
    user: Arc<User>,
    resource: Resource,
    /// Whether the request may bring an object about that was not there.
    may_create: bool,
    /// What holds; for roles and bindings alone.
    policy: Option<Arc<Policy>>,
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").field("user", &self.user.name).field("resource", &self.resource).finish()
    }
}

/// The guard that a request needs. `creates` tells whether its user may create, `policy` what holds.
pub fn of(
    user: &Arc<User>,
    resource: Resource,
    asked: &Asked,
    creates: impl FnOnce() -> bool,
    policy: impl FnOnce() -> Arc<Policy>,
) -> Option<Arc<dyn Guard>> {
    let resource = resource.stored();
    let restricted = user.node_name().is_some()
        && matches!(resource, Resource::Pods | Resource::Nodes | Resource::Leases)
        || user.edge_name().is_some() && matches!(resource, Resource::LoadBalancers | Resource::Leases);
    let policed = is_policy(resource) && matches!(asked.verb, "create" | "update" | "patch");
    let changes = matches!(asked.verb, "update" | "patch");
    let may_create = !changes || !asked.subresource.is_empty() || creates();
    if !restricted && !policed && may_create {
        return None;
    }
    let policy = policed.then(policy);
    Some(Arc::new(Writing { user: Arc::clone(user), resource, may_create, policy }))
}

fn is_policy(resource: Resource) -> bool {
    matches!(
        resource,
        Resource::Roles | Resource::RoleBindings | Resource::ClusterRoles | Resource::ClusterRoleBindings
    )
}

impl Guard for Writing {
    fn before(&self, old: Option<&Object>) -> Result<(), String> {
        if let Some(name) = self.user.node_name() {
            node::restriction::before(name, self.resource, old)?;
        }
        match self.user.edge_name() {
            Some(name) => edge::before(name, self.resource, old),
            None => Ok(()),
        }
    }

    fn after(&self, old: Option<&Object>, new: &Object, outcome: Outcome) -> Result<(), String> {
        if outcome == Outcome::Created && !self.may_create {
            return Err(format!("User {:?} may change it, but not create it", self.user.name));
        }
        if matches!(outcome, Outcome::Deleted | Outcome::Deleting | Outcome::Unchanged) {
            return Ok(());
        }
        if let Some(name) = self.user.node_name() {
            node::restriction::after(name, self.resource, old, new)?;
        }
        if let Some(name) = self.user.edge_name() {
            edge::after(name, self.resource, old, new)?;
        }
        match (&self.policy, self.resource) {
            (Some(policy), Resource::Roles | Resource::ClusterRoles) => self.role(policy, old, new),
            (Some(policy), Resource::RoleBindings | Resource::ClusterRoleBindings) => self.binding(policy, old, new),
            _ => Ok(()),
        }
    }
}

impl Writing {
    /// A role that gathers its rules from others may become anything, so it takes somebody who may everything.
    fn role(&self, policy: &Policy, old: Option<&Object>, new: &Object) -> Result<(), String> {
        let read = |object: &Object| Role::read(&object.bytes).map_err(|error| error.to_string());
        let role = read(new)?;
        let before = old.map(read).transpose()?;
        if before.as_ref().is_some_and(|before| *before == role) || self.has_verb(policy, "escalate", new) {
            return Ok(());
        }
        if role.aggregated && !policy.has_everything(&self.user) {
            return Err("only who may do everything may gather a role's rules from others (aggregationRule)".to_owned());
        }
        self.covers(policy, &new.key.namespace, &role.rules)
    }

    fn binding(&self, policy: &Policy, old: Option<&Object>, new: &Object) -> Result<(), String> {
        let namespace = &*new.key.namespace;
        let read = |object: &Object| Binding::read(namespace, &object.bytes).map_err(|error| error.to_string());
        let binding = read(new)?;
        let before = old.map(read).transpose()?;
        if before.is_some_and(|before| before == binding) {
            return Ok(());
        }
        let RoleRef { kind, name } = &binding.role;
        let resource = if kind == "Role" { "roles" } else { "clusterroles" };
        let item = Item { group: GROUP, resource, subresource: "", namespace, name };
        if policy.allows(&self.user, &Attributes::resource("bind", item)).is_some() {
            return Ok(());
        }
        let role = policy.role(namespace, &binding.role).ok_or_else(|| format!("there is no {kind} {name:?}"))?;
        self.covers(policy, namespace, &role.rules)
    }

    fn has_verb(&self, policy: &Policy, verb: &str, object: &Object) -> bool {
        let (namespace, name) = (&*object.key.namespace, &*object.key.name);
        let item = Item { group: GROUP, resource: self.resource.info().plural, subresource: "", namespace, name };
        policy.allows(&self.user, &Attributes::resource(verb, item)).is_some()
    }

    fn covers(&self, policy: &Policy, namespace: &str, rules: &[PolicyRule]) -> Result<(), String> {
        let own = policy.rules(&self.user, namespace);
        covers(&own, rules).map_err(|error| {
            let User { name, groups, .. } = &*self.user;
            format!("user {name:?} (groups={groups:?}) is {error}")
        })
    }
}
