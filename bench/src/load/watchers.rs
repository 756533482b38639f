//! Watches of all EndpointSlices, as every agent has one, which keep what they see and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy_agent::client::{Client, ClientError, WatchEvent};
use serde::Deserialize;
use tokio::task::{JoinHandle, JoinSet};

use super::arrivals::Moment;
use super::crew::micros_now;
use super::{Arguments, LoadError};

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Before a watch that was cut is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// One watch, on a connection of its own, until it is dropped.
pub struct Watcher {
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    seen: Vec<Moment>,
    /// How far it is.
    revision: u64,
    cuts: u64,
}

#[derive(Deserialize)]
struct Slice {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Metadata {
    namespace: String,
    resource_version: String,
    labels: BTreeMap<String, String>,
}

/// Opens as many as are wanted, from now on.
pub async fn open(arguments: &Arguments) -> Result<Vec<Watcher>, LoadError> {
    let failed = |source| LoadError::Client { doing: "watching EndpointSlices", source };
    let mut opening = JoinSet::new();
    for _ in 0..arguments.watchers {
        let (client, namespace) = (arguments.client.apart().slim(), arguments.namespace.clone());
        opening.spawn(async move { Watcher::open(client, namespace).await });
    }
    let mut watchers = Vec::new();
    while let Some(opened) = opening.join_next().await {
        if let Ok(opened) = opened {
            watchers.push(opened.map_err(failed)?);
        }
    }
    Ok(watchers)
}

impl Watcher {
    /// Watches from now on, and keeps what it sees of the Services of a run in this namespace.
    ///
    /// # Errors
    /// When the server does not let it.
    pub async fn open(client: Client, namespace: String) -> Result<Self, ClientError> {
        let log = Arc::new(Mutex::new(Log::default()));
        let mut from = now(&client).await?;
        let mut stream = client.watch(&path(from)).await?;
        let keeping = Arc::clone(&log);
        let task = tokio::spawn(async move {
            loop {
                while let Ok(Some(event)) = stream.next().await {
                    let micros = micros_now();
                    if event.kind == "ERROR" {
                        break;
                    }
                    let Some((revision, service)) = read(&event, &namespace) else { continue };
                    from = revision;
                    let mut log = lock(&keeping);
                    log.revision = revision;
                    log.seen.extend(service.map(|service| Moment { revision, micros, service }));
                }
                lock(&keeping).cuts += 1;
                stream = loop {
                    tokio::time::sleep(PAUSE).await;
                    match client.watch(&path(from)).await {
                        Ok(stream) => break stream,
                        Err(ClientError::Status(status)) if status.is_expired() => {
                            from = now(&client).await.unwrap_or(from);
                        }
                        Err(_) => {}
                    }
                };
            }
        });
        Ok(Self { log, task })
    }

    /// What it has seen of the Services of this run, and was not asked for yet.
    pub fn seen(&self) -> Vec<Moment> {
        std::mem::take(&mut lock(&self.log).seen)
    }

    /// How far it is.
    pub fn revision(&self) -> u64 {
        lock(&self.log).revision
    }

    /// How often it was cut, or failed.
    pub fn cuts(&self) -> u64 {
        lock(&self.log).cuts
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(from: u64) -> String {
    format!("{SLICES}?watch=true&resourceVersion={from}")
}

/// The revision of now.
async fn now(client: &Client) -> Result<u64, ClientError> {
    let list = client.get(&format!("{SLICES}?limit=1")).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    revision.ok_or(ClientError::Malformed { what: "a list", reason: "it has no resourceVersion".into() })
}

/// An event's revision, and its Service if it is one of this run.
fn read(event: &WatchEvent, namespace: &str) -> Option<(u64, Option<u32>)> {
    let slice: Slice = event.decode().ok()?;
    let name = slice.metadata.labels.get(SERVICE_NAME).and_then(|name| name.strip_prefix("service-"));
    let service = name.filter(|_| slice.metadata.namespace == namespace).and_then(|number| number.parse().ok());
    Some((slice.metadata.resource_version.parse().ok()?, service))
}
