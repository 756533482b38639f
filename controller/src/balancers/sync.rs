//! One Service, brought to where it shall be: the steps in their order, each written before the next.
//!
//! What is decided is decided by pure functions ([`merge`], [`report`], [`certificates`], `model::balancing`). Every step
//! finds what the former left in the store, so whoever is stopped anywhere goes on at the next look: the finalizer is
//! there before the instance, the instance before the status, and on the way out it goes backwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::admission::Family;
use model::balancing::{Wanted, backends, parting, wanted};
use model::object::Key;
use model::snapshot::Snapshot;
use model::types::{EndpointSlice, Listener, LoadBalancer, Node, SecretReference, Service};
use model::{Object, Resource};
use serde_json::json;
use store::{Outcome, Refusal, Store, Write, Written};

use super::Options;
use super::failure::Failure;
use super::report::{self, State};
use super::{certificates, merge, writes};
use crate::events::{self, Note};

/// What a look at one Service is given.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) now: Timestamp,
    pub(crate) nodes: Arc<BTreeMap<String, Arc<Node>>>,
    /// The names of the Service's slices.
    pub(crate) slices: Vec<Box<str>>,
    pub(crate) options: Options,
    /// Tells Events of the same moment apart.
    pub(crate) number: u32,
}

/// What is to be remembered of a Service that was looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Whether it has, or shall have, a load balancer of ours.
    pub(crate) ours: bool,
    /// The instance that it uses or wants.
    pub(crate) instance: Box<str>,
    pub(crate) secrets: BTreeSet<SecretReference>,
    pub(crate) lists: BTreeSet<String>,
    /// When it has to be looked at again though nothing may have changed.
    pub(crate) again: Option<Timestamp>,
    /// It did not get what it wants, or a write was refused: it is tried again.
    pub(crate) failed: bool,
}

/// What stops a look: the Service is told of a failure; a write that came too late is simply made again.
enum Stop {
    Tell(Failure),
    Retry,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Tell(failure)
    }
}

/// Brings one Service to where it shall be.
pub(crate) async fn sync(mut context: Context, object: Arc<Object>) -> Found {
    let Some(service) = object.service() else { return Found::default() };
    let claimed = service.metadata.finalizers.iter().any(|finalizer| finalizer == writes::FINALIZER);
    if !context.options.handles(service) || service.metadata.terminating() {
        if !claimed {
            return Found::default();
        }
        let failed = context.part(&object, service).await.is_err();
        return Found { ours: true, instance: merge::own_name(service).into(), failed, ..Found::default() };
    }
    let mut found = Found { ours: true, ..Found::default() };
    let told = match context.settle(&object, service, claimed, &mut found).await {
        Ok(()) => Ok(()),
        Err(Stop::Tell(failure)) => {
            found.failed = true;
            context.tell(&object, service, &State::of(&failure), None).await
        }
        Err(Stop::Retry) => Err(Stop::Retry),
    };
    found.failed |= told.is_err();
    found
}

impl Context {
    /// From what the Service wants to what it is told.
    async fn settle(
        &mut self,
        object: &Object,
        service: &Service,
        claimed: bool,
        found: &mut Found,
    ) -> Result<(), Stop> {
        let wanted = wanted(service).map_err(|problems| Failure::of_problems(&problems));
        let own = merge::own_name(service);
        let Ok(wanted) = wanted else {
            found.instance = own.into();
            return wanted.map(|_| ()).map_err(Stop::from);
        };
        self.tell_ignored(object, &wanted).await;
        let name = self.instance_name(service, &wanted, &own)?;
        found.instance = name.as_str().into();
        self.check_certificates(service, &wanted, found)?;
        self.check_lists(&wanted, found)?;
        self.check_backends(service, &wanted)?;
        if !claimed {
            self.claim(object, &name).await?;
        }
        let there = if name == own {
            self.own(object, service, &wanted, &name).await?
        } else {
            self.shared(object, service, &wanted, &name).await?
        };
        self.leave_former(object, service, &name, claimed).await?;
        let Some(balancer) = there.load_balancer() else { return Ok(()) };
        let ingress = report::ingress(service, &wanted, balancer);
        if let Some(state) = report::state(service, &wanted, balancer, self.now) {
            let changed = (service.status.load_balancer.ingress != ingress).then_some(ingress);
            self.tell(object, service, &state, changed).await?;
        } else if service.status.load_balancer.ingress != ingress {
            self.write(writes::status(&object.key, None, Some(&ingress))).await?;
        }
        if !report::is_current(balancer) {
            let soon = self.now.checked_add(SignedDuration::from_secs(report::PATIENCE_SECONDS)).ok();
            found.again = [found.again, soon].into_iter().flatten().min();
        }
        Ok(())
    }

    /// The instance that the Service shall use.
    fn instance_name(&self, service: &Service, wanted: &Wanted, own: &str) -> Result<String, Failure> {
        let Some(name) = wanted.instance.as_deref().filter(|name| *name != own) else { return Ok(own.to_owned()) };
        let Some(there) = self.balancer(name) else {
            let message = format!("there is no load balancer {name}; make a LoadBalancer of this name, or correct id");
            return Err(Failure::new("InstanceNotFound", message));
        };
        let Some(balancer) = there.load_balancer() else { return Ok(name.to_owned()) };
        if let Some(owner) = &balancer.spec.owner {
            let message = format!(
                "load balancer {name} was made for Service {}/{} and goes with it; make a LoadBalancer by hand and name that \
                 one with id",
                owner.namespace, owner.name
            );
            return Err(Failure::new("InstanceNotShared", message));
        }
        if balancer.metadata.terminating() {
            let message = format!("load balancer {name} is being deleted; name another with id");
            return Err(Failure::new("InstanceNotFound", message));
        }
        let said = service.metadata.annotations.keys().any(|key| key.ends_with("-address-type"));
        if said && balancer.spec.address_type != wanted.address_type {
            let is = json!(balancer.spec.address_type);
            let message = format!("load balancer {name} has an {is} address; correct address-type or id");
            return Err(Failure::new("CannotChange", message));
        }
        if wanted.addresses.iter().any(|address| !balancer.spec.addresses.contains(address)) {
            let message = format!("load balancer {name} does not have the address that is asked for; correct ip or id");
            return Err(Failure::new("CannotChange", message));
        }
        Ok(name.to_owned())
    }

    fn check_certificates(&self, service: &Service, wanted: &Wanted, found: &mut Found) -> Result<(), Failure> {
        let mut failure = None;
        for (name, of) in wanted.listeners.iter().flat_map(certificates::of) {
            let secret = self.store.get(Resource::Secrets, &name.namespace, &name.name);
            let namespace = service.metadata.namespace();
            match certificates::check(&name, secret.as_deref(), of, namespace, self.now) {
                Ok(until) => found.again = [found.again, Some(until)].into_iter().flatten().min(),
                Err((why, from)) => {
                    found.again = [found.again, from].into_iter().flatten().min();
                    failure.get_or_insert(why);
                }
            }
            found.secrets.insert(name);
        }
        failure.map_or(Ok(()), Err)
    }

    fn check_lists(&self, wanted: &Wanted, found: &mut Found) -> Result<(), Failure> {
        let lists = wanted.listeners.iter().filter_map(|listener| listener.access.as_ref());
        found.lists.extend(lists.flat_map(|access| access.lists.iter().cloned()));
        let missing = found.lists.iter().find(|name| self.store.get(Resource::AccessLists, "", name).is_none());
        missing.map_or(Ok(()), |name| {
            let message = format!("there is no AccessList {name}; create it, or correct acl-id");
            Err(Failure::new("AccessListMissing", message))
        })
    }

    /// The quota of backends, over all listeners.
    fn check_backends(&self, service: &Service, wanted: &Wanted) -> Result<(), Failure> {
        let joins =
            wanted.joins.iter().map(|join| Listener { backends: vec![join.source.clone()], ..Listener::default() });
        let listeners: Vec<Listener> = wanted.listeners.iter().cloned().chain(joins).collect();
        let snapshot = self.snapshot(service);
        let mut all: BTreeSet<IpAddr> = BTreeSet::new();
        for listener in &listeners {
            for family in [Family::V4, Family::V6].into_iter().filter(|family| wanted.families.contains(family)) {
                all.extend(backends(listener, family, &snapshot).iter().map(|backend| backend.address.ip()));
            }
        }
        if all.len() <= self.options.backends_most {
            return Ok(());
        }
        let message = format!(
            "the Service has {} backends, and a load balancer may have {}; choose nodes with backend-label or \
             externalTrafficPolicy Local, divide the Service, or start the server with a greater \
             --max-backends-per-load-balancer",
            all.len(),
            self.options.backends_most
        );
        Err(Failure::new("QuotaExceeded", message))
    }

    /// What is known of one Service alone.
    fn snapshot(&self, service: &Service) -> Snapshot {
        let key = Key::new(service.metadata.namespace(), service.metadata.name());
        let slice = |name: &str| -> Option<(String, Arc<EndpointSlice>)> {
            let object = self.store.get(Resource::EndpointSlices, &key.namespace, name)?;
            Some((name.to_string(), Arc::new(object.endpoint_slice()?.clone())))
        };
        let slices: BTreeMap<String, Arc<EndpointSlice>> = self.slices.iter().filter_map(|name| slice(name)).collect();
        Snapshot {
            services: BTreeMap::from([(key.clone(), Arc::new(service.clone()))]),
            slices: BTreeMap::from([(key, slices)]),
            nodes: (*self.nodes).clone(),
            ..Snapshot::default()
        }
    }

    async fn claim(&mut self, object: &Object, instance: &str) -> Result<(), Stop> {
        self.write(writes::claim(&object.key, instance)).await?;
        self.event(object, "EnsuringLoadBalancer", format!("Ensuring load balancer {instance}"), false).await;
        Ok(())
    }

    /// The Service's own instance, made or put right.
    async fn own(
        &mut self,
        object: &Object,
        service: &Service,
        wanted: &Wanted,
        name: &str,
    ) -> Result<Arc<Object>, Stop> {
        let Some(there) = self.balancer(name) else { return self.make(service, wanted, name).await };
        let Some(balancer) = there.load_balancer() else { return Err(Stop::Retry) };
        if !merge::owns(balancer, service) {
            let message =
                format!("a LoadBalancer {name} is there that is not this Service's; delete it, or use it by id");
            return Err(Failure::new("NameTaken", message).into());
        }
        if balancer.metadata.terminating() {
            return Err(Stop::Retry);
        }
        let Some(patch) = merge::own(balancer, service, wanted)? else { return Ok(there) };
        let written = self.change(name, &there, patch).await?;
        self.event(object, "UpdatedLoadBalancer", format!("Updated load balancer {name}"), false).await;
        Ok(written.object)
    }

    /// A new instance; at the addresses that the Service shows, if it is a lost one that is made anew and they are free.
    async fn make(&mut self, service: &Service, wanted: &Wanted, name: &str) -> Result<Arc<Object>, Stop> {
        let spec = merge::new(service, wanted);
        let ingress = &service.status.load_balancer.ingress;
        let shown = ingress.iter().filter_map(|ingress| ingress.ip.parse::<IpAddr>().ok());
        let shown: Vec<IpAddr> = shown.filter(|ip| wanted.families.contains(&Family::of(*ip))).collect();
        if spec.addresses.is_empty() && !shown.is_empty() {
            let again = model::types::LoadBalancerSpec { addresses: shown, ..spec.clone() };
            if let Ok(written) = self.store.write(writes::create(name, &wanted.labels, &again)).await {
                return Ok(written.object);
            }
        }
        self.write(writes::create(name, &wanted.labels, &spec)).await.map(|written| written.object)
    }

    /// An instance that somebody made by hand, with what this Service has in it.
    async fn shared(
        &mut self,
        object: &Object,
        service: &Service,
        wanted: &Wanted,
        name: &str,
    ) -> Result<Arc<Object>, Stop> {
        let there = self.balancer(name).ok_or(Stop::Retry)?;
        let Some(balancer) = there.load_balancer() else { return Err(Stop::Retry) };
        let Some(patch) = merge::shared(balancer, service, wanted)? else { return Ok(there) };
        let written = self.change(name, &there, patch).await?;
        self.event(object, "UpdatedLoadBalancer", format!("Updated load balancer {name}"), false).await;
        Ok(written.object)
    }

    /// Leaves the instance that the Service used before, when the new one is as it shall be.
    async fn leave_former(
        &mut self,
        object: &Object,
        service: &Service,
        name: &str,
        claimed: bool,
    ) -> Result<(), Stop> {
        let label = service.metadata.labels.get(writes::LABEL).map(String::as_str);
        let own = merge::own_name(service);
        let former = [label, Some(own.as_str())].into_iter().flatten().filter(|former| *former != name);
        for former in former.collect::<BTreeSet<&str>>() {
            self.leave(object, service, former).await?;
        }
        if claimed && label != Some(name) {
            self.write(writes::claim(&object.key, name)).await?;
        }
        Ok(())
    }

    /// Takes what is the Service's out of an instance, or the whole instance if that is the Service's.
    async fn leave(&mut self, object: &Object, service: &Service, name: &str) -> Result<(), Stop> {
        let Some(there) = self.balancer(name) else { return Ok(()) };
        let Some(balancer) = there.load_balancer() else { return Ok(()) };
        let parting = parting(service);
        if !merge::owns(balancer, service) {
            if balancer.spec.owner.is_none()
                && let Some(patch) = merge::without(balancer, service, parting.manages_listeners)
            {
                self.change(name, &there, patch).await?;
            }
            return Ok(());
        }
        if parting.preserve {
            self.change(name, &there, json!({ "spec": { "owner": null } })).await?;
            let text =
                format!("Load balancer {name} stays, with its address and listeners; delete the LoadBalancer by hand");
            self.event(object, "PreservedOnDelete", text, true).await;
            return Ok(());
        }
        self.event(object, "DeletingLoadBalancer", format!("Deleting load balancer {name}"), false).await;
        match self.store.write(writes::delete(name, there.meta().uid())).await {
            Ok(written) if written.outcome == Outcome::Deleted => Ok(()),
            // Something holds it: the Service waits, and hears of its end.
            Ok(_) => Err(Stop::Retry),
            Err(Refusal::NotFound { .. }) => Ok(()),
            Err(error) => {
                self.event(object, "DeleteLoadBalancerFailed", error.to_string(), true).await;
                Err(Stop::Retry)
            }
        }
    }

    /// The way out: instance, status, finalizer.
    async fn part(&mut self, object: &Object, service: &Service) -> Result<(), Stop> {
        let own = merge::own_name(service);
        let label = service.metadata.labels.get(writes::LABEL).map(String::as_str);
        let names: BTreeSet<&str> = [label, Some(own.as_str())].into_iter().flatten().collect();
        for name in &names {
            self.leave(object, service, name).await?;
        }
        let shows = !service.status.load_balancer.ingress.is_empty() || report::condition(&service.status).is_some();
        if shows {
            // It may have become a Service that can have no such status, which then is empty already.
            let _ = self.store.write(writes::clear_status(&object.key)).await;
        }
        let name = label.unwrap_or(&own);
        self.event(object, "DeletedLoadBalancer", format!("Deleted load balancer {name}"), false).await;
        match self.store.write(writes::release(&object.key)).await {
            Ok(_) | Err(Refusal::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Condition and addresses, and the Event of it if it is new.
    async fn tell(
        &mut self,
        object: &Object,
        service: &Service,
        state: &State,
        ingress: Option<Vec<model::types::LoadBalancerIngress>>,
    ) -> Result<(), Stop> {
        let condition = report::told(service, state, self.now);
        if condition.is_none() && ingress.is_none() {
            return Ok(());
        }
        self.write(writes::status(&object.key, condition.as_ref(), ingress.as_deref())).await?;
        if let Some(Note { reason, text, warns }) = condition.and_then(|_| report::note(state)) {
            tracing::info!(service = %object.key.name, namespace = %object.key.namespace, reason, "{text}");
            self.event(object, reason, text, warns).await;
        }
        Ok(())
    }

    /// One Event of the annotations that have no effect. Its name is what it says: it is there once, also after a restart.
    async fn tell_ignored(&mut self, object: &Object, wanted: &Wanted) {
        if wanted.ignored.is_empty() {
            return;
        }
        let text = format!(
            "These annotations have no effect here: {}; docs/load-balancer.md says why",
            wanted.ignored.join(", ")
        );
        let note = Note { reason: "FeatureNotSupported", text, warns: true };
        let write = events::once(object, &note, writes::COMPONENT, self.now);
        if self.store.get(Resource::Events, &write.namespace, &write.name).is_none() {
            let _ = self.store.write(write).await;
        }
    }

    async fn event(&mut self, about: &Object, reason: &'static str, text: String, warns: bool) {
        self.number = self.number.wrapping_add(1);
        let note = Note { reason, text, warns };
        let write = events::about(about, &note, writes::COMPONENT, self.now, self.number);
        if let Err(error) = self.store.write(write).await {
            tracing::warn!(component = writes::COMPONENT, reason, %error, "an event was not stored");
        }
    }

    fn balancer(&self, name: &str) -> Option<Arc<Object>> {
        self.store.get(Resource::LoadBalancers, "", name)
    }

    async fn change(&self, name: &str, there: &Object, patch: serde_json::Value) -> Result<Written, Stop> {
        self.write(writes::change(name, there.revision, patch)).await
    }

    async fn write(&self, write: Write) -> Result<Written, Stop> {
        let of_instance = write.resource == Resource::LoadBalancers;
        match self.store.write(write).await {
            Ok(written) => Ok(written),
            Err(refusal) if of_instance => {
                Err(Failure::of_refusal(&refusal).map_or_else(|| self.refused(&refusal), Stop::Tell))
            }
            Err(refusal) => Err(self.refused(&refusal)),
        }
    }

    fn refused(&self, refusal: &Refusal) -> Stop {
        if !matches!(refusal, Refusal::Conflict { .. } | Refusal::NotFound { .. }) {
            tracing::warn!(component = writes::COMPONENT, error = %refusal, "what follows for a Service was not stored");
        }
        Stop::Retry
    }
}

/// Whether an instance was made for a Service that is no more.
pub(crate) fn is_orphan(store: &Store, balancer: &LoadBalancer) -> bool {
    let Some(owner) = &balancer.spec.owner else { return false };
    let service = store.get(Resource::Services, &owner.namespace, &owner.name);
    !balancer.metadata.terminating() && service.is_none_or(|service| service.meta().uid() != owner.uid)
}
