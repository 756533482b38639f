//! Which edge nodes this node knows, and how answers find back to them.
//!
//! Edge nodes that keep their clients' addresses stand in the status of LoadBalancers, with where they are on the network. For
//! each this node has a number, by which connections are marked and their answers routed (`dataplane::detour`). A number is
//! kept as long as nobody else needs it, also when the edge node holds nothing at the moment: connections that came through
//! it go on. What the routes of the kernel say is found again by an agent that follows.
//!
//! [`assign`] decides; [`Detours`] carries it out; [`Keeping`] is what the core loop has of it. LoadBalancers are watched apart
//! from what the plan follows from, and the first plan waits for them for a moment only. An edge node that the kernel has no way to, because it is on no network
//! of this machine, has no number, and the answers to its clients go their usual way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::detour::{self, Found};
use dataplane::nftables::netlink::NetlinkError;
use dataplane::plan::MAX_EDGES;
use dataplane::{EdgeNeighbor, Family};
use model::Resource;
use model::types::{EdgeAddress, LoadBalancer};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::chain;
use crate::client::Client;
use crate::lineage::{Epoch, Lineage};
use crate::objects::{Decoded, Noun};
use crate::reflector::{self, News, Update};

#[cfg(test)]
mod tests;

/// How long the first plan waits for the list of LoadBalancers. Without it the kernel would forget edge nodes over the restart
/// of an agent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Updates that wait to be folded.
const QUEUE: usize = 64;
/// How long after a refusal the kernel is asked again.
const RETRY: Duration = Duration::from_secs(10);

/// The routes of the kernel.
pub trait Routing: Send {
    /// # Errors
    /// When the kernel does not answer.
    fn list(&self) -> Result<Found, NetlinkError>;

    /// # Errors
    /// When the kernel refuses.
    fn set(&self, number: u8, gateway: IpAddr) -> Result<(), NetlinkError>;

    /// # Errors
    /// When the kernel refuses.
    fn remove(&self, number: u8, family: Family) -> Result<(), NetlinkError>;
}

impl Routing for detour::Detours {
    fn list(&self) -> Result<Found, NetlinkError> {
        self.list()
    }

    fn set(&self, number: u8, gateway: IpAddr) -> Result<(), NetlinkError> {
        self.set(number, gateway)
    }

    fn remove(&self, number: u8, family: Family) -> Result<(), NetlinkError> {
        self.remove(number, family)
    }
}

/// LoadBalancers by name; `None` before they were listed.
type Balancers = Option<Arc<BTreeMap<String, Arc<LoadBalancer>>>>;

/// The core loop's part.
pub struct Keeping {
    balancers: watch::Receiver<Balancers>,
    detours: Detours,
    due: bool,
    /// The first plan waits until then.
    awaited: Option<Instant>,
}

impl Keeping {
    fn new(balancers: watch::Receiver<Balancers>, routing: Box<dyn Routing>, now: Instant) -> Self {
        Self { balancers, detours: Detours::new(routing), due: false, awaited: now.checked_add(PATIENCE) }
    }

    /// Completes when [`Keeping::settle`] has something to do. May be dropped and called again.
    pub async fn moved(&mut self) {
        if self.balancers.changed().await.is_err() {
            std::future::pending().await
        }
        self.due = true;
    }

    /// When the core loop is to look again although nothing has moved.
    pub fn retry_at(&self) -> Option<Instant> {
        self.awaited.or(self.detours.retry_at)
    }

    /// Whether the first plan is to wait.
    pub fn awaits(&mut self, now: Instant) -> bool {
        self.awaited = self.awaited.filter(|until| now < *until && self.balancers.borrow().is_none());
        self.awaited.is_some()
    }

    /// Who is to be marked, where that may have changed.
    pub fn settle(&mut self, now: Instant) -> Option<Vec<EdgeNeighbor>> {
        let retry = self.detours.retry_at.is_some_and(|at| at <= now);
        if !std::mem::take(&mut self.due) && !retry {
            return None;
        }
        let balancers = self.balancers.borrow_and_update().clone();
        Some(self.detours.settle(balancers?.as_ref(), now))
    }
}

/// Watches LoadBalancers for as long as `tasks` is there.
pub fn keep(
    tasks: &mut JoinSet<()>,
    client: &Client,
    lineage: &Lineage,
    chance: impl FnMut() -> u64 + Send + 'static,
    routing: Box<dyn Routing>,
) -> Keeping {
    let (sender, updates) = mpsc::channel(QUEUE);
    let (shown, balancers) = watch::channel(None);
    tasks.spawn(reflector::follow(client.clone(), lineage.clone(), Resource::LoadBalancers, sender, chance));
    tasks.spawn(fold(updates, shown));
    Keeping::new(balancers, routing, Instant::now())
}

/// Shows what the updates come to.
async fn fold(mut updates: mpsc::Receiver<News>, shown: watch::Sender<Balancers>) {
    let mut newest: Epoch = 0;
    while let Some(News { epoch, update }) = updates.recv().await {
        // What is still on its way from an old database.
        if epoch < newest {
            continue;
        }
        newest = epoch;
        shown.send_if_modified(|known| apply(known, update));
    }
    // The reflector ends with the agent.
    std::future::pending().await
}

/// Whether that made a difference.
fn apply(known: &mut Balancers, update: Update) -> bool {
    let mut balancers = known.clone().unwrap_or_default();
    let map = Arc::make_mut(&mut balancers);
    let set = |map: &mut BTreeMap<String, Arc<LoadBalancer>>, object: Decoded| {
        if let Noun::Balancer(balancer) = object.noun {
            map.insert(object.key.name.into(), balancer);
        }
    };
    match update {
        Update::Replaced { objects, unreadable, .. } => {
            map.retain(|name, _| unreadable.iter().any(|key| *key.name == **name));
            objects.into_iter().for_each(|object| set(map, object));
        }
        Update::Set { object, .. } => set(map, object),
        Update::Removed { key, .. } => drop(map.remove(&*key.name)),
        Update::Seen { .. } => return false,
    }
    let differs = known.as_ref() != Some(&balancers);
    *known = Some(balancers);
    differs
}

/// The edge nodes of the cluster by name, with their addresses.
type Edges = BTreeMap<String, BTreeSet<EdgeAddress>>;

/// What this node knows of edge nodes.
pub struct Detours {
    routing: Box<dyn Routing>,
    /// `None` before the kernel was asked.
    routes: Option<Found>,
    edges: Edges,
    refused: Option<String>,
    retry_at: Option<Instant>,
}

impl Detours {
    pub fn new(routing: Box<dyn Routing>) -> Self {
        Self { routing, routes: None, edges: Edges::new(), refused: None, retry_at: None }
    }

    /// Brings the routes up to the edge nodes that hold something. Who is to be marked, sorted; those that have gone stay as
    /// long as their numbers are theirs.
    pub fn settle(&mut self, balancers: &BTreeMap<String, Arc<LoadBalancer>>, now: Instant) -> Vec<EdgeNeighbor> {
        self.retry_at = None;
        for (name, addresses) in holders(balancers) {
            self.edges.insert(name, addresses);
        }
        let holding: BTreeSet<String> = holders(balancers).into_keys().collect();
        let neighbors = match self.bring_up(&holding) {
            Ok(neighbors) => {
                self.refused = None;
                return neighbors;
            }
            Err((neighbors, cause)) => {
                if self.refused.as_ref() != Some(&cause) {
                    warn!(error = cause, "answers to clients of an edge node do not go back through it; trying on");
                    self.refused = Some(cause);
                }
                neighbors
            }
        };
        self.retry_at = now.checked_add(RETRY);
        neighbors
    }

    /// With an error also what could be done.
    fn bring_up(&mut self, holding: &BTreeSet<String>) -> Result<Vec<EdgeNeighbor>, (Vec<EdgeNeighbor>, String)> {
        let routes = match self.routes.take() {
            Some(routes) => routes,
            // An agent's first look has nothing to do where there was never an edge node.
            None if self.edges.is_empty() => return Ok(Vec::new()),
            None => self.routing.list().map_err(|error| (Vec::new(), chain(&error)))?,
        };
        let routes = self.routes.insert(routes);
        let numbers = assign(routes, &self.edges, holding);
        self.edges.retain(|name, _| numbers.contains_key(name));
        let (mut neighbors, mut cause) = (BTreeSet::new(), None);
        for (name, number) in &numbers {
            let addresses = self.edges.get(name).into_iter().flatten();
            for (address, mac) in addresses.filter_map(|address| Some((address.ip, mac(&address.mac)?))) {
                let place = (*number, Family::of(address));
                let known = routes.get(&place) == Some(&address);
                match if known { Ok(()) } else { self.routing.set(*number, address) } {
                    Ok(()) => {
                        if !known {
                            info!(edge = name, %address, number, "answers to its clients go back through this edge node");
                        }
                        routes.insert(place, address);
                        neighbors.insert(EdgeNeighbor { mac, number: *number });
                    }
                    Err(error) => cause = Some(chain(&error)),
                }
            }
        }
        // Numbers that others have now lead nowhere else.
        let used: BTreeSet<u8> = numbers.values().copied().collect();
        let wanted = |(number, family): (u8, Family)| {
            let of = numbers.iter().find(|(_, n)| **n == number).and_then(|(name, _)| self.edges.get(name));
            of.is_none_or(|addresses| addresses.iter().any(|address| Family::of(address.ip) == family))
        };
        let stale: Vec<(u8, Family)> =
            routes.keys().copied().filter(|place| used.contains(&place.0) && !wanted(*place)).collect();
        for place in stale {
            match self.routing.remove(place.0, place.1) {
                Ok(()) => drop(routes.remove(&place)),
                Err(error) => cause = Some(chain(&error)),
            }
        }
        let neighbors = neighbors.into_iter().collect();
        match cause {
            None => Ok(neighbors),
            Some(cause) => Err((neighbors, cause)),
        }
    }
}

/// Who holds an instance, with where they are.
fn holders(balancers: &BTreeMap<String, Arc<LoadBalancer>>) -> Edges {
    let mut edges = Edges::new();
    for edge in balancers.values().filter_map(|balancer| balancer.status.edge.as_ref()) {
        edges.entry(edge.name.clone()).or_default().extend(edge.addresses.iter().cloned());
    }
    edges
}

/// A number for each edge node: the one that it has by its addresses, else a free one, else that of one that holds nothing
/// now. Those beyond the numbers have none.
fn assign(routes: &Found, edges: &Edges, holding: &BTreeSet<String>) -> BTreeMap<String, u8> {
    let mut numbers: BTreeMap<String, u8> = BTreeMap::new();
    let mut taken: BTreeSet<u8> = BTreeSet::new();
    // Those that hold something first: the others' numbers are what is left.
    let (first, last): (Vec<_>, Vec<_>) = edges.iter().partition(|(name, _)| holding.contains(*name));
    let all = || first.iter().chain(&last);
    for (name, addresses) in all() {
        let theirs = routes.iter().find(|((number, _), gateway)| {
            !taken.contains(number) && addresses.iter().any(|address| address.ip == **gateway)
        });
        if let Some(((number, _), _)) = theirs {
            taken.insert(*number);
            numbers.insert((*name).clone(), *number);
        }
    }
    for (name, _) in all() {
        if numbers.contains_key(*name) {
            continue;
        }
        let unused = (1..=MAX_EDGES).find(|n| !taken.contains(n) && !routes.keys().any(|(number, _)| number == n));
        let free = unused.or_else(|| (1..=MAX_EDGES).find(|n| !taken.contains(n)));
        let number = free.or_else(|| {
            let idle = numbers.iter().find(|(other, _)| !holding.contains(*other) && holding.contains(*name));
            let (idle, number) = idle.map(|(idle, number)| (idle.clone(), *number))?;
            numbers.remove(&idle);
            Some(number)
        });
        if let Some(number) = number {
            taken.insert(number);
            numbers.insert((*name).clone(), number);
        }
    }
    numbers
}

/// Reads `02:00:5e:00:53:01`.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next().filter(|part| part.len() == 2)?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}
