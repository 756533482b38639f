//! What is kept, what is mended, and what is gathered.

use jiff::Timestamp;
use model::admission::Family;
use serde_json::json;

use super::*;
use crate::config::Environment;
use crate::engine::State;
use crate::request::{DeleteOptions, Verb, Write};

fn engine() -> Engine {
    let ports = allocator::PortPool::new(30000..=30005).unwrap();
    let environment = Environment { clock: Box::new(|| Timestamp::from_second(1_700_000_000).unwrap()), seed: [7; 4] };
    let mut engine = Engine::new(State::new(0, ports), vec![Family::V4], environment);
    engine.start(&["10.0.0.0/28".parse().unwrap()], None).unwrap();
    engine.keep_standing(&standing());
    engine
}

fn rule(verb: &str) -> Value {
    json!({ "verbs": [verb], "apiGroups": [""], "resources": ["pods"] })
}

fn role(name: &str, labels: Value, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name, "labels": labels }, "rules": rules,
    })
}

fn gathering(name: &str, labels: Value, from: &str) -> Value {
    let mut role = role(name, labels, &[]);
    role["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { from: "true" } }] });
    role
}

/// `edit` gathers from `to-edit`, and goes into `admin`, as Kubernetes' own roles do.
fn standing() -> Vec<Value> {
    vec![
        gathering("admin", json!({}), "to-admin"),
        gathering("edit", json!({ "to-admin": "true" }), "to-edit"),
        role("rules", json!({ "to-edit": "true" }), &[rule("get")]),
    ]
}

fn write(engine: &mut Engine, name: &str, verb: Verb) {
    let write = Write {
        resource: Resource::ClusterRoles,
        namespace: String::new(),
        name: name.to_owned(),
        verb,
        manager: "test".to_owned(),
        dry_run: false,
    };
    engine.request(write).unwrap();
}

fn stored(engine: &Engine, name: &str) -> Value {
    engine.state.get(Resource::ClusterRoles, "", name).unwrap().value().unwrap()
}

fn update(engine: &mut Engine, object: Value) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    write(engine, &name, Verb::Update { object, subresource: model::admission::Subresource::None });
}

#[test]
fn rules_are_gathered_through_every_role_between() {
    let engine = engine();
    for name in ["admin", "edit", "rules"] {
        assert_eq!(stored(&engine, name)["rules"], json!([rule("get")]), "{name}");
    }
}

#[test]
fn gathered_rules_follow_in_the_transaction_of_what_changes_them() {
    let mut engine = engine();
    write(&mut engine, "more", Verb::Create { object: role("more", json!({ "to-edit": "true" }), &[rule("watch")]) });
    assert_eq!(stored(&engine, "admin")["rules"], json!([rule("watch"), rule("get")]), "in the order of names");
    update(&mut engine, role("more", json!({}), &[rule("watch")]));
    assert_eq!(stored(&engine, "admin")["rules"], json!([rule("get")]), "the label is gone");
    update(&mut engine, role("rules", json!({ "to-edit": "true" }), &[rule("list")]));
    assert_eq!(stored(&engine, "admin")["rules"], json!([rule("list")]));
    let mut edit = stored(&engine, "edit");
    edit["rules"] = json!([rule("delete")]);
    update(&mut engine, edit);
    assert_eq!(stored(&engine, "edit")["rules"], json!([rule("list")]), "what is gathered is not written");
    write(&mut engine, "rules", Verb::Delete { options: DeleteOptions::default() });
    assert_eq!(stored(&engine, "admin")["rules"], json!([]));
}

#[test]
fn what_is_missing_comes_back_at_the_next_start_and_what_was_added_stays() {
    let mut engine = engine();
    let mut rules = stored(&engine, "rules");
    rules["rules"] = json!([rule("patch")]);
    rules["metadata"]["labels"] = json!({ "mine": "1" });
    update(&mut engine, rules);
    engine.keep_standing(&standing());
    let rules = stored(&engine, "rules");
    assert_eq!(rules["rules"], json!([rule("patch"), rule("get")]));
    assert_eq!(rules["metadata"]["labels"], json!({ "mine": "1", "to-edit": "true" }));

    let revision = engine.state.revision();
    engine.keep_standing(&standing());
    assert_eq!(engine.state.revision(), revision, "nothing is missing, nothing is written");

    write(&mut engine, "rules", Verb::Delete { options: DeleteOptions::default() });
    engine.keep_standing(&standing());
    assert_eq!(stored(&engine, "admin")["rules"], json!([rule("get")]));
}

#[test]
fn an_administrator_may_keep_a_role_as_it_is() {
    let mut engine = engine();
    let mut rules = stored(&engine, "rules");
    rules["rules"] = json!([]);
    rules["metadata"]["annotations"] = json!({ AUTO_UPDATE: "false" });
    update(&mut engine, rules);
    engine.keep_standing(&standing());
    assert_eq!(stored(&engine, "rules")["rules"], Value::Null, "an empty list is none");
}
