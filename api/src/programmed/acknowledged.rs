//! What each node has said that its kernel has, and what follows from it. Pure: time comes in as an argument.
//!
//! **The rule.** An agent's revision of a resource moves with the events and bookmarks of that resource alone. So what a
//! node must have is never "the newest revision" but that of the last change *of that resource* ([`Target`]): an agent
//! that has seen it has said so, and one that has not will, without further traffic.
//!
//! A revision that this server has not given out yet was another database's (a backup was restored): it counts as
//! nothing.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use model::{Resource, Revision};
use serde::Deserialize;
use tokio::time::Instant;

use super::leases::Leases;

/// A node that has acknowledged within this time is live, whatever its Lease says: four times an agent's pause.
pub const LIVE_FOR: Duration = Duration::from_secs(40);
/// An acknowledgement that is older than this makes room for another node's.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Nodes that may acknowledge beyond those that there are objects of.
const MARGIN: usize = 64;
/// Refused Services that one node may name.
const MAX_REFUSED: usize = 1000;
/// Bytes of one of them: namespace, name and cause together.
const MAX_REFUSED_BYTES: usize = 1024;
/// Bytes of what tells an agent's process from another.
const MAX_AGENT_BYTES: usize = 64;
/// All agents together acknowledge every change no more often than this, up to five thousand of them.
const EACH: Duration = Duration::from_millis(1);
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// The time by both clocks: what a Lease says is in the wall's, what is measured here is not.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub wall: Timestamp,
    pub instant: Instant,
}

/// The body of an acknowledgement, read where it lies.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement<'a> {
    #[serde(borrow, default)]
    pub api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    pub agent: Cow<'a, str>,
    #[serde(borrow)]
    pub revisions: Told<'a>,
    #[serde(borrow, default)]
    pub refused: Vec<Refusal<'a>>,
}

/// By resource.
#[derive(Debug, Deserialize)]
pub struct Told<'a> {
    #[serde(borrow)]
    pub services: Cow<'a, str>,
    #[serde(borrow)]
    pub endpointslices: Cow<'a, str>,
    #[serde(borrow)]
    pub nodes: Cow<'a, str>,
    #[serde(borrow)]
    pub servicecidrs: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
pub struct Refusal<'a> {
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub error: Cow<'a, str>,
}

/// Why an acknowledgement is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Field {
        field: String,
        problem: String,
    },
    /// So many nodes acknowledge, more than there are.
    Full(usize),
}

/// The resources that an agent follows, and programs by.
pub const FOLLOWED: [Resource; 4] =
    [Resource::Services, Resource::EndpointSlices, Resource::Nodes, Resource::ServiceCidrs];

/// Where [`FOLLOWED`] has the EndpointSlices.
const SLICES: usize = 1;

/// A revision of each of [`FOLLOWED`].
pub type Revisions = [Revision; FOLLOWED.len()];

/// What every node must have of each resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target(pub Revisions);

impl Target {
    /// The revision that this is about.
    pub fn revision(self) -> Revision {
        self.0.into_iter().max().unwrap_or(0)
    }
}

/// A Service by its namespace and name.
pub type ServiceName<'a> = (&'a str, &'a str);

/// One live node, as judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub name: String,
    pub programmed: bool,
    /// How far this node is: in the resource that lags, if one does.
    pub revision: Revision,
    /// Since it acknowledged last; None: never.
    pub age: Option<Duration>,
    /// What its kernel refused.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Node {
    agent: Box<str>,
    revisions: Revisions,
    refused: Box<[Refused]>,
    at: Instant,
}

#[derive(Debug, PartialEq, Eq)]
struct Refused {
    namespace: Box<str>,
    name: Box<str>,
    error: Box<str>,
}

/// By the node's name.
#[derive(Debug, Default)]
pub struct Acknowledged {
    nodes: BTreeMap<Box<str>, Node>,
}

impl Acknowledged {
    /// Takes one in; whether it said anything new. `nodes` counts the Node objects, and is asked for a node that was not
    /// known alone: the others cost no look at the store and no allocation.
    ///
    /// # Errors
    /// When it is not fit; nothing has changed then.
    pub fn take(
        &mut self,
        node: &str,
        acknowledgement: &Acknowledgement<'_>,
        now: Instant,
        nodes: impl FnOnce() -> usize,
    ) -> Result<bool, Unfit> {
        let revisions = check(acknowledgement)?;
        if let Some(known) = self.nodes.get_mut(node) {
            let same = known.revisions == revisions && known.refuses(acknowledgement);
            known.at = now;
            if *known.agent != *acknowledgement.agent {
                known.agent = acknowledgement.agent.as_ref().into();
            }
            if !same {
                known.revisions = revisions;
                known.refused = refused(acknowledgement);
            }
            return Ok(!same);
        }
        self.nodes.retain(|_, known| now.saturating_duration_since(known.at) < FORGOTTEN_AFTER);
        if self.nodes.len() >= nodes().saturating_add(MARGIN) {
            return Err(Unfit::Full(self.nodes.len()));
        }
        let agent = acknowledgement.agent.as_ref().into();
        let refused = refused(acknowledgement);
        self.nodes.insert(node.into(), Node { agent, revisions, refused, at: now });
        Ok(true)
    }

    /// How long an agent is to wait before its next acknowledgement, however much changes.
    pub fn interval(&self) -> Duration {
        EACH.saturating_mul(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).clamp(MIN_INTERVAL, MAX_INTERVAL)
    }

    /// How every live node stands to `target`, by name. A node that refused `service` does not have it. `current` is the
    /// newest revision that this server has given out.
    pub fn judge(
        &self,
        target: Target,
        service: Option<ServiceName<'_>>,
        current: Revision,
        leases: &Leases,
        now: Moment,
    ) -> Vec<Standing> {
        let mut all: Vec<Standing> = self
            .live(leases, now)
            .map(|(name, node)| match node {
                Some(node) => node.stand(name, target, service, current, now.instant),
                None => Standing { name: name.to_owned(), programmed: false, revision: 0, age: None, error: None },
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The least revision of EndpointSlices that a live node has, of those that have said anything. None: nobody has.
    pub fn least_slices(&self, current: Revision, leases: &Leases, now: Moment) -> Option<Revision> {
        self.live(leases, now).filter_map(|(_, node)| node.map(|node| node.had(current)[SLICES])).min()
    }

    /// Live nodes: those whose Lease holds, and those that have acknowledged a short while ago.
    fn live<'a>(&'a self, leases: &'a Leases, now: Moment) -> impl Iterator<Item = (&'a str, Option<&'a Node>)> {
        let spoke = self.nodes.iter().filter(move |(name, node)| {
            now.instant.saturating_duration_since(node.at) < LIVE_FOR || leases.holds(name, now.wall)
        });
        let silent = leases.live(now.wall).filter(|name| !self.nodes.contains_key(*name));
        spoke.map(|(name, node)| (&**name, Some(node))).chain(silent.map(|name| (name, None)))
    }
}

impl Node {
    /// What it has of each resource.
    fn had(&self, current: Revision) -> Revisions {
        self.revisions.map(|revision| if revision > current { 0 } else { revision })
    }

    fn stand(
        &self,
        name: &str,
        target: Target,
        service: Option<ServiceName<'_>>,
        current: Revision,
        now: Instant,
    ) -> Standing {
        let had = self.had(current);
        let lagging = had.into_iter().zip(target.0).filter(|(had, wanted)| had < wanted).map(|(had, _)| had).min();
        let error = self.error(service);
        Standing {
            name: name.to_owned(),
            programmed: lagging.is_none() && (error.is_none() || service.is_none()),
            revision: lagging.unwrap_or(had.into_iter().max().unwrap_or(0)),
            age: Some(now.saturating_duration_since(self.at)),
            error,
        }
    }

    /// What the kernel refused of this Service; without one, what it refused at all.
    fn error(&self, service: Option<ServiceName<'_>>) -> Option<String> {
        let Some((namespace, name)) = service else {
            let first = self.refused.first()?;
            let more = match self.refused.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            return Some(format!("{}/{}: {}{more}", first.namespace, first.name, first.error));
        };
        let refused = self.refused.iter().find(|r| (&*r.namespace, &*r.name) == (namespace, name))?;
        Some(if refused.error.is_empty() { "refused".to_owned() } else { refused.error.to_string() })
    }

    fn refuses(&self, acknowledgement: &Acknowledgement<'_>) -> bool {
        let pairs = self.refused.iter().zip(&acknowledgement.refused);
        self.refused.len() == acknowledgement.refused.len()
            && pairs.into_iter().all(|(known, told)| {
                (&*known.namespace, &*known.name, &*known.error) == (&*told.namespace, &*told.name, &*told.error)
            })
    }
}

fn refused(acknowledgement: &Acknowledgement<'_>) -> Box<[Refused]> {
    let refusals = acknowledgement.refused.iter();
    refusals
        .map(|told| Refused {
            namespace: told.namespace.as_ref().into(),
            name: told.name.as_ref().into(),
            error: told.error.as_ref().into(),
        })
        .collect()
}

/// Whether it is within its bounds; its revisions.
fn check(acknowledgement: &Acknowledgement<'_>) -> Result<Revisions, Unfit> {
    let unfit = |field: &str, problem: String| Unfit::Field { field: field.to_owned(), problem };
    let Acknowledgement { agent, revisions: told, refused, .. } = acknowledgement;
    if agent.is_empty() || agent.len() > MAX_AGENT_BYTES {
        return Err(unfit("agent", format!("must have 1 to {MAX_AGENT_BYTES} bytes")));
    }
    if refused.len() > MAX_REFUSED {
        return Err(unfit("refused", format!("must have at most {MAX_REFUSED} items")));
    }
    let bytes = |told: &Refusal<'_>| told.namespace.len() + told.name.len() + told.error.len();
    if let Some(index) = refused.iter().position(|told| bytes(told) > MAX_REFUSED_BYTES) {
        return Err(unfit(&format!("refused[{index}]"), format!("must have at most {MAX_REFUSED_BYTES} bytes")));
    }
    let mut revisions = Revisions::default();
    let texts = [&told.services, &told.endpointslices, &told.nodes, &told.servicecidrs];
    for ((revision, resource), text) in revisions.iter_mut().zip(FOLLOWED).zip(texts) {
        *revision =
            text.parse().map_err(|_| unfit(&format!("revisions.{resource}"), format!("{text:?} is no revision")))?;
    }
    Ok(revisions)
}
