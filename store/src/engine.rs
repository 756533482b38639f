//! What a write means, without I/O: requests go in, events come out, and everything can be taken back.
//!
//! The engine owns the writer's private state, which runs ahead of what readers see by at most two groups: one on its
//! way to the disk, and one that is being decided on top of it. One file per verb and per rule; each changes the state
//! through `State::record` alone, so `undo` is one loop.

mod apply;
mod balancers;
mod bind;
mod chance;
mod cidrs;
mod collect;
mod create;
mod delete;
mod derive;
mod index;
mod namespaces;
mod nodes;
mod own;
mod owners;
mod pod_cidrs;
mod pools;
mod repair;
mod report;
mod services;
mod stale;
mod stamp;
mod standing;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod update;

use std::sync::Arc;

use jiff::Timestamp;
use model::admission::{Cluster, Family};
use model::managed_fields::Author;
use model::{Object, Resource, Revision};

pub(crate) use chance::Chance;
use owners::Owners;
pub(crate) use state::State;

use crate::config::{BalancerLimits, Environment};
use crate::error::Refusal;
use crate::event::Event;
use crate::request::{Guard, Outcome, Verb, Write, Written};

/// The rules, the writer's state, and where its time and chance come from.
pub(crate) struct Engine {
    pub(crate) state: State,
    cluster: Cluster,
    chance: Chance,
    clock: Box<dyn Fn() -> Timestamp + Send>,
    /// The time of the group that is being prepared.
    now: Timestamp,
    /// Whether the request at hand is only tried.
    dry_run: bool,
    /// What the cluster's own Services say; None if it has none.
    own: Option<own::Own>,
    limits: BalancerLimits,
}

impl Engine {
    /// `families`: those with a service range, the primary one first.
    pub(crate) fn new(state: State, families: Vec<Family>, environment: Environment) -> Self {
        let now = (environment.clock)();
        Self {
            state,
            cluster: Cluster { families },
            chance: Chance::new(environment.seed),
            clock: environment.clock,
            now,
            dry_run: false,
            own: None,
            limits: BalancerLimits::default(),
        }
    }

    /// Reads the clock: once per group, so that its objects agree.
    pub(crate) fn tick(&mut self) -> Timestamp {
        self.now = (self.clock)();
        self.now
    }

    /// Does one request on the private state, if the guard lets it. A refused one, and a dry run, leave it as it was.
    pub(crate) fn request_guarded(&mut self, write: Write, guard: Option<&dyn Guard>) -> Result<Written, Refusal> {
        let mark = self.state.mark();
        self.dry_run = write.dry_run;
        let decided = match guard {
            None => self.dispatch(write),
            Some(guard) => self.guarded(write, guard),
        };
        let result = decided.and_then(|written| {
            self.settle()?;
            Ok(written)
        });
        if result.is_err() || self.dry_run {
            self.state.undo(mark);
            self.state.take_emptied();
        }
        self.dry_run = false;
        result
    }

    #[cfg(test)]
    pub(crate) fn request(&mut self, write: Write) -> Result<Written, Refusal> {
        self.request_guarded(write, None)
    }

    /// Does one request, with the guard's word before and after.
    fn guarded(&mut self, write: Write, guard: &dyn Guard) -> Result<Written, Refusal> {
        let resource = write.resource;
        let old = self.state.get(resource.stored(), &write.namespace, &write.name).cloned();
        let name = write.name.clone();
        guard.before(old.as_deref()).map_err(|detail| Refusal::Forbidden { resource, name, detail })?;
        let written = self.dispatch(write)?;
        match guard.after(old.as_deref(), &written.object, written.outcome) {
            Ok(()) => Ok(written),
            Err(detail) => Err(Refusal::Forbidden { resource, name: written.object.key.name.to_string(), detail }),
        }
    }

    fn dispatch(&mut self, write: Write) -> Result<Written, Refusal> {
        let Write { resource, namespace, name, verb, manager, .. } = write;
        match verb {
            Verb::Create { object } => self.create(resource, &namespace, &name, object, Owners::Tracked(manager)),
            Verb::Update { object, subresource } => {
                self.update(resource, &namespace, &name, object, subresource, manager)
            }
            Verb::Patch { kind, patch, subresource, strict } => {
                let old = self.existing(resource, &namespace, &name)?;
                self.patch(resource, &old, (kind, &patch), subresource, strict, manager)
            }
            Verb::Apply { config, force, subresource } => {
                let author = Author::new(resource.stored(), manager, subresource, self.now);
                self.apply_config(resource, &namespace, &name, config, force, &author)
            }
            Verb::Delete { options } => {
                let old = self.existing(resource, &namespace, &name)?;
                self.delete(resource, &old, &options)
            }
            Verb::Bind { binding } => {
                let old = self.existing(resource, &namespace, &name)?;
                self.bind(&old, binding)
            }
        }
    }

    /// What follows from a request within its own transaction, beside endpoints: dependents whose owners are gone go,
    /// and what waited for something that is gone: owners, namespaces, ServiceCIDRs and AddressPools; pools tell what
    /// is used of them, the cluster's own Services come back, and roles that gather their rules from others have them.
    /// Dependents beyond a bound are owed.
    fn settle(&mut self) -> Result<(), Refusal> {
        let mut budget = collect::COLLECT_LIMIT;
        loop {
            let emptied = self.state.take_emptied();
            if emptied == state::Emptied::default() {
                return Ok(());
            }
            if emptied.roles {
                self.gather_roles()?;
            }
            if emptied.own {
                self.keep_own_services();
            }
            if emptied.addresses {
                self.settle_cidrs()?;
            }
            if emptied.pod_cidrs {
                self.settle_pod_cidrs()?;
            }
            if !emptied.external.is_empty() {
                self.settle_pools(&emptied.external)?;
            }
            let owners = emptied.owners.into_iter().map(|place| (place, true));
            for (place, waits) in owners.chain(emptied.dependents.into_iter().map(|place| (place, false))) {
                if budget == 0 {
                    self.state.owe(place);
                    continue;
                }
                budget -= 1;
                if waits {
                    self.settle_owner(&place);
                } else {
                    self.collect_one(&place);
                }
            }
            for namespace in emptied.namespaces {
                self.settle_namespace(&namespace)?;
            }
        }
    }

    /// Whether there are Events that nobody has written since `revision`.
    pub(crate) fn has_expired_events(&self, revision: Revision) -> bool {
        self.state.events_until(revision).next().is_some()
    }

    /// Removes Events that nobody has written since `revision`, the oldest first, at most `limit` of them.
    pub(crate) fn expire_events(&mut self, revision: Revision, limit: usize) -> Result<(), Refusal> {
        let expired: Vec<Arc<Object>> = self.state.events_until(revision).take(limit).cloned().collect();
        let mark = self.state.mark();
        let removed = expired.iter().try_for_each(|event| self.remove(event).map(drop)).and_then(|()| self.settle());
        if removed.is_err() {
            self.state.undo(mark);
        }
        removed
    }

    /// Ends the group: does some of what is owed, derives endpoints for what the group touched, and returns its events
    /// for the log. The group before it must have been committed or abandoned.
    pub(crate) fn finish(&mut self) -> Vec<Arc<Event>> {
        self.collect();
        self.derive();
        self.state.journal().to_vec()
    }

    /// The first `events` of the journal are durable: nothing of them can be taken back any more. What was decided on
    /// top of them stays in the journal.
    pub(crate) fn committed(&mut self, events: usize) {
        self.state.forget(events);
    }

    /// A group was not committed: everything in the journal is taken back, what was decided on top of the group
    /// included.
    pub(crate) fn abandon(&mut self) {
        self.state.undo(state::Mark::default());
        self.state.take_dirty();
        self.state.take_emptied();
        // What was owed and done is owed again.
        self.find_owed();
    }

    fn existing(&self, resource: Resource, namespace: &str, name: &str) -> Result<Arc<Object>, Refusal> {
        self.state
            .get(resource.stored(), namespace, name)
            .cloned()
            .ok_or_else(|| Refusal::NotFound { resource, name: name.to_owned() })
    }
}

fn written(object: Arc<Object>, outcome: Outcome, warnings: Vec<String>) -> Written {
    Written { object, outcome, warnings }
}
