//! The roles and bindings that every cluster has (Kubernetes' bootstrap policy, for what is served here).
//!
//! `view`, `edit` and `admin` gather what roles with the labels below allow: each has a role `system:aggregate-to-…` with its
//! own rules, `view` goes into `edit`, and `edit` into `admin`. So somebody who wants `edit` to include EndpointSlices labels a
//! role of their own and changes none of these.

use serde_json::{Value, json};

use crate::node::OWN_GROUP;
use crate::rbac::{GROUP, PolicyRule};
use crate::user::{AUTHENTICATED, EDGES, MASTERS};

/// Says that an object is one of these.
pub const LABEL: &str = "kubernetes.io/bootstrapping";
/// Says that missing rules and subjects are put back when the server starts; `"false"` leaves the object to its administrator.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const EVENTS: [&str; 2] = ["", "events.k8s.io"];

/// ClusterRoles first, then what binds them.
pub fn objects() -> Vec<Value> {
    let mut objects = vec![
        role("cluster-admin", &[], vec![PolicyRule::of("*", "*", "*"), PolicyRule::of_paths("*", "*")]),
        role("system:discovery", &[], discovery()),
        role("system:basic-user", &[], basic_user()),
        role("system:node", &[], node()),
        role("portolan:edge", &[], edge()),
        role("system:aggregate-to-view", &["view"], view()),
        role("system:aggregate-to-edit", &["edit"], edit()),
        role("system:aggregate-to-admin", &["admin"], admin()),
        gathering("view", &["edit"]),
        gathering("edit", &["admin"]),
        gathering("admin", &[]),
    ];
    objects.extend([
        binding("cluster-admin", MASTERS),
        binding("system:discovery", AUTHENTICATED),
        binding("system:basic-user", AUTHENTICATED),
        binding("portolan:edge", EDGES),
    ]);
    objects
}

fn discovery() -> Vec<PolicyRule> {
    let paths = "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/";
    vec![PolicyRule::of_paths("get", paths)]
}

fn basic_user() -> Vec<PolicyRule> {
    vec![
        PolicyRule::of("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        PolicyRule::of("create", "authentication.k8s.io", "selfsubjectreviews"),
    ]
}

/// What every node may, whatever its name. Bound to nobody: nodes have this and what is their own by their certificates.
fn node() -> Vec<PolicyRule> {
    let mut rules = vec![
        PolicyRule::of(READ, "", "services nodes namespaces"),
        PolicyRule::of(READ, "discovery.k8s.io", "endpointslices"),
        PolicyRule::of(READ, "networking.k8s.io", "servicecidrs"),
        PolicyRule::of(READ, OWN_GROUP, "loadbalancers"),
        PolicyRule::of("get list", OWN_GROUP, "services/programmed programmed"),
    ];
    rules.extend(EVENTS.map(|group| PolicyRule::of("create patch update", group, "events")));
    rules
}

/// What is an edge node's own comes with its certificate, and so do the certificates that it serves ([`crate::edge`]).
fn edge() -> Vec<PolicyRule> {
    let mut rules = node();
    rules.push(PolicyRule::of(READ, OWN_GROUP, "accesslists"));
    rules
}

fn view() -> Vec<PolicyRule> {
    let mut rules = vec![
        PolicyRule::of(
            READ,
            "",
            "bindings endpoints namespaces namespaces/status pods pods/status serviceaccounts services services/status",
        ),
        PolicyRule::of(READ, "discovery.k8s.io", "endpointslices"),
        PolicyRule::of("get", OWN_GROUP, "services/programmed"),
    ];
    rules.extend(EVENTS.map(|group| PolicyRule::of(READ, group, "events")));
    rules
}

/// Neither Endpoints nor EndpointSlices: who writes these may lead a Service's traffic to any address (CVE-2021-25740).
fn edit() -> Vec<PolicyRule> {
    let mut rules = vec![
        PolicyRule::of(WRITE, "", "pods serviceaccounts services"),
        PolicyRule::of("create", "", "serviceaccounts/token"),
        PolicyRule::of("impersonate", "", "serviceaccounts"),
        PolicyRule::of(&format!("{READ} {WRITE}"), "coordination.k8s.io", "leases"),
    ];
    rules.extend(EVENTS.map(|group| PolicyRule::of("create patch update", group, "events")));
    rules
}

/// Secrets are here and not with `edit`, unlike in Kubernetes: no Pod mounts one, so who makes Pods need not read them.
fn admin() -> Vec<PolicyRule> {
    vec![
        PolicyRule::of(&format!("{READ} {WRITE}"), "", "secrets"),
        PolicyRule::of("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        PolicyRule::of(&format!("{READ} {WRITE}"), GROUP, "roles rolebindings"),
    ]
}

fn label(of: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{of}")
}

fn metadata(name: &str, into: &[&str]) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": { LABEL: "rbac-defaults" },
        "annotations": { AUTO_UPDATE: "true" },
    });
    for of in into {
        metadata["labels"][label(of)] = "true".into();
    }
    metadata
}

/// A role whose rules go into the roles `into`.
fn role(name: &str, into: &[&str], rules: Vec<PolicyRule>) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRole",
        "metadata": metadata(name, into),
        "rules": rules,
    })
}

/// A role that gathers its rules from others, and goes into `into` itself.
fn gathering(name: &str, into: &[&str]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRole",
        "metadata": metadata(name, into),
        "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { label(name): "true" } }] },
        "rules": [],
    })
}

/// Binds a role to a group everywhere, under the role's own name.
fn binding(role: &str, group: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": metadata(role, &[]),
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": GROUP, "kind": "Group", "name": group }],
    })
}
