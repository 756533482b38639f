//! Which Services' endpoints a change makes stale. They are derived once, at the end of the group.
//!
//! A Service depends on its Pods, on the Nodes that these are on (whether they exist and serve, and in which zone), and, where its
//! endpoints are allocated to zones, on what all Nodes are together; that of the cluster's DNS on the Nodes that answer. It also depends on what is derived from it, since
//! whatever a client does to that is undone.

use std::collections::BTreeSet;

use model::endpoints::hints::Share;
use model::endpoints::weights::WEIGHT;
use model::endpoints::{DnsNode, MANAGED_BY, SERVICE_NAME, ZONE, trigger_time};
use model::types::{Node, Pod};
use model::{Key, Object, Resource};

use super::state::State;
use crate::event::{Event, EventKind};

/// Why a Service's endpoints may be stale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stale {
    /// When the earliest change happened, where that is known.
    pub(crate) since: Option<String>,
    /// Whether something else than a Pod changed, so that the Endpoints object must be looked at even if the slices stay.
    pub(crate) beyond_pods: bool,
    /// Whether the Service itself was written: then its author is told why it has no hints.
    pub(crate) written: bool,
}

impl Stale {
    /// By something else than a Pod.
    pub(super) fn beyond_pods() -> Self {
        Self { beyond_pods: true, ..Self::default() }
    }
}

impl State {
    /// Marks the Services whose endpoints may have become stale.
    pub(super) fn mark_dirty(&mut self, before: Option<&Object>, event: &Event) {
        let object = &event.object;
        let after = (event.kind != EventKind::Deleted).then_some(&**object);
        match object.resource {
            Resource::Services => {
                let since = if before.is_none() { object.meta().creation_timestamp.clone() } else { None };
                self.touch(object.key.clone(), Stale { since, beyond_pods: true, written: true });
            }
            Resource::Endpoints => self.touch(object.key.clone(), Stale::beyond_pods()),
            Resource::EndpointSlices => {
                for slice in [before, after].into_iter().flatten() {
                    let labels = slice.labels();
                    if let (Some(service), true) = (labels.get(SERVICE_NAME), labels.contains_key(MANAGED_BY)) {
                        self.touch(Key::new(&slice.key.namespace, service), Stale::beyond_pods());
                    }
                }
            }
            Resource::Pods => self.mark_pod(before, after),
            Resource::Nodes => self.mark_node(before, after),
            _ => {}
        }
    }

    fn mark_pod(&mut self, before: Option<&Object>, after: Option<&Object>) {
        let since = match (before.and_then(Object::pod), after.and_then(Object::pod)) {
            (Some(old), Some(new)) if same_endpoint(old, new) => return,
            (Some(old), Some(new)) if old.metadata.terminating() != new.metadata.terminating() => None,
            // When the Pod turned ready is long ago.
            (Some(old), Some(new)) if weight(old) != weight(new) && old.ready() == new.ready() => None,
            (_, Some(new)) => trigger_time(new).map(str::to_owned),
            (_, None) => None,
        };
        let mut services = BTreeSet::new();
        for pod in [before, after].into_iter().flatten() {
            services.extend(self.services_of(pod));
        }
        for service in services {
            self.touch(service, Stale { since: since.clone(), ..Stale::default() });
        }
    }

    /// Not for every heartbeat: only what endpoints are made from counts.
    fn mark_node(&mut self, before: Option<&Object>, after: Option<&Object>) {
        let Some(node) = after.or(before) else { return };
        let mut services: BTreeSet<Key> = BTreeSet::new();
        if place(before) != place(after) {
            services.extend(self.pods_on(&node.key.name).flat_map(|pod| self.services_of(pod)));
        }
        if share(before) != share(after) {
            services.extend(self.allocated().cloned());
        }
        if dns(before) != dns(after) {
            services.insert(super::own::dns_key());
        }
        for service in services {
            self.touch(service, Stale::beyond_pods());
        }
    }
}

/// What the endpoints on a Node have from it: whether they are served at all, and in which zone.
fn place(node: Option<&Object>) -> Option<(bool, Option<&String>)> {
    let node = node?;
    Some((node.node().is_none_or(Node::serves), node.labels().get(ZONE)))
}

/// What a Node adds to its zone.
pub(super) fn share(node: Option<&Object>) -> Share<'_> {
    node.and_then(Object::node).map_or(Share::None, Share::of)
}

/// What a Node adds to the cluster's DNS.
fn dns(node: Option<&Object>) -> Option<DnsNode<'_>> {
    node.and_then(Object::node).and_then(DnsNode::of)
}

fn weight(pod: &Pod) -> Option<&String> {
    pod.metadata.annotations.get(WEIGHT)
}

/// Whether two states of a Pod make the same endpoint. What endpoints are made from is what is compared: a heartbeat in a
/// condition, an annotation other than the weight, or a container's state is not.
fn same_endpoint(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels == new.metadata.labels
        && old.metadata.uid == new.metadata.uid
        && old.metadata.terminating() == new.metadata.terminating()
        && weight(old) == weight(new)
        && old.spec == new.spec
        && old.status.phase == new.status.phase
        && old.status.pod_ip == new.status.pod_ip
        && old.status.pod_ips == new.status.pod_ips
        && old.ready() == new.ready()
}
