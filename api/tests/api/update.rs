//! Updates through the API.

use axum::body::Body;
use expect_test::expect;
use serde_json::json;

use crate::app::{App, SERVICES, service};

#[tokio::test]
async fn updates_are_optimistic() {
    let app = App::new().await;
    let path = format!("{SERVICES}/web");
    let mut current = app.service("web", json!({})).await;
    let stale = current.clone();
    current["metadata"]["labels"] = json!({"x": "y"});
    let updated = app.put(&path, &current).await;
    assert_eq!(updated.code, 200, "{}", updated.text());
    assert_eq!(updated.json()["metadata"]["labels"], json!({"x": "y"}));

    let mut stale = stale;
    stale["metadata"]["labels"] = json!({"x": "z"});
    expect![[r#"409 Conflict: Operation cannot be fulfilled on services "web": the object has been modified; please apply your changes to the latest version and try again"#]].assert_eq(&app.put(&path, &stale).await.status());

    // The same once more: no new revision.
    let again = app.put(&path, &updated.json()).await;
    assert_eq!(again.json()["metadata"]["resourceVersion"], updated.json()["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn an_update_says_what_it_is_for() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let other = app.put(&format!("{SERVICES}/web"), &service("other", json!({}))).await;
    assert_eq!(
        other.status(),
        "400 BadRequest: the name of the object (other) does not match the name on the URL (web)"
    );
    // Services may be created by an update, nodes may not.
    assert_eq!(app.put(&format!("{SERVICES}/new"), &service("new", json!({}))).await.code, 201);
    let node = app.put("/api/v1/nodes/n", &json!({"metadata": {"name": "n"}})).await;
    assert_eq!(node.status(), r#"404 NotFound: nodes "n" not found"#);
}

#[tokio::test]
async fn status_and_spec_are_kept_apart() {
    let app = App::new().await;
    let mut node = app.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.json();
    node["status"] = json!({"phase": "Running"});
    node["spec"] = json!({"unschedulable": true});
    let main = app.put("/api/v1/nodes/n", &node).await.json();
    assert_eq!(main["spec"]["unschedulable"], true);
    assert_eq!(main["status"].get("phase"), None);

    let mut node = main;
    node["status"] = json!({"phase": "Running"});
    node["spec"] = json!({});
    let status = app.put("/api/v1/nodes/n/status", &node).await.json();
    assert_eq!(status["spec"]["unschedulable"], true);
    assert_eq!(status["status"]["phase"], "Running");
    let read = app.get("/api/v1/nodes/n/status").await;
    assert_eq!(read.json(), status);
    assert_eq!(app.send(App::request("POST", "/api/v1/nodes/n/status").body(Body::empty()).unwrap()).await.code, 405);
}
