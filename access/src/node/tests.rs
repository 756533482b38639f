//! What a node may, wish by wish, and what it may leave behind. The whole table stands in `access/tests/matrix.rs`.

use bytes::Bytes;
use model::{Object, Resource};
use serde_json::{Value, json};

use super::restriction::{after, before};
use super::*;

/// `shop/mine` is bound to web-1, `shop/theirs` to web-2, `shop/free` to none.
struct Pods;

impl Bound for Pods {
    fn node_of_pod(&self, namespace: &str, name: &str) -> Option<String> {
        match (namespace, name) {
            ("shop", "mine") => Some("web-1".to_owned()),
            ("shop", "theirs") => Some("web-2".to_owned()),
            ("shop", "free") => Some(String::new()),
            _ => None,
        }
    }
}

fn allowed(verb: &str, selected: Option<&str>, item: Item<'_>) -> bool {
    allows("web-1", &Attributes::resource(verb, item), selected, &Pods)
}

#[test]
fn pods_are_seen_where_they_are_bound() {
    let pod = |name, subresource| Item { resource: "pods", subresource, namespace: "shop", name, ..Item::default() };
    for (verb, name, subresource, expected) in [
        ("get", "mine", "", true),
        ("get", "theirs", "", false),
        ("get", "free", "", false),
        ("get", "gone", "", true),
        ("delete", "mine", "", true),
        ("delete", "theirs", "", false),
        ("patch", "mine", "status", true),
        ("update", "theirs", "status", false),
        ("patch", "mine", "", false),
        ("update", "mine", "", false),
        ("create", "mine", "binding", false),
        ("deletecollection", "", "", false),
    ] {
        assert_eq!(allowed(verb, None, pod(name, subresource)), expected, "{verb} {name}/{subresource}");
    }
    for (selected, expected) in [(Some("web-1"), true), (Some("web-2"), false), (None, false)] {
        for verb in ["list", "watch"] {
            assert_eq!(allowed(verb, selected, pod("", "")), expected, "{verb} {selected:?}");
        }
    }
}

#[test]
fn a_node_has_routes_of_its_own() {
    let route = |name, subresource| Item { group: OWN_GROUP, resource: "nodes", subresource, name, ..Item::default() };
    for (verb, subresource) in OWN {
        assert!(allowed(verb, None, route("web-1", subresource)), "{verb} {subresource}");
        assert!(!allowed(verb, None, route("web-2", subresource)), "{verb} {subresource}");
    }
    assert!(!allowed("create", None, route("web-1", "questions")), "a node asks nobody");
    assert!(!allowed("get", None, Item { group: OWN_GROUP, resource: "tokens", ..Item::default() }));
}

fn object(resource: Resource, value: &Value) -> Object {
    Object::decode(resource, Bytes::from(value.to_string())).unwrap()
}

fn pod(node: &str, annotations: Value) -> Object {
    object(
        Resource::Pods,
        &json!({"metadata": {"name": "p", "namespace": "shop", "annotations": annotations}, "spec": {"nodeName": node}}),
    )
}

#[test]
fn pods_are_written_where_they_are_bound() {
    let (mine, theirs) = (pod("web-1", json!({})), pod("web-2", json!({})));
    let mirror = pod("web-1", json!({ "kubernetes.io/config.mirror": "x" }));
    let pods = Resource::Pods;
    assert_eq!(before("web-1", pods, Some(&mine)), Ok(()));
    assert!(before("web-1", pods, Some(&theirs)).is_err());
    assert_eq!(after("web-1", pods, Some(&mine), &mine), Ok(()));
    assert!(after("web-1", pods, Some(&mine), &theirs).is_err());
    assert_eq!(after("web-1", pods, None, &mirror), Ok(()));
    assert!(after("web-1", pods, None, &mine).is_err(), "only mirror Pods are created");
    assert!(after("web-2", pods, None, &mirror).is_err(), "only on itself");
}

fn node(name: &str, labels: Value, taints: Value) -> Object {
    object(Resource::Nodes, &json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}}))
}

#[test]
fn a_node_writes_its_own_node_and_no_label_that_others_rely_on() {
    let nodes = Resource::Nodes;
    let plain = |labels: Value| node("web-1", labels, Value::Null);
    assert!(after("web-1", nodes, None, &node("web-2", json!({}), Value::Null)).is_err());
    assert!(before("web-1", nodes, Some(&node("web-2", json!({}), Value::Null))).is_err());
    for (label, expected) in [
        ("kubernetes.io/hostname", true),
        ("topology.kubernetes.io/zone", true),
        ("node.kubernetes.io/anything", true),
        ("example.com/rack", true),
        ("rack", true),
        ("notkubernetes.io/x", true),
        ("node-role.kubernetes.io/control-plane", false),
        ("node-restriction.kubernetes.io/pci", false),
        ("x.node-restriction.kubernetes.io/pci", false),
        ("cloud.k8s.io/x", false),
    ] {
        let (without, with) = (plain(json!({})), plain(json!({ label: "1" })));
        assert_eq!(after("web-1", nodes, None, &with).is_ok(), expected, "{label} made");
        assert_eq!(after("web-1", nodes, Some(&without), &with).is_ok(), expected, "{label} set");
        assert_eq!(after("web-1", nodes, Some(&with), &without).is_ok(), expected, "{label} removed");
        assert_eq!(after("web-1", nodes, Some(&with), &with), Ok(()), "{label} left");
    }
    let tainted = node("web-1", json!({}), json!([{"key": "a", "effect": "NoExecute"}]));
    assert_eq!(after("web-1", nodes, None, &tainted), Ok(()));
    assert!(after("web-1", nodes, Some(&tainted), &plain(json!({}))).is_err());
}

#[test]
fn a_node_writes_its_own_lease() {
    let lease =
        |namespace, name| object(Resource::Leases, &json!({"metadata": {"name": name, "namespace": namespace}}));
    for (namespace, name, expected) in
        [("kube-node-lease", "web-1", true), ("kube-node-lease", "web-2", false), ("default", "web-1", false)]
    {
        assert_eq!(after("web-1", Resource::Leases, None, &lease(namespace, name)).is_ok(), expected);
        assert_eq!(before("web-1", Resource::Leases, Some(&lease(namespace, name))).is_ok(), expected);
    }
}
