//! Watches through the API.

use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use expect_test::expect;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::app::{App, SERVICES};

/// The lines of a watch.
pub struct Lines {
    body: Body,
    buffer: BytesMut,
}

impl Lines {
    async fn open(app: &App, query: &str, accept: &str) -> Self {
        Self::open_at(app, &format!("{SERVICES}?watch=true&{query}"), accept).await
    }

    pub async fn open_at(app: &App, path: &str, accept: &str) -> Self {
        let request = App::request("GET", path).header("Accept", accept).body(Body::empty());
        let response = app.start(request.unwrap()).await;
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status, 200);
        assert_eq!(parts.headers["Content-Type"], "application/json");
        Self { body, buffer: BytesMut::new() }
    }

    /// The next event; None at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(5), self.body.frame()).await.expect("an event in time");
            self.buffer.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    /// `ADDED web`.
    async fn brief(&mut self) -> String {
        let event = self.next().await.expect("an event");
        format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap_or("-"))
    }
}

async fn label(app: &App, name: &str, tier: &str) {
    let patch = json!({"metadata": {"labels": {"tier": tier}}}).to_string();
    let answer = app.with_body("PATCH", &format!("{SERVICES}/{name}"), "application/merge-patch+json", patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_comes() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    let mut lines = Lines::open(&app, "", "").await;
    assert_eq!(lines.brief().await, "ADDED a");
    app.service("b", json!({})).await;
    assert_eq!(lines.brief().await, "ADDED b");
    label(&app, "a", "x").await;
    assert_eq!(lines.brief().await, "MODIFIED a");
    app.delete(&format!("{SERVICES}/a")).await;
    let deleted = lines.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let revision = app.store.last_change(model::Resource::Services).to_string();
    assert_eq!(deleted["object"]["metadata"]["resourceVersion"], revision);
}

#[tokio::test]
async fn a_watch_from_a_list_has_no_gap_and_no_repetition() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    let list = app.get(SERVICES).await.json();
    app.service("b", json!({})).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut lines = Lines::open(&app, &format!("resourceVersion={revision}"), "").await;
    assert_eq!(lines.brief().await, "ADDED b");
    app.service("c", json!({})).await;
    assert_eq!(lines.brief().await, "ADDED c");
}

#[tokio::test]
async fn an_object_that_ceases_to_match_is_deleted_for_the_watcher() {
    let app = App::new().await;
    app.service("a", json!({"tier": "x"})).await;
    app.service("b", json!({"tier": "y"})).await;
    let mut lines = Lines::open(&app, "labelSelector=tier%3Dx", "").await;
    assert_eq!(lines.brief().await, "ADDED a");
    label(&app, "b", "x").await;
    assert_eq!(lines.brief().await, "ADDED b");
    label(&app, "b", "z").await;
    let left = lines.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["tier"]), (&json!("DELETED"), &json!("x")));
    assert_eq!(
        left["object"]["metadata"]["resourceVersion"],
        app.store.last_change(model::Resource::Services).to_string()
    );
    label(&app, "b", "y").await;
    app.delete(&format!("{SERVICES}/b")).await;
    app.delete(&format!("{SERVICES}/a")).await;
    assert_eq!(lines.brief().await, "DELETED a");
}

#[tokio::test]
async fn a_table_watch_sends_its_columns_once() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    let mut lines = Lines::open(&app, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = lines.next().await.unwrap();
    assert_eq!((&first["type"], &first["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert!(first["object"]["columnDefinitions"].is_array());
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    label(&app, "a", "x").await;
    let second = lines.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
    assert_eq!(second["object"]["rows"][0]["object"]["metadata"]["labels"]["tier"], "x");
}

#[tokio::test]
async fn a_watch_list_marks_the_end_of_what_was_there() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&app, query, "").await;
    assert_eq!(lines.brief().await, "ADDED a");
    let bookmark = lines.next().await.unwrap();
    let revision = app.store.revision().to_string();
    assert_eq!(
        bookmark,
        json!({"type": "BOOKMARK", "object": {"kind": "Service", "apiVersion": "v1", "metadata": {
            "resourceVersion": revision, "creationTimestamp": null,
            "annotations": {"k8s.io/initial-events-end": "true"}}}})
    );
    app.service("b", json!({})).await;
    assert_eq!(lines.brief().await, "ADDED b");
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_up_with_a_last_bookmark() {
    let app = App::new().await;
    let mut lines = Lines::open(&app, "timeoutSeconds=1&allowWatchBookmarks=true", "").await;
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], app.store.revision().to_string());
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn watches_that_cannot_begin() {
    let app = App::new().await;
    let mut out = Vec::new();
    for query in ["resourceVersion=99999", "resourceVersion=x", "sendInitialEvents=true", "resourceVersionMatch=Exact"]
    {
        out.push(app.get(&format!("{SERVICES}?watch=1&{query}")).await.status());
    }
    // There is no stream of YAML documents; the refusal is YAML all the same.
    let yaml = app.get_as(&format!("{SERVICES}?watch=1"), "application/yaml").await;
    assert_eq!(yaml.code, 406);
    assert!(yaml.text().contains("reason: NotAcceptable\n"), "{}", yaml.text());
    expect![[r#"
        504 Timeout: Timeout: Too large resource version: 99999, current: 5
        400 BadRequest: resourceVersion: Invalid value: "x": must be a number
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"#]].assert_eq(&out.join("\n"));
}

#[tokio::test]
async fn open_watches_are_counted() {
    let app = App::new().await;
    let lines = Lines::open(&app, "", "").await;
    let line = r#"portolan_api_watchers{resource="services"} 1"#;
    assert!(app.get("/metrics").await.text().contains(line));
    drop(lines);
    assert!(!app.get("/metrics").await.text().contains(line));
}
