//! Why a packet goes where it goes, in words: what the oracle says ([`crate::route()`]), and what of the cluster makes it say
//! that. Pure: the cluster's objects come in as a value, a text comes out.
//!
//! A trace has a head (who sends, where to: [`resolve`]) and a hop for each node whose rules the packet meets as the first
//! packet of a connection. The caller walks it hop by hop, because only a node's agent knows what it was told on its
//! command line, and may ask its kernel for its own verdict on the way:
//!
//! ```text
//! let (head, mut next) = resolve(&cluster, &request)?;
//! while let Some(step) = next {
//!     let plan = …;                                   // the node's
//!     let hop = Hop::of(&cluster, &plan, &step);
//!     next = hop.next(&cluster, &step);
//! }
//! ```
//!
//! Nothing here decides where a packet goes. A reason is looked for after the verdict; if none is found, the verdict
//! stands without one rather than with a wrong one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::Key;
use model::snapshot::Snapshot;
use model::types::{Pod, Protocol};
use serde::{Serialize, Serializer};

use crate::plan::{FrontendKind, Plan};
use crate::route::{Origin, Packet, Source, Verdict, frontend, route};

mod endpoints;
mod probes;
mod reasons;
mod resolve;
#[cfg(test)]
mod tests;
mod text;

pub use probes::{Oracle, Probe, probes};
pub use resolve::{Problem, Request, resolve};

/// What is known of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub snapshot: Snapshot,
    pub pods: BTreeMap<Key, Pod>,
}

/// Who sends the packet, and what it asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// E.g. `pod default/client on node-1`.
    pub from: String,
    pub client: IpAddr,
    /// As it was asked for.
    pub to: String,
    /// How that leads to an address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name: Vec<String>,
    /// `None`: it leads to none, as the last line of `name` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<SocketAddr>,
}

/// A packet at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub node: String,
    pub packet: Packet,
}

/// What one node does with the packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    pub node: String,
    /// `Pod`, `ThisNode` or `Outside`.
    #[serde(serialize_with = "origin")]
    pub origin: Origin,
    /// What takes the packet, e.g. `ClusterIP of Service default/web, port http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<String>,
    pub outcome: Outcome,
    /// Why it is not forwarded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What would change that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Way>,
    /// How these were chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choice: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// What the node's kernel says, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// To one of the endpoints.
    Forwarded,
    Rejected,
    Dropped,
    /// By a process of the node, at the address that was asked.
    AnsweredHere,
    /// The node's rules leave it alone.
    Untouched,
}

/// An endpoint that the connection may go to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    pub endpoint: SocketAddr,
    /// 0 to 1.
    pub probability: f64,
    /// `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whom the endpoint takes for its client.
    pub sees: String,
    pub reply: Reply,
}

/// How an answer comes back to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Reply {
    /// The endpoint is on the node, so it passes there.
    FromHere,
    /// The endpoint answers the node.
    ToTheNode,
    /// The client is on the node, so it passes there.
    ToTheClientHere,
    /// The endpoint answers the client, and nothing makes that pass the node.
    PastTheNode,
}

/// What a node's kernel says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    pub agrees: bool,
    /// Where it does not, or why it was not learnt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Of the newest object that the node has programmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The chains on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<String>,
    /// The client was here before, and goes to the one endpoint that it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<SocketAddr>,
}

impl Hop {
    /// What the node of `plan`, which is the step's, does with the packet.
    pub fn of(cluster: &Cluster, plan: &Plan, step: &Step) -> Self {
        let packet = &step.packet;
        let verdict = route(plan, packet);
        let found = frontend(plan, packet);
        let scene = Scene { cluster, plan, node: &step.node, packet, found };
        let mut hop = Self {
            node: step.node.clone(),
            origin: packet.origin,
            frontend: scene.frontend(),
            outcome: match verdict {
                Verdict::Endpoints { .. } => Outcome::Forwarded,
                Verdict::Reject => Outcome::Rejected,
                Verdict::Drop => Outcome::Dropped,
                Verdict::Here => Outcome::AnsweredHere,
                Verdict::NotOurs => Outcome::Untouched,
            },
            reasons: Vec::new(),
            remedies: Vec::new(),
            endpoints: Vec::new(),
            choice: Vec::new(),
            affinity_seconds: None,
            kernel: None,
        };
        if let Verdict::Endpoints { candidates, affinity_seconds } = verdict {
            let total: f64 = candidates.iter().map(|c| f64::from(c.share)).sum();
            hop.affinity_seconds = affinity_seconds;
            hop.choice = scene.choice(&candidates);
            hop.endpoints = candidates
                .iter()
                .map(|c| scene.way(c.endpoint, c.source == Source::Masqueraded, f64::from(c.share) / total))
                .collect();
        } else {
            (hop.reasons, hop.remedies) = scene.why(&verdict);
        }
        hop
    }

    /// Where the packet meets rules again as one that nobody has translated yet: a node's address that another node has
    /// left alone.
    pub fn next(&self, cluster: &Cluster, step: &Step) -> Option<Step> {
        let destination = step.packet.destination;
        let node = resolve::node_with(&cluster.snapshot, destination).filter(|_| self.outcome == Outcome::Untouched)?;
        let packet = Packet { origin: Origin::Outside, here: true, ..step.packet };
        (node != self.node).then(|| Step { node: node.to_owned(), packet })
    }
}

/// A packet at a node, with everything that may explain what becomes of it.
struct Scene<'a> {
    cluster: &'a Cluster,
    plan: &'a Plan,
    node: &'a str,
    packet: &'a Packet,
    found: Option<crate::route::Found<'a>>,
}

impl Scene<'_> {
    fn frontend(&self) -> Option<String> {
        let found = self.found?;
        let kind = match found.frontend.kind {
            FrontendKind::ClusterIp => "ClusterIP",
            FrontendKind::ExternalIp => "external IP",
            FrontendKind::LoadBalancer => "load balancer's address",
            FrontendKind::NodePort => "node port",
        };
        let port = self.port().filter(|port| !port.name.is_empty());
        let port = port.map(|port| format!(", port {}", port.name)).unwrap_or_default();
        Some(format!("{kind} of Service {}{port}", path(found.key)))
    }

    /// The Service of the frontend, as the cluster has it.
    fn service(&self) -> Option<&model::types::Service> {
        self.cluster.snapshot.services.get(self.found?.key).map(|service| &**service)
    }

    /// The port of the Service that the frontend stands for.
    fn port(&self) -> Option<&model::types::ServicePort> {
        let frontend = self.found?.frontend;
        let number = |port: &model::types::ServicePort| match frontend.kind {
            FrontendKind::NodePort => port.node_port,
            _ => port.port,
        };
        self.service()?.spec.ports.iter().find(|port| {
            number(port) == i32::from(frontend.port) && Protocol::parse(&port.protocol) == Some(frontend.protocol)
        })
    }
}

fn origin<S: Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match origin {
        Origin::Pod => "Pod",
        Origin::ThisNode => "ThisNode",
        Origin::Outside => "Outside",
    })
}

/// `namespace/name`.
fn path(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// `a`, `a and b`, `a, b and c`.
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// The first few, and how many there are beside them.
fn few(mut words: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 5;
    let more = words.len().saturating_sub(SHOWN);
    words.truncate(SHOWN);
    words.extend((more > 0).then(|| format!("{more} more")));
    words
}
