//! What a Service is told of its load balancer: the condition, the addresses, and which Event a change of them is. Pure.
//!
//! Events follow from the condition: one is written when the condition says something new, so none is repeated by a
//! restart, and whoever looks at the Service sees the last one for ever.

use jiff::Timestamp;
use model::balancing::{Wanted, relayed};
use model::types::{Condition, ListenerStatus, LoadBalancer, LoadBalancerIngress, PortStatus, Service, ServiceStatus};

use super::failure::Failure;
use crate::events::Note;
use crate::writes::time;

/// The condition of a Service that says whether its load balancer serves it.
pub(crate) const CONDITION: &str = "LoadBalancerReady";

/// How long an edge node may take before it is told that it has not done its part.
pub(crate) const PATIENCE_SECONDS: i64 = 10;

/// What the edges' part of the server says of an instance.
const EDGE_READY: &str = "EdgeReady";

/// What is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) ready: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl State {
    fn not(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, reason, message: message.into() }
    }

    pub(crate) fn of(failure: &Failure) -> Self {
        Self::not(failure.reason, &*failure.message)
    }
}

/// How an instance is that has been written as a Service wants it. None: as it was, since something is under way that
/// takes a moment.
pub(crate) fn state(service: &Service, wanted: &Wanted, there: &LoadBalancer, now: Timestamp) -> Option<State> {
    let name = there.metadata.name();
    let status = &there.status;
    let homeless =
        status.conditions.iter().find(|condition| condition.type_ == EDGE_READY && condition.status == "False");
    if let Some(homeless) = homeless {
        return Some(State::not("NoEdge", &*homeless.message));
    }
    // One that serves goes on doing so while it is changed, or taken over.
    let serves = condition(&service.status)
        .is_some_and(|c| c.status == "True" || matches!(c.reason.as_str(), "NoBackends" | "ListenerFailed"));
    let pending = |message: String| (!serves).then(|| State::not("Pending", message));
    let Some(edge) = &status.edge else {
        return pending(format!("Load balancer {name} waits for an edge node"));
    };
    if !is_current(there) {
        let programmed = status.programmed.as_ref();
        let since: Option<Timestamp> = edge.since.parse().ok();
        let late = since.is_some_and(|since| now.duration_since(since).as_secs() >= PATIENCE_SECONDS);
        let never = programmed.is_none_or(|by| by.edge != edge.name || by.term != edge.term);
        if late && never {
            let message = format!(
                "Edge node {} has not set up load balancer {name}; see what `portolan edge` says there",
                edge.name
            );
            return Some(State::not("NotProgrammed", message));
        }
        return pending(format!("Edge node {} sets up load balancer {name}", edge.name));
    }
    let own: Vec<&ListenerStatus> = own_listeners(service, wanted, there).collect();
    let addresses: Vec<String> = there.spec.addresses.iter().map(ToString::to_string).collect();
    let unserved: Vec<&ListenerStatus> =
        own.iter().filter(|l| l.backends == 0 && !redirects(wanted, l.port)).copied().collect();
    if !unserved.is_empty() {
        let ports: Vec<String> = unserved.iter().map(|listener| listener.port.to_string()).collect();
        let message = format!(
            "There are no available nodes or endpoints for LoadBalancer {name} at port {}; see to the Pods that the selector \
             finds, and to their readiness",
            ports.join(", ")
        );
        return Some(State::not("NoBackends", message));
    }
    let told = |listener: &ListenerStatus| {
        format!("Port {}/{}: {}", listener.port, listener.protocol.transport(), listener.message)
    };
    if let Some(failed) = own.iter().find(|listener| !listener.message.is_empty() && listener.healthy > 0) {
        return Some(State::not("ListenerFailed", told(failed)));
    }
    // All are used then; and so it is for a moment after the start.
    if let Some(failing) = own.iter().find(|listener| !listener.message.is_empty()) {
        return Some(State { ready: true, reason: "BackendsFailing", message: told(failing) });
    }
    let message = format!("Load balancer {name} serves at {}", addresses.join(" and "));
    Some(State { ready: true, reason: "Ensured", message })
}

/// Whether its edge node has carried out the instance as it is now.
pub(crate) fn is_current(there: &LoadBalancer) -> bool {
    let (Some(by), Some(edge)) = (&there.status.programmed, &there.status.edge) else { return false };
    by.edge == edge.name && by.term == edge.term && Some(by.generation) == there.metadata.generation
}

/// Whether a listener does nothing but redirect, which takes no backend.
fn redirects(wanted: &Wanted, port: u16) -> bool {
    let listener = wanted.listeners.iter().find(|listener| listener.port == port);
    listener.and_then(|listener| listener.http.as_ref()).is_some_and(|http| http.redirect_port.is_some())
}

/// What the edge says of the listeners that serve this Service.
fn own_listeners<'a>(
    service: &'a Service,
    wanted: &'a Wanted,
    there: &'a LoadBalancer,
) -> impl Iterator<Item = &'a ListenerStatus> {
    let mine = move |status: &&ListenerStatus| {
        let same = there.spec.listeners.iter().find(|listener| {
            listener.port == status.port && listener.protocol.transport() == status.protocol.transport()
        });
        same.is_some_and(|listener| {
            listener.backends.iter().any(|source| {
                source.namespace == service.metadata.namespace() && source.name == service.metadata.name()
            })
        })
    };
    let counts = wanted.manages_listeners || !wanted.joins.is_empty();
    there.status.listeners.iter().filter(move |_| counts).filter(mine)
}

/// The addresses that the Service shows: from when an edge node has set the instance up for the first time.
pub(crate) fn ingress(service: &Service, wanted: &Wanted, there: &LoadBalancer) -> Vec<LoadBalancerIngress> {
    let addresses: Vec<String> = there.spec.addresses.iter().map(ToString::to_string).collect();
    let before = &service.status.load_balancer.ingress;
    let shown = !before.is_empty()
        && before.iter().all(|ingress| !ingress.hostname.is_empty() || addresses.contains(&ingress.ip));
    if there.status.programmed.is_none() && !shown {
        return Vec::new();
    }
    if let Some(hostname) = &wanted.hostname {
        return vec![LoadBalancerIngress { hostname: hostname.clone(), ..LoadBalancerIngress::default() }];
    }
    let ports = service.spec.ports.iter().map(|port| PortStatus {
        error: None,
        port: port.port,
        protocol: if port.protocol.is_empty() { "TCP".to_owned() } else { port.protocol.clone() },
    });
    let ports: Vec<PortStatus> = ports.collect();
    let mode = if short_cut(service, wanted, there) { "VIP" } else { "Proxy" };
    let ingress = |ip: String| LoadBalancerIngress {
        ip,
        ip_mode: Some(mode.to_owned()),
        ports: ports.clone(),
        ..LoadBalancerIngress::default()
    };
    addresses.into_iter().map(ingress).collect()
}

/// Nodes refuse what comes to other ports of an address that they know, so they may know it only if no listener of
/// others is there that they do not know how to serve.
fn short_cut(service: &Service, wanted: &Wanted, there: &LoadBalancer) -> bool {
    let own =
        |namespace: &str, name: &str| namespace == service.metadata.namespace() && name == service.metadata.name();
    let foreign = there.spec.listeners.iter().any(|listener| {
        relayed(listener) || listener.backends.iter().any(|source| !own(&source.namespace, &source.name))
    });
    wanted.short_cut() && !foreign
}

/// What a Service's condition says now.
pub(crate) fn condition(status: &ServiceStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == CONDITION)
}

/// The condition that says what is so; None where it stands there already.
pub(crate) fn told(service: &Service, state: &State, now: Timestamp) -> Option<Condition> {
    let before = condition(&service.status);
    let status = if state.ready { "True" } else { "False" };
    let same = |c: &&Condition| c.status == status && c.reason == state.reason && c.message == state.message;
    if before.filter(same).is_some() {
        return None;
    }
    let since = before.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    Some(Condition {
        last_transition_time: Some(since.unwrap_or_else(|| time(now))),
        message: state.message.clone(),
        observed_generation: None,
        reason: state.reason.to_owned(),
        status: status.to_owned(),
        type_: CONDITION.to_owned(),
    })
}

/// The Event that goes with a new condition.
pub(crate) fn note(state: &State) -> Option<Note> {
    let (reason, warns) = match (state.ready, state.reason) {
        (true, "BackendsFailing") | (false, "Pending") => return None,
        (true, _) => ("EnsuredLoadBalancer", false),
        (false, "NoBackends") => ("UnAvailableLoadBalancer", true),
        (false, _) => ("SyncLoadBalancerFailed", true),
    };
    Some(Note { reason, text: state.message.clone(), warns })
}
