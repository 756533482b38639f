use expect_test::expect;
use serde_json::{Value, json};

use super::super::content::content;
use super::super::parts::Parts;
use super::super::set::FieldSet;
use super::paths;
use crate::resource::Resource;

fn set(fields: Value) -> FieldSet {
    serde_json::from_value(fields).unwrap()
}

#[test]
fn fields_v1_as_kubernetes_writes_it() {
    let text = r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}},"f:podCIDRs":{"v:\"10.0.0.0/24\"":{}},"f:list":{"i:3":{}}}}"#;
    let set: FieldSet = serde_json::from_str(text).unwrap();
    expect![[r#".metadata.labels .metadata.labels.app .spec.ports .spec.list[3] .spec.podCIDRs[="10.0.0.0/24"] .spec.ports[port=80,protocol="TCP"] .spec.ports[port=80,protocol="TCP"].port"#]].assert_eq(&paths(&set));
    let again: FieldSet = serde_json::from_value(serde_json::to_value(&set).unwrap()).unwrap();
    assert_eq!(set, again);
    assert_eq!(serde_json::to_value(&set).unwrap(), serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn steps_have_one_spelling() {
    let a = set(json!({ "f:spec": { "f:ports": { "k:{\"protocol\":\"TCP\", \"port\":80}": {} } } }));
    let b = set(json!({ "f:spec": { "f:ports": { "k:{\"port\":80,\"protocol\":\"TCP\"}": {} } } }));
    assert_eq!(a, b);
    assert!(set(json!({ "x:new": {} })).is_empty(), "a sort of step that a later version may have");
    for wrong in [json!({ "name": {} }), json!({ "k:[1]": {} }), json!({ "i:x": {} }), json!({ "f:a": 5 }), json!([])] {
        assert!(serde_json::from_value::<FieldSet>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn steps_come_in_any_order_and_of_one_the_last_counts() {
    let text = r#"{"f:c":{},"f:a":{"f:x":{}},"f:b":{},"f:a":{"f:z":{},"f:y":{}},"f:b":{"f:x":{}}}"#;
    let set: FieldSet = serde_json::from_str(text).unwrap();
    expect![[".c .a.y .a.z .b.x"]].assert_eq(&paths(&set));
    let ports = [3, 1, 2, 1].map(|port| json!({ "port": port, "name": "n" }));
    let owned = content(Parts::root(Resource::Services), &json!({ "spec": { "ports": ports } }));
    let steps: Vec<String> =
        owned.below("f:spec").unwrap().below("f:ports").unwrap().steps().map(|(step, ..)| step.to_owned()).collect();
    let step = |port: u8| format!(r#"k:{{"port":{port},"protocol":"TCP"}}"#);
    assert_eq!(steps, [1, 2, 3].map(step));
}

#[test]
fn the_fields_of_a_value() {
    let service = json!({
        "metadata": { "labels": { "a": "b" }, "annotations": {}, "finalizers": ["x/y", "x/z"] },
        "spec": {
            "selector": { "app": "web" },
            "ports": [{ "port": 53, "protocol": "UDP", "name": "dns" }, { "port": 53, "name": "tcp" }],
            "externalIPs": ["10.1.1.1"],
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 5 } },
        },
    });
    expect![[r#".metadata.annotations .metadata.finalizers[="x/y"] .metadata.finalizers[="x/z"] .metadata.labels.a .spec.externalIPs .spec.selector .spec.ports[port=53,protocol="TCP"] .spec.ports[port=53,protocol="UDP"] .spec.ports[port=53,protocol="TCP"].name .spec.ports[port=53,protocol="TCP"].port .spec.ports[port=53,protocol="UDP"].name .spec.ports[port=53,protocol="UDP"].port .spec.ports[port=53,protocol="UDP"].protocol .spec.sessionAffinityConfig.clientIP.timeoutSeconds"#]].assert_eq(&paths(&content(Parts::root(Resource::Services), &service)));
}

#[test]
fn set_operations() {
    let a = set(json!({ "f:a": { ".": {}, "f:x": {}, "f:y": {} }, "f:b": {} }));
    let b = set(json!({ "f:a": { ".": {}, "f:y": {}, "f:z": {} } }));
    let mut union = a.clone();
    union.unite(&b);
    let lines = [
        paths(&union),
        paths(&a.clone().difference(&b)),
        paths(&b.clone().difference(&a)),
        paths(&a.intersection(&b)),
        paths(&a.clone().without_branches(&set(json!({ "f:a": {} })))),
        paths(&a.without_branches(&b)),
    ];
    expect![[r#"
        .a .b .a.x .a.y .a.z
        .b .a.x
        .a.z
        .a .a.y
        .b
        .b"#]]
    .assert_eq(&lines.join("\n"));
}
