//! Time limits, on a clock that stands still until nobody has anything to do, and panics.

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

#[test]
fn go_durations() {
    assert_eq!(go_duration("32s"), Ok(Duration::from_secs(32)));
    assert_eq!(go_duration("1m30s"), Ok(Duration::from_secs(90)));
    assert_eq!(go_duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(go_duration("+.5s"), Ok(Duration::from_millis(500)));
    for nothing in ["0", "0s", "-3s", "-0"] {
        assert_eq!(go_duration(nothing), Ok(Duration::ZERO), "{nothing}");
    }
    for (wrong, text) in [
        ("32", "time: missing unit in duration \"32\""),
        ("s", "time: invalid duration \"s\""),
        ("1x", "time: unknown unit \"x\" in duration \"1x\""),
        ("1.2.3s", "time: invalid duration \"1.2.3s\""),
        ("-", "time: invalid duration \"-\""),
    ] {
        assert_eq!(go_duration(wrong), Err(text.to_owned()), "{wrong}");
    }
    assert!(go_duration(&format!("{}s", "9".repeat(40))).is_err());
}

#[test]
fn limits() {
    let limit =
        |method: Method, query: &str| time_limit(&method, "/api", &Query::parse(Some(query))).map_err(|s| s.code());
    let seconds = |n| Ok(Duration::from_secs(n));
    assert_eq!(limit(Method::GET, ""), seconds(60));
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(limit(method, ""), seconds(34));
    }
    assert_eq!(limit(Method::GET, "timeout=2s"), seconds(2));
    assert_eq!(limit(Method::POST, "timeout=50s"), seconds(34));
    assert_eq!(limit(Method::GET, "timeout=1h"), seconds(60));
    assert_eq!(limit(Method::GET, "timeout=0s"), seconds(60));
    assert_eq!(limit(Method::GET, "timeout="), seconds(60));
    assert_eq!(limit(Method::GET, "watch=true&timeout=1s"), seconds(60));
    assert_eq!(limit(Method::GET, "timeout=soon"), Err(http::StatusCode::BAD_REQUEST));
}

/// A handler that never answers is given up at the limit, and not before.
#[tokio::test]
async fn a_request_that_takes_too_long_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = store::Store::open(store::Config::new(directory.path().join("portolan.db"))).await.unwrap();
    let config = crate::Config::new(store, "t", "v0");
    let router = Router::new()
        .route("/", any(async || std::future::pending::<()>().await))
        .layer(axum::middleware::from_fn_with_state(App::new(&config), around));
    // The store has begun; from here on time passes only when everybody waits.
    tokio::time::pause();
    for (method, uri, seconds) in [("GET", "/", 60), ("POST", "/", 34), ("DELETE", "/?timeout=3s", 3)] {
        let begun = tokio::time::Instant::now();
        let request = Request::builder().method(method).uri(uri).header(header::AUTHORIZATION, "Bearer t");
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), seconds, "{method} {uri}");
        assert_eq!(response.status(), 504);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["reason"], "Timeout");
        assert_eq!(value["message"], "Timeout: request did not complete within the allotted timeout");
    }
}

/// A client that is to come later is told when, in the header that every HTTP client knows and in the Status.
#[tokio::test]
async fn whoever_is_to_come_again_is_told_when() {
    let directory = tempfile::tempdir().unwrap();
    let store = store::Store::open(store::Config::new(directory.path().join("portolan.db"))).await.unwrap();
    let config = crate::Config::new(store, "t", "v0");
    let busy = async || Status::refused(model::Resource::Services, "web", &store::Refusal::Busy);
    let router =
        Router::new().route("/", any(busy)).layer(axum::middleware::from_fn_with_state(App::new(&config), around));
    let request = Request::post("/").header(header::AUTHORIZATION, "Bearer t").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()[header::RETRY_AFTER]), (429, &HeaderValue::from(1)));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&value["reason"], &value["details"]["retryAfterSeconds"]), (&"TooManyRequests".into(), &1.into()));
}

#[tokio::test]
async fn a_panic_is_an_error_and_not_the_end() {
    let caught = catching(async { panic!("dropped {}", "a plate") }).await;
    assert_eq!(panic_text(caught.unwrap_err().as_ref()), "dropped a plate");
    assert_eq!(catching(async { 1 }).await.unwrap(), 1);
}
