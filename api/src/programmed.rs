//! Whether the nodes have programmed what the server holds.
//!
//! Agents acknowledge; whoever asks is answered from memory, and may wait. Nothing is stored: a server that was restarted
//! knows nothing until the agents have spoken again, which they do at once, and says so.
//!
//! The decisions are pure and in files of their own: what a node must have ([`target`]), who is live and how far
//! ([`acknowledged`], [`leases`]), what the condition of a Service says ([`condition`]). Here are the lock round them and
//! the waiting. An acknowledgement costs a lock and a comparison; a question costs one look at each node, so those who
//! wait look again in proportion to how many they are ([`Programming::rest`]).

mod acknowledged;
mod condition;
mod leases;
mod target;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use model::{Object, Resource, Revision};
use store::{Place, Store};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use acknowledged::{Acknowledged, ServiceName};
pub use acknowledged::{Acknowledgement, FOLLOWED, Moment, Standing, Target, Unfit};
pub use condition::Verdict;
use condition::{Condition, Transitions};
use leases::Leases;
use model::balancing::lease;

use crate::serve::Draining;

/// What one look at one node costs (measured without optimisation: 0.8 µs), and somewhat more.
const LOOK_COST: Duration = Duration::from_micros(1);
/// Rests that are shorter are none: the timer would cost what they save.
const REST_SHORTEST: Duration = Duration::from_millis(1);
const REST_LONGEST: Duration = Duration::from_millis(250);
/// Leases end, and slices change, without an acknowledgement: who waits looks again at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the nodes have programmed, as far as they have said so.
pub struct Programming {
    store: Store,
    clock: fn() -> Timestamp,
    inner: Mutex<Inner>,
    /// Counts the acknowledgements that said something new.
    news: watch::Sender<u64>,
    /// Those who wait for one.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    acknowledged: Acknowledged,
    leases: Leases,
    transitions: Transitions,
    /// Live nodes at the last look.
    nodes: usize,
}

/// How the nodes stand to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub revision: Revision,
    /// By name.
    pub nodes: Vec<Standing>,
}

impl Report {
    /// Whether there are live nodes, and all of them have it.
    pub fn programmed(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(|node| node.programmed)
    }
}

impl Programming {
    pub fn new(store: Store, clock: fn() -> Timestamp) -> Self {
        let inner = Mutex::default();
        Self { store, clock, inner, news: watch::Sender::new(0), waiting: AtomicUsize::new(0) }
    }

    /// Takes what a node has said; when it may speak again.
    ///
    /// # Errors
    /// When it is not fit to be taken.
    pub fn acknowledge(&self, node: &str, acknowledgement: &Acknowledgement<'_>) -> Result<Duration, Unfit> {
        let (news, interval) = {
            let mut inner = self.lock();
            let news = inner.acknowledged.take(node, acknowledgement, Instant::now(), || self.count_nodes())?;
            (news, inner.acknowledged.interval())
        };
        if news {
            self.news.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(interval)
    }

    /// What every node must have for all up to `revision`.
    pub fn up_to(&self, revision: Revision) -> Target {
        Target::up_to(&self.store, revision)
    }

    /// What every node must have for this Service as it is now.
    pub fn of(&self, service: &Object) -> Target {
        Target::of(&self.store, service, self.least_slices(&mut self.lock()))
    }

    /// How the live nodes stand to it.
    pub fn report(&self, target: Target, service: Option<ServiceName<'_>>) -> Report {
        let nodes = self.judge(&mut self.lock(), target, service);
        Report { revision: target.revision(), nodes }
    }

    /// As [`report`](Self::report), once every live node has it, or at the end of the patience, or when the server is
    /// about to stop.
    pub async fn wait(
        self: &Arc<Self>,
        target: Target,
        service: Option<ServiceName<'_>>,
        until: Instant,
        mut draining: Option<Draining>,
    ) -> Report {
        let mut news = self.news();
        loop {
            let report = self.report(target, service);
            let stops = draining.as_ref().is_some_and(Draining::is_on);
            if report.programmed() || stops || Instant::now() >= until {
                return report;
            }
            tokio::select! {
                () = stopping(draining.as_mut()) => {}
                () = sleep_until(until) => {}
                () = news.more() => {}
            }
        }
    }

    /// Lets its holder wait for news.
    pub fn news(self: &Arc<Self>) -> News {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        News { programming: Arc::clone(self), news: self.news.subscribe() }
    }

    /// A Service as it is shown to who asks for it by its name: with the condition that tells how it stands. `stored` is
    /// the same Service, but for a write that was only tried.
    pub fn shown(&self, service: &Arc<Object>, stored: &Object) -> (Arc<Object>, Verdict) {
        let condition = self.condition(stored);
        // What is stored is an object whose status is one, so there is a place for the condition always.
        let Some(bytes) = condition.put_into(&service.bytes) else { return (Arc::clone(service), condition.verdict) };
        let (key, view) = (service.key.clone(), service.view.clone());
        (Arc::new(Object::new(service.resource, key, service.revision, bytes, view)), condition.verdict)
    }

    fn condition(&self, service: &Object) -> Condition {
        let mut inner = self.lock();
        let target = Target::of(&self.store, service, self.least_slices(&mut inner));
        let name = (&*service.key.namespace, &*service.key.name);
        let nodes = self.judge(&mut inner, target, Some(name));
        let verdict = Verdict::of(&nodes);
        let since = inner.transitions.since(service.meta().uid(), verdict, (self.clock)());
        Condition { verdict, message: verdict.message(&nodes), since, generation: service.meta().generation }
    }

    /// Until when an edge node's Lease holds, if it does: whether it is alive.
    pub fn edge_alive(&self, edge: &str) -> Option<Timestamp> {
        let lease = self.store.get(Resource::Leases, lease::NAMESPACE, &lease::name_of(edge))?;
        leases::end(&lease.bytes).filter(|end| (self.clock)() < *end)
    }

    /// Until when a node's Lease holds, if it does: whether it is alive.
    pub fn alive(&self, node: &str) -> Option<Timestamp> {
        let mut inner = self.lock();
        inner.leases.refresh(&self.store);
        inner.leases.until(node, (self.clock)())
    }

    fn judge(&self, inner: &mut Inner, target: Target, service: Option<ServiceName<'_>>) -> Vec<Standing> {
        inner.leases.refresh(&self.store);
        let current = self.store.revision();
        let mut nodes = inner.acknowledged.judge(target, service, current, &inner.leases, self.now());
        nodes.retain(|node| !self.is_out(&node.name));
        inner.nodes = nodes.len();
        nodes
    }

    /// Whether a node has fallen silent (`NodeStatusUnknown`): its Lease may hold for half a minute more, and nobody is to
    /// wait so long for a machine that is dead.
    fn is_out(&self, node: &str) -> bool {
        let node = self.store.get(Resource::Nodes, "", node);
        let condition = node.as_ref().and_then(|node| node.node()?.ready_condition());
        condition.is_some_and(|condition| condition.status == "Unknown")
    }

    /// From where the history of slices has to be looked through.
    fn least_slices(&self, inner: &mut Inner) -> Revision {
        inner.leases.refresh(&self.store);
        let current = self.store.revision();
        // Where no node has anything, no revision is too old to lack it.
        inner.acknowledged.least_slices(current, &inner.leases, self.now()).unwrap_or(current)
    }

    /// How long each of those who wait rests before it looks again: as long as one core needs to serve all.
    fn rest(&self) -> Duration {
        let looks = self.waiting.load(Ordering::Relaxed).saturating_mul(self.lock().nodes);
        let all = LOOK_COST.saturating_mul(u32::try_from(looks).unwrap_or(u32::MAX));
        if all < REST_SHORTEST { Duration::ZERO } else { all.min(REST_LONGEST) }
    }

    fn count_nodes(&self) -> usize {
        self.store.count(Resource::Nodes, None, self.store.revision(), &Place::default()).unwrap_or(0)
    }

    fn now(&self) -> Moment {
        Moment { wall: (self.clock)(), instant: Instant::now() }
    }

    /// A panic of another thread leaves acknowledgements, which are as good as before.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for news, at a pace that many can keep.
pub struct News {
    programming: Arc<Programming>,
    news: watch::Receiver<u64>,
}

impl News {
    /// Returns when it is worth while to look again. What has come since the last time is not missed. Cancel-safe.
    pub async fn more(&mut self) {
        let rest = self.programming.rest();
        if !rest.is_zero() {
            sleep(rest).await;
        }
        tokio::select! {
            // The sender lives as long as what we hold.
            _ = self.news.changed() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.programming.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns once the server is about to stop; never where nobody can tell.
pub async fn stopping(draining: Option<&mut Draining>) {
    match draining {
        Some(draining) => draining.begun().await,
        None => std::future::pending().await,
    }
}
