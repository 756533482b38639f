//! Endpoints, once per Service that the group touched: slices from Pods, the legacy object, slices from hand-made Endpoints.
//!
//! Whatever a client does to a derived object is undone here in the same transaction.

use std::sync::Arc;

use model::endpoints::hints::{Allocated, Topology};
use model::endpoints::{
    DERIVED, Derivation, Derived, MANAGED_BY, MIRRORED, OWN, SliceChange, derive_endpoints, derive_slices,
    mirror_slices, renew_endpoints,
};
use model::service::has_derived_endpoints;
use model::types::{EndpointSlice, Node, Service};
use model::{Key, Object, Resource};

use super::Engine;
use super::own::is_own;
use super::report::Report;
use super::stale::Stale;
use super::stamp::broken;
use super::state::State;
use crate::error::Refusal;

impl Engine {
    /// Brings the endpoints of every touched Service up to date.
    pub(super) fn derive(&mut self) {
        for (key, stale) in self.state.take_dirty() {
            let mark = self.state.mark();
            if let Err(error) = self.derive_one(&key, &stale) {
                // Only an encoder can fail here; half of a derivation is worse than none.
                self.state.undo(mark);
                tracing::error!(namespace = &*key.namespace, service = &*key.name, %error, "endpoints were not derived");
            }
        }
        // Its own writes need no second look.
        self.state.take_dirty();
        // The last object of a terminating namespace may have been a slice.
        if let Err(error) = self.settle() {
            tracing::error!(%error, "a terminating namespace or ServiceCIDR was not removed");
        }
    }

    fn derive_one(&mut self, key: &Key, stale: &Stale) -> Result<(), Refusal> {
        let object = self.state.get(Resource::Services, &key.namespace, &key.name).cloned();
        let service = object.as_ref().and_then(|object| object.service());
        let derived = match (&object, service) {
            (Some(object), Some(service)) => self.slice_changes(object, service, stale),
            // The Service is gone: what was derived from it, and was not owned by it, goes too.
            _ => Derived { changes: self.orphaned_slices(key), ..Derived::default() },
        };
        let changed = !derived.changes.is_empty();
        self.apply(key, derived.changes)?;
        if let Some(service) = service {
            self.derive_own(key, service)?;
        }
        if let (Some(object), Some(service)) = (&object, service)
            && has_derived_endpoints(service)
            && !service.metadata.terminating()
        {
            self.follow_endpoints(object, service, stale, changed)?;
            for allocated in &derived.allocated {
                self.report_allocated(object, stale, allocated)?;
            }
        }
        if stale.beyond_pods {
            self.mirror(key, service)?;
        }
        Ok(())
    }

    fn slice_changes(&mut self, object: &Object, service: &Service, stale: &Stale) -> Derived {
        let (state, chance) = (&self.state, &mut self.chance);
        let pods = state.pods_of(object);
        let existing = managed_slices(state, &object.key, DERIVED);
        derive_slices(Derivation {
            service,
            pods: &pods,
            node: &|name| node(state, name),
            zones: state.zones(),
            existing: &existing,
            trigger_time: stale.since.as_deref(),
            suffix: &mut || chance.suffix(),
        })
    }

    fn orphaned_slices(&self, service: &Key) -> Vec<SliceChange> {
        self.state
            .slices_of(&service.namespace, &service.name)
            .filter(|slice| matches!(managed_by(slice), Some(DERIVED | OWN)))
            .map(|slice| SliceChange::Delete { name: slice.key.name.to_string() })
            .collect()
    }

    /// Says when the allocation to zones begins or ends, and to whoever writes the Service, why there is none.
    fn report_allocated(&mut self, object: &Object, stale: &Stale, allocated: &Allocated) -> Result<(), Refusal> {
        let family = allocated.family;
        let (reason, note) = match &allocated.outcome {
            Ok(()) if !allocated.had_hints => {
                ("TopologyAwareHintsEnabled", format!("The {family} endpoints are allocated to zones"))
            }
            Err(why) if allocated.had_hints || stale.written => {
                ("TopologyAwareHintsDisabled", format!("The {family} endpoints are not allocated to zones: {why}"))
            }
            _ => return Ok(()),
        };
        let warns = allocated.outcome.is_err();
        let topic = format!("topology-{}", family.as_str().to_lowercase());
        self.report(&Report { about: object, reason, note, warns, component: "portolan-endpoints" }, Some(&topic))
    }

    /// The Endpoints object says nothing that the slices do not: it changes only when they do, or when someone wrote it.
    fn follow_endpoints(
        &mut self,
        object: &Object,
        service: &Service,
        stale: &Stale,
        slices_changed: bool,
    ) -> Result<(), Refusal> {
        let key = &object.key;
        let stored = self.state.get(Resource::Endpoints, &key.namespace, &key.name).cloned();
        if stored.is_some() && !slices_changed && !stale.beyond_pods {
            return Ok(());
        }
        let pods = self.state.pods_of(object);
        let state = &self.state;
        let derived = derive_endpoints(service, &pods, &|name| node(state, name), stale.since.as_deref());
        let value = stored.as_ref().map(|stored| stored.value()).transpose().map_err(broken)?;
        let Some(mut value) = renew_endpoints(value.as_ref(), derived) else { return Ok(()) };
        if stored.is_none() {
            self.stamp_new(Resource::Endpoints, &mut value);
        }
        self.put(Resource::Endpoints, value, stored.as_ref())?;
        Ok(())
    }

    fn mirror(&mut self, key: &Key, service: Option<&Service>) -> Result<(), Refusal> {
        let endpoints = self.state.get(Resource::Endpoints, &key.namespace, &key.name);
        let existing = managed_slices(&self.state, key, MIRRORED);
        if existing.is_empty() && (endpoints.is_none() || service.is_none_or(has_derived_endpoints)) {
            return Ok(());
        }
        let value = endpoints.map(|endpoints| endpoints.value()).transpose().map_err(broken)?;
        let chance = &mut self.chance;
        let changes = mirror_slices(value.as_ref(), service, &existing, &mut || chance.suffix());
        self.apply(key, changes)
    }

    pub(super) fn apply(&mut self, service: &Key, changes: Vec<SliceChange>) -> Result<(), Refusal> {
        let resource = Resource::EndpointSlices;
        for change in changes {
            let stored = self.state.get(resource, &service.namespace, change.name()).cloned();
            match (change, stored) {
                (SliceChange::Create(mut slice), taken) => {
                    if taken.is_some() {
                        slice.metadata.name = Some(self.free_slice_name(service));
                    }
                    self.stamp_new_meta(&mut slice.metadata);
                    slice.metadata.generation = Some(1);
                    self.put_whole(resource, slice, None)?;
                }
                (SliceChange::Update(mut slice), Some(stored)) => {
                    slice.metadata.generation = Some(stored.meta().generation.unwrap_or(0) + 1);
                    self.put_whole(resource, slice, Some(&stored))?;
                }
                (SliceChange::Delete { .. }, Some(stored)) => {
                    if !stored.meta().terminating() {
                        self.delete_at_once(&stored)?;
                    }
                }
                (SliceChange::Update(_) | SliceChange::Delete { .. }, None) => {}
            }
        }
        Ok(())
    }

    fn free_slice_name(&mut self, service: &Key) -> String {
        loop {
            let name = format!("{}-{}", service.name, self.chance.suffix());
            if self.state.get(Resource::EndpointSlices, &service.namespace, &name).is_none() {
                return name;
            }
        }
    }
}

/// Whether all that is derived from a Service says what it would if it were derived now. False where that takes more than
/// a look at its Pods and Nodes: of Services whose endpoints are not derived, or are allocated to zones, of those that go,
/// and of the cluster's own.
pub(super) fn is_derived(state: &State, object: &Object) -> bool {
    let key = &object.key;
    let Some(service) = object.service() else { return false };
    let plain = has_derived_endpoints(service)
        && !service.metadata.terminating()
        && Topology::of(service) != Topology::Auto
        && !is_own(key);
    let Some(stored) = state.get(Resource::Endpoints, &key.namespace, &key.name).filter(|_| plain) else {
        return false;
    };
    if !managed_slices(state, key, MIRRORED).is_empty() {
        return false;
    }
    let pods = state.pods_of(object);
    let derived = derive_slices(Derivation {
        service,
        pods: &pods,
        node: &|name| node(state, name),
        zones: state.zones(),
        existing: &managed_slices(state, key, DERIVED),
        trigger_time: None,
        suffix: &mut String::new,
    });
    let endpoints = || derive_endpoints(service, &pods, &|name| node(state, name), None);
    derived.changes.is_empty()
        && stored.value().is_ok_and(|stored| renew_endpoints(Some(&stored), endpoints()).is_none())
}

fn node<'a>(state: &'a State, name: &str) -> Option<&'a Node> {
    state.get(Resource::Nodes, "", name)?.node()
}

pub(super) fn managed_slices<'a>(state: &'a State, service: &'a Key, manager: &'a str) -> Vec<&'a EndpointSlice> {
    state
        .slices_of(&service.namespace, &service.name)
        .filter(|slice| managed_by(slice) == Some(manager))
        .filter_map(|slice| slice.endpoint_slice())
        .collect()
}

fn managed_by(slice: &Arc<Object>) -> Option<&str> {
    slice.labels().get(MANAGED_BY).map(String::as_str)
}
