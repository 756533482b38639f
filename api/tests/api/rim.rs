//! What every request meets: authentication, health, metrics, the spelling of errors.

use axum::body::Body;
use expect_test::expect;
use http::Request;
use serde_json::json;

use crate::app::{App, SERVICES};

#[tokio::test]
async fn nobody_passes_without_the_token() {
    let app = App::new().await;
    for path in ["/api", SERVICES, "/metrics", "/", "/openapi/v3", "/nope"] {
        let answer = app.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status(), "401 Unauthorized: Unauthorized", "{path}");
        let wrong = Request::get(path).header("Authorization", "Bearer sesam").body(Body::empty()).unwrap();
        assert_eq!(app.send(wrong).await.code, 401);
    }
    for path in ["/livez", "/readyz", "/healthz", "/version", "/version/"] {
        assert_eq!(app.send(Request::get(path).body(Body::empty()).unwrap()).await.code, 200, "{path}");
    }
}

#[tokio::test]
async fn health() {
    let app = App::new().await;
    assert_eq!(app.get("/livez").await.text(), "ok");
    expect![[r#"
        [+]ping ok
        [+]store ok
        [+]shutdown ok
        readyz check passed
    "#]]
    .assert_eq(&app.get("/readyz?verbose").await.text());
}

#[tokio::test]
async fn metrics_count_requests_and_tell_revisions() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    app.get(SERVICES).await;
    app.get(&format!("{SERVICES}/nope")).await;
    let text = app.get("/metrics").await.text();
    let revision = app.store.last_change(model::Resource::Services);
    for line in [
        r#"portolan_api_requests_total{verb="create",resource="services",code="201"} 1"#.to_owned(),
        r#"portolan_api_requests_total{verb="get",resource="services",code="404"} 1"#.to_owned(),
        r#"portolan_api_requests_total{verb="list",resource="services",code="200"} 1"#.to_owned(),
        format!(r#"portolan_resource_revision{{resource="services"}} {revision}"#),
        r#"portolan_api_watchers{resource="pods"} 0"#.to_owned(),
        r#"portolan_objects{resource="services"} 1"#.to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn errors_are_spelled_for_whoever_asked() {
    let app = App::new().await;
    let request = App::request("GET", "/nope").header("User-Agent", "curl/8").body(Body::empty()).unwrap();
    assert!(app.send(request).await.text().starts_with("{\n  \"kind\": \"Status\","));
    let answer = app.get_as(SERVICES, "application/xml").await;
    assert_eq!(
        answer.status(),
        "406 NotAcceptable: only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf"
    );
}
