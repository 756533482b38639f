//! Tells the server what this node's kernel has, so that somebody can wait for it (`portolan wait`, the condition
//! `portolan.dev/Programmed`).
//!
//! The core loop leaves the newest state in a watch channel and goes on: whatever comes between two acknowledgements is
//! told by the second one. The server says how long the next has to wait, in proportion to the number of agents. What
//! does not change is repeated every [`REPEAT`], since the server keeps it in memory alone; when the connection for
//! questions breaks, most likely because the server was restarted, it is repeated at once.
//!
//! A server that is away is no news here: the reflectors have said so already.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use dataplane::Refused;
use model::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::chain;
use crate::client::{Client, ClientError};
use crate::objects::WATCHED;
use crate::state::Revisions;

/// How often an unchanged state is told again: a server counts a node as live for four times as long.
pub const REPEAT: Duration = Duration::from_secs(10);
/// How long one acknowledgement may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The waits after the first and after many failures.
const MIN_WAIT: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_secs(2);
/// The longest pause between two acknowledgements that a server is believed to mean.
const MAX_INTERVAL: Duration = Duration::from_secs(5);
/// Refused Services that are told, and the bytes of each one's cause; the server takes no more.
const MAX_REFUSED: usize = 1000;
const MAX_CAUSE_BYTES: usize = 512;

/// What the kernel of this node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// Everything up to these revisions; `None` before the first programming.
    pub revisions: Revisions,
    /// But for these Services, which the kernel refused.
    pub refused: Arc<[Refused]>,
}

/// Acknowledges what `programmed` shows, for ever, and what does not change every `repeat`. `agent` tells this process
/// from the one that will follow it; `again` says that the server may have forgotten what it was told.
pub async fn tell(
    client: Client,
    node: String,
    agent: String,
    mut programmed: watch::Receiver<Programmed>,
    again: Arc<Notify>,
    repeat: Duration,
) {
    // The sender lives as long as the core loop, and this task not longer.
    let known = |programmed: &Programmed| programmed.revisions.iter().all(Option::is_some);
    let path = format!("/apis/portolan.dev/v1alpha1/nodes/{node}/acknowledgement");
    let mut failures = 0_u32;
    let mut troubled = false;
    loop {
        // Not before the first programming, nor before the first of another database.
        if programmed.wait_for(known).await.is_err() {
            return;
        }
        let body = body(&agent, &programmed.borrow_and_update());
        let pause = match put(&client, &path, &body).await {
            Ok(interval) => {
                failures = 0;
                troubled = false;
                interval
            }
            Err(error) => {
                // A refusal is worth a word; a server that is away is not.
                if error.code().is_some_and(|code| (400..500).contains(&code) && code != 429) && !troubled {
                    warn!(node, error = %chain(&error), "the server does not take what this node acknowledges");
                    troubled = true;
                }
                debug!(node, error = %chain(&error), "not acknowledged");
                failures = failures.saturating_add(1);
                tokio::time::sleep(wait(failures)).await;
                continue;
            }
        };
        let told = Instant::now();
        tokio::select! {
            changed = programmed.changed() => if changed.is_err() { return },
            () = again.notified() => {}
            () = tokio::time::sleep(repeat) => {}
        }
        tokio::time::sleep_until(told + pause).await;
    }
}

/// Sends it, and gives the pause that the server wants.
async fn put(client: &Client, path: &str, body: &Value) -> Result<Duration, ClientError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Response {
        interval_milliseconds: u64,
    }
    let silence = |_| ClientError::Timeout { what: "an acknowledgement", limit: LIMIT };
    let answer = tokio::time::timeout(LIMIT, client.put(path, body)).await.map_err(silence)??;
    let response: Response =
        serde_json::from_value(answer).map_err(|source| ClientError::Json { what: "an answer", source })?;
    Ok(Duration::from_millis(response.interval_milliseconds).min(MAX_INTERVAL))
}

fn body(agent: &str, programmed: &Programmed) -> Value {
    // No kernel has anything of a Namespace.
    let revisions =
        WATCHED.iter().zip(&programmed.revisions).filter(|(resource, _)| **resource != Resource::Namespaces);
    let revisions: serde_json::Map<String, Value> = revisions
        .filter_map(|(resource, revision)| Some((resource.info().plural.to_owned(), (*revision)?.to_string().into())))
        .collect();
    let refused: Vec<Value> = programmed.refused.iter().take(MAX_REFUSED).map(refusal).collect();
    json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "Acknowledgement",
        "agent": agent,
        "revisions": revisions,
        "refused": refused,
    })
}

fn refusal(refused: &Refused) -> Value {
    let Refused { service, error } = refused;
    let end = error.floor_char_boundary(MAX_CAUSE_BYTES);
    json!({"namespace": service.namespace, "name": service.name, "error": error.get(..end).unwrap_or_default()})
}

fn wait(failures: u32) -> Duration {
    MIN_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_WAIT)
}
