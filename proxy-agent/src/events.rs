//! What this node has to say about a Service, a Pod or itself, as Events on it: `kubectl describe` shows them.
//!
//! Whoever has something to say leaves a [`Note`] in a bounded channel and goes on; what does not fit is counted and
//! dropped. One task turns notes into core/v1 Events as client-go's recorder does: the first of its kind is created as
//! `name.hash`, what repeats counts up in the same object, and each object about which there is much to say is rationed
//! ([`correlate`] decides). An Event that cannot be written is tried again a few times and then forgotten: it is news,
//! not state.

mod correlate;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use model::Key;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::client::{Client, ClientError, MERGE_PATCH};
use crate::{chain, path};
use correlate::{Correlator, Occurrence, Verdict};

/// Notes that wait to be written.
const QUEUE: usize = 256;
/// Bytes of a message; Kubernetes takes no more.
const MAX_MESSAGE_BYTES: usize = 1024;
/// How often an Event is tried when the server is away or busy, and the wait in between.
const ATTEMPTS: u32 = 3;
const WAIT: Duration = Duration::from_secs(2);
/// Where Events about what has no namespace are.
const DEFAULT_NAMESPACE: &str = "default";

/// What kind of object something is said about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Service,
    Pod,
    Node,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Pod => "Pod",
            Self::Node => "Node",
        }
    }

    fn path(self, key: &Key) -> String {
        match self {
            Self::Service => format!("/api/v1/namespaces/{}/services/{}", key.namespace, key.name),
            Self::Pod => format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name),
            Self::Node => format!("/api/v1/nodes/{}", key.name),
        }
    }

    /// Who says it: what is said about Pods bears kubelet's name, by which tools look for it.
    fn component(self) -> &'static str {
        match self {
            Self::Pod => "kubelet",
            Self::Service | Self::Node => "portolan-agent",
        }
    }
}

/// What something is said about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    pub kind: Kind,
    /// A Node's has no namespace.
    pub key: Key,
    /// Empty where it is not known; the server is asked for it then.
    pub uid: String,
    /// `involvedObject.fieldPath`; empty for the whole object.
    pub field_path: String,
}

impl About {
    pub fn service(key: Key) -> Self {
        Self { kind: Kind::Service, key, uid: String::new(), field_path: String::new() }
    }

    pub fn pod(key: Key, uid: &str) -> Self {
        Self { kind: Kind::Pod, key, uid: uid.to_owned(), field_path: String::new() }
    }

    /// A container of a Pod; `list` is the field that it stands in, `containers` or `initContainers`.
    pub fn container(key: Key, uid: &str, list: &str, name: &str) -> Self {
        Self { field_path: format!("spec.{list}{{{name}}}"), ..Self::pod(key, uid) }
    }

    pub fn node(name: &str) -> Self {
        Self { kind: Kind::Node, key: Key::new("", name), uid: String::new(), field_path: String::new() }
    }

    /// In which its Events are.
    fn namespace(&self) -> &str {
        if self.key.namespace.is_empty() { DEFAULT_NAMESPACE } else { &self.key.namespace }
    }
}

/// Something to be said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    pub about: About,
    pub reason: Reason,
    pub message: String,
}

/// Why an Event is written, in the one word that people filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The kernel did not take what the Service needs.
    FailedToProgram,
    /// The port of `healthCheckNodePort` is taken on this node (kube-proxy's word).
    FailedToStartServiceHealthcheck,
    /// This node does not answer for the cluster's names where it should.
    DnsNotAnswered,
    /// A probe failed (kubelet's word, as the following).
    Unhealthy,
    /// A probe succeeded, but not as it was meant.
    ProbeWarning,
    /// A manifest of this machine is none of a Pod that can be here (kubelet's word, too).
    FailedValidation,
    /// The Pod of a workload of this machine cannot be made, or not be reported on.
    FailedCreate,
    /// A container is about to be ended.
    Killing,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::FailedToProgram => "FailedToProgram",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
            Self::DnsNotAnswered => "DNSNotAnswered",
            Self::Unhealthy => "Unhealthy",
            Self::ProbeWarning => "ProbeWarning",
            Self::FailedValidation => "FailedValidation",
            Self::FailedCreate => "FailedCreate",
            Self::Killing => "Killing",
        }
    }

    /// `type`: whether somebody should look.
    fn kind(self) -> &'static str {
        match self {
            Self::Killing => "Normal",
            _ => "Warning",
        }
    }
}

/// Takes notes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    dropped: Counter,
}

impl Recorder {
    /// A recorder, and the end from which [`write`] reads. What is not written counts in `dropped`.
    pub fn new(dropped: Counter) -> (Self, mpsc::Receiver<Note>) {
        let (notes, written) = mpsc::channel(QUEUE);
        (Self { notes, dropped }, written)
    }

    /// Says it, unless too much is waiting to be said. Never blocks.
    pub fn record(&self, mut note: Note) {
        let end = note.message.floor_char_boundary(MAX_MESSAGE_BYTES);
        note.message.truncate(end);
        if self.notes.try_send(note).is_err() {
            self.dropped.inc();
        }
    }
}

/// A recorder, and what writes for `node` for as long as it is polled.
pub fn recorder(client: Client, node: &str) -> (Recorder, impl Future<Output = ()> + use<>) {
    let dropped = Counter::default();
    let (recorder, notes) = Recorder::new(dropped.clone());
    (recorder, write(client, node.to_owned(), dropped, notes))
}

/// Writes what is noted for as long as it is polled.
pub async fn write(client: Client, node: String, dropped: Counter, mut notes: mpsc::Receiver<Note>) {
    let mut writer = Writer { client, node, dropped, correlator: Correlator::default() };
    while let Some(note) = notes.recv().await {
        writer.write(note).await;
    }
}

struct Writer {
    client: Client,
    node: String,
    dropped: Counter,
    correlator: Correlator,
}

impl Writer {
    async fn write(&mut self, note: Note) {
        let now = Timestamp::now();
        let occurrence = match self.correlator.judge(&note, now) {
            Verdict::Silent => {
                self.dropped.inc();
                return;
            }
            Verdict::Write(occurrence) => occurrence,
        };
        for attempt in 1..=ATTEMPTS {
            match self.send(&note, &occurrence, now).await {
                Ok(()) => return,
                // A server that cannot be reached now may be in a moment.
                Err(error) if attempt < ATTEMPTS && error.code().is_none_or(|code| code >= 500 || code == 429) => {
                    debug!(object = path(&note.about.key), error = %chain(&error), "an Event cannot be written yet");
                    tokio::time::sleep(WAIT).await;
                }
                Err(error) => {
                    let (object, reason) = (path(&note.about.key), note.reason.text());
                    warn!(object, reason, error = %chain(&error), "an Event is not written");
                    self.dropped.inc();
                    // Whether it exists is not known: the next one is a new one.
                    self.correlator.forget(&note);
                    return;
                }
            }
        }
    }

    async fn send(&self, note: &Note, occurrence: &Occurrence, now: Timestamp) -> Result<(), ClientError> {
        let events = format!("/api/v1/namespaces/{}/events", note.about.namespace());
        if occurrence.count > 1 {
            let patch = json!({"count": occurrence.count, "lastTimestamp": seconds(now)});
            match self.client.patch(&format!("{events}/{}", occurrence.name), MERGE_PATCH, &patch).await {
                // Events live for an hour.
                Err(error) if error.is_not_found() => {}
                outcome => return outcome.map(drop),
            }
        }
        let uid = self.uid(&note.about).await?;
        let event = event(note, occurrence, &uid, &self.node, now);
        match self.client.post(&events, &event).await {
            // An attempt whose answer was lost.
            Err(error) if error.is_conflict() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// The object's uid, without which `kubectl describe` does not find its Events; empty when it is gone.
    async fn uid(&self, about: &About) -> Result<String, ClientError> {
        if !about.uid.is_empty() {
            return Ok(about.uid.clone());
        }
        match self.client.get(&about.kind.path(&about.key)).await {
            Ok(object) => Ok(object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()),
            Err(error) if error.is_not_found() => Ok(String::new()),
            Err(error) => Err(error),
        }
    }
}

fn event(note: &Note, occurrence: &Occurrence, uid: &str, node: &str, now: Timestamp) -> Value {
    let About { kind, key, field_path, .. } = &note.about;
    let mut about = json!({"apiVersion": "v1", "kind": kind.text(), "name": &*key.name});
    for (field, value) in [("namespace", &*key.namespace), ("uid", uid), ("fieldPath", field_path)] {
        if !value.is_empty() {
            about[field] = json!(value);
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": occurrence.name, "namespace": note.about.namespace()},
        "involvedObject": about,
        "type": note.reason.kind(),
        "reason": note.reason.text(),
        "message": note.message,
        "count": occurrence.count,
        "firstTimestamp": seconds(occurrence.first),
        "lastTimestamp": seconds(now),
        "source": {"component": kind.component(), "host": node},
        "reportingComponent": kind.component(),
        "reportingInstance": node,
    })
}

/// Kubernetes' `Time`: whole seconds.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
