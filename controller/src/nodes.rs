//! The nodes in the store and the [`Machine`] that judges them: what it is told, and what it decides, written.
//!
//! At each look it is told what has changed and who was heard; what it decides goes through the store's writer like
//! anybody's write, and is stored before the next look. Nothing is decided here but how a decision is spelled.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use model::{Object, Resource};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{EventKind, Refusal, Store, Write};
use tokio::task::JoinSet;

use crate::events::{self, Note};
use crate::follow::{Follow, News};
use crate::lifecycle::{Census, Decision, Machine, Passed, Sign, Stored, Times};
use crate::writes::{self, COMPONENT};

/// Where the Leases of nodes are.
const LEASES: &str = "kube-node-lease";

/// Kubernetes' reason of a condition that is `Unknown` for a node's silence.
pub const SILENT: &str = "NodeStatusUnknown";

/// The reason of a node that is heard again, where its former one is not known: the server was started anew meanwhile.
const HEARD: &str = "NodeHeard";

/// Writes that are on their way at a time: one commit takes them all.
const WRITES_MOST: usize = 64;

pub(crate) struct Nodes {
    store: Store,
    clock: fn() -> Timestamp,
    machine: Machine,
    nodes: Follow,
    leases: Follow,
    known: BTreeMap<Box<str>, Known>,
    /// When each Lease was renewed, in its holder's words.
    renewed: BTreeMap<Box<str>, String>,
    /// Events that were written.
    events: u32,
}

/// What is remembered of a Node.
struct Known {
    uid: String,
    /// Reason and message of its condition before it was taken out.
    before: Option<(String, String)>,
}

impl Nodes {
    pub(crate) fn new(store: Store, clock: fn() -> Timestamp, times: Times) -> Self {
        Self {
            store,
            clock,
            machine: Machine::new(times),
            nodes: Follow::new(Resource::Nodes, None),
            leases: Follow::new(Resource::Leases, Some(LEASES)),
            known: BTreeMap::new(),
            renewed: BTreeMap::new(),
            events: 0,
        }
    }

    /// One look: what has changed, who has beaten and how long ago, what follows. Returns how the nodes are, and what was
    /// decided.
    pub(crate) async fn look(&mut self, passed: Passed, beats: Vec<(Box<str>, Duration)>) -> (Census, Vec<Decision>) {
        self.machine.pass(passed);
        self.read_nodes();
        self.read_leases();
        beats.iter().for_each(|(node, ago)| self.machine.hear(node, Sign::Beat, *ago));
        let decisions = self.machine.look();
        for some in decisions.chunks(WRITES_MOST) {
            let mut writes = JoinSet::new();
            for decision in some {
                for write in self.spell(decision) {
                    let store = self.store.clone();
                    writes.spawn(async move { store.write(write).await });
                }
            }
            while let Some(done) = writes.join_next().await {
                report(done.unwrap_or(Err(Refusal::Closed)).err());
            }
        }
        (self.machine.census(), decisions)
    }

    /// How long the next look can wait, if nothing is written before.
    pub(crate) fn rest(&self) -> Duration {
        self.machine.rest()
    }

    fn read_nodes(&mut self) {
        while let Some(news) = self.nodes.next(&self.store) {
            match news {
                News::All(nodes) => {
                    let gone: Vec<Box<str>> = self.known.keys().cloned().collect();
                    let there: HashSet<&str> = nodes.iter().map(|node| &*node.key.name).collect();
                    gone.iter().filter(|name| !there.contains(&***name)).for_each(|name| self.forget(name));
                    nodes.iter().for_each(|node| self.set(node));
                }
                News::Changes(events) => {
                    for event in events {
                        match event.kind {
                            EventKind::Deleted => self.forget(&event.object.key.name),
                            EventKind::Added | EventKind::Modified => self.set(&event.object),
                        }
                    }
                }
            }
        }
    }

    fn set(&mut self, object: &Object) {
        let (name, uid) = (&*object.key.name, object.meta().uid());
        if self.known.get(name).is_some_and(|known| known.uid != uid) {
            self.forget(name);
        }
        self.known.entry(name.into()).or_insert_with(|| Known { uid: uid.to_owned(), before: None });
        self.machine.set(name, stored(object));
    }

    fn forget(&mut self, name: &str) {
        self.known.remove(name);
        self.machine.forget(name);
    }

    fn read_leases(&mut self) {
        while let Some(news) = self.leases.next(&self.store) {
            match news {
                News::All(leases) => leases.iter().for_each(|lease| self.renewal(lease, true)),
                News::Changes(events) => {
                    for event in events {
                        match event.kind {
                            EventKind::Deleted => _ = self.renewed.remove(&event.object.key.name),
                            EventKind::Added | EventKind::Modified => self.renewal(&event.object, false),
                        }
                    }
                }
            }
        }
    }

    /// Only another time of renewal is a sign: anybody may write a label on a Lease.
    fn renewal(&mut self, lease: &Object, found: bool) {
        let name = &lease.key.name;
        let Some(renewed) = renew_time(&lease.bytes) else { return };
        match self.renewed.get_mut(name) {
            Some(known) if *known == renewed => {}
            Some(known) => {
                *known = renewed;
                self.machine.hear(name, Sign::Lease, Duration::ZERO);
            }
            None => {
                self.renewed.insert(name.clone(), renewed);
                if found {
                    self.machine.expect(name);
                } else {
                    self.machine.hear(name, Sign::Lease, Duration::ZERO);
                }
            }
        }
    }

    /// The writes that a decision is.
    fn spell(&mut self, decision: &Decision) -> Vec<Write> {
        let now = (self.clock)();
        match decision {
            Decision::TakeOut { node, silent } => {
                let Some(object) = self.store.get(Resource::Nodes, "", node) else { return Vec::new() };
                let silent = seconds(*silent);
                tracing::warn!(node = &**node, silent_seconds = silent, "a node is silent: it is not ready");
                if let Some(known) = self.known.get_mut(node) {
                    known.before = ready_condition(&object);
                }
                let text = format!("Node {node} status is now: NodeNotReady; it was not heard for {silent} s");
                let event = self.event(&object, Note { reason: "NodeNotReady", text, warns: false }, now);
                let message = format!("The node was not heard for {silent} s");
                vec![writes::ready(node, "Unknown", SILENT, &message, now), event]
            }
            Decision::TakeBack { node } => {
                let Some(object) = self.store.get(Resource::Nodes, "", node) else { return Vec::new() };
                tracing::info!(node = &**node, "a node is heard again: it is ready");
                let before = self.known.get_mut(node).and_then(|known| known.before.take());
                let (reason, message) =
                    before.unwrap_or_else(|| (HEARD.to_owned(), "The node is heard again".to_owned()));
                let text = format!("Node {node} status is now: NodeReady; it is heard again");
                let event = self.event(&object, Note { reason: "NodeReady", text, warns: false }, now);
                vec![writes::ready(node, "True", &reason, &message, now), event]
            }
            Decision::Damp { node, falls, hold } => {
                let Some(object) = self.store.get(Resource::Nodes, "", node) else { return Vec::new() };
                let until = writes::time(now.checked_add(*hold).unwrap_or(Timestamp::MAX));
                tracing::warn!(node = &**node, falls, until, "a node comes and goes: it is not taken back before");
                let text = format!(
                    "Node {node} has fallen silent {falls} times within a short time; it stays not ready until {until}, \
                     and longer if it falls silent again before"
                );
                vec![self.event(&object, Note { reason: "NodeFlapping", text, warns: true }, now)]
            }
            Decision::Spare { silent, of } => {
                tracing::warn!(silent, of, "most nodes are silent at once: no node is taken out");
                let text = format!(
                    "{silent} of {of} nodes that were ready are silent at once. That is most likely this server's own \
                     network: no node is taken out until most are heard again"
                );
                self.about_the_server(Note { reason: "NodesSilent", text, warns: true }, now)
            }
            Decision::Relent { lasted } => {
                let lasted = seconds(*lasted);
                tracing::info!(seconds = lasted, "most nodes are heard again");
                let text = format!(
                    "Most nodes are heard again after {lasted} s; from now on nodes that stay silent are taken out"
                );
                self.about_the_server(Note { reason: "NodesHeard", text, warns: false }, now)
            }
        }
    }

    fn event(&mut self, about: &Object, note: Note, now: Timestamp) -> Write {
        self.events = self.events.wrapping_add(1);
        events::about(about, &note, COMPONENT, now, self.events)
    }

    /// What concerns all nodes is said of the Service by which they know the server.
    fn about_the_server(&mut self, note: Note, now: Timestamp) -> Vec<Write> {
        let service = self.store.get(Resource::Services, "default", "kubernetes");
        service.map(|service| self.event(&service, note, now)).into_iter().collect()
    }
}

/// What a refused write means: it is decided again at the next look.
fn report(refusal: Option<Refusal>) {
    match refusal {
        // Whoever deleted the Node meanwhile has seen to it.
        None | Some(Refusal::NotFound { .. }) => {}
        Some(error) => tracing::warn!(component = COMPONENT, %error, "what follows for a node was not stored"),
    }
}

fn stored(object: &Object) -> Stored {
    let condition = object.node().and_then(|node| node.ready_condition());
    match condition {
        None => Stored::Ready,
        Some(condition) if condition.status == "True" => Stored::Ready,
        Some(condition) if condition.status == "Unknown" && condition.reason == SILENT => Stored::Silent,
        Some(_) => Stored::Otherwise,
    }
}

/// Reason and message of a Node's `Ready`, if it has one.
fn ready_condition(object: &Object) -> Option<(String, String)> {
    let value: Value = object.value().ok()?;
    let condition = value["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == json!("Ready"))?;
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    Some((text("reason"), text("message")))
}

fn renew_time(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Lease {
        spec: Option<Spec>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        renew_time: Option<String>,
    }
    serde_json::from_slice::<Lease>(bytes).ok()?.spec?.renew_time
}

/// With one digit after the point.
fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}
