//! Questions about this node's kernel, asked through the server.
//!
//! An agent listens on no port that others could reach; it asks the server whether somebody asks. The long poll is one
//! idle connection; a question goes to the core loop, which alone has the kernel, through a bounded channel with the way
//! back in it. What is asked is data to be judged: an unknown kind gets a clear answer, and nothing that is asked here
//! changes anything.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use dataplane::Plan;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use crate::chain;
use crate::client::{Client, ClientError};
use crate::program::Program;

/// How long the server keeps the poll open when nobody asks.
const POLL_SECONDS: u32 = 30;
/// How long the core loop may take; whoever asked waits no longer than this.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Questions that are being answered at a time; while there are more the server is not asked for others.
const MAX_OPEN: usize = 16;
/// A poll that brings nothing is meant to last longer than this.
const LIVED: Duration = Duration::from_secs(1);
/// The waits after the first and after many failures.
const MIN_WAIT: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_secs(2);

/// A question on its way to the core loop.
#[derive(Debug)]
pub struct Asked {
    pub question: Value,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Value>,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    question: Value,
}

/// Brings questions to the core loop and answers back, for ever. `broken` is told when the poll breaks: the server may
/// have been restarted.
pub async fn listen(client: Client, node: String, questions: mpsc::Sender<Asked>, broken: Arc<Notify>) {
    let root = format!("/apis/portolan.dev/v1alpha1/nodes/{node}");
    let poll = format!("{root}/questions?timeoutSeconds={POLL_SECONDS}");
    let mut open = JoinSet::new();
    let mut failures = 0_u32;
    loop {
        while open.try_join_next().is_some() {}
        if open.len() >= MAX_OPEN {
            open.join_next().await;
            continue;
        }
        let begun = Instant::now();
        match client.get(&poll).await.and_then(read) {
            // A server that is about to stop answers at once.
            Ok(list) if list.items.is_empty() && begun.elapsed() < LIVED => tokio::time::sleep(MIN_WAIT).await,
            Ok(list) => {
                failures = 0;
                for item in list.items {
                    let path = format!("{root}/answers/{}", item.id);
                    open.spawn(bring(client.clone(), path, item.question, questions.clone()));
                }
            }
            Err(error) => {
                debug!(node, error = %chain(&error), "nobody can ask this node");
                broken.notify_one();
                failures = failures.saturating_add(1);
                let wait = MIN_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_WAIT);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn read(answer: Value) -> Result<List, ClientError> {
    serde_json::from_value(answer).map_err(|source| ClientError::Json { what: "the questions to this node", source })
}

/// One question to the core loop, and its answer to the server.
async fn bring(client: Client, path: String, question: Value, questions: mpsc::Sender<Asked>) {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        questions.send(Asked { question, answer }).await.ok()?;
        answered.await.ok()
    };
    let reply = match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(Some(reply)) => reply,
        // The loop has ended, or is busy with something long; then nobody waits any more.
        Ok(None) | Err(_) => return,
    };
    if let Err(error) = client.post(&path, &reply).await {
        debug!(path, error = %chain(&error), "an answer was not taken");
    }
}

/// An answer, or the work that makes it.
pub enum Answer {
    Now(Value),
    /// Takes its time, and is done on another thread.
    Later(Box<dyn FnOnce() -> Value + Send>),
}

/// Answers, or lets another thread do so.
pub fn reply<P: Program>(kernel: &mut P, plan: &Plan, asked: Asked) {
    // Whoever asked may have gone.
    match answer(kernel, plan, &asked.question) {
        Answer::Now(value) => drop(asked.answer.send(value)),
        Answer::Later(work) => drop(tokio::task::spawn_blocking(move || asked.answer.send(work()))),
    }
}

/// The answer to a question. `Ping` is answered for every kernel, with the revision of the plan; other kinds are the
/// kernel's to know.
pub fn answer<P: Program>(kernel: &mut P, plan: &Plan, question: &Value) -> Answer {
    let Some(kind) = question.get("kind").and_then(Value::as_str) else {
        return Answer::Now(refusal("a question is an object with a kind".to_owned()));
    };
    if kind == "Ping" {
        return Answer::Now(json!({"kind": "Pong", "revision": plan.revision.to_string()}));
    }
    let unknown = || Answer::Now(refusal(format!("this agent does not know questions of kind {kind:?}")));
    kernel.answer(plan, kind, question).unwrap_or_else(unknown)
}

/// A question that cannot be answered, as Kubernetes says it.
pub fn refusal(message: String) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "BadRequest", "code": 400,
    })
}
