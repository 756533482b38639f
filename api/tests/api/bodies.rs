//! Formats of bodies, and malformed ones.

use expect_test::expect;
use serde_json::json;

use crate::app::{App, SERVICES, service};

#[tokio::test]
async fn yaml_goes_in_and_comes_out() {
    let app = App::new().await;
    let text = "metadata:\n  name: web\nspec:\n  selector: {app: web}\n  ports:\n  - port: 80\n    targetPort: http\n";
    let answer = app.with_body("POST", SERVICES, "application/yaml", text).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let yaml = app.get_as(&format!("{SERVICES}/web"), "application/yaml").await;
    assert_eq!(yaml.header("Content-Type"), "application/yaml");
    assert!(yaml.text().contains("targetPort: http\n"), "{}", yaml.text());
    let missing = app.get_as(&format!("{SERVICES}/nope"), "application/yaml").await;
    assert_eq!(missing.code, 404);
    assert!(missing.text().contains("reason: NotFound\n"), "{}", missing.text());
}

#[tokio::test]
async fn malformed_bodies_are_told_what_they_are() {
    let app = App::new().await;
    let mut lines = Vec::new();
    for (content_type, body) in [
        ("application/json", ""),
        ("application/json", "{"),
        ("application/json", "{\"metadata\": {\"name\": \"a long name that goes on\"}"),
        ("application/json", "hello"),
        ("application/yaml", "a: b: c"),
        ("application/yaml", "a: 1\n---\nb: 2\n"),
        ("text/plain", "{}"),
        ("application/vnd.kubernetes.protobuf", "k8s\0"),
    ] {
        let answer = app.with_body("POST", SERVICES, content_type, body).await;
        lines.push(format!("{content_type} {body:?}\n    {}", answer.status()));
    }
    expect![[r#"
        application/json ""
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: EOF while parsing a value at line 1 column 0 (<empty>)
        application/json "{"
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: EOF while parsing an object at line 1 column 1 ({)
        application/json "{\"metadata\": {\"name\": \"a long name that goes on\"}"
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: EOF while parsing an object at line 1 column 49 ({"metadata": {"name": "a long  ...)
        application/json "hello"
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; json parse error: expected value at line 1 column 1 (68656c6c6f)
        application/yaml "a: b: c"
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; yaml parse error: mapping values are not allowed in this context at line 1, column 5 (613a20623a2063)
        application/yaml "a: 1\n---\nb: 2\n"
            400 BadRequest: the object provided is unrecognized (must be of type Service): couldn't get version/kind; yaml parse error: a body holds one document, and another follows (613a20310a2d2d2d0a623a20320a)
        text/plain "{}"
            415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf
        application/vnd.kubernetes.protobuf "k8s\0"
            400 BadRequest: the object provided is unrecognized (must be of type Service): empty data (6b387300)"#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn a_body_without_a_type_is_json() {
    let app = App::new().await;
    let request = App::request("POST", SERVICES).body(service("web", json!({})).to_string().into()).unwrap();
    assert_eq!(app.send(request).await.code, 201);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let app = App::new().await;
    let body = vec![b' '; 3 * 1024 * 1024 + 1];
    let answer = app.with_body("POST", SERVICES, "application/json", body).await;
    assert_eq!(answer.status(), "413 RequestEntityTooLarge: Request entity too large: limit is 3145728");
}
