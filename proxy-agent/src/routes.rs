//! The question where packets go in this node's kernel, and its answer, as both ends write it.
//!
//! `{"kind":"Route","packets":[{"client":"10.244.1.2","origin":"Pod","destination":"10.96.0.10","protocol":"UDP","port":53}]}`
//! is answered by `{"kind":"Routes","revision":"12","node":{…},"verdicts":[…]}`. The verdicts are read from the kernel's
//! own sets, element by element, or from its rules, on a thread of its own; the agent's memory of what it wrote has no part in them. Only
//! what the agent was told on its command line comes from there (`node`), since nobody else knows that.
//!
//! An answer lists a bounded number of endpoints and is made in bounded time, so there may be fewer verdicts than packets:
//! ask again for the rest.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dataplane::nftables::inspect::Inspector;
use dataplane::nftables::walk::Way;
use dataplane::{Candidate, Local, NodePlan, Origin, Packet, Plan, Source, Verdict, compile};
use ipnet::IpNet;
use model::Key;
use model::snapshot::Snapshot;
use model::types::Protocol;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::questions::{Answer, refusal};
use crate::{chain, path};

/// Packets in one question.
pub const MAX_PACKETS: usize = 1000;
/// Endpoints in one answer, some 90 bytes each; the server takes 1 MiB.
const MAX_ENDPOINTS: usize = 8000;
/// After which an answer goes out with what it has: whoever asked waits for 10 s.
const MAX_TIME: Duration = Duration::from_secs(3);

/// How far an endpoint's part may be from its share, relatively: the kernel draws again where a draw misses, but not for
/// ever.
const TOLERANCE: f64 = 0.01;
/// Differences of one packet that are told.
const MAX_DIFFERENCES: usize = 10;

/// `kind` of the question.
pub const ROUTE: &str = "Route";
/// `kind` of the answer.
pub const ROUTES: &str = "Routes";

/// The question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub kind: String,
    pub packets: Vec<Asked>,
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub client: IpAddr,
    #[serde(with = "Whence")]
    pub origin: Origin,
    pub destination: IpAddr,
    #[serde(with = "Transport")]
    pub protocol: Protocol,
    pub port: u16,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routes {
    pub kind: String,
    /// Of the plan that is programmed.
    pub revision: String,
    pub node: Told,
    /// What of the kernel's chains and rules is not what the agent writes. The verdicts then say what these would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tampered: Option<String>,
    /// In the order of the packets; at least one, if there were any.
    pub verdicts: Vec<Routed>,
}

/// What the agent's flags, and what it does beside programming, make of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub node_port_ranges: Vec<IpNet>,
    pub localhost_node_ports: bool,
    pub masqueraded_clients: Vec<IpNet>,
    /// The Service whose DNS it answers itself, `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routed {
    pub verdict: Outcome,
    /// Sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Chance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// The client was here before and goes where it went then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub remembered: bool,
    /// The chains on the way, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<String>,
    /// Why it could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Endpoints,
    Reject,
    Drop,
    NotOurs,
    Here,
    #[default]
    Unknown,
}

/// An endpoint, and how likely it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    pub endpoint: SocketAddr,
    pub masqueraded: bool,
    pub probability: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Origin")]
enum Whence {
    Pod,
    ThisNode,
    Outside,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Protocol", rename_all = "UPPERCASE")]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// What can read out of the kernel where packets go.
pub trait Inspect: Send {
    /// What the kernel has that the agent did not write, or lacks of it, when it has programmed `plan`. `None`: nothing.
    fn difference(&mut self, plan: &Plan) -> Option<String>;

    /// Where each packet goes, looked up as it is asked for.
    fn ways<'a>(&'a mut self, packets: &'a [Packet]) -> Box<dyn Iterator<Item = Routed> + 'a>;
}

impl Inspect for Inspector {
    /// Of the constant part; elements are what [`Inspect::ways`] looks at.
    fn difference(&mut self, _plan: &Plan) -> Option<String> {
        Self::difference(self).unwrap_or_else(|error| Some(chain(&error)))
    }

    fn ways<'a>(&'a mut self, packets: &'a [Packet]) -> Box<dyn Iterator<Item = Routed> + 'a> {
        Box::new(Self::ways(self, packets).map(Routed::from))
    }
}

/// Which answers questions about routes; shared with the threads that do.
#[derive(Clone)]
pub struct Desk(Arc<Mutex<dyn Inspect>>);

impl Desk {
    pub fn new(inspector: impl Inspect + 'static) -> Self {
        Self(Arc::new(Mutex::new(inspector)))
    }

    /// The answer to a question of kind [`ROUTE`] at a node that has programmed `plan`.
    pub fn answer(&self, plan: &Plan, question: &Value) -> Answer {
        let packets = match packets(question) {
            Ok(packets) => packets,
            Err(problem) => return Answer::Now(refusal(problem)),
        };
        let (plan, inspector) = (plan.clone(), Arc::clone(&self.0));
        Answer::Later(Box::new(move || {
            let mut inspector = inspector.lock().unwrap_or_else(PoisonError::into_inner);
            let (revision, node) = (plan.revision.to_string(), Told::of(&plan.node));
            let tampered = inspector.difference(&plan);
            let begun = Instant::now();
            let verdicts = up_to(inspector.ways(&packets), MAX_ENDPOINTS, || begun.elapsed() < MAX_TIME);
            json!(Routes { kind: ROUTES.to_owned(), revision, node, tampered, verdicts })
        }))
    }
}

fn packets(question: &Value) -> Result<Vec<Packet>, String> {
    let question: Question = Question::deserialize(question).map_err(|error| format!("no packets: {error}"))?;
    if question.packets.len() > MAX_PACKETS {
        return Err(format!("{} packets; at most {MAX_PACKETS} can be asked for at a time", question.packets.len()));
    }
    Ok(question.packets.into_iter().map(Packet::from).collect())
}

/// As many verdicts as have so many endpoints together and are made in time, but at least one.
fn up_to(verdicts: impl Iterator<Item = Routed>, most: usize, mut in_time: impl FnMut() -> bool) -> Vec<Routed> {
    let mut endpoints = 0;
    let mut first = true;
    let fits = |verdict: &Routed| {
        endpoints += verdict.endpoints.len();
        std::mem::take(&mut first) || (endpoints <= most && in_time())
    };
    verdicts.take_while(fits).collect()
}

impl From<Asked> for Packet {
    fn from(asked: Asked) -> Self {
        let Asked { client, origin, destination, protocol, port } = asked;
        Self { client, origin, destination, protocol, port, here: false }
    }
}

impl From<&Packet> for Asked {
    fn from(packet: &Packet) -> Self {
        let Packet { client, origin, destination, protocol, port, here: _ } = *packet;
        Self { client, origin, destination, protocol, port }
    }
}

impl Told {
    fn of(node: &NodePlan) -> Self {
        Self {
            node_port_ranges: node.node_port_ranges.clone(),
            localhost_node_ports: node.localhost_node_ports,
            masqueraded_clients: node.masqueraded_clients.clone(),
            dns: node.dns.as_ref().map(path),
        }
    }

    /// The plan of the node `name` as its agent makes it.
    pub fn plan(&self, snapshot: &Snapshot, name: &str) -> Plan {
        let dns = self.dns.as_ref().and_then(|dns| dns.split_once('/'));
        let dns = dns.map(|(namespace, name)| Key::new(namespace, name));
        let mut plan = compile(snapshot, &Local { dns, ..Local::new(name) });
        self.tell(&mut plan.node);
        plan
    }

    fn tell(&self, node: &mut NodePlan) {
        node.node_port_ranges.clone_from(&self.node_port_ranges);
        node.localhost_node_ports = self.localhost_node_ports;
        node.masqueraded_clients.clone_from(&self.masqueraded_clients);
    }
}

impl<E: std::error::Error> From<Result<Way, E>> for Routed {
    fn from(way: Result<Way, E>) -> Self {
        let way = match way {
            Ok(way) => way,
            Err(error) => return Self::unknown(&chain(&error)),
        };
        let (verdict, candidates, affinity_seconds) = match way.verdict {
            Verdict::Endpoints { candidates, affinity_seconds } => (Outcome::Endpoints, candidates, affinity_seconds),
            Verdict::Reject => (Outcome::Reject, Vec::new(), None),
            Verdict::Drop => (Outcome::Drop, Vec::new(), None),
            Verdict::Here => (Outcome::Here, Vec::new(), None),
            Verdict::NotOurs => (Outcome::NotOurs, Vec::new(), None),
        };
        let chance = |(Candidate { endpoint, source, .. }, probability): (Candidate, f64)| Chance {
            endpoint,
            masqueraded: source == Source::Masqueraded,
            probability,
        };
        let endpoints = candidates.into_iter().zip(way.probabilities).map(chance).collect();
        Self { verdict, endpoints, affinity_seconds, remembered: way.remembered, chains: way.chains, error: None }
    }
}

impl Routed {
    /// It cannot be told where a packet goes, for this reason.
    pub fn unknown(error: &str) -> Self {
        Self { error: Some(error.to_owned()), ..Self::default() }
    }

    /// Where the kernel differs from what is `expected` of it, in words.
    pub fn differences(&self, expected: &Verdict) -> Vec<String> {
        if let Some(error) = &self.error {
            return vec![error.clone()];
        }
        let (outcome, candidates, seconds) = match expected {
            Verdict::Endpoints { candidates, affinity_seconds } => {
                (Outcome::Endpoints, &**candidates, *affinity_seconds)
            }
            Verdict::Reject => (Outcome::Reject, &[][..], None),
            Verdict::Drop => (Outcome::Drop, &[][..], None),
            Verdict::Here => (Outcome::Here, &[][..], None),
            Verdict::NotOurs => (Outcome::NotOurs, &[][..], None),
        };
        if self.verdict != outcome {
            return vec![format!("{}; expected: {}", self.verdict.words(), outcome.words())];
        }
        let total: f64 = candidates.iter().map(|c| f64::from(c.share)).sum();
        let expected: BTreeMap<SocketAddr, (bool, f64)> = candidates
            .iter()
            .map(|c| (c.endpoint, (c.source == Source::Masqueraded, f64::from(c.share) / total)))
            .collect();
        let found: BTreeMap<SocketAddr, &Chance> = self.endpoints.iter().map(|c| (c.endpoint, c)).collect();
        let mut differences = Vec::new();
        if self.affinity_seconds != seconds {
            let words = |seconds: Option<u32>| seconds.map_or("not".to_owned(), |s| format!("for {s} s"));
            let (is, should) = (words(self.affinity_seconds), words(seconds));
            differences.push(format!("remembers the client {is} instead of {should}"));
        }
        // A client that is remembered goes to one endpoint alone.
        if !self.remembered {
            let lacking = expected.keys().filter(|endpoint| !found.contains_key(endpoint));
            differences.extend(lacking.map(|endpoint| format!("lacks endpoint {endpoint}")));
        }
        for (endpoint, chance) in found {
            let Some((masqueraded, probability)) = expected.get(&endpoint) else {
                differences.push(format!("has endpoint {endpoint}, which is none"));
                continue;
            };
            if chance.masqueraded != *masqueraded {
                let verb = if chance.masqueraded { "hides the client from" } else { "shows the client to" };
                differences.push(format!("{verb} {endpoint}"));
            }
            if !self.remembered && (chance.probability - probability).abs() > TOLERANCE * probability {
                let (is, should) = (chance.probability * 100.0, probability * 100.0);
                differences.push(format!("gives {endpoint} {is:.2} % instead of {should:.2} %"));
            }
        }
        if differences.len() > MAX_DIFFERENCES {
            let more = differences.len() - MAX_DIFFERENCES;
            differences.truncate(MAX_DIFFERENCES);
            differences.push(format!("and {more} more"));
        }
        differences
    }
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::Endpoints => "it is forwarded",
            Self::Reject => "it is rejected",
            Self::Drop => "it is dropped",
            Self::NotOurs => "it is left alone",
            Self::Here => "the node answers itself",
            Self::Unknown => "nobody knows",
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
