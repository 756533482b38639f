//! An agent says that its node lives. Nothing is read but the name, and nothing is written: a beat costs no commit.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use model::Resource;
use serde_json::json;

use super::Call;
use crate::routes::{API_VERSION, Own};
use crate::status::Status;

/// What a beat is answered where nobody counts them.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who counts the beats of nodes.
pub trait Heartbeats: Send + Sync {
    /// A Node that exists has beaten; when its next beat is to come. Must not wait.
    fn beat(&self, node: &str) -> Duration;

    /// What there is to say of it in `/metrics`, in Prometheus' text form.
    fn metrics(&self) -> String;
}

/// `PUT …/nodes/{name}/heartbeat`: 200, and when the next is to come; 404 where there is no such Node, so that its agent
/// knows that it has to register.
pub fn beat(call: &Call) -> Result<Response, Status> {
    let node = call.node()?;
    if call.app.store.get(Resource::Nodes, "", node).is_none() {
        return Err(Status::not_found(Resource::Nodes, node));
    }
    let interval = call.app.heartbeats.as_ref().map_or(INTERVAL, |heartbeats| heartbeats.beat(node));
    let answer = json!({
        "kind": Own::Beat.kind(),
        "apiVersion": API_VERSION,
        "intervalMilliseconds": u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
    });
    Ok(call.answer(StatusCode::OK, &answer))
}
