//! Patches through the API.

use expect_test::expect;
use serde_json::json;

use crate::app::{Answer, App, SERVICES};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn patch(app: &App, content_type: &str, query: &str, body: &str) -> Answer {
    app.with_body("PATCH", &format!("{SERVICES}/web{query}"), content_type, body.to_owned()).await
}

#[tokio::test]
async fn the_three_kinds_of_patch() {
    let app = App::new().await;
    app.service("web", json!({"a": "1", "b": "2"})).await;
    let merged = patch(&app, MERGE, "", r#"{"metadata":{"labels":{"a":null,"c":"3"}}}"#).await;
    assert_eq!(merged.json()["metadata"]["labels"], json!({"b": "2", "c": "3"}), "{}", merged.text());
    let tested =
        r#"[{"op":"test","path":"/metadata/labels/b","value":"2"},{"op":"remove","path":"/metadata/labels/b"}]"#;
    let patched = patch(&app, JSON_PATCH, "", tested).await;
    assert_eq!(patched.json()["metadata"]["labels"], json!({"c": "3"}), "{}", patched.text());
    let strategic = r#"{"spec":{"$setElementOrder/ports":[{"port":81}],"ports":[{"name":"x","port":81},{"$patch":"delete","port":80}]}}"#;
    let answer = patch(&app, STRATEGIC, "", strategic).await;
    let ports = answer.json()["spec"]["ports"].clone();
    assert_eq!(ports, json!([{"name": "x", "port": 81, "protocol": "TCP", "targetPort": 81}]), "{}", answer.text());
}

#[tokio::test]
async fn patches_that_cannot_be() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let mut lines = Vec::new();
    for (content_type, body) in [
        (MERGE, "{"),
        (MERGE, "[]"),
        (JSON_PATCH, "{}"),
        (JSON_PATCH, r#"[{"op":"jump","path":"/a"}]"#),
        (JSON_PATCH, r#"[{"op":"test","path":"/metadata/name","value":"x"}]"#),
        (JSON_PATCH, r#"[{"op":"remove","path":"/metadata/labels/nope"}]"#),
        (MERGE, r#"{"metadata":{"name":"other"}}"#),
        (MERGE, r#"{"spec":{"ports":[{"port":0}]}}"#),
        (MERGE, r#"{"spec":{"ports":"none"}}"#),
        (MERGE, r#"{"metadata":{"resourceVersion":"1"}}"#),
        ("application/json", "{}"),
        ("application/apply-patch+yaml", "{}"),
    ] {
        let answer = patch(&app, content_type, "", body).await;
        lines.push(format!("{content_type} {body}\n    {}", answer.status()));
    }
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/kind","value":"Service"}"#; 10_001].join(","));
    lines.push(patch(&app, JSON_PATCH, "", &many).await.status());
    let path = format!("{SERVICES}/nope");
    lines.push(app.with_body("PATCH", &path, MERGE, "{}").await.status());
    expect![[r#"
        application/merge-patch+json {
            400 BadRequest: error decoding patch: json parse error: EOF while parsing an object at line 1 column 1
        application/merge-patch+json []
            400 BadRequest: error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}
        application/json-patch+json {}
            400 BadRequest: error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch
        application/json-patch+json [{"op":"jump","path":"/a"}]
            400 BadRequest: error decoding patch: unknown variant `jump`, expected one of `add`, `remove`, `replace`, `move`, `copy`, `test`
        application/json-patch+json [{"op":"test","path":"/metadata/name","value":"x"}]
            422 Invalid: Service "web" is invalid: patch: Invalid value: "[{\"op\":\"test\",\"path\":\"/metadata/name\",\"value\":\"x\"}]": operation 0 on "/metadata/name": value did not match
        application/json-patch+json [{"op":"remove","path":"/metadata/labels/nope"}]
            422 Invalid: Service "web" is invalid: patch: Invalid value: "[{\"op\":\"remove\",\"path\":\"/metadata/labels/nope\"}]": operation 0 on "/metadata/labels/nope": path is invalid
        application/merge-patch+json {"metadata":{"name":"other"}}
            400 BadRequest: the name of the object cannot be changed by a patch
        application/merge-patch+json {"spec":{"ports":[{"port":0}]}}
            422 Invalid: Service "web" is invalid: [spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]
        application/merge-patch+json {"spec":{"ports":"none"}}
            422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"ports\":\"none\"}}": json: cannot unmarshal string into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort
        application/merge-patch+json {"metadata":{"resourceVersion":"1"}}
            409 Conflict: Operation cannot be fulfilled on services "web": the object has been modified; please apply your changes to the latest version and try again
        application/json {}
            415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml
        application/apply-patch+yaml {}
            422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
        413 RequestEntityTooLarge: The allowed maximum operations in a JSON patch is 10000, got 10001
        404 NotFound: services "nope" not found"#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn unknown_fields_in_a_patch() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let unknown = r#"{"spec":{"selectr":{"a":"b"}}}"#;
    let strict = patch(&app, MERGE, "?fieldValidation=Strict", unknown).await;
    assert_eq!(strict.code, 422);
    expect![[r#"Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"selectr\":{\"a\":\"b\"}}}": strict decoding error: unknown field "spec.selectr""#]].assert_eq(strict.json()["message"].as_str().unwrap());
    let duplicate =
        patch(&app, MERGE, "?fieldValidation=Strict", r#"{"spec":{"type":"NodePort","type":"ClusterIP"}}"#).await;
    expect![[r#"422 Invalid: Service "web" is invalid: patch: Invalid value: "{\"spec\":{\"type\":\"NodePort\",\"type\":\"ClusterIP\"}}": strict decoding error: duplicate field "spec.type""#]].assert_eq(&duplicate.status());
    let warned = patch(&app, MERGE, "", unknown).await;
    assert_eq!((warned.code.as_u16(), warned.warnings()), (200, vec![r#"299 - "unknown field \"spec.selectr\"""#]));
    let ignored = patch(&app, MERGE, "?fieldValidation=Ignore", unknown).await;
    assert_eq!((ignored.code.as_u16(), ignored.warnings().len()), (200, 0));
}
