//! Edge nodes: which live, and which instance is held by which.
//!
//! Twenty times a second it is looked at what has changed: the Leases of edges go to the machine that judges them
//! ([`liveness`]), and what it finds decides with what stands in the instances who holds what ([`place`]). Both are
//! pure; here it is only spelled and written. A decision that could not be written is made again at the next look.
//! Where there is neither an edge nor an instance, time brings nothing about, and the next look waits for a write.
//!
//! Before the instances of a silent edge go to others the Lease is taken from it, in the very state by which the edge
//! was judged. If it was renewed meanwhile that write is refused, and nothing moves. This and the edges' own fence keep
//! two from answering for one address ([`model::balancing::lease`]); it also means that a disk which stands still takes
//! nobody out, since the renewals wait before the take-over in the same queue.
//!
//! Everything that is to outlive this process stands in the objects: who holds an instance, the how-many-eth owner that
//! is (`term`), and since when.

mod figures;
mod liveness;
mod place;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::balancing::lease::{EdgeLease, NAMESPACE, name_of};
use model::types::{EdgeAssignment, LoadBalancer, ServiceReference};
use model::{Object, Resource, Revision};
use store::{EventKind, Refusal, Store, Write};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::events::{self, Note};
use crate::follow::{Follow, News};
use crate::pace::Pace;
use crate::writes::time;
pub use figures::Figures;
pub use liveness::Times;
use liveness::{Machine, Seen, Standing};
use place::{Instance, Move, Why, plan};
use writes::{COMPONENT, CONDITION, Held};

/// How often it is looked, where there is something to look at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Writes that are on their way at a time: one commit takes them all.
const WRITES_MOST: usize = 64;

/// Looks at edges and instances for as long as it is polled. `clock` is the wall clock, which is written into objects.
pub async fn run(store: Store, figures: Arc<Figures>, times: Times, clock: fn() -> Timestamp) {
    let mut pace = Pace::new(&store, LOOK_EVERY);
    let mut edges = Edges::new(store, figures, times, clock);
    let mut looked = Instant::now();
    loop {
        pace.next(edges.has_any().then_some(looked)).await;
        let elapsed = looked.elapsed();
        looked += elapsed;
        edges.look(elapsed).await;
    }
}

struct Edges {
    store: Store,
    clock: fn() -> Timestamp,
    figures: Arc<Figures>,
    machine: Machine,
    leases: Follow,
    balancers: Follow,
    /// The state of each edge's Lease that the machine knows.
    judged: BTreeMap<Box<str>, (Revision, Arc<Object>)>,
    instances: BTreeMap<Box<str>, Known>,
    /// How each edge was when an Event said so last.
    told: BTreeMap<Box<str>, Told>,
    /// Events that were written.
    events: u32,
}

/// What is remembered of an instance.
struct Known {
    instance: Instance,
    assignment: EdgeAssignment,
    owner: Option<ServiceReference>,
    generation: Option<i64>,
    /// What its condition says; None: it has none.
    held: Option<(bool, String)>,
    object: Arc<Object>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Lives,
    Silent,
    Gone,
}

impl Edges {
    fn new(store: Store, figures: Arc<Figures>, times: Times, clock: fn() -> Timestamp) -> Self {
        Self {
            store,
            clock,
            figures,
            machine: Machine::new(times),
            leases: Follow::new(Resource::Leases, Some(NAMESPACE)),
            balancers: Follow::new(Resource::LoadBalancers, None),
            judged: BTreeMap::new(),
            instances: BTreeMap::new(),
            told: BTreeMap::new(),
            events: 0,
        }
    }

    /// Whether there is an edge or an instance, for which time counts.
    fn has_any(&self) -> bool {
        !self.machine.is_empty() || !self.instances.is_empty()
    }

    /// One look: what has changed, and what follows.
    async fn look(&mut self, elapsed: Duration) {
        self.machine.advance(elapsed);
        self.read_leases();
        self.read_balancers();
        let seen = self.machine.seen();
        let instances: Vec<Instance> = self.instances.values().map(|known| known.instance.clone()).collect();
        let mut plan = plan(&instances, &seen);
        let mut writes = self.tell(&seen);
        let kept = self.take_leases(&plan.moves).await;
        let from = |m: &Move| self.instances.get(&m.instance).and_then(|known| known.instance.edge.clone());
        plan.moves.retain(|m| from(m).is_none_or(|edge| !kept.contains(&edge)));
        for m in &plan.moves {
            writes.extend(self.spell(m, &seen));
        }
        writes.extend(self.conditions(&plan.moves, &plan.homeless, &seen));
        self.figures.note(&seen, self.instances.values().map(|known| &known.instance), plan.homeless.len());
        self.write(writes).await;
    }

    fn read_leases(&mut self) {
        while let Some(news) = self.leases.next(&self.store) {
            match news {
                News::All(leases) => {
                    let there: BTreeSet<String> = leases.iter().filter_map(|lease| self.lease(lease, true)).collect();
                    self.machine.retain(|edge| there.contains(edge));
                    self.judged.retain(|edge, _| there.contains(&**edge));
                }
                News::Changes(events) => {
                    for event in events {
                        match event.kind {
                            EventKind::Added | EventKind::Modified => _ = self.lease(&event.object, false),
                            EventKind::Deleted => {
                                if let Some(lease) = EdgeLease::read(&event.object.bytes) {
                                    self.machine.remove(&lease.edge);
                                    self.judged.remove(&*lease.edge);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Takes in the state of a Lease; the edge, if it is one's.
    fn lease(&mut self, object: &Arc<Object>, found: bool) -> Option<String> {
        let lease = EdgeLease::read(&object.bytes)?;
        let edge = lease.edge.clone();
        self.judged.insert(edge.as_str().into(), (object.revision, Arc::clone(object)));
        self.machine.set(lease, found);
        Some(edge)
    }

    fn read_balancers(&mut self) {
        while let Some(news) = self.balancers.next(&self.store) {
            match news {
                News::All(all) => {
                    self.instances.clear();
                    all.iter().for_each(|object| self.instance(object));
                }
                News::Changes(events) => {
                    for event in events {
                        match event.kind {
                            EventKind::Added | EventKind::Modified => self.instance(&event.object),
                            EventKind::Deleted => _ = self.instances.remove(&event.object.key.name),
                        }
                    }
                }
            }
        }
    }

    fn instance(&mut self, object: &Arc<Object>) {
        let Some(LoadBalancer { metadata, spec, status, .. }) = object.load_balancer() else { return };
        let assignment = status.edge.clone().unwrap_or_default();
        let instance = Instance {
            name: object.key.name.clone(),
            edge: Some(assignment.name.as_str()).filter(|edge| !edge.is_empty()).map(Into::into),
            preferred: spec.preferred_edge.as_deref().map(Into::into),
        };
        let condition = status.conditions.iter().find(|condition| condition.type_ == CONDITION);
        let known = Known {
            instance,
            assignment,
            owner: spec.owner.clone(),
            generation: metadata.generation,
            held: condition.map(|condition| (condition.status == "True", condition.reason.clone())),
            object: Arc::clone(object),
        };
        self.instances.insert(object.key.name.clone(), known);
    }

    /// Takes their Leases from the edges whose silence moves instances; the edges that keep theirs.
    async fn take_leases(&mut self, moves: &[Move]) -> BTreeSet<Box<str>> {
        let silent = moves.iter().filter(|m| m.why == Why::Silent);
        let edges: BTreeSet<Box<str>> =
            silent.filter_map(|m| self.instances.get(&m.instance)?.instance.edge.clone()).collect();
        let mut kept = BTreeSet::new();
        for edge in edges {
            let Some((judged, _)) = self.judged.get(&edge) else { continue };
            match self.store.write(writes::take_lease(&edge, *judged)).await {
                Ok(_) => tracing::warn!(edge = &*edge, "an edge is silent: its lease is taken from it"),
                // A Lease that was deleted is nobody's.
                Err(Refusal::NotFound { .. }) => {}
                Err(Refusal::Conflict { .. }) => {
                    // It was renewed at the last moment, which the next look will see.
                    self.figures.kept();
                    kept.insert(edge);
                }
                Err(error) => {
                    tracing::warn!(edge = &*edge, %error, "the lease of a silent edge cannot be taken from it");
                    kept.insert(edge);
                }
            }
        }
        kept
    }

    /// The writes that a move is: the instance's status, and Events.
    fn spell(&mut self, m: &Move, seen: &BTreeMap<Box<str>, Seen>) -> Vec<Write> {
        let now = (self.clock)();
        let Some(known) = self.instances.get(&m.instance) else { return Vec::new() };
        let before = known.assignment.name.clone();
        let assignment = EdgeAssignment {
            name: m.to.to_string(),
            term: known.assignment.term.saturating_add(1),
            since: time(now),
            addresses: seen.get(&m.to).map(|edge| edge.addresses.clone()).unwrap_or_default(),
        };
        let (instance, to, term) = (&*m.instance, &*m.to, assignment.term);
        tracing::info!(instance, edge = to, term, before, why = ?m.why, "an instance has another edge");
        let held = alive(to);
        let mut writes = vec![writes::status(instance, Some(&assignment), Some(&held), known.generation, now)];
        self.figures.moved(m.why);
        let because = match m.why {
            Why::New => format!("Edge node {to} holds load balancer {instance}"),
            Why::Silent => {
                let silence = seen.get(before.as_str()).map(|edge| edge.silence).unwrap_or_default();
                let silence = format!("{:.1}", silence.as_secs_f64());
                format!(
                    "Edge node {to} has taken over load balancer {instance}: {before} was not heard for {silence} s"
                )
            }
            Why::Gone => format!("Edge node {to} has taken over load balancer {instance}: {before} has left"),
            Why::Prefers => format!("Load balancer {instance} is back on edge node {to}, which it prefers to {before}"),
        };
        let (reason, warns) = match m.why {
            Why::New => ("EdgeAssigned", false),
            Why::Silent => ("EdgeTakenOver", true),
            Why::Gone | Why::Prefers => ("EdgeChanged", false),
        };
        let (object, owner) = (Arc::clone(&known.object), known.owner.clone());
        writes.push(self.event(&object, reason, because.clone(), warns));
        // Whoever has a Service looks there.
        let service = owner.and_then(|owner| self.store.get(Resource::Services, &owner.namespace, &owner.name));
        if let Some(service) = service.filter(|_| m.why != Why::New) {
            writes.push(self.event(&service, reason, because, warns));
        }
        writes
    }

    /// The conditions that say another thing than is so, and the addresses of edges that are others.
    fn conditions(&self, moves: &[Move], homeless: &BTreeSet<Box<str>>, seen: &BTreeMap<Box<str>, Seen>) -> Vec<Write> {
        let moved: BTreeSet<&str> = moves.iter().map(|m| &*m.instance).collect();
        let now = (self.clock)();
        let still = self.instances.values().filter(|known| !moved.contains(&*known.instance.name));
        let change = |known: &Known| {
            let name = &known.instance.name;
            let edge = known.instance.edge.as_deref();
            let of = edge.and_then(|edge| seen.get(edge));
            let lives = of.is_some_and(|of| matches!(of.standing, Standing::Lives { .. }));
            let held = match edge {
                _ if homeless.contains(name) => Some(homeless_because(edge, seen)),
                Some(edge) if lives => Some(alive(edge)),
                _ => None,
            };
            let held = held.filter(|held| known.held.as_ref() != Some(&(held.is, held.reason.to_owned())));
            let elsewhere = of.filter(|of| lives && of.addresses != known.assignment.addresses);
            let assignment =
                elsewhere.map(|of| EdgeAssignment { addresses: of.addresses.clone(), ..known.assignment.clone() });
            (held.is_some() || assignment.is_some())
                .then(|| writes::status(name, assignment.as_ref(), held.as_ref(), known.generation, now))
        };
        still.filter_map(change).collect()
    }

    /// Events about edges that are otherwise than was told last.
    fn tell(&mut self, seen: &BTreeMap<Box<str>, Seen>) -> Vec<Write> {
        let mut notes = Vec::new();
        for (name, edge) in seen {
            let told = self.told.get(name).copied();
            let now = match edge.standing {
                Standing::Lives { .. } => Told::Lives,
                Standing::Quiet => continue,
                Standing::Silent => Told::Silent,
                Standing::Gone => Told::Gone,
            };
            if told == Some(now) {
                continue;
            }
            self.told.insert(name.clone(), now);
            let note = match (told, now) {
                (None, Told::Lives) => ("EdgeJoined", format!("Edge node {name} is heard"), false),
                (Some(_), Told::Lives) => ("EdgeReady", format!("Edge node {name} is heard again"), false),
                (_, Told::Silent) => {
                    self.figures.silent();
                    let silence = edge.silence.as_secs_f64();
                    ("EdgeLost", format!("Edge node {name} was not heard for {silence:.1} s"), true)
                }
                (Some(Told::Lives), Told::Gone) => ("EdgeLeft", format!("Edge node {name} has left"), false),
                // It was told when it fell silent; or it left before this server began.
                (_, Told::Gone) => continue,
            };
            notes.push((name.clone(), note));
        }
        self.told.retain(|name, _| seen.contains_key(name));
        let mut writes = Vec::new();
        for (name, (reason, text, warns)) in notes {
            tracing::info!(edge = &*name, reason, "{text}");
            if let Some((_, lease)) = self.judged.get(&name) {
                let lease = Arc::clone(lease);
                writes.push(self.event(&lease, reason, text, warns));
            }
        }
        writes
    }

    fn event(&mut self, about: &Object, reason: &'static str, text: String, warns: bool) -> Write {
        self.events = self.events.wrapping_add(1);
        events::about(about, &Note { reason, text, warns }, COMPONENT, (self.clock)(), self.events)
    }

    async fn write(&self, writes: Vec<Write>) {
        let mut writes = writes.into_iter();
        loop {
            let mut some = JoinSet::new();
            for write in writes.by_ref().take(WRITES_MOST) {
                let store = self.store.clone();
                some.spawn(async move { store.write(write).await });
            }
            if some.is_empty() {
                return;
            }
            while let Some(done) = some.join_next().await {
                match done.unwrap_or(Err(Refusal::Closed)) {
                    // Whoever deleted the instance meanwhile has seen to it.
                    Ok(_) | Err(Refusal::NotFound { .. }) => {}
                    Err(error) => {
                        tracing::warn!(component = COMPONENT, %error, "what follows for an instance was not stored")
                    }
                }
            }
        }
    }
}

fn alive(edge: &str) -> Held {
    Held { is: true, reason: "EdgeAlive", message: format!("Edge node {edge} holds it") }
}

fn homeless_because(edge: Option<&str>, seen: &BTreeMap<Box<str>, Seen>) -> Held {
    let message = match edge {
        _ if seen.is_empty() => {
            "No edge node has joined: run `portolan edge` on a machine that faces outside".to_owned()
        }
        Some(edge) => format!(
            "Edge node {edge}, which held it, is not heard, and there is no other that is: see to `portolan edge` there \
             (Lease {NAMESPACE}/{})",
            name_of(edge)
        ),
        None => {
            let names: Vec<&str> = seen.keys().map(|name| &**name).collect();
            format!("None of the edge nodes is heard ({}): see to `portolan edge` there", names.join(", "))
        }
    };
    Held { is: false, reason: "NoEdge", message }
}
