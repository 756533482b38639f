use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn strategic(current: Value, patch: Value) -> Result<Value, PatchError> {
    apply(PatchKind::StrategicMerge, Resource::Services, &current, &patch)
}

fn pod(current: Value, patch: Value) -> Result<Value, PatchError> {
    apply(PatchKind::StrategicMerge, Resource::Pods, &current, &patch)
}

fn ports(ports: Value) -> Value {
    json!({ "spec": { "ports": ports } })
}

/// The table of RFC 7386, appendix A, where document and patch are objects.
#[test]
fn merge_patch_table() {
    let cases = [
        (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
        (json!({ "a": "b" }), json!({ "a": null }), json!({})),
        (json!({ "a": "b", "b": "c" }), json!({ "a": null }), json!({ "b": "c" })),
        (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
        (json!({ "a": "c" }), json!({ "a": ["b"] }), json!({ "a": ["b"] })),
        (json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } }), json!({ "a": { "b": "d" } })),
        (json!({ "a": [{ "b": "c" }] }), json!({ "a": [1] }), json!({ "a": [1] })),
        (json!({ "e": null }), json!({ "a": 1 }), json!({ "e": null, "a": 1 })),
        (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
    ];
    for (current, patch, expected) in cases {
        assert_eq!(apply(PatchKind::Merge, Resource::Services, &current, &patch), Ok(expected), "{current} + {patch}");
    }
    let refused = apply(PatchKind::Merge, Resource::Services, &json!({}), &json!([]));
    assert!(matches!(refused, Err(PatchError::Malformed { .. })));
}

#[test]
fn strategic_merges_by_key() {
    let cases = [
        (
            "one port changes, one comes",
            ports(json!([{ "port": 80, "name": "a" }, { "port": 81 }])),
            ports(json!([{ "port": 81, "name": "b" }, { "port": 82 }])),
            ports(json!([{ "port": 80, "name": "a" }, { "port": 81, "name": "b" }, { "port": 82 }])),
        ),
        (
            "a port goes, order is set",
            json!({ "spec": { "ports": [{ "port": 80 }, { "port": 81 }, { "port": 82 }] } }),
            json!({ "spec": {
                "$setElementOrder/ports": [{ "port": 82 }, { "port": 80 }],
                "ports": [{ "$patch": "delete", "port": 81 }],
            } }),
            ports(json!([{ "port": 82 }, { "port": 80 }])),
        ),
        (
            "the whole list is replaced",
            ports(json!([{ "port": 80 }])),
            ports(json!([{ "$patch": "replace" }, { "port": 90 }])),
            ports(json!([{ "port": 90 }])),
        ),
        (
            "a map is replaced",
            json!({ "spec": { "selector": { "a": "1", "b": "2" } } }),
            json!({ "spec": { "selector": { "$patch": "replace", "c": "3" } } }),
            json!({ "spec": { "selector": { "c": "3" } } }),
        ),
        (
            "a map merges, null deletes",
            json!({ "spec": { "selector": { "a": "1", "b": "2" } } }),
            json!({ "spec": { "selector": { "a": null, "c": "3" } } }),
            json!({ "spec": { "selector": { "b": "2", "c": "3" } } }),
        ),
        (
            "an atomic list is replaced",
            json!({ "spec": { "externalIPs": ["1.1.1.1"] } }),
            json!({ "spec": { "externalIPs": ["2.2.2.2"] } }),
            json!({ "spec": { "externalIPs": ["2.2.2.2"] } }),
        ),
        (
            "finalizers unite, and one goes",
            json!({ "metadata": { "finalizers": ["a/a", "b/b"] } }),
            json!({ "metadata": { "finalizers": ["c/c", "a/a"], "$deleteFromPrimitiveList/finalizers": ["b/b"] } }),
            json!({ "metadata": { "finalizers": ["c/c", "a/a"] } }),
        ),
        (
            "a null field goes with its list",
            ports(json!([{ "port": 80 }])),
            json!({ "spec": { "ports": null } }),
            json!({ "spec": {} }),
        ),
        (
            "protocols of one port are told apart",
            ports(
                json!([{ "port": 53, "protocol": "TCP", "name": "t" }, { "port": 53, "protocol": "UDP", "name": "u" }]),
            ),
            ports(json!([{ "port": 53, "protocol": "UDP", "targetPort": 5353 }])),
            ports(json!([
                { "port": 53, "protocol": "TCP", "name": "t" },
                { "port": 53, "protocol": "UDP", "name": "u", "targetPort": 5353 },
            ])),
        ),
        (
            "two protocols come to a port that had one",
            ports(json!([{ "port": 53, "protocol": "TCP" }])),
            ports(json!([{ "port": 53, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }])),
            ports(json!([{ "port": 53, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }])),
        ),
        (
            "a port changes its protocol",
            ports(json!([{ "port": 53, "protocol": "TCP", "nodePort": 30053 }])),
            ports(json!([{ "port": 53, "protocol": "UDP" }])),
            ports(json!([{ "port": 53, "protocol": "UDP", "nodePort": 30053 }])),
        ),
        (
            "conditions merge by type",
            json!({ "status": { "conditions": [{ "type": "A", "status": "True" }] } }),
            json!({ "status": { "conditions": [{ "type": "A", "status": "False" }, { "type": "B" }] } }),
            json!({ "status": { "conditions": [{ "type": "A", "status": "False" }, { "type": "B" }] } }),
        ),
        (
            "an empty order says nothing",
            ports(json!([{ "port": 80 }])),
            json!({ "spec": { "$setElementOrder/ports": [], "ports": [{ "port": 81 }] } }),
            ports(json!([{ "port": 80 }, { "port": 81 }])),
        ),
        (
            "a replacing marker is for the list, and no item of it",
            ports(json!([{ "port": 80 }])),
            ports(json!([{ "port": 90 }, { "$patch": "replace", "port": 91 }])),
            ports(json!([{ "port": 90 }])),
        ),
        (
            "merge is what happens anyhow",
            json!({ "spec": { "selector": { "a": "1" }, "ports": [{ "port": 80 }] } }),
            json!({ "spec": {
                "selector": { "$patch": "merge", "b": "2" },
                "ports": [{ "$patch": "merge", "port": 80, "name": "x" }],
            } }),
            json!({ "spec": { "selector": { "a": "1", "b": "2" }, "ports": [{ "port": 80, "name": "x" }] } }),
        ),
        (
            "a map goes",
            json!({ "spec": { "selector": { "a": "1" } } }),
            json!({ "spec": { "selector": { "$patch": "delete" } } }),
            json!({ "spec": { "selector": {} } }),
        ),
        (
            "a delete takes every item of its key, and one that is not there takes none",
            ports(json!([{ "port": 53, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }, { "port": 80 }])),
            ports(json!([{ "$patch": "delete", "port": 53 }, { "$patch": "delete", "port": 99 }])),
            ports(json!([{ "port": 80 }])),
        ),
        (
            "a delete that names the protocol takes that one",
            ports(json!([{ "port": 53, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }])),
            ports(json!([{ "$patch": "delete", "port": 53, "protocol": "UDP" }])),
            ports(json!([{ "port": 53, "protocol": "TCP" }])),
        ),
        (
            "finalizers are put in order",
            json!({ "metadata": { "finalizers": ["a/a", "b/b", "c/c"] } }),
            json!({ "metadata": { "$setElementOrder/finalizers": ["c/c", "a/a"] } }),
            json!({ "metadata": { "finalizers": ["b/b", "c/c", "a/a"] } }),
        ),
        (
            "other fields of the object go, and the null ones",
            json!({ "spec": { "type": "ExternalName", "externalName": "x", "clusterIP": "1", "sessionAffinity": "None" } }),
            json!({ "spec": { "$retainKeys": ["type", "sessionAffinity"], "type": "ClusterIP", "externalName": null } }),
            json!({ "spec": { "type": "ClusterIP", "sessionAffinity": "None" } }),
        ),
        (
            "a new item comes first, those that the patch does not name keep their places",
            ports(json!([{ "port": 1 }, { "port": 2 }, { "port": 3 }])),
            ports(json!([{ "port": 3, "name": "c" }, { "port": 9 }, { "port": 1, "name": "a" }])),
            ports(json!([{ "port": 2 }, { "port": 3, "name": "c" }, { "port": 9 }, { "port": 1, "name": "a" }])),
        ),
        (
            "directives for a list that is not there",
            json!({ "spec": {} }),
            json!({ "spec": { "$setElementOrder/ports": [{ "port": 80 }] } }),
            json!({ "spec": {} }),
        ),
    ];
    for (what, current, patch, expected) in cases {
        assert_eq!(strategic(current, patch), Ok(expected), "{what}");
    }
}

/// New items come first, as upstream has it: kubectl's own patches carry the order.
#[test]
fn strategic_merges_inside_pods() {
    let current = json!({ "spec": {
        "containers": [{
            "name": "a",
            "image": "x:1",
            "env": [{ "name": "K", "value": "1" }],
            "ports": [{ "containerPort": 80, "protocol": "TCP" }],
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        }],
        "volumes": [{ "name": "v", "emptyDir": {} }],
        "tolerations": [{ "key": "a" }],
        "imagePullSecrets": [{ "name": "s" }],
        "hostAliases": [{ "ip": "1.1.1.1", "hostnames": ["a"] }],
    } });
    let patch = json!({ "spec": {
        "containers": [{
            "name": "a",
            "env": [{ "name": "L", "value": "2" }],
            "ports": [{ "containerPort": 81 }],
            "volumeMounts": [{ "mountPath": "/w", "name": "v" }, { "mountPath": "/v", "readOnly": true }],
            "command": ["run"],
        }],
        "volumes": [{ "name": "v", "$retainKeys": ["name", "configMap"], "configMap": { "name": "c" } }],
        "tolerations": [{ "key": "b" }],
        "imagePullSecrets": [{ "name": "t" }],
        "hostAliases": [{ "ip": "1.1.1.1", "hostnames": ["b"] }],
    } });
    let expected = json!({ "spec": {
        "containers": [{
            "name": "a",
            "image": "x:1",
            "command": ["run"],
            "env": [{ "name": "L", "value": "2" }, { "name": "K", "value": "1" }],
            "ports": [{ "containerPort": 81 }, { "containerPort": 80, "protocol": "TCP" }],
            "volumeMounts": [{ "mountPath": "/w", "name": "v" }, { "name": "v", "mountPath": "/v", "readOnly": true }],
        }],
        "volumes": [{ "name": "v", "configMap": { "name": "c" } }],
        "tolerations": [{ "key": "b" }],
        "imagePullSecrets": [{ "name": "t" }, { "name": "s" }],
        "hostAliases": [{ "ip": "1.1.1.1", "hostnames": ["b"] }],
    } });
    assert_eq!(pod(current, patch), Ok(expected));
}

#[test]
fn strategic_refusals() {
    let current = ports(json!([{ "port": 80 }]));
    let cases = [
        json!({ "spec": { "$patch": "other" } }),
        json!({ "spec": { "$setElementOrder/ports": { "port": 80 } } }),
        json!({ "spec": { "$setElementOrder/ports": [{ "port": 81 }], "ports": [{ "port": 80 }] } }),
        json!({ "spec": {
            "$setElementOrder/ports": [{ "port": 80 }, { "port": 81 }], "ports": [{ "port": 81 }, { "port": 80 }],
        } }),
        json!({ "metadata": { "$setElementOrder/finalizers": ["a/b"], "finalizers": ["c/d"] } }),
        json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": "a/b" } }),
        json!({ "spec": { "$retainKeys": "type" } }),
        json!({ "spec": { "ports": [{ "$patch": "delete" }] } }),
        json!({ "spec": { "ports": [{ "$patch": "twist", "port": 80 }] } }),
        json!({ "spec": { "$retainKeys": ["type"], "externalName": "x" } }),
        json!({ "spec": { "ports": [{ "name": "x" }] } }),
        json!({ "spec": { "ports": [80] } }),
        json!([]),
    ];
    let mut out = String::new();
    for patch in cases {
        let code = match strategic(current.clone(), patch) {
            Ok(value) => format!("fine: {value}"),
            Err(PatchError::Malformed { message }) => format!("400 {message}"),
            Err(PatchError::Unprocessable { message }) => format!("422 {message}"),
            Err(e @ PatchError::TooManyOperations { .. }) => format!("413 {e}"),
        };
        out.push_str(&code);
        out.push('\n');
    }
    expect![[r#"
        400 unknown patch type: other in map: map[$patch:other]
        400 invalid patch format of setElementOrder list
        400 The order in patch list:
        [map[port:80]]
         doesn't match $setElementOrder list:
        [map[port:81]]

        400 The order in patch list:
        [map[port:81] map[port:80]]
         doesn't match $setElementOrder list:
        [map[port:80] map[port:81]]

        400 The order in patch list:
        [c/d]
         doesn't match $setElementOrder list:
        [a/b]

        400 invalid patch format of primitive list
        400 invalid patch format of retainKeys
        422 map: map[$patch:delete] does not contain declared merge key: port
        400 unknown patch type: twist in map: map[$patch:twist port:80]
        400 invalid patch format of retainKeys
        422 map: map[name:x] does not contain declared merge key: port
        422 80 is not a map with the merge key port
        400 Invalid JSON document: a merge patch is an object
    "#]]
    .assert_eq(&out);
}

fn json_patch(current: &Value, patch: Value) -> String {
    match apply(PatchKind::Json, Resource::Services, current, &patch) {
        Ok(value) => value.to_string(),
        Err(PatchError::Malformed { message }) => format!("400 {message}"),
        Err(PatchError::Unprocessable { message }) => format!("422 {message}"),
        Err(e @ PatchError::TooManyOperations { .. }) => format!("413 {e}"),
    }
}

#[test]
fn json_patches() {
    let current = json!({ "a": { "b": 1 }, "l": [1, 2] });
    let cases = [
        json!([{ "op": "add", "path": "/a/c", "value": 2 }, { "op": "remove", "path": "/l/0" }]),
        json!([{ "op": "test", "path": "/a/b", "value": 1 }, { "op": "move", "from": "/a/b", "path": "/x" }]),
        json!([{ "op": "copy", "from": "/a", "path": "/z" }, { "op": "add", "path": "/l/-", "value": 3 }]),
        json!([{ "op": "test", "path": "/a/b", "value": 2 }]),
        json!([{ "op": "replace", "path": "/nope", "value": 2 }]),
        json!([{ "op": "remove", "path": "/nope" }]),
        json!([{ "op": "move", "from": "/a", "path": "/a/b" }]),
        json!([{ "op": "nope", "path": "/a" }]),
        json!([{ "op": "add", "path": "a", "value": 1 }]),
        json!([{ "op": "replace", "path": "", "value": 1 }]),
        json!({ "a": 1 }),
    ];
    let out: String = cases.into_iter().map(|patch| json_patch(&current, patch) + "\n").collect();
    expect![[r#"
        {"a":{"b":1,"c":2},"l":[2]}
        {"a":{},"l":[1,2],"x":1}
        {"a":{"b":1},"l":[1,2,3],"z":{"b":1}}
        422 operation 0 on "/a/b": value did not match
        422 operation 0 on "/nope": path is invalid
        422 operation 0 on "/nope": path is invalid
        422 operation 0 on "/a/b": cannot move the value inside itself
        400 error decoding patch: unknown variant `nope`, expected one of `add`, `remove`, `replace`, `move`, `copy`, `test`
        400 error decoding patch: json pointer failed to parse; does not start with a slash ('/') and is not empty
        422 the patched document is not an object
        400 error decoding patch: a JSON patch is an array of operations
    "#]].assert_eq(&out);
}

#[test]
fn json_patches_are_bounded() {
    let current = json!({ "a": { "b": 1 }, "big": "x".repeat(1024) });
    let many: Vec<Value> = (0..10_001).map(|_| json!({ "op": "test", "path": "/a/b", "value": 1 })).collect();
    expect!["413 The allowed maximum operations in a JSON patch is 10000, got 10001"]
        .assert_eq(&json_patch(&current, Value::Array(many)));
    // Each copy doubles the document.
    let doubling: Vec<Value> =
        (0..40).map(|i| json!({ "op": "copy", "from": "/big", "path": format!("/a/{i}") })).collect();
    let mut bomb = doubling.clone();
    bomb.extend((0..40).map(|i| json!({ "op": "copy", "from": "/a", "path": format!("/b{i}") })));
    bomb.extend((0..40).map(|i| json!({ "op": "copy", "from": "", "path": format!("/c{i}") })));
    expect![
        "422 Unable to complete the copy, the accumulated size increase of copy is 3386111, exceeding the limit 3145728"
    ]
    .assert_eq(&json_patch(&current, Value::Array(bomb)));
    // Each copy puts the object into its own innermost one, so the depth doubles.
    let current = json!({ "a": {} });
    let nesting: Vec<Value> =
        (0..10).map(|i| json!({ "op": "copy", "from": "/a", "path": "/a".repeat((1 << i) + 1) })).collect();
    expect!["422 the patched document is more than 128 levels deep"]
        .assert_eq(&json_patch(&current, Value::Array(nesting)));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..5i32).prop_map(Value::from)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", any_value(), 0..4)
        .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>()))
}

/// Ports with a name each, the port numbers all different.
fn any_ports() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::btree_map(0..8u8, any::<u8>(), 0..6)
        .prop_map(|map| map.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn port_list(ports: &[(u8, u8)]) -> Vec<Value> {
    ports.iter().map(|(port, name)| json!({ "port": port, "name": name.to_string() })).collect()
}

proptest! {
    #[test]
    fn merge_patch_laws(current in any_object(), patch in any_object()) {
        let merge = |current: &Value, patch: &Value| apply(PatchKind::Merge, Resource::Services, current, patch).expect("objects");
        prop_assert_eq!(merge(&current, &json!({})), current.clone());
        let once = merge(&current, &patch);
        prop_assert_eq!(merge(&once, &patch), once.clone());
        let theirs = { let mut theirs = current.clone(); json_patch::merge(&mut theirs, &patch); theirs };
        prop_assert_eq!(once, theirs);
    }

    /// What a key merge must give, found without the algorithm: the set of ports, each with the last name said, in
    /// the order that the patch sets.
    #[test]
    fn key_merge_is_a_map_merge(current in any_ports(), update in any_ports(), delete in prop::collection::btree_set(0..8u8, 0..3)) {
        let update: Vec<_> = update.into_iter().filter(|(port, _)| !delete.contains(port)).collect();
        let mut expected: std::collections::BTreeMap<u8, u8> = current.iter().copied().filter(|(port, _)| !delete.contains(port)).collect();
        expected.extend(update.iter().copied());
        let order: Vec<u8> = expected.keys().rev().copied().collect();
        // The patch's items stand in the order that it sets.
        let mut items = port_list(&order.iter().filter_map(|port| update.iter().find(|(p, _)| p == port)).copied().collect::<Vec<_>>());
        items.extend(delete.iter().map(|port| json!({ "$patch": "delete", "port": port })));
        let patch = json!({ "spec": {
            "$setElementOrder/ports": order.iter().map(|port| json!({ "port": port })).collect::<Vec<_>>(),
            "ports": items,
        } });
        let expected: Vec<(u8, u8)> = order.iter().map(|port| (*port, expected[port])).collect();
        let patched = strategic(ports(port_list(&current).into()), patch.clone()).expect("a patch");
        prop_assert_eq!(&patched, &ports(port_list(&expected).into()));
        prop_assert_eq!(strategic(patched.clone(), patch).expect("a patch"), patched);
    }

    /// Without an order, nothing is lost, nothing doubled, and what the patch does not name keeps its order.
    #[test]
    fn unnamed_items_keep_their_order(current in any_ports(), update in any_ports()) {
        let patched = strategic(ports(port_list(&current).into()), ports(port_list(&update).into())).expect("a patch");
        let numbers: Vec<u64> = patched["spec"]["ports"].as_array().expect("ports").iter().map(|p| p["port"].as_u64().expect("a number")).collect();
        let named: Vec<u64> = update.iter().map(|(port, _)| u64::from(*port)).collect();
        let unnamed: Vec<u64> = current.iter().map(|(port, _)| u64::from(*port)).filter(|p| !named.contains(p)).collect();
        prop_assert_eq!(numbers.iter().copied().filter(|p| named.contains(p)).collect::<Vec<_>>(), named.clone());
        prop_assert_eq!(numbers.iter().copied().filter(|p| !named.contains(p)).collect::<Vec<_>>(), unnamed.clone());
        prop_assert_eq!(numbers.len(), named.len() + unnamed.len());
    }

    #[test]
    fn nothing_panics(current in any_object(), patch in any_value()) {
        for kind in [PatchKind::Json, PatchKind::Merge, PatchKind::StrategicMerge] {
            let _ = apply(kind, Resource::Pods, &json!({ "spec": current }), &json!({ "spec": patch }));
            let _ = apply(kind, Resource::Pods, &current, &patch);
        }
    }
}
