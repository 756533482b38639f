//! Deletion through the API.

use serde_json::json;

use crate::app::{App, SERVICES, service};

#[tokio::test]
async fn a_service_answers_with_itself_others_with_a_status() {
    let app = App::new().await;
    let created = app.service("web", json!({})).await;
    let deleted = app.delete(&format!("{SERVICES}/web")).await;
    assert_eq!(deleted.code, 200);
    assert_eq!(deleted.json()["kind"], "Service");
    assert_eq!(deleted.json()["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!(app.delete(&format!("{SERVICES}/web")).await.status(), r#"404 NotFound: services "web" not found"#);

    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let created = app.post(lease, &json!({"metadata": {"name": "l"}})).await.json();
    let deleted = app.delete(&format!("{lease}/l")).await.json();
    let details =
        json!({"name": "l", "group": "coordination.k8s.io", "kind": "leases", "uid": created["metadata"]["uid"]});
    assert_eq!((&deleted["status"], &deleted["details"]), (&json!("Success"), &details));
}

#[tokio::test]
async fn finalizers_keep_an_object_and_it_is_answered() {
    let app = App::new().await;
    let node = json!({"metadata": {"name": "n", "finalizers": ["example.com/x"]}});
    assert_eq!(app.post("/api/v1/nodes", &node).await.code, 201);
    let answer = app.delete("/api/v1/nodes/n").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.json()["kind"], "Node");
    assert!(answer.json()["metadata"]["deletionTimestamp"].is_string());
    let done = app
        .with_body("PATCH", "/api/v1/nodes/n", "application/merge-patch+json", r#"{"metadata":{"finalizers":null}}"#)
        .await;
    assert_eq!(done.code, 200, "{}", done.text());
    assert_eq!(app.get("/api/v1/nodes/n").await.code, 404);
}

#[tokio::test]
async fn preconditions_and_dry_runs() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let path = format!("{SERVICES}/web");
    let wrong = app.with_body("DELETE", &path, "application/json", r#"{"preconditions":{"uid":"other"}}"#).await;
    assert_eq!(wrong.code, 409);
    assert!(wrong.status().contains("the UID in the precondition (other) does not match"), "{}", wrong.text());
    // Nothing in a format that is not served is nothing all the same.
    let empty = app.with_body("DELETE", &format!("{path}?dryRun=All"), "application/vnd.kubernetes.protobuf", "").await;
    assert_eq!(empty.code, 200);
    assert_eq!(app.get(&path).await.code, 200);
}

#[tokio::test]
async fn a_collection_goes_by_its_selectors() {
    let app = App::new().await;
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x")] {
        app.service(name, json!({"tier": tier})).await;
    }
    assert_eq!(
        app.post("/api/v1/namespaces/kube-system/services", &service("d", json!({"tier": "x"}))).await.code,
        201
    );
    let answer = app.delete(&format!("{SERVICES}?labelSelector=tier%3Dx")).await.json();
    assert_eq!(answer["kind"], "ServiceList");
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    let left = app.get("/api/v1/services").await.json();
    let names: Vec<&str> =
        left["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "d"]);
}
