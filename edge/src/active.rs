//! What this edge is to do, from what it knows: which addresses it holds, which listeners are there, who serves them, and what is
//! to be checked. Pure.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::admission::Family;
use model::balancing::{Backend, backends};
use model::types::Listener;

use crate::Active;
use crate::announce::Held;
use crate::health::machine::Verdict;
use crate::health::spec::{Target, targets};
use crate::health::{Verdicts, verdict};
use crate::world::World;

/// Everything at once.
#[derive(Debug, Default)]
pub struct Task {
    /// By instance.
    pub addresses: BTreeMap<Arc<str>, Vec<IpAddr>>,
    pub held: BTreeMap<IpAddr, Held>,
    pub active: Vec<Active>,
    pub targets: BTreeSet<Target>,
    pub instances: BTreeMap<Arc<str>, Instance>,
}

/// An instance that this edge holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub term: u64,
    pub generation: i64,
    /// In the order of the spec.
    pub listeners: Vec<Counted>,
}

/// How many can serve a listener, at the first of the instance's addresses where there are any.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    pub listener: Arc<Listener>,
    pub backends: usize,
    pub healthy: usize,
}

/// What `edge` is to do.
pub fn task(world: &World, edge: &str, verdicts: &Verdicts) -> Task {
    let mut task = Task::default();
    for (name, balancer, term) in world.held_by(edge) {
        let instance: Arc<str> = name.into();
        let addresses = balancer.spec.addresses.clone();
        let mut listeners = Vec::with_capacity(balancer.spec.listeners.len());
        for listener in &balancer.spec.listeners {
            let listener = Arc::new(listener.clone());
            let mut counted = Counted { listener: Arc::clone(&listener), backends: 0, healthy: 0 };
            for address in &addresses {
                let all = backends(&listener, Family::of(*address), world.snapshot());
                task.targets.extend(all.iter().flat_map(|backend| targets(&listener, backend)));
                let (serving, healthy) = serving(&listener, &all, verdicts);
                if counted.backends == 0 {
                    (counted.backends, counted.healthy) = (all.len(), healthy);
                }
                let (instance, listener) = (Arc::clone(&instance), Arc::clone(&listener));
                task.active.push(Active { instance, address: *address, listener, backends: serving.into() });
            }
            listeners.push(counted);
        }
        for address in &addresses {
            task.held.insert(*address, Held { instance: Arc::clone(&instance), term });
        }
        let generation = balancer.metadata.generation.unwrap_or_default();
        task.instances.insert(Arc::clone(&instance), Instance { term, generation, listeners });
        task.addresses.insert(instance, addresses);
    }
    task
}

/// The backends that are used, and how many of all pass. One that never passed gets nothing, except that when none passes all
/// are used: then it is more likely the check that is wrong.
fn serving(listener: &Listener, all: &[Backend], verdicts: &Verdicts) -> (Vec<Backend>, usize) {
    let passing = all.iter().filter(|backend| verdict(listener, backend, verdicts) == Verdict::Healthy);
    let passing: Vec<Backend> = passing.cloned().collect();
    let healthy = passing.len();
    if healthy == 0 { (all.to_vec(), 0) } else { (passing, healthy) }
}
