//! The core loop: updates in, plans to the kernel.
//!
//! It takes whatever is queued, applies it all, and programs once: a burst is one batch, a single change is on its
//! way to the kernel at once. There is no timer in between, and none is needed, since one change costs about as
//! much as waking up.
//!
//! Programming happens on this task, although it blocks: it takes microseconds, and a thread's hand-over would cost
//! more. Only a whole load of many thousand Services takes a noticeable time, and then nothing else matters.
//!
//! Where others can change what was programmed, the kernel wakes the loop when they do, and it is put right at once.
//! Only between two whole loads there is a rest: a program that destroys the table again and again shall not take a
//! processor from the node's workloads.
//!
//! When the kernel refuses, everything that is learnt meanwhile is still applied to the state, and the next attempt
//! programs all of it from nothing, after a wait that doubles. A cause is logged when it first appears, not at every
//! attempt. Where single Services are to blame, the others are programmed without them; these are named in an Event, a
//! metric and the acknowledgement, and tried again every minute.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::{Dirty, Refused, Repairs};
use dataplane::{Local, Plan, compile, compile_service};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info};

use crate::acknowledge::Programmed;
use crate::answering::Answering;
use crate::census::{Census, Checks};
use crate::conntrack::Flows;
use crate::detours::Keeping;
use crate::events::{About, Note, Reason, Recorder};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::names::Keeper;
use crate::program::Program;
use crate::questions::{self, Asked};
use crate::reflector::News;
use crate::state::{OwnNode, Revisions, State, Work};
use crate::{chain, path};

/// Updates that are applied before the kernel is programmed, if so many are queued.
pub const BATCH: usize = 1024;
/// The waits after the first and after many refusals.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long a Service that the kernel refused is left out.
const RETRY_REFUSED: Duration = Duration::from_secs(60);
/// So long without anything to program, and the agent is at rest. What it then gives up has to be worth it.
const REST: Duration = Duration::from_secs(30);
/// The rest after the tables were written anew because somebody else had changed them.
const REPAIR_REST: Duration = Duration::from_millis(50);

/// What the core loop works on.
pub struct Core<P> {
    state: State,
    local: Local,
    plan: Plan,
    kernel: P,
    /// Set while the kernel refuses.
    refusal: Option<Refusal>,
    /// Services that it does not take, and when they are tried again.
    refused: Arc<[Refused]>,
    retry_at: Option<Instant>,
    /// Changes of Services and of EndpointSlices that were compiled, and that the kernel has refused so far.
    postponed: (u64, u64),
    /// What others change is looked at from then on.
    rest_until: Option<Instant>,
    /// When it will be at rest, if it is not.
    at_rest: Option<Instant>,
    census: Census,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    links: Links,
}

/// What connects the core loop with the rest of the agent besides updates.
pub struct Links {
    /// Shows what the kernel has.
    pub programmed: watch::Sender<Programmed>,
    pub questions: mpsc::Receiver<Asked>,
    /// Shows which ports are to be open for health checks.
    pub checks: watch::Sender<Arc<Checks>>,
    pub events: Recorder,
    /// Learns what is programmed for UDP.
    pub flows: Arc<Flows>,
    /// Learns what everything is called, where this node answers for it.
    pub names: Option<Keeper>,
    /// Says where it does.
    pub answering: Option<Answering>,
    /// Finds the way back through edge nodes.
    pub detours: Option<Keeping>,
    /// Shows what this node is.
    pub own: watch::Sender<OwnNode>,
    /// That the agent is to end, and how soon.
    pub ending: watch::Receiver<Ending>,
    /// What is called when nothing was programmed for [`REST`].
    pub at_rest: Option<fn()>,
}

/// The end of an agent that answers DNS, in steps: what it does last is to let others answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    #[default]
    No,
    /// Nobody is to be sent here any more.
    Soon,
    Now,
}

struct Refusal {
    cause: String,
    attempts: u32,
    again_at: Instant,
}

impl<P: Program> Core<P> {
    pub fn new(
        state: State,
        local: Local,
        kernel: P,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        links: Links,
    ) -> Self {
        Self {
            state,
            local,
            plan: Plan::default(),
            kernel,
            refusal: None,
            refused: Arc::default(),
            retry_at: None,
            postponed: (0, 0),
            rest_until: None,
            at_rest: None,
            census: Census::default(),
            metrics,
            health,
            links,
        }
    }

    /// Runs until every sender of updates is gone, or it is told to end.
    ///
    /// # Errors
    /// When the very first plan is refused for good. Later the kernel has something to keep, and the agent stays.
    pub async fn run(mut self, mut updates: mpsc::Receiver<News>) -> Result<(), P::Error> {
        let mut batch = Vec::new();
        loop {
            let check_at = self.links.answering.as_ref().and_then(Answering::check_at);
            let again_at = self.refusal.as_ref().map(|refusal| refusal.again_at).or(self.retry_at);
            let detour_at = self.links.detours.as_ref().and_then(Keeping::retry_at);
            tokio::select! {
                count = updates.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                Some(asked) = self.links.questions.recv() => {
                    questions::reply(&mut self.kernel, &self.plan, asked);
                    continue;
                }
                () = until(again_at) => {}
                () = until(detour_at) => {}
                () = edges_moved(&mut self.links.detours) => {}
                () = until(check_at) => {
                    self.answer(Instant::now());
                    if !self.state.dirty() {
                        continue;
                    }
                }
                ending = changed(&mut self.links.ending) => {
                    if self.end(ending) {
                        return Ok(());
                    }
                    continue;
                }
                () = until(self.at_rest) => {
                    self.at_rest = None;
                    self.links.at_rest.iter().for_each(|call| call());
                    continue;
                }
                () = noticed(&mut self.kernel, self.rest_until) => {
                    self.repair(Instant::now());
                    continue;
                }
            }
            for News { epoch, update } in batch.drain(..) {
                if epoch > self.state.epoch() {
                    self.begin_epoch();
                }
                if self.state.enter(epoch) {
                    self.state.apply(update);
                }
            }
            if self.state.dirty() {
                self.metrics.queued(Timestamp::now());
            }
            self.turn(Instant::now())?;
        }
    }

    /// The server has another database: what the kernel has is nothing of it until it is programmed, and a lower revision
    /// may win once.
    fn begin_epoch(&mut self) {
        self.kernel.begin_epoch();
        self.plan.revision = 0;
        self.metrics.unknown();
        self.links.programmed.send_modify(|programmed| programmed.revisions = Revisions::default());
    }

    /// Programs what is to be programmed, if it is time for it.
    fn turn(&mut self, now: Instant) -> Result<(), P::Error> {
        let leaving = self.state.leaving();
        self.health.update(|facts| facts.leaving = leaving);
        self.links.own.send_if_modified(|shown| {
            let own = self.state.own_node();
            let changed = *shown != own;
            *shown = own;
            changed
        });
        let (services, endpoints) = self.state.changes();
        self.metrics.pending(self.postponed.0 + services, self.postponed.1 + endpoints);
        // Before the kernel: what is acknowledged can be asked for by its name.
        if let Some(renamed) = self.state.take_renamed()
            && let Some(names) = &mut self.links.names
        {
            names.take(self.state.snapshot(), renamed);
        }
        self.answer(now);
        if self.links.detours.as_mut().is_some_and(|detours| detours.awaits(now)) {
            return Ok(());
        }
        if let Some(edges) = self.links.detours.as_mut().and_then(|detours| detours.settle(now))
            && edges != self.local.edges
        {
            self.local.edges = edges;
            self.state.node_again();
        }
        if self.refusal.as_ref().is_some_and(|refusal| now < refusal.again_at) {
            return Ok(());
        }
        if self.retry_at.is_some_and(|retry_at| now >= retry_at) {
            self.retry_at = None;
            self.state.again(self.refused.iter().map(|refused| refused.service.clone()));
        }
        let Some(work) = self.state.take() else { return Ok(()) };
        self.metrics.changed(&work);
        self.postponed = (self.postponed.0 + work.service_changes, self.postponed.1 + work.endpoint_changes);
        let dirty = if self.refusal.is_some() { Some(Dirty::All) } else { work.dirty.clone() };
        match dirty {
            None => self.programmed(work.revisions),
            Some(dirty) => self.program(&dirty, work, now)?,
        }
        Ok(())
    }

    fn program(&mut self, dirty: &Dirty, work: Work, now: Instant) -> Result<(), P::Error> {
        let begin = Instant::now();
        self.at_rest = self.links.at_rest.map(|_| now + REST);
        self.compile(dirty);
        match self.kernel.program(&self.plan, dirty) {
            Ok(report) => {
                let full = matches!(dirty, Dirty::All);
                self.metrics.repaired(report.repairs);
                debug!(revision = self.plan.revision, full, ?report, "programmed");
                self.leave_out(report.refused, now);
                let wall = Timestamp::now();
                self.metrics.took(&work, full, self.plan.services.len(), begin.elapsed(), wall);
                self.count(dirty);
                self.metrics.rules(&self.kernel.count_rules());
                self.links.flows.programmed(&self.plan, dirty);
                if report.repairs != Repairs::default() {
                    self.links.flows.repaired(&self.plan);
                }
                self.programmed(work.revisions);
                self.health.update(|facts| {
                    if facts.updated.is_none() {
                        info!(
                            revision = self.plan.revision,
                            services = self.plan.services.len(),
                            "the kernel is programmed"
                        );
                    }
                    facts.updated = Some(wall);
                    facts.pending = None;
                });
                if let Some(refusal) = self.refusal.take() {
                    info!(attempts = refusal.attempts, "the kernel takes plans again");
                }
            }
            Err(cause) if P::hopeless(&cause) && self.health.facts().updated.is_none() => return Err(cause),
            Err(cause) => {
                self.state.postpone(work.triggers);
                self.refuse(chain(&cause), matches!(dirty, Dirty::All), now);
            }
        }
        Ok(())
    }

    /// Brings up to the state where this node answers itself. What is to be programmed for that is dirty afterwards.
    fn answer(&mut self, now: Instant) {
        let Some(answering) = self.links.answering.as_mut().filter(|_| self.state.complete()) else { return };
        let service = answering.service().clone();
        if !self.state.touched(&service) && answering.check_at().is_some_and(|check_at| now < check_at) {
            return;
        }
        let dns = answering.settle(self.state.snapshot(), now).then_some(&service);
        if self.local.dns.as_ref() != dns {
            self.local.dns = dns.cloned();
            self.state.again([service]);
        }
    }

    /// `true` when it is the end. Queries are then taken elsewhere, and a kernel that refuses that keeps what it has.
    fn end(&mut self, ending: Ending) -> bool {
        let Some(answering) = &mut self.links.answering else { return ending == Ending::Now };
        match ending {
            Ending::No => return false,
            Ending::Soon => {
                answering.prepare_to_leave();
                return false;
            }
            Ending::Now => {}
        }
        if let Some(service) = self.local.dns.take() {
            let dirty = Dirty::Services([service].into());
            self.compile(&dirty);
            if let Err(error) = self.kernel.program(&self.plan, &dirty) {
                error!(error = %chain(&error), "queries for the cluster's names still come to this node");
            }
        }
        if let Some(answering) = &mut self.links.answering {
            answering.end();
        }
        true
    }

    /// Undoes what somebody else did to what is programmed.
    fn repair(&mut self, now: Instant) {
        match self.kernel.repair(&self.plan) {
            Ok(report) => {
                self.metrics.repaired(report.repairs);
                self.rest_until = (report.repairs.tables > 0).then(|| now + REPAIR_REST);
                if report.repairs != Repairs::default() {
                    self.links.flows.repaired(&self.plan);
                }
                self.leave_out(report.refused, now);
            }
            Err(cause) => self.refuse(chain(&cause), true, now),
        }
    }

    /// Says which Services the kernel does not take, where that is news, and when they are tried again.
    fn leave_out(&mut self, refused: Vec<Refused>, now: Instant) {
        if refused.is_empty() {
            self.retry_at = None;
        } else {
            self.retry_at = self.retry_at.or(Some(now + RETRY_REFUSED));
        }
        if *self.refused == *refused {
            return;
        }
        for Refused { service, error } in refused.iter().filter(|refused| !self.refused.contains(refused)) {
            error!(service = path(service), "the kernel refuses a Service, which is left out: {error}");
            let message = format!("node {}: {error}", self.local.name);
            self.links.events.record(Note {
                about: About::service(service.clone()),
                reason: Reason::FailedToProgram,
                message,
            });
            self.metrics.refused(false);
        }
        self.metrics.refused_services(refused.len());
        self.refused = refused.into();
        self.links.programmed.send_modify(|programmed| programmed.refused = Arc::clone(&self.refused));
    }

    /// Brings what is known about the whole plan up to what was programmed, and shows it.
    fn count(&mut self, dirty: &Dirty) {
        match dirty {
            Dirty::All => self.census.all(&self.plan),
            Dirty::Services(keys) => {
                keys.iter().for_each(|key| self.census.one(key, self.plan.services.get(key).map(|plan| &**plan)));
            }
        }
        self.metrics.without_local(self.census.without_local());
        self.links.checks.send_if_modified(|shown| {
            let changed = !Arc::ptr_eq(shown, self.census.checks());
            *shown = Arc::clone(self.census.checks());
            changed
        });
    }

    /// The kernel has everything up to here.
    fn programmed(&mut self, revisions: Revisions) {
        self.postponed = (0, 0);
        self.metrics.pending(0, 0);
        self.metrics.programmed(&revisions);
        self.links.programmed.send_modify(|programmed| programmed.revisions = revisions);
    }

    /// Brings the plan up to the state, where it is `dirty`.
    fn compile(&mut self, dirty: &Dirty) {
        let snapshot = self.state.snapshot();
        match dirty {
            Dirty::All => self.plan = compile(snapshot, &self.local),
            Dirty::Services(keys) => {
                self.plan.revision = snapshot.revision;
                self.plan.node.dns.clone_from(&self.local.dns);
                self.plan.node.edges.clone_from(&self.local.edges);
                for key in keys {
                    match compile_service(snapshot, &self.local, key) {
                        Some(service) => self.plan.services.insert(key.clone(), Arc::new(service)),
                        None => self.plan.services.remove(key),
                    };
                }
            }
        }
    }

    /// Remembers that the kernel refused, and when it is asked again.
    fn refuse(&mut self, cause: String, full: bool, now: Instant) {
        self.metrics.refused(full);
        self.health.update(|facts| facts.pending = facts.pending.or(Some(now)));
        let attempts = self.refusal.as_ref().map_or(1, |refusal| refusal.attempts.saturating_add(1));
        if self.refusal.as_ref().is_none_or(|refusal| refusal.cause != cause) {
            error!(revision = self.plan.revision, "programming the kernel failed: {cause}; trying again");
        }
        let wait = MIN_WAIT.saturating_mul(1 << (attempts - 1).min(16)).min(MAX_WAIT);
        self.refusal = Some(Refusal { cause, attempts, again_at: now + wait });
    }
}

/// Completes at `time`; never without one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The next word about the end; never where nobody is left to say one.
async fn changed(ending: &mut watch::Receiver<Ending>) -> Ending {
    match ending.changed().await {
        Ok(()) => *ending.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}

/// Completes when an edge node holds something that it did not, or the other way round.
async fn edges_moved(detours: &mut Option<Keeping>) {
    match detours {
        Some(detours) => detours.moved().await,
        None => std::future::pending().await,
    }
}

/// Completes when somebody else has changed what is programmed, not before `rest_until`.
async fn noticed(kernel: &mut impl Program, rest_until: Option<Instant>) {
    if let Some(time) = rest_until {
        tokio::time::sleep_until(time.into()).await;
    }
    kernel.disturbed().await;
}
