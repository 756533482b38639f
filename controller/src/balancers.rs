//! Services of type LoadBalancer: for each an instance as it wants it, and for the Service what became of it.
//!
//! This is the part that has to do with time and with the doings of others: an edge node has set an instance up, a
//! certificate has expired, an address has become free. When anything was written, and at most twenty times a second, it is
//! looked at what has changed, and the Services that it concerns are brought to where they shall be ([`sync`]): whatever
//! differs is put right, whoever changed it. Nothing is remembered that does not follow from the objects.
//!
//! Many Services are worked on at a time, since each waits for its writes; one commit takes those of all.

mod certificates;
mod failure;
mod merge;
mod report;
mod sync;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::object::Key;
use model::types::{LoadBalancer, Node, Service};
use model::{Object, Resource};
use store::{Event, EventKind, Store};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::follow::{Follow, News};
use crate::pace::Pace;
use sync::{Context, Found};

/// How often it is looked at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the wall clock is asked whether it has come to a time, however far that is: somebody may set it.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Services that are worked on at a time.
const AT_A_TIME: usize = 64;

/// Between two tries of what was refused: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(300);

/// Label of an EndpointSlice: whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What holds for all load balancers.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nodes or Pods that one instance may have as backends.
    pub backends_most: usize,
    /// Services that name no class are left to others.
    pub needs_class: bool,
}

impl Default for Options {
    /// The quota is that of the cloud's table.
    fn default() -> Self {
        Self { backends_most: 200, needs_class: false }
    }
}

impl Options {
    /// Whether a Service shall have a load balancer of ours.
    fn handles(&self, service: &Service) -> bool {
        model::balancing::handles(service) && (service.spec.load_balancer_class.is_some() || !self.needs_class)
    }
}

/// Sees to load balancers for as long as it is polled. `clock` is the wall clock, by which certificates expire.
pub async fn run(store: Store, options: Options, clock: fn() -> Timestamp) {
    let mut pace = Pace::new(&store, LOOK_EVERY);
    let mut balancers = Balancers::new(store, options, clock);
    loop {
        let due = balancers.known.values().filter_map(|known| known.due(Instant::now(), clock())).min();
        pace.next(due).await;
        balancers.look(Instant::now()).await;
    }
}

struct Balancers {
    store: Store,
    options: Options,
    clock: fn() -> Timestamp,
    follows: [Follow; 7],
    /// Services that have or want a load balancer of ours.
    known: BTreeMap<Key, Known>,
    slices: BTreeMap<Key, BTreeSet<Box<str>>>,
    nodes: Arc<BTreeMap<String, Arc<Node>>>,
    /// Services that have to be looked at.
    due: BTreeSet<Key>,
    /// Instances that may have lost their Service.
    orphans: BTreeSet<Box<str>>,
    number: u32,
}

#[derive(Default)]
struct Known {
    found: Found,
    failures: u32,
    retry: Option<Instant>,
}

impl Known {
    /// When it has to be looked at though nothing may have been written; None: never. `time` is the wall clock's.
    fn due(&self, now: Instant, time: Timestamp) -> Option<Instant> {
        let until = |again| Duration::try_from(time.duration_until(again)).unwrap_or_default().min(CLOCK_EVERY);
        let again = self.found.again.map(|again| now + until(again));
        [again, self.retry].into_iter().flatten().min()
    }
}

impl Balancers {
    fn new(store: Store, options: Options, clock: fn() -> Timestamp) -> Self {
        let resources = [
            Resource::EndpointSlices,
            Resource::Nodes,
            Resource::Services,
            Resource::LoadBalancers,
            Resource::Secrets,
            Resource::AccessLists,
            Resource::AddressPools,
        ];
        Self {
            store,
            options,
            clock,
            follows: resources.map(|resource| Follow::new(resource, None)),
            known: BTreeMap::new(),
            slices: BTreeMap::new(),
            nodes: Arc::default(),
            due: BTreeSet::new(),
            orphans: BTreeSet::new(),
            number: 0,
        }
    }

    /// One look: what has changed, and what follows.
    async fn look(&mut self, now: Instant) {
        self.read();
        let time = (self.clock)();
        for (key, known) in &mut self.known {
            let again = known.found.again.is_some_and(|again| again < time);
            let retry = known.retry.is_some_and(|retry| retry <= now);
            if again || retry {
                (known.found.again, known.retry) = (None, None);
                self.due.insert(key.clone());
            }
        }
        self.remove_orphans().await;
        while !self.due.is_empty() {
            self.work(now, time).await;
        }
    }

    async fn work(&mut self, now: Instant, time: Timestamp) {
        let mut tasks = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let Some(key) = self.due.pop_first() else { break };
            let Some(object) = self.store.get(Resource::Services, &key.namespace, &key.name) else {
                self.known.remove(&key);
                continue;
            };
            let context = Context {
                store: self.store.clone(),
                now: time,
                nodes: Arc::clone(&self.nodes),
                slices: self.slices.get(&key).into_iter().flatten().cloned().collect(),
                options: self.options,
                number: self.number,
            };
            // As many as one look at a Service writes.
            self.number = self.number.wrapping_add(8);
            tasks.spawn(async move { (key, sync::sync(context, object).await) });
        }
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok((key, found)) => self.remember(key, found, now),
                Err(error) => tracing::error!(%error, "a look at a Service ended early"),
            }
        }
    }

    fn remember(&mut self, key: Key, found: Found, now: Instant) {
        if !found.ours {
            self.known.remove(&key);
            return;
        }
        let known = self.known.entry(key).or_default();
        known.failures = if found.failed { known.failures.saturating_add(1) } else { 0 };
        let wait = RETRY_FIRST.saturating_mul(1 << known.failures.min(16)).min(RETRY_LONGEST);
        known.retry = found.failed.then(|| now + wait);
        known.found = found;
    }

    /// Deletes instances whose Service went without them: somebody took its finalizer away.
    async fn remove_orphans(&mut self) {
        for name in std::mem::take(&mut self.orphans) {
            let Some(object) = self.store.get(Resource::LoadBalancers, "", &name) else { continue };
            if object.load_balancer().is_some_and(|balancer| sync::is_orphan(&self.store, balancer)) {
                tracing::warn!(instance = &*name, "a load balancer has lost its Service: it is deleted");
                if let Err(error) = self.store.write(writes::delete(&name, object.meta().uid())).await {
                    tracing::warn!(instance = &*name, %error, "a load balancer without a Service was not deleted");
                }
            }
        }
    }

    fn read(&mut self) {
        for index in 0..self.follows.len() {
            while let Some(news) = self.follows[index].next(&self.store) {
                match news {
                    News::All(objects) => {
                        if let Some(resource) = self.follows.get(index).map(Follow::resource) {
                            self.forget(resource);
                        }
                        objects.iter().for_each(|object| self.changed(object, EventKind::Added));
                    }
                    News::Changes(events) => {
                        events.iter().for_each(|event: &Arc<Event>| self.changed(&event.object, event.kind));
                    }
                }
            }
        }
    }

    /// Before a resource is read anew: what was known of it may be gone.
    fn forget(&mut self, resource: Resource) {
        match resource {
            Resource::EndpointSlices => self.slices.clear(),
            Resource::Nodes => self.nodes = Arc::default(),
            Resource::Services => {
                let (_, balancers) = self.store.list(Resource::LoadBalancers, None);
                self.orphans.extend(balancers.iter().map(|balancer| balancer.key.name.clone()));
            }
            _ => {}
        }
        self.due.extend(self.known.keys().cloned());
    }

    fn changed(&mut self, object: &Arc<Object>, kind: EventKind) {
        let (key, gone) = (&object.key, kind == EventKind::Deleted);
        match object.resource {
            Resource::Services => {
                let ours = object.service().is_some_and(|service| self.options.handles(service));
                let claimed = object.meta().finalizers.iter().any(|finalizer| finalizer == writes::FINALIZER);
                if gone {
                    self.known.remove(key);
                    self.orphans.extend(object.service().map(|service| merge::own_name(service).into()));
                } else if ours || claimed || self.known.contains_key(key) {
                    self.due.insert(key.clone());
                }
            }
            Resource::LoadBalancers => self.instance_changed(object, gone),
            Resource::Nodes => {
                let nodes = Arc::make_mut(&mut self.nodes);
                match object.node().filter(|_| !gone) {
                    Some(node) => _ = nodes.insert(key.name.to_string(), Arc::new(node.clone())),
                    None => _ = nodes.remove(&*key.name),
                }
                self.due.extend(self.known.keys().cloned());
            }
            Resource::EndpointSlices => {
                let Some(service) = object.labels().get(SERVICE_NAME) else { return };
                let service = Key::new(&key.namespace, service);
                let slices = self.slices.entry(service.clone()).or_default();
                if gone {
                    slices.remove(&key.name)
                } else {
                    slices.insert(key.name.clone())
                };
                if slices.is_empty() {
                    self.slices.remove(&service);
                }
                if self.known.contains_key(&service) {
                    self.due.insert(service);
                }
            }
            Resource::Secrets => self.due_where(|known| {
                known.found.secrets.iter().any(|s| *s.namespace == *key.namespace && *s.name == *key.name)
            }),
            Resource::AccessLists => self.due_where(|known| known.found.lists.contains(&*key.name)),
            Resource::AddressPools => self.due_where(|known| known.found.failed),
            _ => {}
        }
    }

    fn instance_changed(&mut self, object: &Object, gone: bool) {
        let name = &object.key.name;
        let owner = object.load_balancer().and_then(|LoadBalancer { spec, .. }| spec.owner.as_ref());
        if let Some(owner) = owner {
            let service = Key::new(&owner.namespace, &owner.name);
            if self.store.get(Resource::Services, &service.namespace, &service.name).is_none() && !gone {
                self.orphans.insert(name.clone());
            }
            self.due.extend(self.known.contains_key(&service).then_some(service));
        }
        // An instance that goes leaves room for others: an address, a place in the quota, a port.
        self.due_where(|known| known.found.instance == *name || (gone && known.found.failed));
    }

    fn due_where(&mut self, concerns: impl Fn(&Known) -> bool) {
        let due = self.known.iter().filter(|(_, known)| concerns(known)).map(|(key, _)| key.clone());
        self.due.extend(due);
    }
}
