//! Unknown, duplicate and mistyped fields: what each directive makes of them, by every way to write.

use expect_test::expect;
use serde_json::json;

use crate::app::{App, SERVICES};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Bodies with one fault each; `{}` stands for the metadata of a whole object.
const FAULTS: [(&str, &str, &str); 12] = [
    ("unknown", JSON, r#"{{}, "spec": {"ports": [{"port": 80, "prot": 1}], "x": 1}}"#),
    ("unknown", YAML, "{}\nspec:\n  ports:\n  - port: 80\n    prot: 1\n  x: 1\n"),
    ("unknown", MERGE, r#"{"spec": {"x": 1}}"#),
    ("unknown", STRATEGIC, r#"{"spec": {"ports": [{"port": 80, "prot": 1}]}}"#),
    ("unknown", JSON_PATCH, r#"[{"op": "add", "path": "/spec/x", "value": 1, "comment": ""}]"#),
    ("twice", JSON, r#"{{}, "spec": {"ports": [{"port": 81, "port": 80}], "type": "NodePort", "type": "ClusterIP"}}"#),
    ("twice", YAML, "{}\nspec:\n  ports:\n  - port: 81\n    port: 80\n"),
    ("twice", MERGE, r#"{"spec": {"type": "NodePort", "type": "ClusterIP"}}"#),
    ("twice", STRATEGIC, r#"{"spec": {"ports": [{"port": 81, "port": 80}]}}"#),
    ("twice", JSON_PATCH, r#"[{"op": "add", "path": "/spec/type", "value": "NodePort", "value": "ClusterIP"}]"#),
    ("mistyped", JSON, r#"{{}, "spec": {"ports": [{"port": "80"}]}}"#),
    ("mistyped", MERGE, r#"{"spec": {"ports": [{"port": "80"}]}}"#),
];

#[tokio::test]
async fn every_directive_by_every_way_to_write() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let mut text = String::new();
    for (fault, content_type, body) in FAULTS {
        let ways: &[(&str, &str)] = match content_type {
            JSON | YAML => &[("POST", ""), ("PUT", "/web")],
            _ => &[("PATCH", "/web")],
        };
        for (method, path) in ways {
            let name = if *method == "POST" { "new" } else { "web" };
            let metadata = if content_type == YAML {
                format!("metadata: {{name: {name}}}")
            } else {
                format!(r#""metadata": {{"name": "{name}"}}"#)
            };
            let body = body.replacen("{}", &metadata, usize::from(matches!(content_type, JSON | YAML)));
            for directive in ["Strict", "Warn", "Ignore", ""] {
                let url = format!("{SERVICES}{path}?dryRun=All&fieldValidation={directive}");
                let answer = app.with_body(method, &url, content_type, body.clone()).await;
                let outcome = if answer.code.is_success() {
                    format!("{} {}", answer.code.as_u16(), answer.warnings().join(" "))
                } else {
                    answer.status()
                };
                text += &format!("{fault} {method} {content_type} {directive:?}: {}\n", outcome.trim_end());
            }
        }
    }
    expect![[r#"
        unknown POST application/json "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.ports[0].prot", unknown field "spec.x"
        unknown POST application/json "Warn": 201 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown POST application/json "Ignore": 201
        unknown POST application/json "": 201 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown PUT application/json "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.ports[0].prot", unknown field "spec.x"
        unknown PUT application/json "Warn": 200 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown PUT application/json "Ignore": 200
        unknown PUT application/json "": 200 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown POST application/yaml "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.ports[0].prot", unknown field "spec.x"
        unknown POST application/yaml "Warn": 201 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown POST application/yaml "Ignore": 201
        unknown POST application/yaml "": 201 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown PUT application/yaml "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.ports[0].prot", unknown field "spec.x"
        unknown PUT application/yaml "Warn": 200 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown PUT application/yaml "Ignore": 200
        unknown PUT application/yaml "": 200 299 - "unknown field \"spec.ports[0].prot\"" 299 - "unknown field \"spec.x\""
        unknown PATCH application/merge-patch+json "Strict": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"x\":1}}": strict decoding error: unknown field "spec.x"
        unknown PATCH application/merge-patch+json "Warn": 200 299 - "unknown field \"spec.x\""
        unknown PATCH application/merge-patch+json "Ignore": 200
        unknown PATCH application/merge-patch+json "": 200 299 - "unknown field \"spec.x\""
        unknown PATCH application/strategic-merge-patch+json "Strict": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"ports\":[{\"port\":80,\"prot\":1}]}}": strict decoding error: unknown field "spec.ports[0].prot"
        unknown PATCH application/strategic-merge-patch+json "Warn": 200 299 - "unknown field \"spec.ports[0].prot\""
        unknown PATCH application/strategic-merge-patch+json "Ignore": 200
        unknown PATCH application/strategic-merge-patch+json "": 200 299 - "unknown field \"spec.ports[0].prot\""
        unknown PATCH application/json-patch+json "Strict": 422 Invalid: Service "web" is invalid: patch: Invalid value: "[{\"op\": \"add\", \"path\": \"/spec/x\", \"value\": 1, \"comment\": \"\"}]": strict decoding error: json patch unknown field "[0].comment"
        unknown PATCH application/json-patch+json "Warn": 200 299 - "json patch unknown field \"[0].comment\"" 299 - "unknown field \"spec.x\""
        unknown PATCH application/json-patch+json "Ignore": 200
        unknown PATCH application/json-patch+json "": 200 299 - "json patch unknown field \"[0].comment\"" 299 - "unknown field \"spec.x\""
        twice POST application/json "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: duplicate field "spec.ports[0].port", duplicate field "spec.type"
        twice POST application/json "Warn": 201 299 - "duplicate field \"spec.ports[0].port\"" 299 - "duplicate field \"spec.type\""
        twice POST application/json "Ignore": 201
        twice POST application/json "": 201 299 - "duplicate field \"spec.ports[0].port\"" 299 - "duplicate field \"spec.type\""
        twice PUT application/json "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: duplicate field "spec.ports[0].port", duplicate field "spec.type"
        twice PUT application/json "Warn": 200 299 - "duplicate field \"spec.ports[0].port\"" 299 - "duplicate field \"spec.type\""
        twice PUT application/json "Ignore": 200
        twice PUT application/json "": 200 299 - "duplicate field \"spec.ports[0].port\"" 299 - "duplicate field \"spec.type\""
        twice POST application/yaml "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: duplicate field "spec.ports[0].port"
        twice POST application/yaml "Warn": 201 299 - "duplicate field \"spec.ports[0].port\""
        twice POST application/yaml "Ignore": 201
        twice POST application/yaml "": 201 299 - "duplicate field \"spec.ports[0].port\""
        twice PUT application/yaml "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: strict decoding error: duplicate field "spec.ports[0].port"
        twice PUT application/yaml "Warn": 200 299 - "duplicate field \"spec.ports[0].port\""
        twice PUT application/yaml "Ignore": 200
        twice PUT application/yaml "": 200 299 - "duplicate field \"spec.ports[0].port\""
        twice PATCH application/merge-patch+json "Strict": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\": {\"type\": \"NodePort\", \"type\": \"ClusterIP\"}}": strict decoding error: duplicate field "spec.type"
        twice PATCH application/merge-patch+json "Warn": 200 299 - "duplicate field \"spec.type\""
        twice PATCH application/merge-patch+json "Ignore": 200
        twice PATCH application/merge-patch+json "": 200 299 - "duplicate field \"spec.type\""
        twice PATCH application/strategic-merge-patch+json "Strict": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\": {\"ports\": [{\"port\": 81, \"port\": 80}]}}": strict decoding error: duplicate field "spec.ports[0].port"
        twice PATCH application/strategic-merge-patch+json "Warn": 200 299 - "duplicate field \"spec.ports[0].port\""
        twice PATCH application/strategic-merge-patch+json "Ignore": 200
        twice PATCH application/strategic-merge-patch+json "": 200 299 - "duplicate field \"spec.ports[0].port\""
        twice PATCH application/json-patch+json "Strict": 422 Invalid: Service "web" is invalid: patch: Invalid value: "[{\"op\": \"add\", \"path\": \"/spec/type\", \"value\": \"NodePort\", \"value\": \"ClusterIP\"}]": strict decoding error: json patch duplicate field "[0].value"
        twice PATCH application/json-patch+json "Warn": 200 299 - "json patch duplicate field \"[0].value\""
        twice PATCH application/json-patch+json "Ignore": 200
        twice PATCH application/json-patch+json "": 200 299 - "json patch duplicate field \"[0].value\""
        mistyped POST application/json "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped POST application/json "Warn": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped POST application/json "Ignore": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped POST application/json "": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PUT application/json "Strict": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PUT application/json "Warn": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PUT application/json "Ignore": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PUT application/json "": 400 BadRequest: Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PATCH application/merge-patch+json "Strict": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"ports\":[{\"port\":\"80\"}]}}": json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PATCH application/merge-patch+json "Warn": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"ports\":[{\"port\":\"80\"}]}}": json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PATCH application/merge-patch+json "Ignore": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"ports\":[{\"port\":\"80\"}]}}": json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        mistyped PATCH application/merge-patch+json "": 422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"ports\":[{\"port\":\"80\"}]}}": json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
    "#]].assert_eq(&text);
}
