//! An agent says that its node lives. Nothing is read but the name, and nothing is written: a beat costs no commit.
//!
//! Each beat may be a request. Or one request has them all: its body goes on, a line for each, and so does the answer. A
//! beat is then no more than a line each way, half of what a request costs, and with thousands of nodes beats are most of
//! what a server does. Who they are from is asked anew with each request, so one lasts for [`LONGEST`] and not for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use model::Resource;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::Call;
use crate::app::App;
use crate::frames::{Frames, Source};
use crate::negotiate::LINES;
use crate::programmed::stopping;
use crate::routes::{API_VERSION, Own};
use crate::serve::Draining;
use crate::status::Status;

/// What a beat is answered where nobody counts them.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long beats may come by one request.
const LONGEST: Duration = Duration::from_secs(600);

/// How long the next one may be away.
const SILENCE: Duration = Duration::from_secs(30);

/// The bytes of lines that come at once. A beat is an empty line, or `{}`.
const LINES_MOST: usize = 256;

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
    let interval = heard(&call.app, node).ok_or_else(|| Status::not_found(Resource::Nodes, node))?;
    let answer = json!({
        "kind": Own::Beat.kind(),
        "apiVersion": API_VERSION,
        "intervalMilliseconds": milliseconds(interval),
    });
    Ok(call.answer(StatusCode::OK, &answer))
}

/// The same with a body of lines: 200 at once, and then a line for each.
pub fn beats(call: Call, body: Body) -> Result<Response, Status> {
    let node = call.node()?.to_owned();
    let Call { app, draining, .. } = call;
    if !exists(&app, &node) {
        return Err(Status::not_found(Resource::Nodes, &node));
    }
    let end = Instant::now() + LONGEST;
    let beats = Beats { app, node, body, draining, end, answer: (Duration::ZERO, Bytes::new()) };
    let mut response = Response::new(Body::new(Frames::new(beats)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    Ok(response)
}

fn exists(app: &App, node: &str) -> bool {
    app.store.get(Resource::Nodes, "", node).is_some()
}

/// Counts a beat; when the next is to come. None where there is no such Node.
fn heard(app: &App, node: &str) -> Option<Duration> {
    exists(app, node).then(|| app.heartbeats.as_ref().map_or(INTERVAL, |heartbeats| heartbeats.beat(node)))
}

fn milliseconds(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
}

/// The answers to the beats of one request. They end in order after a while, with the Node, with the server, and with what
/// is no beat; the agent begins anew then, or is told why it may not.
struct Beats {
    app: Arc<App>,
    node: String,
    body: Body,
    draining: Option<Draining>,
    end: Instant,
    /// The line for such an interval, which hardly ever changes.
    answer: (Duration, Bytes),
}

impl Source for Beats {
    async fn next(&mut self) -> Option<Bytes> {
        let Self { app, node, body, draining, end, answer } = self;
        let begun = Instant::now();
        let lines = async {
            loop {
                // Trailers are none.
                let data = body.frame().await?.ok()?.into_data().ok()?;
                let lines = data.iter().filter(|byte| **byte == b'\n').count();
                if data.len() > LINES_MOST {
                    return None;
                }
                if lines > 0 {
                    return Some(lines);
                }
            }
        };
        let lines = tokio::select! {
            biased;
            lines = lines => lines?,
            () = stopping(draining.as_mut()) => return None,
            () = sleep_until((begun + SILENCE).min(*end)) => return None,
        };
        let interval = heard(app, node)?;
        if answer.0 != interval {
            let line = format!("{}\n", json!({ "intervalMilliseconds": milliseconds(interval) }));
            *answer = (interval, Bytes::from(line));
        }
        Some(if lines == 1 { answer.1.clone() } else { Bytes::from(answer.1.repeat(lines)) })
    }
}
