//! All roles and bindings of a cluster, as they are asked.

use std::collections::HashMap;
use std::sync::Arc;

use super::object::{Binding, Role, RoleRef, Subject};
use super::rule::{ALL, PolicyRule};
use crate::User;
use crate::attributes::Attributes;

/// Roles and bindings at one moment. Cheap to make anew: it holds references to what was read.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// By namespace and name.
    roles: HashMap<Box<str>, HashMap<Box<str>, Arc<Role>>>,
    cluster_roles: HashMap<Box<str>, Arc<Role>>,
    cluster_bindings: BySubject,
    /// By namespace.
    bindings: HashMap<Box<str>, BySubject>,
}

#[derive(Clone, Debug, Default)]
struct BySubject {
    users: HashMap<Box<str>, Vec<Bound>>,
    groups: HashMap<Box<str>, Vec<Bound>>,
}

/// A binding, by its name.
#[derive(Clone, Debug)]
struct Bound {
    binding: Box<str>,
    role: RoleRef,
}

/// What allows something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    /// Empty for a ClusterRoleBinding.
    pub namespace: &'a str,
    pub binding: &'a str,
    pub role: &'a RoleRef,
    /// `User "alice"`, `Group "ops"`.
    pub kind: &'static str,
    pub subject: &'a str,
}

impl BySubject {
    fn add(&mut self, name: &str, binding: &Binding) {
        for subject in &binding.subjects {
            let (map, key) = match subject {
                Subject::User(user) => (&mut self.users, user),
                Subject::Group(group) => (&mut self.groups, group),
            };
            let bound = Bound { binding: name.into(), role: binding.role.clone() };
            match map.get_mut(key.as_str()) {
                Some(known) => known.push(bound),
                None => drop(map.insert(key.as_str().into(), vec![bound])),
            }
        }
    }

    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = (&'static str, &'a str, &'a Bound)> {
        let bound = |map: &'a HashMap<Box<str>, Vec<Bound>>, name: &str| {
            map.get(name).map(Vec::as_slice).unwrap_or_default().iter()
        };
        let own = bound(&self.users, &user.name).map(|bound| ("User", user.name.as_str(), bound));
        let theirs = user
            .groups
            .iter()
            .flat_map(move |group| bound(&self.groups, group).map(move |bound| ("Group", group.as_str(), bound)));
        own.chain(theirs)
    }
}

impl Policy {
    pub fn add_role(&mut self, namespace: &str, name: &str, role: Arc<Role>) {
        let roles = match self.roles.get_mut(namespace) {
            Some(roles) => roles,
            None => self.roles.entry(namespace.into()).or_default(),
        };
        roles.insert(name.into(), role);
    }

    pub fn add_cluster_role(&mut self, name: &str, role: Arc<Role>) {
        self.cluster_roles.insert(name.into(), role);
    }

    /// Adds a RoleBinding; those of a namespace are to be added in the order of their names.
    pub fn add_binding(&mut self, namespace: &str, name: &str, binding: &Binding) {
        let bindings = match self.bindings.get_mut(namespace) {
            Some(bindings) => bindings,
            None => self.bindings.entry(namespace.into()).or_default(),
        };
        bindings.add(name, binding);
    }

    /// Adds a ClusterRoleBinding.
    pub fn add_cluster_binding(&mut self, name: &str, binding: &Binding) {
        self.cluster_bindings.add(name, binding);
    }

    /// What allows this user to do this: the first that does, ClusterRoleBindings first; None if nothing does.
    pub fn allows<'a>(&'a self, user: &'a User, attributes: &Attributes<'a>) -> Option<Grant<'a>> {
        self.grants(user, attributes.namespace())
            .find(|(_, role)| role.rules.iter().any(|rule| rule.allows(attributes)))
            .map(|(grant, _)| grant)
    }

    /// Every rule that holds for a user in a namespace, or, where that is empty, everywhere.
    pub fn rules<'a>(&'a self, user: &'a User, namespace: &'a str) -> Vec<&'a PolicyRule> {
        self.grants(user, namespace).flat_map(|(_, role)| &role.rules).collect()
    }

    /// Whether somebody may do everything with every resource everywhere, as `cluster-admin` may.
    pub fn has_everything(&self, user: &User) -> bool {
        let all = |list: &[String]| list.iter().any(|word| word == ALL);
        self.rules(user, "").into_iter().any(|rule| {
            all(&rule.verbs) && all(&rule.api_groups) && all(&rule.resources) && rule.resource_names.is_empty()
        })
    }

    /// The role that a binding in this namespace means; None if there is none.
    pub fn role(&self, namespace: &str, role: &RoleRef) -> Option<&Role> {
        match role.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(role.name.as_str()),
            "Role" if !namespace.is_empty() => self.roles.get(namespace)?.get(role.name.as_str()),
            _ => None,
        }
        .map(Arc::as_ref)
    }

    fn grants<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = (Grant<'a>, &'a Role)> {
        let cluster = self.cluster_bindings.of(user).map(|found| ("", found));
        let own = self.bindings.get(namespace).filter(|_| !namespace.is_empty());
        let local = own.into_iter().flat_map(|bindings| bindings.of(user)).map(move |found| (namespace, found));
        cluster.chain(local).filter_map(|(namespace, (kind, subject, bound))| {
            let role = self.role(namespace, &bound.role)?;
            Some((Grant { namespace, binding: &bound.binding, role: &bound.role, kind, subject }, role))
        })
    }
}

/// In Kubernetes' words (`plugin/pkg/auth/authorizer/rbac`).
impl std::fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RoleRef { kind, name } = self.role;
        let (binding, subject) = (self.binding, self.subject);
        if self.namespace.is_empty() {
            write!(f, "RBAC: allowed by ClusterRoleBinding {binding:?}")?;
        } else {
            write!(f, "RBAC: allowed by RoleBinding \"{binding}/{}\"", self.namespace)?;
        }
        write!(f, " of {kind} {name:?} to {} {subject:?}", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Item;

    fn role(rules: &str) -> Arc<Role> {
        Arc::new(Role::read(rules.as_bytes()).unwrap())
    }

    fn binding(kind: &str, name: &str, subjects: &str) -> Binding {
        let text = format!(r#"{{"roleRef":{{"kind":"{kind}","name":"{name}"}},"subjects":{subjects}}}"#);
        Binding::read("shop", text.as_bytes()).unwrap()
    }

    fn policy() -> Policy {
        let mut policy = Policy::default();
        policy
            .add_cluster_role("reader", role(r#"{"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}"#));
        policy.add_role(
            "shop",
            "writer",
            role(r#"{"rules":[{"verbs":["update"],"apiGroups":[""],"resources":["pods"]}]}"#),
        );
        policy.add_cluster_binding(
            "everywhere",
            &binding("ClusterRole", "reader", r#"[{"kind":"User","name":"alice"}]"#),
        );
        policy.add_binding(
            "shop",
            "writers",
            &binding("Role", "writer", r#"[{"kind":"Group","name":"ops"},{"kind":"ServiceAccount","name":"robot"}]"#),
        );
        policy.add_binding("shop", "readers", &binding("ClusterRole", "reader", r#"[{"kind":"Group","name":"ops"}]"#));
        policy.add_binding("shop", "dangling", &binding("Role", "nope", r#"[{"kind":"Group","name":"ops"}]"#));
        policy.add_cluster_binding("wrong", &binding("Role", "writer", r#"[{"kind":"User","name":"alice"}]"#));
        policy
    }

    fn pods<'a>(verb: &'a str, namespace: &'a str) -> Attributes<'a> {
        Attributes::resource(verb, Item { resource: "pods", namespace, ..Item::default() })
    }

    #[test]
    fn bindings_hold_where_they_are() {
        let policy = policy();
        let alice = User::named("alice", []);
        let ops = User::named("bob", ["ops".to_owned()]);
        let robot = User::service_account("shop", "robot", "");
        for (user, verb, namespace, allowed) in [
            (&alice, "get", "shop", true),
            (&alice, "get", "", true),
            (&alice, "update", "shop", false),
            (&ops, "get", "shop", true),
            (&ops, "get", "bank", false),
            (&ops, "get", "", false),
            (&ops, "update", "shop", true),
            (&robot, "update", "shop", true),
            (&robot, "get", "shop", false),
        ] {
            assert_eq!(policy.allows(user, &pods(verb, namespace)).is_some(), allowed, "{user:?} {verb} {namespace}");
        }
        assert_eq!(policy.rules(&ops, "shop").len(), 2);
        assert_eq!(policy.rules(&ops, "").len(), 0);
    }

    #[test]
    fn a_grant_says_why() {
        let (policy, alice, ops) = (policy(), User::named("alice", []), User::named("bob", ["ops".to_owned()]));
        let why = |user, verb| policy.allows(user, &pods(verb, "shop")).unwrap().to_string();
        assert_eq!(
            why(&alice, "get"),
            "RBAC: allowed by ClusterRoleBinding \"everywhere\" of ClusterRole \"reader\" to User \"alice\""
        );
        assert_eq!(
            why(&ops, "update"),
            "RBAC: allowed by RoleBinding \"writers/shop\" of Role \"writer\" to Group \"ops\""
        );
    }
}
