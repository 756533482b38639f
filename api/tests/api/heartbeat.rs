//! Beats of nodes: counted for Nodes that exist, and never written.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::mpsc;

use crate::app::App;

const ROOT: &str = "/apis/portolan.dev/v1alpha1/nodes";

#[derive(Default)]
struct Counted(Mutex<Vec<String>>);

impl api::Heartbeats for Counted {
    fn beat(&self, node: &str) -> Duration {
        self.0.lock().unwrap().push(node.to_owned());
        Duration::from_millis(250)
    }

    fn metrics(&self) -> String {
        format!("beats {}\n", self.0.lock().unwrap().len())
    }
}

#[tokio::test]
async fn a_beat_is_counted_for_a_node_that_exists_and_costs_no_write() {
    let counted = Arc::new(Counted::default());
    let app = App::with_heartbeats(counted.clone()).await;
    let missing = app.put(&format!("{ROOT}/a/heartbeat"), &json!({})).await;
    assert_eq!((missing.code.as_u16(), missing.json()["message"].as_str()), (404, Some("nodes \"a\" not found")));
    app.post("/api/v1/nodes", &json!({"metadata": {"name": "a"}})).await;
    let revision = app.store.revision();
    let answer = app.put(&format!("{ROOT}/a/heartbeat"), &json!({})).await;
    let expected = json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "HeartbeatResponse", "intervalMilliseconds": 250,
    });
    assert_eq!((answer.code.as_u16(), answer.json()), (200, expected));
    assert_eq!(app.store.revision(), revision);
    assert_eq!(app.put(&format!("{ROOT}/{}/heartbeat", "x".repeat(254)), &json!({})).await.code, 400);
    assert_eq!(*counted.0.lock().unwrap(), ["a"]);
    assert!(app.get("/metrics").await.text().contains("\nbeats 1\n"));
}

#[tokio::test]
async fn where_nobody_counts_a_beat_is_taken_all_the_same() {
    let app = App::new().await;
    app.post("/api/v1/nodes", &json!({"metadata": {"name": "a"}})).await;
    let answer = app.put(&format!("{ROOT}/a/heartbeat"), &json!({})).await;
    assert_eq!((answer.code.as_u16(), answer.json()["intervalMilliseconds"].as_u64()), (200, Some(1000)));
}

/// A body that comes as it is sent.
struct Pieces(mpsc::Receiver<&'static str>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))))
    }
}

#[tokio::test]
async fn beats_may_be_lines_of_one_request_that_goes_on() {
    let counted = Arc::new(Counted::default());
    let app = App::with_heartbeats(counted.clone()).await;
    let lines = |content: Body| {
        let request = App::request("PUT", &format!("{ROOT}/a/heartbeat"));
        request.header(header::CONTENT_TYPE, "application/x-ndjson").body(content).unwrap()
    };
    let missing = app.send(lines(Body::from("{}\n"))).await;
    assert_eq!(missing.status(), "404 NotFound: nodes \"a\" not found");
    app.post("/api/v1/nodes", &json!({"metadata": {"name": "a"}})).await;

    let (sender, pieces) = mpsc::channel(2);
    let mut answer = app.start(lines(Body::new(Pieces(pieces)))).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[header::CONTENT_TYPE]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    assert!(counted.0.lock().unwrap().is_empty(), "the beginning is no beat");
    let line = "{\"intervalMilliseconds\":250}\n";
    for (chunk, lines) in [("{}\n", 1), ("{", 0), ("}\n", 1), ("\n\n", 2)] {
        sender.send(chunk).await.unwrap();
        if lines > 0 {
            let frame = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame, line.repeat(lines), "{chunk:?}");
        }
    }
    assert_eq!(counted.0.lock().unwrap().len(), 3, "lines that come at once are one sign of life");

    // With the Node it ends.
    app.delete("/api/v1/nodes/a").await;
    sender.send("{}\n").await.unwrap();
    assert!(answer.frame().await.is_none());
    assert_eq!(counted.0.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn beats_by_one_request_end_with_its_body_and_with_what_is_no_beat() {
    let app = App::new().await;
    app.post("/api/v1/nodes", &json!({"metadata": {"name": "a"}})).await;
    let answer = |body: Body| {
        let request = App::request("PUT", &format!("{ROOT}/a/heartbeat"));
        app.send(request.header(header::CONTENT_TYPE, "application/x-ndjson").body(body).unwrap())
    };
    assert_eq!(answer(Body::from("{}\n")).await.text(), "{\"intervalMilliseconds\":1000}\n");
    assert_eq!(answer(Body::from("\n".repeat(257))).await.text(), "");
    assert_eq!(answer(Body::empty()).await.text(), "");
}
