//! What the edge says of its instances: `status.programmed` and `status.listeners` of each LoadBalancer that it holds.
//!
//! It is a level and no event: what the object should say is compared with what it says, and the difference is written, until
//! there is none. So a write that is lost, or overwritten by an owner of before, is made again. What changes often
//! (backends that come and go) is written at most every [`REST`] for one instance; that a generation was carried
//! out, at once.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Resource;
use model::types::{ListenerStatus, LoadBalancer, ProgrammedBy};
use proxy_agent::client::{Client, ClientError, MERGE_PATCH};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::active::{Counted, Instance};
use crate::watch::collection;
use proxy_agent::chain;

/// Between two writes to one instance that say the same generation.
const REST: Duration = Duration::from_millis(500);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a write may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What one LoadBalancer should say.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub programmed: ProgrammedBy,
    pub listeners: Vec<ListenerStatus>,
}

/// By name, where it says something else.
pub type AllWanted = BTreeMap<String, Wanted>;

/// What is to be said of an instance. `trouble` is what keeps a listener from serving, by its port and place in the spec.
pub fn wanted(edge: &str, instance: &Instance, trouble: impl Fn(&Counted) -> Option<String>) -> Wanted {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let listeners = instance.listeners.iter().map(|counted| ListenerStatus {
        port: counted.listener.port,
        protocol: counted.listener.protocol,
        backends: count(counted.backends),
        healthy: count(counted.healthy),
        message: trouble(counted).unwrap_or_else(|| message(counted).to_owned()),
    });
    let (term, generation) = (instance.term, instance.generation);
    let programmed = ProgrammedBy { edge: edge.to_owned(), term, generation };
    Wanted { programmed, listeners: listeners.collect() }
}

/// What is wrong with a listener that works as far as the edge goes.
fn message(counted: &Counted) -> &'static str {
    let redirects = counted.listener.http.as_ref().is_some_and(|http| http.redirect_port.is_some());
    if redirects {
        ""
    } else if counted.backends == 0 {
        "it has no backend: no endpoint is ready, or no node can serve it"
    } else if counted.healthy == 0 {
        "no backend passes its health check, so all are used; see that the check asks for what they answer"
    } else {
        ""
    }
}

impl Wanted {
    /// Whether the object says it already.
    pub fn is_said_by(&self, balancer: &LoadBalancer) -> bool {
        balancer.status.programmed.as_ref() == Some(&self.programmed) && balancer.status.listeners == self.listeners
    }

    fn patch(&self) -> Value {
        json!({"status": {"programmed": self.programmed, "listeners": self.listeners}})
    }
}

/// What was written last to an instance, and when.
struct Done {
    wanted: Wanted,
    at: Instant,
}

/// Writes what is wanted, for ever.
pub async fn write(client: Client, mut all: watch::Receiver<Arc<AllWanted>>) {
    let mut done: BTreeMap<String, Done> = BTreeMap::new();
    let mut troubled = false;
    loop {
        let wanted = Arc::clone(&all.borrow_and_update());
        let now = Instant::now();
        done.retain(|_, done| now < done.at + AGAIN);
        let mut next: Option<Instant> = None;
        for (name, wanted) in &*wanted {
            if let Some(rests_until) = rests(done.get(name), wanted) {
                next = Some(next.map_or(rests_until, |next| next.min(rests_until)));
                continue;
            }
            match put(&client, name, wanted).await {
                Ok(()) => {
                    troubled = false;
                    done.insert(name.clone(), Done { wanted: wanted.clone(), at: Instant::now() });
                }
                // Deleted, or another edge's by now: the watch will tell.
                Err(error) => {
                    let expected = error.is_not_found() || matches!(error.code(), Some(403 | 409));
                    if expected || troubled {
                        debug!(instance = name, error = %chain(&error), "a status is not written");
                    } else {
                        warn!(instance = name, error = %chain(&error), "a status cannot be written; trying on");
                        troubled = true;
                    }
                    let at = Instant::now() + AGAIN;
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
        }
        tokio::select! {
            changed = all.changed() => if changed.is_err() { return },
            () = until(next) => {}
        }
    }
}

/// Until when nothing is written to an instance of which this was written last.
fn rests(done: Option<&Done>, wanted: &Wanted) -> Option<Instant> {
    let done = done?;
    if done.wanted == *wanted {
        // Its echo is on its way.
        Some(done.at + AGAIN)
    } else if done.wanted.programmed == wanted.programmed {
        Some(done.at + REST).filter(|at| *at > Instant::now())
    } else {
        None
    }
}

async fn put(client: &Client, name: &str, wanted: &Wanted) -> Result<(), ClientError> {
    let path = format!("{}/{name}/status", collection(Resource::LoadBalancers));
    let silence = |_| ClientError::Timeout { what: "writing a status", limit: LIMIT };
    let patch = wanted.patch();
    let written = tokio::time::timeout(LIMIT, client.patch(&path, MERGE_PATCH, &patch)).await.map_err(silence)?;
    written.map(drop)
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
