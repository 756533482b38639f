//! The instance as it shall be, from what a Service wants and what is there: pure.
//!
//! An instance of a Service's own is all that Service's, so whatever differs is put right. One that somebody made by
//! hand is shared: of it a Service changes the listeners that are its own and nothing else. A listener is a Service's own
//! if that Service's endpoints are all its backends, and it has no name for others to join by. One that serves another
//! Service is in nobody's way: the other was first, and the newcomer is told.

use std::collections::BTreeMap;

use model::balancing::{Join, Wanted};
use model::types::{BackendSource, Listener, LoadBalancer, LoadBalancerSpec, Service, ServiceReference};
use serde_json::{Value, json};

use super::failure::Failure;

/// Characters of a UID in the name of an instance.
const UID_CHARACTERS: usize = 20;

/// The name of a Service's own instance.
pub(crate) fn own_name(service: &Service) -> String {
    let uid = service.metadata.uid().chars().filter(|c| *c != '-');
    format!("lb-{}", uid.take(UID_CHARACTERS).collect::<String>())
}

/// The Service as instances name it.
pub(crate) fn reference(service: &Service) -> ServiceReference {
    ServiceReference {
        namespace: service.metadata.namespace().to_owned(),
        name: service.metadata.name().to_owned(),
        uid: service.metadata.uid().to_owned(),
    }
}

/// A new instance of the Service's own.
pub(crate) fn new(service: &Service, wanted: &Wanted) -> LoadBalancerSpec {
    LoadBalancerSpec {
        display_name: wanted.display_name.clone(),
        address_type: wanted.address_type,
        ip_families: wanted.families.iter().map(|family| family.as_str().to_owned()).collect(),
        pool: wanted.pool.clone(),
        addresses: wanted.addresses.clone(),
        owner: Some(reference(service)),
        preferred_edge: wanted.preferred_edge.clone(),
        listeners: sorted(wanted.listeners.clone()),
    }
}

/// What has to change of the Service's own instance, as a merge patch; None: nothing.
///
/// # Errors
/// What cannot be changed any more.
pub(crate) fn own(there: &LoadBalancer, service: &Service, wanted: &Wanted) -> Result<Option<Value>, Failure> {
    let spec = &there.spec;
    let name = there.metadata.name();
    let cannot = |what: &str, is: String| {
        let message = format!(
            "{what} of load balancer {name} cannot be changed, it is {is}; set the annotation back, or delete the Service and \
             make it anew"
        );
        Err(Failure::new("CannotChange", message))
    };
    if spec.address_type != wanted.address_type {
        return cannot("address-type", json!(spec.address_type).as_str().unwrap_or_default().to_owned());
    }
    if !same_families(spec, wanted) {
        return cannot("ip-version", spec.ip_families.join(" and "));
    }
    if wanted.pool.is_some() && spec.pool != wanted.pool {
        return cannot("vswitch-id", spec.pool.clone().unwrap_or_else(|| "any".to_owned()));
    }
    if wanted.addresses.iter().any(|address| !spec.addresses.contains(address)) {
        let held: Vec<String> = spec.addresses.iter().map(ToString::to_string).collect();
        return cannot("ip", held.join(" and "));
    }
    let mut patch = json!({});
    let wish = new(service, wanted);
    let listeners = if wanted.keeps_weights { with_weights_of(wish.listeners, spec, service) } else { wish.listeners };
    if sorted(spec.listeners.clone()) != listeners {
        patch["spec"]["listeners"] = json!(listeners);
    }
    if spec.display_name != wish.display_name {
        patch["spec"]["displayName"] = json!(wish.display_name);
    }
    if spec.preferred_edge != wish.preferred_edge {
        patch["spec"]["preferredEdge"] = json!(wish.preferred_edge);
    }
    let labels = &there.metadata.labels;
    if *labels != wanted.labels {
        let gone = labels.keys().filter(|key| !wanted.labels.contains_key(key)).map(|key| (key.clone(), Value::Null));
        let there = wanted.labels.iter().map(|(key, value)| (key.clone(), json!(value)));
        patch["metadata"]["labels"] = gone.chain(there).collect();
    }
    Ok((patch != json!({})).then_some(patch))
}

/// What has to change of an instance that somebody made by hand; None: nothing.
///
/// # Errors
/// When another Service is in the way, or there is no listener to join.
pub(crate) fn shared(there: &LoadBalancer, service: &Service, wanted: &Wanted) -> Result<Option<Value>, Failure> {
    let name = there.metadata.name();
    let mut listeners = there.spec.listeners.clone();
    if wanted.manages_listeners {
        listeners.retain(|listener| !is_own(listener, service));
        let own = wanted.listeners.clone();
        let own = if wanted.keeps_weights { with_weights_of(own, &there.spec, service) } else { own };
        for listener in &own {
            let met = listeners.iter().filter(|other| overlap(other, listener));
            if let Some(message) = met.filter_map(|other| in_the_way(other, listener, name, service)).next() {
                return Err(Failure::new("PortConflict", message));
            }
        }
        listeners.retain(|other| !own.iter().any(|listener| overlap(other, listener)));
        listeners.extend(own);
    }
    for listener in &mut listeners {
        let grouped = listener.group.clone();
        let joins: Vec<&Join> = wanted.joins.iter().filter(|join| Some(&join.group) == grouped.as_ref()).collect();
        if grouped.is_some() {
            let before: Vec<BackendSource> =
                listener.backends.iter().filter(|source| is_of(source, service)).cloned().collect();
            listener.backends.retain(|source| !is_of(source, service));
            for join in joins {
                let known = before.iter().find(|known| known.port == join.source.port);
                let mut source = join.source.clone();
                if let (true, Some(known)) = (wanted.keeps_weights, known) {
                    (source.weight, source.default_weight) = (known.weight, known.default_weight);
                }
                listener.backends.push(source);
            }
            // Or two Services would take turns at being the last.
            listener.backends.sort_by(|one, other| order(one).cmp(&order(other)));
        }
    }
    let missing = wanted.joins.iter().find(|join| !listeners.iter().any(|l| l.group.as_ref() == Some(&join.group)));
    if let Some(join) = missing {
        let message = format!(
            "load balancer {name} has no listener with group {}; add one to it, or correct vgroup-port",
            join.group
        );
        return Err(Failure::new("GroupNotFound", message));
    }
    let listeners = sorted(listeners);
    Ok((listeners != sorted(there.spec.listeners.clone())).then(|| json!({ "spec": { "listeners": listeners } })))
}

/// What has to change of an instance that a Service leaves; None: nothing.
pub(crate) fn without(there: &LoadBalancer, service: &Service, manages_listeners: bool) -> Option<Value> {
    let mut listeners = there.spec.listeners.clone();
    if manages_listeners {
        listeners.retain(|listener| !is_own(listener, service));
    }
    for listener in listeners.iter_mut().filter(|listener| listener.group.is_some()) {
        listener.backends.retain(|source| !is_of(source, service));
    }
    (listeners != there.spec.listeners).then(|| json!({ "spec": { "listeners": listeners } }))
}

/// Whether this very Service owns the instance.
pub(crate) fn owns(there: &LoadBalancer, service: &Service) -> bool {
    there.spec.owner.as_ref().is_some_and(|owner| owner.uid == service.metadata.uid())
}

fn same_families(spec: &LoadBalancerSpec, wanted: &Wanted) -> bool {
    spec.ip_families.len() == wanted.families.len()
        && wanted.families.iter().all(|family| spec.ip_families.iter().any(|text| text == family.as_str()))
}

fn order(source: &BackendSource) -> (&str, &str, u16) {
    (&source.namespace, &source.name, source.port)
}

fn is_of(source: &BackendSource, service: &Service) -> bool {
    source.namespace == service.metadata.namespace() && source.name == service.metadata.name()
}

fn is_own(listener: &Listener, service: &Service) -> bool {
    let backends = &listener.backends;
    listener.group.is_none() && !backends.is_empty() && backends.iter().all(|source| is_of(source, service))
}

fn overlap(one: &Listener, other: &Listener) -> bool {
    let last = |listener: &Listener| listener.end_port.unwrap_or(listener.port);
    one.protocol.transport() == other.protocol.transport() && one.port <= last(other) && other.port <= last(one)
}

/// Why a listener that is there is not replaced. One that serves nobody is: that is what `force-override-listeners` says.
fn in_the_way(there: &Listener, wanted: &Listener, instance: &str, service: &Service) -> Option<String> {
    let (port, protocol) = (wanted.port, wanted.protocol.transport());
    if let Some(group) = &there.group {
        return Some(format!(
            "port {port}/{protocol} of load balancer {instance} belongs to group {group}; join it with vgroup-port: \
             {group}:{port}, or use another port"
        ));
    }
    let other = there.backends.iter().find(|source| !is_of(source, service))?;
    Some(format!(
        "port {port}/{protocol} of load balancer {instance} serves Service {}/{}; use another port or another load balancer",
        other.namespace, other.name
    ))
}

/// The listeners with the weights that stand on the instance for the same port.
fn with_weights_of(mut listeners: Vec<Listener>, spec: &LoadBalancerSpec, service: &Service) -> Vec<Listener> {
    let known: BTreeMap<(u16, _), &BackendSource> = spec
        .listeners
        .iter()
        .filter_map(|listener| {
            let source = listener.backends.iter().find(|source| is_of(source, service))?;
            Some(((listener.port, listener.protocol.transport()), source))
        })
        .collect();
    for listener in &mut listeners {
        if let Some(known) = known.get(&(listener.port, listener.protocol.transport())) {
            for source in &mut listener.backends {
                (source.weight, source.default_weight) = (known.weight, known.default_weight);
            }
        }
    }
    listeners
}

fn sorted(mut listeners: Vec<Listener>) -> Vec<Listener> {
    listeners.sort_by_key(|listener| (listener.port, listener.protocol.transport()));
    listeners
}
