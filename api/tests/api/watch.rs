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
async fn agents_ask_for_slices_without_what_decides_nothing() {
    const SLIM: &str = "application/json;as=Slim;g=portolan.dev;v=v1alpha1, application/json";
    const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let app = App::new().await;
    let slice = |name: &str| {
        let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true},
                              "targetRef": {"kind": "Pod", "name": "p"}});
        json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
               "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web", "tier": "front"}},
               "endpoints": [endpoint], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})
    };
    let created = app.with_body("POST", SLICES, "application/json", slice("a").to_string()).await.json();
    let slim = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {
            "name": "a", "namespace": "default", "uid": created["metadata"]["uid"],
            "resourceVersion": created["metadata"]["resourceVersion"],
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    });
    assert_eq!(app.get_as(&format!("{SLICES}/a"), SLIM).await.json(), slim);
    let list = app.get_as(SLICES, SLIM).await.json();
    assert_eq!((&list["kind"], &list["items"]), (&json!("EndpointSliceList"), &json!([slim])));
    // What there is, what comes alone, and what comes with others.
    let mut lines = Lines::open_at(&app, &format!("{SLICES}?watch=true"), SLIM).await;
    let mut filtered = Lines::open_at(&app, &format!("{SLICES}?watch=true&labelSelector=tier%3Dfront"), SLIM).await;
    let mut whole = Lines::open_at(&app, &format!("{SLICES}?watch=true"), "application/json").await;
    assert_eq!(lines.next().await, Some(json!({"type": "ADDED", "object": slim})));
    for name in ["b", "c", "d"] {
        app.with_body("POST", SLICES, "application/json", slice(name).to_string()).await;
        if name == "b" {
            assert_eq!(lines.next().await.unwrap()["object"]["endpoints"], slim["endpoints"]);
        }
    }
    for name in ["c", "d"] {
        let event = lines.next().await.unwrap();
        assert_eq!(
            (&event["object"]["metadata"]["name"], &event["object"]["endpoints"]),
            (&json!(name), &slim["endpoints"])
        );
    }
    for name in ["a", "b"] {
        let event = filtered.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!(name)));
        assert_eq!(event["object"]["endpoints"], slim["endpoints"]);
        assert_eq!(whole.next().await.unwrap()["object"]["endpoints"][0]["targetRef"]["name"], "p");
    }
    // The label that it was chosen by is none that agents read; it ceases to match all the same.
    let patch = json!({"metadata": {"labels": {"tier": null}}}).to_string();
    app.with_body("PATCH", &format!("{SLICES}/a"), "application/merge-patch+json", patch).await;
    assert_eq!(lines.brief().await, "MODIFIED a");
    for expected in ["ADDED c", "ADDED d", "DELETED a"] {
        assert_eq!(filtered.brief().await, expected);
    }
    app.delete(&format!("{SLICES}/b")).await;
    let deleted = lines.next().await.unwrap();
    assert_eq!((&deleted["type"], &deleted["object"]["endpoints"]), (&json!("DELETED"), &slim["endpoints"]));
    let marked = format!(
        "{SLICES}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let mut marked = Lines::open_at(&app, &marked, SLIM).await;
    for expected in ["ADDED a", "ADDED c", "ADDED d"] {
        assert_eq!(marked.brief().await, expected);
    }
    let bookmark = marked.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("EndpointSlice")));
    // Other kinds come whole.
    app.service("web", json!({})).await;
    let path = format!("{SERVICES}/web");
    assert_eq!(app.get_as(&path, SLIM).await.json()["spec"], app.get(&path).await.json()["spec"]);
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
    let query = format!("timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={}", app.store.revision());
    let mut lines = Lines::open(&app, &query, "").await;
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], app.store.revision().to_string());
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn watches_that_cannot_begin() {
    let app = App::new().await;
    let mut out = Vec::new();
    for query in [
        "resourceVersion=9999999",
        "resourceVersion=x",
        "sendInitialEvents=true",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=Exact",
    ] {
        out.push(app.get(&format!("{SERVICES}?watch=1&{query}")).await.status());
    }
    // There is no stream of YAML documents; the refusal is YAML all the same.
    let yaml = app.get_as(&format!("{SERVICES}?watch=1"), "application/yaml").await;
    assert_eq!(yaml.code, 406);
    assert!(yaml.text().contains("reason: NotAcceptable\n"), "{}", yaml.text());
    expect![[r#"
        504 Timeout: Timeout: Too large resource version: 9999999, current: 5
        400 BadRequest: invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: [resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided
        422 Invalid: ListOptions.meta.k8s.io "" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]"#]].assert_eq(&out.join("\n"));
}

#[tokio::test]
async fn without_a_revision_bookmarks_tell_when_everything_was_sent() {
    // As newer servers do for clients that know nothing of sendInitialEvents.
    let app = App::new().await;
    app.service("a", json!({})).await;
    for query in ["", "resourceVersion=0&"] {
        let mut lines = Lines::open(&app, &format!("{query}allowWatchBookmarks=true"), "").await;
        assert_eq!(lines.brief().await, "ADDED a");
        let bookmark = lines.next().await.unwrap();
        assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }
}

#[tokio::test]
async fn a_watch_may_begin_without_what_is_there() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    for query in ["", "&resourceVersion=0"] {
        let query = format!("sendInitialEvents=false&resourceVersionMatch=NotOlderThan{query}");
        let mut lines = Lines::open(&app, &query, "").await;
        label(&app, "a", query.len().to_string().as_str()).await;
        assert_eq!(lines.brief().await, "MODIFIED a");
    }
}

#[tokio::test]
async fn a_watch_list_from_a_revision_begins_with_a_state_as_new() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    let revision = app.store.revision();
    app.service("b", json!({})).await;
    let query = format!(
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion={revision}"
    );
    let mut lines = Lines::open(&app, &query, "").await;
    assert_eq!(lines.brief().await, "ADDED a");
    assert_eq!(lines.brief().await, "ADDED b");
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], app.store.revision().to_string());
}

#[tokio::test]
async fn a_deletion_is_told_to_those_who_had_seen_the_object() {
    let app = App::new().await;
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x")] {
        app.service(name, json!({"tier": tier})).await;
    }
    let query = format!("labelSelector=tier%3Dx&resourceVersion={}", app.store.revision());
    let mut lines = Lines::open(&app, &query, "").await;
    app.delete(&format!("{SERVICES}/b")).await;
    label(&app, "a", "y").await;
    assert_eq!(lines.brief().await, "DELETED a");
    app.delete(&format!("{SERVICES}/a")).await;
    app.delete(&format!("{SERVICES}/c")).await;
    let deleted = lines.next().await.unwrap();
    assert_eq!((&deleted["type"], &deleted["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("c")));
    let revision = app.store.last_change(model::Resource::Services).to_string();
    assert_eq!(deleted["object"]["metadata"]["resourceVersion"], revision);
}

#[tokio::test]
async fn fields_and_namespaces_have_edges_too() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    let revision = app.store.revision();
    let mut types =
        Lines::open(&app, &format!("fieldSelector=spec.type%3DNodePort&resourceVersion={revision}"), "").await;
    for kind in ["NodePort", "ClusterIP"] {
        let patch = json!({"spec": {"type": kind}}).to_string();
        app.with_body("PATCH", &format!("{SERVICES}/a"), "application/merge-patch+json", patch).await;
    }
    assert_eq!(types.brief().await, "ADDED a");
    let left = types.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["spec"]["type"]), (&json!("DELETED"), &json!("NodePort")));

    let path =
        format!("/api/v1/services?watch=1&fieldSelector=metadata.namespace%3Dkube-system&resourceVersion={revision}");
    let mut elsewhere = Lines::open_at(&app, &path, "").await;
    app.service("b", json!({})).await;
    app.post("/api/v1/namespaces/kube-system/services", &crate::app::service("c", json!({}))).await;
    assert_eq!(elsewhere.brief().await, "ADDED c");
}

#[tokio::test]
async fn tables_are_watched_in_both_versions() {
    let app = App::new().await;
    app.service("a", json!({})).await;
    for version in ["v1", "v1beta1"] {
        let accept = format!("application/json;as=Table;v={version};g=meta.k8s.io");
        let mut lines = Lines::open(&app, "allowWatchBookmarks=true&timeoutSeconds=1", &accept).await;
        let mut seen = Vec::new();
        while let Some(event) = lines.next().await {
            let object = &event["object"];
            assert_eq!(
                (&object["kind"], &object["apiVersion"]),
                (&json!("Table"), &json!(format!("meta.k8s.io/{version}")))
            );
            let row = &object["rows"][0]["object"];
            assert!(row.is_null() || row["apiVersion"] == object["apiVersion"]);
            seen.push(format!("{} {}", event["type"].as_str().unwrap(), object["rows"].as_array().unwrap().len()));
        }
        assert_eq!(seen, ["ADDED 1", "BOOKMARK 1", "BOOKMARK 0"]);
    }
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
