//! EndpointSlices from Pods.

use std::cell::Cell;

use crate::admission::Family;
use crate::service::{NONE, ServiceType, has_derived_endpoints};
use crate::types::{Endpoint, EndpointSlice, Node, OwnerReference, Pod, Service, TextMap};

use super::hints::{Allocated, Hints, Topology, Zones};
use super::packing::{Shape, Wanted, pack};
use super::pods::Candidates;
use super::weights;
use super::{DERIVED, HEADLESS, MANAGED_BY, MAX_ENDPOINTS_PER_SLICE, SERVICE_NAME, SliceChange};

/// What the slices of a Service are derived from.
pub struct Derivation<'a> {
    pub service: &'a Service,
    /// The Pods that its selector matches, best in the order of their names.
    pub pods: &'a [&'a Pod],
    pub node: &'a dyn Fn(&str) -> Option<&'a Node>,
    /// What the Nodes are together; read for [`Topology::Auto`] alone.
    pub zones: &'a Zones,
    /// The slices with this Service's name and [`MANAGED_BY`] [`DERIVED`].
    pub existing: &'a [&'a EndpointSlice],
    /// When the change happened that is being answered (the earliest, of a batch); see [`super::trigger_time`].
    pub trigger_time: Option<&'a str>,
    /// Draws the last five characters of a name.
    pub suffix: &'a mut dyn FnMut() -> String,
}

/// What follows for the slices of a Service.
#[derive(Debug, Default)]
pub struct Derived {
    pub changes: Vec<SliceChange>,
    /// What came of the allocation to zones, of a Service that asks for it, for each of its families.
    pub allocated: Vec<Allocated>,
}

/// The changes that make the slices say what the Pods are; empty when they say it already.
///
/// A Service without a selector, or one that lost it, has its slices left alone: from then on they are the user's, as
/// in Kubernetes. One that became an ExternalName loses them. For one that is being deleted none is created.
pub fn derive_slices(d: Derivation<'_>) -> Derived {
    let service = d.service;
    let mut derived = Derived::default();
    let changes = &mut derived.changes;
    if !has_derived_endpoints(service) {
        if ServiceType::of(service) == Some(ServiceType::ExternalName) {
            changes.extend(d.existing.iter().map(|s| SliceChange::Delete { name: s.metadata.name().to_owned() }));
        }
        return derived;
    }
    let candidates = Candidates::of(service, d.pods, d.node);
    let shape = Shape {
        namespace: service.metadata.namespace(),
        base: service.metadata.name(),
        owner: owner(service),
        labels: labels(service, DERIVED),
        annotations: None,
        trigger_time: d.trigger_time,
        max_endpoints: MAX_ENDPOINTS_PER_SLICE,
        placeholder: true,
        creates: !service.metadata.terminating(),
    };
    let (families, topology) = (families(service), Topology::of(service));
    for family in families.iter().copied() {
        let hints = match topology {
            Topology::Anywhere => Hints::None,
            Topology::SameZone => Hints::SameZone,
            Topology::SameNode => Hints::SameNode,
            Topology::Auto => {
                let (hints, allocated) = Hints::allocate(&candidates, family, d.existing, d.zones);
                derived.allocated.push(allocated);
                hints
            }
        };
        let wanted = OfFamily { candidates: &candidates, family, hints, next: Cell::new(0) };
        let existing = d.existing.iter().copied().filter(|slice| slice.address_type == family.as_str());
        pack(&wanted, &candidates.ports, &shape, family.as_str(), existing, d.suffix, changes);
    }
    let stale = |slice: &&&EndpointSlice| !families.iter().any(|f| f.as_str() == slice.address_type);
    let stale = d.existing.iter().filter(stale);
    changes.extend(stale.map(|slice| SliceChange::Delete { name: slice.metadata.name().to_owned() }));
    derived
}

/// The candidates that have an address of one family.
struct OfFamily<'a> {
    candidates: &'a Candidates<'a>,
    family: Family,
    hints: Hints<'a>,
    /// The candidate after the last that was found: slices are filled in the order of names, so it is mostly the
    /// next one looked for.
    next: Cell<usize>,
}

impl Wanted for OfFamily<'_> {
    fn len(&self) -> usize {
        self.candidates.list.len()
    }

    fn group(&self, index: usize) -> Option<usize> {
        let candidate = &self.candidates.list[index];
        candidate.address(self.family).map(|_| candidate.group)
    }

    fn find(&self, group: usize, existing: &Endpoint) -> Option<usize> {
        let name = existing.target_ref.as_ref()?.name.as_deref()?;
        let index = self.candidates.find(name, self.next.get())?;
        self.next.set(index + 1);
        (self.group(index) == Some(group)).then_some(index)
    }

    fn same(&self, index: usize, existing: &Endpoint) -> bool {
        let candidate = &self.candidates.list[index];
        candidate.same(self.family, self.hints.of(index, candidate), existing)
    }

    fn build(&self, index: usize) -> Endpoint {
        let candidate = &self.candidates.list[index];
        // Only indices with a group are built, and those have an address.
        candidate.endpoint(self.family, self.hints.of(index, candidate)).unwrap_or_default()
    }

    fn weights(&self, group: usize, endpoints: &[Endpoint]) -> Option<String> {
        if !self.candidates.weighted {
            return None;
        }
        self.next.set(0);
        let found = endpoints.iter().filter_map(|endpoint| self.find(group, endpoint));
        let members = found.map(|index| &self.candidates.list[index]).filter(|c| c.weight != weights::FULL);
        weights::format(&members.filter_map(|c| Some((c.address(self.family)?.1, c.weight))).collect())
    }
}

/// The families of a Service's slices, primary first. One from before families were set has those of its address.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let named: Vec<Family> = service.spec.ip_families.iter().filter_map(|f| Family::parse(f)).collect();
    if !named.is_empty() {
        return named;
    }
    match service.spec.cluster_ip.parse() {
        Ok(address) => vec![Family::of(address)],
        Err(_) => vec![Family::V4, Family::V6],
    }
}

/// A Service's own labels, without those that say something else on a slice, and the slice's own.
pub(super) fn labels(service: &Service, manager: &str) -> TextMap {
    let mut labels = service.metadata.labels.clone();
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    if matches!(service.spec.cluster_ip.as_str(), "" | NONE) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

pub(super) fn owner(service: &Service) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        block_owner_deletion: Some(true),
        controller: Some(true),
        kind: "Service".to_owned(),
        name: service.metadata.name().to_owned(),
        uid: service.metadata.uid().to_owned(),
    }
}
