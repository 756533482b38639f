//! kubectl, as a script would use it: answers are read as JSON.

use std::collections::BTreeSet;

use conformance::kinds::Kind;
use conformance::kubectl::Kubectl;
use serde_json::{Value, json};

pub fn exercise(kubectl: &Kubectl, kind: &Kind, done: &mut BTreeSet<String>) {
    let mut ticked = |verb: &str| done.insert(format!("{} {} {verb}", kind.api_version, kind.kind));
    let resource = kind.argument();
    let first = kind.names[0].as_str();
    let json_of = |args: &[&str], input: &str| -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        serde_json::from_str(&kubectl.must(&args, input)).unwrap()
    };
    let step = |object: &Value| object["metadata"]["labels"]["step"].as_str().unwrap_or_default().to_owned();

    for i in 0..kind.names.len() {
        let made = json_of(&["create", "-f", "-"], &kind.object(i).to_string());
        assert_eq!(made["metadata"]["name"], kind.names[i]);
    }
    ticked("create");

    let mut got = json_of(&["get", &resource, first], "");
    assert_eq!((&got["kind"], &got["apiVersion"]), (&json!(kind.kind), &json!(kind.api_version)));
    ticked("read");

    let names = |more: &[&str]| -> Vec<String> {
        let args =
            [&["get", &resource, "-l", "suite=kinds", "--no-headers", "-o", "custom-columns=N:.metadata.name"], more];
        kubectl.must(&args.concat(), "").lines().map(|l| l.trim().to_owned()).collect()
    };
    assert_eq!(names(&[]), kind.names);
    ticked("list");
    assert_eq!(names(&["--chunk-size=1"]), kind.names);
    ticked("page");

    got["metadata"]["labels"]["step"] = json!("update");
    assert_eq!(step(&json_of(&["replace", "-f", "-"], &got.to_string())), "update");
    let again = kubectl.run(&["replace", "-f", "-"], &got.to_string());
    assert!(String::from_utf8_lossy(&again.stderr).contains("(Conflict)"), "{again:?}");
    ticked("update");

    let patch = |kind: &str, body: &Value, more: &[&str]| {
        let (kind, body) = (format!("--type={kind}"), body.to_string());
        json_of(&[&["patch", &resource, first, &kind, "-p", &body], more].concat(), "")
    };
    let operations = json!([{"op": "replace", "path": "/metadata/labels/step", "value": "json"}]);
    assert_eq!(step(&patch("json", &operations, &[])), "json");
    ticked("json-patch");
    patch("merge", &kind.merge, &[]);
    ticked("merge-patch");
    assert_eq!(step(&patch("strategic", &json!({"metadata": {"labels": {"step": "strategic"}}}), &[])), "strategic");
    ticked("strategic-patch");

    let mut body = kind.object(0);
    body["metadata"]["labels"]["step"] = json!("apply");
    let args = ["apply", "--server-side", "--force-conflicts", "--show-managed-fields", "-f", "-"];
    let applied = json_of(&args, &body.to_string());
    assert_eq!(step(&applied), "apply");
    assert!(applied["metadata"]["managedFields"].to_string().contains(r#""manager":"kubectl","operation":"Apply""#));
    ticked("apply");

    if let Some(status) = &kind.status {
        let patched = patch("merge", &json!({"status": status}), &["--subresource=status"]);
        for (key, value) in status.as_object().unwrap() {
            assert_eq!(&patched["status"][key].as_array().map_or(1, Vec::len), &value.as_array().map_or(1, Vec::len));
        }
        ticked("status");
    }

    kubectl.must(&["delete", &resource, first, "--now"], "");
    ticked("delete");
    kubectl.must(&["delete", &resource, "-l", "suite=kinds", "--now"], "");
    assert_eq!(names(&[]), Vec::<String>::new());
}
