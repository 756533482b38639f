//! Role × verb × resource: every cell named, and every cell asserted twice: against a golden text that people read, and against
//! rules that are written here anew, in other words than the code's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

use std::fmt::Write;
use std::sync::Arc;

use access::node::Bound;
use access::rbac::{Binding, Policy, PolicyRule, Role};
use access::{Attributes, Item, User, decide, defaults};
use serde_json::{Value, json};

/// Kubernetes' verbs, in the order of the table's columns.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Every resource and subresource that a rule of the default roles, or a route, may name. `api` has a test that none of its
/// routes is missing.
const RESOURCES: [(&str, &str); 48] = [
    ("", "bindings"),
    ("", "endpoints"),
    ("", "events"),
    ("", "namespaces"),
    ("", "namespaces/finalize"),
    ("", "namespaces/status"),
    ("", "nodes"),
    ("", "nodes/status"),
    ("", "pods"),
    ("", "pods/binding"),
    ("", "pods/status"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "services"),
    ("", "services/status"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("events.k8s.io", "events"),
    ("networking.k8s.io", "ipaddresses"),
    ("networking.k8s.io", "servicecidrs"),
    ("networking.k8s.io", "servicecidrs/status"),
    ("portolan.dev", "accesslists"),
    ("portolan.dev", "addresspools"),
    ("portolan.dev", "addresspools/status"),
    ("portolan.dev", "loadbalancers"),
    ("portolan.dev", "loadbalancers/status"),
    ("portolan.dev", "nodes/acknowledgement"),
    ("portolan.dev", "nodes/answers"),
    ("portolan.dev", "nodes/certificate"),
    ("portolan.dev", "nodes/heartbeat"),
    ("portolan.dev", "nodes/questions"),
    ("portolan.dev", "programmed"),
    ("portolan.dev", "services/programmed"),
    ("portolan.dev", "tokens"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("", "users"),
    ("", "groups"),
    ("", "pods/exec"),
    ("example.com", "others"),
];

const PATHS: [&str; 8] =
    ["/", "/api", "/apis/discovery.k8s.io/v1", "/openapi/v3", "/version", "/livez", "/metrics", "/docs"];

/// The resources whose objects are in no namespace.
const CLUSTER: [&str; 15] = [
    "accesslists",
    "addresspools",
    "loadbalancers",
    "namespaces",
    "nodes",
    "ipaddresses",
    "servicecidrs",
    "programmed",
    "tokens",
    "clusterrolebindings",
    "clusterroles",
    "selfsubjectreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "subjectaccessreviews",
];

/// Where somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In `shop`, where the local bindings are; for cluster-scoped resources everywhere. Of a node: what is its own.
    Home,
    /// In `bank`, where there is none. Of a node: what is another node's.
    Away,
}

/// Each with who it is; the first word is what the table calls them.
fn subjects() -> Vec<(&'static str, User)> {
    let user = |name: &str| User::named(name, []);
    vec![
        ("masters", User::admin()),
        ("cluster-admin", user("cluster-admin")),
        ("admin", user("admin")),
        ("admin-in-shop", user("admin-in-shop")),
        ("edit", user("edit")),
        ("edit-in-shop", user("edit-in-shop")),
        ("view", user("view")),
        ("view-in-shop", user("view-in-shop")),
        ("edge", User::edge("web-1")),
        ("node", User::node("web-1")),
        ("join-token", User::bootstrapper("abcdef")),
        ("edge-join-token", User::edge_bootstrapper("abcdef")),
        ("service-account", User::service_account("shop", "robot", "1")),
        ("authenticated", user("nobody")),
        ("anonymous", User::anonymous()),
    ]
}

/// The default roles and bindings, and one binding for each subject that a role is named after.
fn policy() -> Policy {
    let mut policy = Policy::default();
    let objects = defaults::objects();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    for object in objects.iter().filter(|object| object["kind"] == "ClusterRole") {
        let mut role = Role::read(object.to_string().as_bytes()).unwrap();
        role.rules.extend(gathered(object, &objects));
        policy.add_cluster_role(&name(object), Arc::new(role));
    }
    for object in objects.iter().filter(|object| object["kind"] == "ClusterRoleBinding") {
        policy.add_cluster_binding(&name(object), &Binding::read("", object.to_string().as_bytes()).unwrap());
    }
    for role in ["cluster-admin", "admin", "edit", "view"] {
        let binding = |user: &str| {
            let object = json!({
                "roleRef": { "kind": "ClusterRole", "name": role },
                "subjects": [{ "kind": "User", "name": user }],
            });
            Binding::read("shop", object.to_string().as_bytes()).unwrap()
        };
        policy.add_cluster_binding(role, &binding(role));
        policy.add_binding("shop", role, &binding(&format!("{role}-in-shop")));
    }
    policy
}

/// The rules that an aggregated role gathers, here simply walked to the end.
fn gathered(role: &Value, objects: &[Value]) -> Vec<PolicyRule> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
    let Some(labels) = selectors.map(|selectors| selectors[0]["matchLabels"].as_object().unwrap()) else {
        return Vec::new();
    };
    let matching = objects
        .iter()
        .filter(|other| labels.iter().all(|(key, value)| other["metadata"]["labels"].get(key) == Some(value)));
    matching
        .flat_map(|other| {
            let mut rules = Role::read(other.to_string().as_bytes()).unwrap().rules;
            rules.extend(gathered(other, objects));
            rules
        })
        .collect()
}

/// The Pods `mine` of web-1 and `theirs` of web-2.
struct Pods;

impl Bound for Pods {
    fn node_of_pod(&self, _: &str, name: &str) -> Option<String> {
        match name {
            "web-1" => Some("web-1".to_owned()),
            "web-2" => Some("web-2".to_owned()),
            _ => None,
        }
    }
}

/// One cell.
#[derive(Clone, Copy, Debug)]
struct Cell<'a> {
    subject: &'a str,
    at: At,
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
}

impl Cell<'_> {
    fn qualified(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    fn is_collection(&self) -> bool {
        matches!(self.verb, "list" | "watch" | "deletecollection")
            || self.verb == "create" && self.subresource.is_empty()
    }
}

/// What the code says.
fn decided(policy: &Policy, user: &User, cell: Cell<'_>) -> bool {
    let own = if cell.at == At::Home { "web-1" } else { "web-2" };
    let local = !CLUSTER.contains(&cell.resource);
    let namespace = match (local, cell.resource, cell.at) {
        (true, "leases", _) if cell.subject == "node" => "kube-node-lease",
        (true, "leases", _) if cell.subject == "edge" => "kube-system",
        (true, _, At::Home) => "shop",
        (true, _, At::Away) => "bank",
        // As a request has it: `/api/v1/namespaces/shop` is in `shop`.
        (false, "namespaces", at) if !cell.is_collection() => {
            if at == At::Home {
                "shop"
            } else {
                "bank"
            }
        }
        (false, ..) => "",
    };
    let lease = format!("portolan-edge-{own}");
    let name = match cell {
        _ if cell.is_collection() => "",
        Cell { subject: "edge", resource: "leases", .. } => &lease,
        _ => own,
    };
    // What a collection is restricted to: of Secrets an edge node asks for certificates, or for all.
    let selected = match (cell.resource, cell.at) {
        ("secrets", At::Home) => Some("kubernetes.io/tls"),
        ("secrets", At::Away) => None,
        _ => Some(own),
    };
    let item = Item { group: cell.group, resource: cell.resource, subresource: cell.subresource, namespace, name };
    decide(policy, user, &Attributes::resource(cell.verb, item), selected, &Pods).is_allowed()
}

/// What is meant, written down without looking at how it is decided.
fn expected(cell: Cell<'_>) -> bool {
    let Cell { subject, at, verb, group, subresource, .. } = cell;
    let resource = &*cell.qualified();
    let reads = matches!(verb, "get" | "list" | "watch");
    let writes = matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection");
    // Everybody who is somebody, but for a machine that only joins, may ask what they may.
    let asks = verb == "create"
        && ["selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"].contains(&resource);
    let events = resource == "events" && ["", "events.k8s.io"].contains(&group);
    let (role, local) = match subject.strip_suffix("-in-shop") {
        Some(role) => (role, true),
        None => (subject, false),
    };
    if local && !asks {
        // A binding in a namespace is worth nothing in another, and nothing for what is in no namespace: but the namespace itself.
        let itself = resource.starts_with("namespaces") && !cell.is_collection();
        if at == At::Away || CLUSTER.contains(&cell.resource) && !itself {
            return false;
        }
    }
    let view = reads
        && (matches!(
            (group, resource),
            ("", "bindings" | "endpoints" | "namespaces" | "namespaces/status" | "pods" | "pods/status")
                | ("", "serviceaccounts" | "services" | "services/status")
                | ("discovery.k8s.io", "endpointslices")
        ) || events
            || verb == "get" && (group, resource) == ("portolan.dev", "services/programmed"));
    let edit = view
        || writes && group.is_empty() && ["pods", "services", "serviceaccounts"].contains(&resource)
        || verb == "create" && resource == "serviceaccounts/token"
        || events && matches!(verb, "create" | "update" | "patch")
        || resource == "leases" && (reads || writes);
    let admin = edit
        || ["roles", "rolebindings", "secrets"].contains(&resource) && (reads || writes)
        || resource == "localsubjectaccessreviews" && verb == "create";
    // What forwards packets needs no Pod and no secret.
    let forwards = reads
        && (matches!((group, resource), ("", "services" | "nodes" | "namespaces"))
            || ["endpointslices", "servicecidrs", "loadbalancers"].contains(&resource))
        || group == "portolan.dev" && resource.ends_with("programmed") && matches!(verb, "get" | "list")
        || events && matches!(verb, "create" | "update" | "patch");
    match role {
        "masters" | "cluster-admin" => true,
        "join-token" | "edge-join-token" => (group, resource, verb) == ("portolan.dev", "nodes/certificate", "create"),
        "anonymous" => false,
        _ if asks => true,
        "admin" => admin,
        "edit" => edit,
        "view" => view,
        "edge" => {
            let mine = at == At::Home;
            forwards
                || reads && resource == "accesslists"
                || matches!(verb, "list" | "watch") && resource == "secrets" && mine
                || resource == "loadbalancers/status" && matches!(verb, "get" | "update" | "patch")
                || resource == "leases"
                    && (verb == "create" || mine && ["get", "update", "patch", "delete"].contains(&verb))
                || verb == "create" && mine && resource == "nodes/certificate"
        }
        "node" => {
            let mine = at == At::Home;
            forwards
                || verb == "watch" && group == "portolan.dev" && resource.ends_with("programmed")
                || match (group, cell.resource, subresource) {
                    // Whose a new object is stands in its body, where the restriction looks.
                    ("", "pods", "") => verb == "create" || mine && ["get", "list", "watch", "delete"].contains(&verb),
                    ("", "pods", "status") => mine && ["get", "update", "patch"].contains(&verb),
                    ("", "nodes", "") => verb == "create" || mine && ["update", "patch"].contains(&verb),
                    ("", "nodes", "status") => mine && ["get", "update", "patch"].contains(&verb),
                    (_, "leases", "") => {
                        verb == "create" || mine && ["get", "update", "patch", "delete"].contains(&verb)
                    }
                    ("portolan.dev", "nodes", _) => {
                        mine && [
                            "acknowledgement update",
                            "heartbeat update",
                            "questions get",
                            "answers create",
                            "certificate create",
                        ]
                        .contains(&&*format!("{subresource} {verb}"))
                    }
                    _ => false,
                }
        }
        _ => false,
    }
}

#[test]
fn every_cell_is_what_is_meant() {
    let policy = policy();
    let mut wrong = Vec::new();
    let mut cells = 0;
    each(|user, cell| {
        cells += 1;
        if decided(&policy, user, cell) != expected(cell) {
            wrong.push(format!("{cell:?}: decided {}", decided(&policy, user, cell)));
        }
    });
    assert_eq!(cells, subjects().len() * 2 * RESOURCES.len() * VERBS.len());
    assert!(wrong.is_empty(), "{} of {cells} cells:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every cell once.
fn each(mut visit: impl FnMut(&User, Cell<'_>)) {
    for (subject, user) in subjects() {
        for at in [At::Home, At::Away] {
            for (group, qualified) in RESOURCES {
                let (resource, subresource) = qualified.split_once('/').unwrap_or((qualified, ""));
                for verb in VERBS {
                    visit(&user, Cell { subject, at, verb, group, resource, subresource });
                }
            }
        }
    }
}

/// The table as people read it: a line names every verb that is allowed, and a `-` stands for each that is not.
#[test]
fn the_table() {
    let policy = policy();
    let mut text = String::new();
    for (subject, user) in subjects() {
        for at in [At::Home, At::Away] {
            let place = match (subject, at) {
                ("node", At::Home) => "to what is its own",
                ("edge", At::Home) => "to what is its own, of Secrets to certificates",
                ("edge", At::Away) => "to what is another edge node's, and to all Secrets",
                ("node", At::Away) => "to what is another node's",
                (_, At::Home) => "in namespace shop, and where there is none",
                (_, At::Away) => "in namespace bank",
            };
            writeln!(text, "{subject} {place}").unwrap();
            for (group, qualified) in RESOURCES {
                let (resource, subresource) = qualified.split_once('/').unwrap_or((qualified, ""));
                let cells = VERBS.map(|verb| {
                    let cell = Cell { subject, at, verb, group, resource, subresource };
                    let width = verb.len();
                    format!("{:<width$}", if decided(&policy, &user, cell) { verb } else { "-" })
                });
                let named = if group.is_empty() { qualified.to_owned() } else { format!("{group} {qualified}") };
                writeln!(text, "    {named:<50} {}", cells.join(" ")).unwrap();
            }
        }
        writeln!(text, "{subject} for paths").unwrap();
        for path in PATHS {
            let may = |verb| decide(&policy, &user, &Attributes::path(verb, path), None, &Pods).is_allowed();
            let cells = [("get", may("get")), ("post", may("post"))].map(|(verb, may)| if may { verb } else { "-" });
            writeln!(text, "    {path:<50} {}", cells.join(" ")).unwrap();
        }
        text.push('\n');
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    expect_test::expect_file!["matrix.golden"].assert_eq(&format!("{}\n", lines.join("\n").trim_end()));
}

#[test]
fn paths_are_for_who_is_somebody() {
    let policy = policy();
    for (subject, user) in subjects() {
        for path in PATHS {
            for verb in ["get", "post"] {
                let discovers = !["join-token", "edge-join-token", "anonymous"].contains(&subject)
                    && verb == "get"
                    && !["/", "/metrics", "/docs"].contains(&path);
                let expected = ["masters", "cluster-admin"].contains(&subject) || discovers;
                let decision = decide(&policy, &user, &Attributes::path(verb, path), None, &Pods);
                assert_eq!(decision.is_allowed(), expected, "{subject} {verb} {path}");
            }
        }
    }
}

/// A token may make its holder anybody, so a rule for tokens is not enough.
#[test]
fn tokens_are_for_those_who_may_everything() {
    let mut policy = policy();
    let role = json!({ "rules": [{ "verbs": ["*"], "apiGroups": ["portolan.dev"], "resources": ["*"] }] });
    policy.add_cluster_role("minter", Arc::new(Role::read(role.to_string().as_bytes()).unwrap()));
    let binding = json!({
        "roleRef": { "kind": "ClusterRole", "name": "minter" },
        "subjects": [{ "kind": "User", "name": "minter" }],
    });
    policy.add_cluster_binding("minter", &Binding::read("", binding.to_string().as_bytes()).unwrap());
    let minter = User::named("minter", []);
    let item = |resource| Item { group: "portolan.dev", resource, ..Item::default() };
    for verb in VERBS {
        let may =
            |resource| decide(&policy, &minter, &Attributes::resource(verb, item(resource)), None, &Pods).is_allowed();
        assert!(may("programmed") && !may("tokens"), "{verb}");
    }
}

/// A join token stays what it is, whatever is bound to everybody.
#[test]
fn a_join_token_has_nothing_of_what_everybody_has() {
    let mut policy = policy();
    let binding = json!({
        "roleRef": { "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "Group", "name": "system:authenticated" }],
    });
    policy.add_cluster_binding("everybody", &Binding::read("", binding.to_string().as_bytes()).unwrap());
    let item = Item { resource: "pods", ..Item::default() };
    let wish = Attributes::resource("list", item);
    assert!(decide(&policy, &User::named("alice", []), &wish, None, &Pods).is_allowed());
    assert!(!decide(&policy, &User::bootstrapper("abcdef"), &wish, None, &Pods).is_allowed());
    assert!(!decide(&policy, &User::anonymous(), &wish, None, &Pods).is_allowed());
}
