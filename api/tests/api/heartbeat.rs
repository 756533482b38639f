//! Beats of nodes: counted for Nodes that exist, and never written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

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
