//! The writer's private state: objects, indexes, allocations, and the journal that takes them back.
//!
//! One function, `index`, moves every index and every allocation with an object that comes, changes or goes.
//! What an address pool or an index holds is therefore a function of the objects; nothing else writes to them, and undoing
//! is `place` with the states of before, last first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use allocator::{AddressPool, ExternalAddresses, PortPool, SubnetPool};
use model::endpoints::SERVICE_NAME;
use model::endpoints::hints::{Topology, Zones};
use model::service::{has_derived_endpoints, holds, selects};
use model::types::{OwnerReference, Pod, ServiceCidr};
use model::{Key, Object, Resource, Revision, View};

use super::collect::{is_due, waits_for_dependents, waits_in_foreground};
use super::index::{Dependents, Id, Pairs, Selectors};
use super::own;
use super::stale::{self, Stale};
use crate::event::{Event, EventKind};
use crate::shelf::Shelf;

/// Everything that the writer decides by.
pub(crate) struct State {
    revision: Revision,
    shelves: [Shelf; Resource::ALL.len()],
    selectors: Selectors,
    pods_by_label: Pairs,
    /// Under the empty namespace, `node=NAME`; entries are `namespace/name`.
    pods_by_node: Pairs,
    /// EndpointSlices by the label `kubernetes.io/service-name`.
    slices: Pairs,
    /// Services whose endpoints are allocated to zones, which depends on all Nodes.
    allocated: BTreeSet<Key>,
    /// What the Nodes are together.
    zones: Zones,
    dependents: Dependents,
    /// Events by the revision that wrote them last.
    events: BTreeMap<Revision, Key>,
    addresses: AddressPool,
    ports: PortPool,
    /// The ranges for pods, with what Nodes have of them.
    pod_pools: Vec<SubnetPool>,
    /// What load balancers have.
    external: ExternalAddresses,
    journal: Vec<Arc<Event>>,
    dirty: BTreeMap<Key, Stale>,
    emptied: Emptied,
    /// Objects whose owners are to be looked at, or that are such owners, when there is time. More than there need be does
    /// no harm.
    owed: BTreeSet<Id>,
    /// The same, of the group at hand: soon enough with the next one.
    newcomers: BTreeSet<Id>,
}

/// What follows from a request within its transaction: above all, what it may have brought to its end by deleting.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Emptied {
    pub(crate) namespaces: BTreeSet<Box<str>>,
    pub(crate) addresses: bool,
    /// Whether a Node is gone whose part of the ranges for pods another may wait for.
    pub(crate) pod_cidrs: bool,
    /// Addresses that load balancers have got, or have no more: (address, whether it was given), in this order.
    pub(crate) external: Vec<(IpAddr, bool)>,
    /// Whether one of the cluster's own Services is gone.
    pub(crate) own: bool,
    /// Whether a ClusterRole is another than before.
    pub(crate) roles: bool,
    /// Objects that may have lost their last owner.
    pub(crate) dependents: BTreeSet<Id>,
    /// Owners that may have waited for what is gone now.
    pub(crate) owners: BTreeSet<Id>,
}

/// Whom an owner reference names.
pub(crate) enum Owner<'a> {
    Present(&'a Arc<Object>),
    Absent,
    /// It cannot be known: the kind is not served, or the object could not be in any namespace.
    Unknown,
}

/// A place in the journal to go back to. The default is its beginning. No mark outlives a call of `forget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    journal: usize,
}

impl State {
    /// An empty state whose next write gets the revision after `revision`.
    pub(crate) fn new(revision: Revision, ports: PortPool) -> Self {
        Self {
            revision,
            shelves: Default::default(),
            selectors: Selectors::default(),
            pods_by_label: Pairs::default(),
            pods_by_node: Pairs::default(),
            slices: Pairs::default(),
            allocated: BTreeSet::new(),
            zones: Zones::default(),
            dependents: Dependents::default(),
            events: BTreeMap::new(),
            addresses: AddressPool::default(),
            ports,
            pod_pools: Vec::new(),
            external: ExternalAddresses::default(),
            journal: Vec::new(),
            dirty: BTreeMap::new(),
            emptied: Emptied::default(),
            owed: BTreeSet::new(),
            newcomers: BTreeSet::new(),
        }
    }

    /// Takes in the objects of a resource that the log already has; there are none of it yet.
    pub(crate) fn restore(&mut self, resource: Resource, shelf: Shelf) {
        for object in shelf.all() {
            self.index(resource, &object.key, None, Some(object));
        }
        self.shelves[resource as usize] = shelf;
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.shelves[resource as usize].get(namespace, name)
    }

    pub(crate) fn shelf(&self, resource: Resource) -> &Shelf {
        &self.shelves[resource as usize]
    }

    pub(crate) fn zones(&self) -> &Zones {
        &self.zones
    }

    /// The Services whose endpoints are allocated to zones.
    pub(crate) fn allocated(&self) -> impl Iterator<Item = &Key> {
        self.allocated.iter()
    }

    /// The Pods that are bound to a Node, in order.
    pub(super) fn pods_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        let entries = self.pods_by_node.names("", "node", node).filter_map(|entry| entry.split_once('/'));
        entries.filter_map(|(namespace, name)| self.get(Resource::Pods, namespace, name))
    }

    pub(crate) fn addresses(&self) -> &AddressPool {
        &self.addresses
    }

    pub(crate) fn ports(&self) -> &PortPool {
        &self.ports
    }

    pub(super) fn external(&self) -> &ExternalAddresses {
        &self.external
    }

    pub(super) fn pod_pools(&self) -> &[SubnetPool] {
        &self.pod_pools
    }

    /// Takes other ranges for pods, with what the Nodes have of them.
    pub(super) fn set_pod_pools(&mut self, mut pools: Vec<SubnetPool>) {
        for node in self.shelf(Resource::Nodes).all() {
            for net in pod_nets(Some(node)) {
                pools.iter_mut().for_each(|pool| pool.hold(net));
            }
        }
        self.pod_pools = pools;
    }

    /// For holding for the length of one allocation; the caller releases what it held.
    pub(super) fn pools(&mut self) -> (&mut AddressPool, &mut PortPool) {
        (&mut self.addresses, &mut self.ports)
    }

    /// Takes a change in. Its revision is the one after the newest.
    pub(super) fn record(&mut self, event: Arc<Event>) {
        debug_assert_eq!(event.revision, self.revision + 1);
        self.revision = event.revision;
        let object = &event.object;
        let now = (event.kind != EventKind::Deleted).then(|| Arc::clone(object));
        let before = self.place(object.resource, &object.key, now);
        self.mark_dirty(before.as_deref(), &event);
        self.mark_owners(before.as_deref(), &event);
        self.mark_external(before.as_deref(), &event);
        self.emptied.roles |= object.resource == Resource::ClusterRoles;
        if event.kind == EventKind::Deleted {
            self.emptied.pod_cidrs |= object.resource == Resource::Nodes && !self.pod_pools.is_empty();
            self.emptied.addresses |= object.resource == Resource::IpAddresses;
            self.emptied.own |= object.resource == Resource::Services && own::is_own(&object.key);
            if object.resource.info().namespaced {
                self.emptied.namespaces.insert(object.key.namespace.clone());
            }
        }
        self.journal.push(event);
    }

    pub(crate) fn journal(&self) -> &[Arc<Event>] {
        &self.journal
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { journal: self.journal.len() }
    }

    /// Takes back everything recorded since `mark`. What is to be looked at because of it stays marked (dirty Services,
    /// what was emptied): a look finds nothing to do.
    pub(super) fn undo(&mut self, mark: Mark) {
        while self.journal.len() > mark.journal {
            let Some(event) = self.journal.pop() else { break };
            self.revision = event.revision - 1;
            if let Some(stale) = self.dirty.get_mut(&event.object.key)
                && event.object.resource == Resource::Services
            {
                stale.written = false;
            }
            self.place(event.object.resource, &event.object.key, event.previous.clone());
        }
    }

    /// Drops the first `events` of the journal: they can no longer be taken back.
    pub(super) fn forget(&mut self, events: usize) {
        self.journal.drain(..events.min(self.journal.len()));
    }

    pub(crate) fn dependents(&self) -> &Dependents {
        &self.dependents
    }

    /// Whom a reference of `dependent` names: an object of its own namespace, or of none.
    pub(crate) fn owner(&self, dependent: &Object, reference: &OwnerReference) -> Owner<'_> {
        let Some(resource) = Resource::find_kind(&reference.api_version, &reference.kind) else {
            return Owner::Unknown;
        };
        let namespace = match (resource.info().namespaced, &*dependent.key.namespace) {
            (true, "") => return Owner::Unknown,
            (true, namespace) => namespace,
            (false, _) => "",
        };
        match self.get(resource.stored(), namespace, &reference.name) {
            Some(owner) if owner.meta().uid() == reference.uid => Owner::Present(owner),
            _ => Owner::Absent,
        }
    }

    /// Has an owner that waits, and what it waits for, looked at with the request at hand.
    pub(super) fn look_at_dependents(&mut self, owner: &Object) {
        if waits_in_foreground(owner) {
            self.emptied.dependents.extend(self.dependents.of(owner.meta().uid()).cloned());
        }
        self.emptied.owners.insert((owner.resource, owner.key.clone()));
    }

    /// Has an object looked at when there is time.
    pub(super) fn owe(&mut self, place: Id) {
        self.owed.insert(place);
    }

    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty() || !self.newcomers.is_empty()
    }

    /// Some of the objects that are to be looked at; those of the group at hand come with the next.
    pub(super) fn take_owed(&mut self, limit: usize) -> Vec<Id> {
        let mut some = Vec::with_capacity(limit.min(self.owed.len()));
        while some.len() < limit {
            let Some(place) = self.owed.pop_first() else { break };
            some.push(place);
        }
        self.owed.append(&mut self.newcomers);
        some
    }

    /// The Events that were written last at `revision` or before, oldest first.
    pub(super) fn events_until(&self, revision: Revision) -> impl Iterator<Item = &Arc<Object>> {
        self.events.range(..=revision).filter_map(|(_, key)| self.get(Resource::Events, &key.namespace, &key.name))
    }

    pub(super) fn take_emptied(&mut self) -> Emptied {
        std::mem::take(&mut self.emptied)
    }

    pub(super) fn take_dirty(&mut self) -> BTreeMap<Key, Stale> {
        std::mem::take(&mut self.dirty)
    }

    /// Has a Service's endpoints derived at the end of the group.
    pub(super) fn touch(&mut self, key: Key, stale: Stale) {
        let known = self.dirty.entry(key).or_default();
        known.beyond_pods |= stale.beyond_pods;
        known.written |= stale.written;
        // RFC 3339 in UTC: the order of the texts is the order of the times, down to the second.
        if let Some(since) = stale.since
            && known.since.as_ref().is_none_or(|at| since < *at)
        {
            known.since = Some(since);
        }
    }

    /// Puts `now` at a key, or takes away what is there; indexes and allocations follow. Returns what was there.
    fn place(&mut self, resource: Resource, key: &Key, now: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let shelf = &mut self.shelves[resource as usize];
        let before = match &now {
            Some(object) => shelf.insert(Arc::clone(object)),
            None => shelf.remove(&key.namespace, &key.name),
        };
        self.index(resource, key, before.as_deref(), now.as_deref());
        before
    }

    /// Has indexes and allocations follow a change of what is at a key.
    fn index(&mut self, resource: Resource, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        self.place_dependent(resource, key, old, new);
        match resource {
            Resource::Services => self.place_service(key, old, new),
            Resource::Pods => self.place_pod(key, old, new),
            Resource::EndpointSlices => self.place_slice(key, old, new),
            Resource::IpAddresses => self.place_address(key, old.is_some(), new.is_some()),
            Resource::ServiceCidrs => self.place_cidr(key, old, new),
            Resource::Events => {
                if let Some(old) = old {
                    self.events.remove(&old.revision);
                }
                if let Some(new) = new {
                    self.events.insert(new.revision, key.clone());
                }
            }
            Resource::Nodes => self.place_node(old, new),
            Resource::LoadBalancers => {
                // Hold before release: what stays is never free in between.
                external(new).iter().for_each(|address| self.external.hold(*address));
                external(old).iter().for_each(|address| self.external.release(*address));
            }
            Resource::Namespaces
            | Resource::Endpoints
            | Resource::EventsV1
            | Resource::Leases
            | Resource::ServiceAccounts
            | Resource::Roles
            | Resource::RoleBindings
            | Resource::ClusterRoles
            | Resource::ClusterRoleBindings
            | Resource::Tokens
            | Resource::AddressPools
            | Resource::AccessLists
            | Resource::Secrets => {}
        }
    }

    fn place_dependent(&mut self, resource: Resource, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        let (old, new) = (references(old), references(new));
        if old == new {
            return;
        }
        let place = (resource, key.clone());
        old.iter().for_each(|reference| self.dependents.remove(&reference.uid, &place));
        new.iter().for_each(|reference| self.dependents.insert(&reference.uid, &place));
    }

    fn place_service(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        let (old, new) = (old.and_then(Object::service), new.and_then(Object::service));
        let held = old.map(holds).unwrap_or_default();
        let holding = new.map(holds).unwrap_or_default();
        // Hold before release: what stays is never free in between.
        holding.addresses.iter().for_each(|address| self.addresses.hold(*address));
        holding.node_ports.iter().for_each(|port| self.ports.hold(*port));
        held.addresses.iter().for_each(|address| self.addresses.release(*address));
        held.node_ports.iter().for_each(|port| self.ports.release(*port));
        if old.map(|s| &s.spec.selector) != new.map(|s| &s.spec.selector) {
            if let Some(service) = old {
                self.selectors.remove(&key.namespace, &key.name, &service.spec.selector);
            }
            if let Some(service) = new {
                self.selectors.insert(&key.namespace, &key.name, &service.spec.selector);
            }
        }
        if new.is_some_and(|service| Topology::of(service) == Topology::Auto && has_derived_endpoints(service)) {
            self.allocated.insert(key.clone());
        } else {
            self.allocated.remove(key);
        }
    }

    fn place_node(&mut self, old: Option<&Object>, new: Option<&Object>) {
        if !self.pod_pools.is_empty() {
            let (held, holding) = (pod_nets(old), pod_nets(new));
            if held != holding {
                self.pod_pools.iter_mut().for_each(|pool| {
                    holding.iter().for_each(|net| pool.hold(*net));
                    held.iter().for_each(|net| pool.release(*net));
                });
            }
        }
        let (old, new) = (stale::share(old), stale::share(new));
        if old != new {
            self.zones.remove(old);
            self.zones.add(new);
        }
    }

    fn place_pod(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        if old.map(Object::labels) != new.map(Object::labels) {
            for (label, value) in old.into_iter().flat_map(Object::labels) {
                self.pods_by_label.remove(&key.namespace, label, value, &key.name);
            }
            for (label, value) in new.into_iter().flat_map(Object::labels) {
                self.pods_by_label.insert(&key.namespace, label, value, &key.name);
            }
        }
        let node = |object: Option<&Object>| {
            object.and_then(Object::pod).map(|pod| pod.spec.node_name.clone()).filter(|name| !name.is_empty())
        };
        let (from, to) = (node(old), node(new));
        if from != to {
            let entry = format!("{}/{}", key.namespace, key.name);
            if let Some(name) = from {
                self.pods_by_node.remove("", "node", &name, &entry);
            }
            if let Some(name) = to {
                self.pods_by_node.insert("", "node", &name, &entry);
            }
        }
    }

    fn place_slice(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        let service = |object: Option<&Object>| object.and_then(|o| o.labels().get(SERVICE_NAME).cloned());
        let (from, to) = (service(old), service(new));
        if from != to {
            if let Some(service) = from {
                self.slices.remove(&key.namespace, SERVICE_NAME, &service, &key.name);
            }
            if let Some(service) = to {
                self.slices.insert(&key.namespace, SERVICE_NAME, &service, &key.name);
            }
        }
    }

    fn place_address(&mut self, key: &Key, was: bool, is: bool) {
        let Ok(address) = key.name.parse::<IpAddr>() else { return };
        match (was, is) {
            (false, true) => self.addresses.hold(address),
            (true, false) => self.addresses.release(address),
            _ => {}
        }
    }

    /// The cluster's own ranges are used before those that users add.
    fn place_cidr(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        let rank = u8::from(&*key.name != super::start::DEFAULT_CIDR);
        for net in old.into_iter().flat_map(serving_ranges) {
            self.addresses.remove_range(rank, net);
        }
        for net in new.into_iter().flat_map(serving_ranges) {
            if let Err(error) = self.addresses.add_range(rank, net) {
                // Refused at its creation; a row of the log may still say so.
                tracing::warn!(servicecidr = &*key.name, %net, %error, "this service range cannot be used");
            }
        }
    }

    /// Marks the objects that may have lost their owner with a change, and the owners that may have waited for it.
    fn mark_owners(&mut self, before: Option<&Object>, event: &Event) {
        let object = &event.object;
        let after = (event.kind != EventKind::Deleted).then_some(&**object);
        if after.is_none() {
            self.emptied.dependents.extend(self.dependents.of(object.meta().uid()).cloned());
        }
        let (old, new) = (references(before), references(after));
        if old == new {
            return;
        }
        let waiting = |reference| match self.owner(object, reference) {
            Owner::Present(owner) if waits_for_dependents(owner) => Some((owner.resource, owner.key.clone())),
            _ => None,
        };
        let waiting: Vec<Id> = old.iter().filter_map(waiting).collect();
        self.emptied.owners.extend(waiting);
        if after.is_some_and(|object| is_due(self, object)) {
            self.newcomers.insert((object.resource, object.key.clone()));
        }
    }

    /// Notes which addresses a load balancer has got with a change, and which it has no more.
    fn mark_external(&mut self, before: Option<&Object>, event: &Event) {
        if event.object.resource != Resource::LoadBalancers {
            return;
        }
        let now = (event.kind != EventKind::Deleted).then_some(&*event.object);
        let (old, new) = (external(before), external(now));
        let given = new.iter().filter(|address| !old.contains(address)).map(|address| (*address, true));
        let freed = old.iter().filter(|address| !new.contains(address)).map(|address| (*address, false));
        self.emptied.external.extend(given.chain(freed));
    }

    /// The Services that select this Pod.
    pub(crate) fn services_of(&self, pod: &Object) -> Vec<Key> {
        let namespace = &*pod.key.namespace;
        self.selectors
            .candidates(namespace, pod.labels())
            .into_iter()
            .filter(|name| {
                self.get(Resource::Services, namespace, name)
                    .and_then(|object| object.service())
                    .is_some_and(|service| selects(service, pod.labels()))
            })
            .map(|name| Key::new(namespace, name))
            .collect()
    }

    /// The Pods that a Service selects, in order of their names.
    pub(crate) fn pods_of(&self, service: &Object) -> Vec<&Pod> {
        let Some(service) = service.service().filter(|service| has_derived_endpoints(service)) else {
            return Vec::new();
        };
        let namespace = service.metadata.namespace();
        let Some((key, value)) = self.pods_by_label.rarest(namespace, &service.spec.selector) else {
            return Vec::new();
        };
        self.pods_by_label
            .names(namespace, key, value)
            .filter_map(|name| self.get(Resource::Pods, namespace, name))
            .filter(|pod| selects(service, pod.labels()))
            .filter_map(|pod| pod.pod())
            .collect()
    }

    /// The EndpointSlices that name a Service, in order of their names.
    pub(crate) fn slices_of<'a>(
        &'a self,
        namespace: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.slices
            .names(namespace, SERVICE_NAME, service)
            .filter_map(move |name| self.get(Resource::EndpointSlices, namespace, name))
    }

    /// Everything that undoing must restore, in a form that tests compare.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let objects: Vec<(Key, Revision, bytes::Bytes)> = Resource::ALL
            .iter()
            .flat_map(|r| self.shelf(*r).all().map(|o| (o.key.clone(), o.revision, o.bytes.clone())))
            .collect();
        let pairs = (self.pods_by_label.clone(), self.pods_by_node.clone(), self.slices.clone(), self.selectors.all());
        let owners = (self.dependents.clone(), self.events.clone(), self.allocated.clone(), self.zones.clone());
        let held = (self.addresses.clone(), self.ports.clone(), self.external.clone());
        (self.revision, objects, pairs, owners, held, self.journal.len())
    }
}

fn references(object: Option<&Object>) -> &[OwnerReference] {
    object.map_or(&[], |object| &object.meta().owner_references)
}

/// The addresses that a load balancer has.
fn external(object: Option<&Object>) -> &[IpAddr] {
    object.and_then(Object::load_balancer).map(|balancer| balancer.spec.addresses.as_slice()).unwrap_or_default()
}

/// The networks that a ServiceCIDR gives addresses from: none once its deletion has begun.
pub(crate) fn serving_ranges(object: &Object) -> Vec<ipnet::IpNet> {
    match &object.view {
        View::ServiceCidr(cidr) if !cidr.metadata.terminating() => nets(cidr),
        _ => Vec::new(),
    }
}

/// What a Node has for its pods.
fn pod_nets(node: Option<&Object>) -> Vec<ipnet::IpNet> {
    let cidrs = node.and_then(Object::node).map(|node| node.spec.pod_cidrs.as_slice()).unwrap_or_default();
    cidrs.iter().filter_map(|text| text.parse().ok()).collect()
}

pub(crate) fn nets(cidr: &ServiceCidr) -> Vec<ipnet::IpNet> {
    cidr.spec.cidrs.iter().filter_map(|text| text.parse().ok()).collect()
}
