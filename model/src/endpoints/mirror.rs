//! EndpointSlices that mirror an Endpoints object: the old way of giving a Service without a selector its endpoints
//! keeps working for readers that know slices only.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::admission::Family;
use crate::syntax::parse_ip;
use crate::types::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, ObjectMeta, ObjectReference, OwnerReference, Service,
    TextMap,
};

use super::packing::{Shape, Wanted, pack};
use super::{MANAGED_BY, MAX_MIRRORED_PER_SLICE, MIRRORED, SERVICE_NAME, SKIP_MIRROR, SliceChange, TRIGGER_TIME};

const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The changes that make the mirrored slices of a name say what its Endpoints object says. `existing` are the slices
/// with that `kubernetes.io/service-name` and [`MANAGED_BY`] [`MIRRORED`].
///
/// Nothing is mirrored without a Service of the name, for a Service with a selector, for Endpoints that say so
/// (label `skip-mirror`) and for those that were a leader's lock; what was mirrored before is then deleted.
pub fn mirror_slices(
    endpoints: Option<&Value>,
    service: Option<&Service>,
    existing: &[&EndpointSlice],
    suffix: &mut dyn FnMut() -> String,
) -> Vec<SliceChange> {
    let read = match endpoints.map(Endpoints::deserialize) {
        // Validation let it in, so this is a stored object of another version: what is mirrored stays.
        Some(Err(_)) => return Vec::new(),
        Some(Ok(endpoints)) => Some(endpoints),
        None => None,
    };
    let mirrored = read.filter(|e| mirrors(&e.metadata) && service.is_some_and(|s| s.spec.selector.is_empty()));
    let Some(endpoints) = mirrored else {
        return existing.iter().map(|s| SliceChange::Delete { name: s.metadata.name().to_owned() }).collect();
    };
    let meta = &endpoints.metadata;
    let shape = Shape {
        namespace: meta.namespace(),
        base: meta.name(),
        owner: owner(meta),
        labels: labels(meta),
        annotations: Some(annotations(meta)),
        trigger_time: meta.annotations.get(TRIGGER_TIME).map(String::as_str),
        max_endpoints: MAX_MIRRORED_PER_SLICE,
        placeholder: false,
        creates: !meta.terminating(),
    };
    let (groups, list) = read_subsets(endpoints.subsets.as_deref().unwrap_or_default());
    let places = list.iter().enumerate().map(|(index, entry)| ((entry.group, entry.ip), index)).collect();
    let mut changes = Vec::new();
    for family in [Family::V4, Family::V6] {
        let wanted = Mirrored { list: &list, places: &places, family };
        let of_family = existing.iter().copied().filter(|slice| slice.address_type == family.as_str());
        pack(&wanted, &groups, &shape, family.as_str(), of_family, suffix, &mut changes);
    }
    changes
}

/// The part of an Endpoints object that is mirrored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoints {
    metadata: ObjectMeta,
    subsets: Option<Vec<Subset>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subset {
    addresses: Option<Vec<Address>>,
    not_ready_addresses: Option<Vec<Address>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Address {
    hostname: Option<String>,
    ip: String,
    node_name: Option<String>,
    target_ref: Option<ObjectReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    app_protocol: Option<String>,
    name: Option<String>,
    port: i32,
    protocol: Option<String>,
}

/// An address of the Endpoints object, as it shall stand in a slice.
struct Entry {
    group: usize,
    ip: IpAddr,
    endpoint: Endpoint,
}

fn mirrors(meta: &ObjectMeta) -> bool {
    meta.labels.get(SKIP_MIRROR).map(String::as_str) != Some("true") && !meta.annotations.contains_key(LEADER)
}

/// The distinct sets of ports, and the addresses in the order in which they stand, ready ones of a subset first.
/// What lies beyond the thousandth address of a subset is left out; an address stands once for a set of ports.
fn read_subsets(subsets: &[Subset]) -> (Vec<Vec<EndpointPort>>, Vec<Entry>) {
    let mut groups: Vec<Vec<EndpointPort>> = Vec::new();
    let mut list = Vec::new();
    let mut seen = BTreeSet::new();
    for subset in subsets {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(endpoint_port).collect();
        let group = groups.iter().position(|known| *known == ports).unwrap_or_else(|| {
            groups.push(ports);
            groups.len() - 1
        });
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(MAX_MIRRORED_PER_SLICE) {
            let Some(ip) = parse_ip(&address.ip) else { continue };
            if seen.insert((group, ip)) {
                list.push(Entry { group, ip, endpoint: endpoint(address, ip, ready) });
            }
        }
    }
    (groups, list)
}

fn endpoint_port(port: &Port) -> EndpointPort {
    EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    }
}

fn endpoint(address: &Address, ip: IpAddr, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: EndpointConditions { ready: Some(ready), ..EndpointConditions::default() },
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone().map(Box::new),
        ..Endpoint::default()
    }
}

struct Mirrored<'a> {
    list: &'a [Entry],
    /// Where in the list an address of a group stands.
    places: &'a HashMap<(usize, IpAddr), usize>,
    family: Family,
}

impl Wanted for Mirrored<'_> {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn group(&self, index: usize) -> Option<usize> {
        let entry = &self.list[index];
        (Family::of(entry.ip) == self.family).then_some(entry.group)
    }

    fn find(&self, group: usize, existing: &Endpoint) -> Option<usize> {
        let ip = parse_ip(existing.addresses.first()?)?;
        self.places.get(&(group, ip)).copied().filter(|_| Family::of(ip) == self.family)
    }

    fn same(&self, index: usize, existing: &Endpoint) -> bool {
        self.list[index].endpoint == *existing
    }

    fn build(&self, index: usize) -> Endpoint {
        self.list[index].endpoint.clone()
    }
}

fn labels(meta: &ObjectMeta) -> TextMap {
    let mut labels = meta.labels.clone();
    labels.insert(SERVICE_NAME.to_owned(), meta.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MIRRORED.to_owned());
    labels
}

fn annotations(meta: &ObjectMeta) -> TextMap {
    let mut annotations = meta.annotations.clone();
    annotations.retain(|key, _| key != LAST_APPLIED && key != TRIGGER_TIME);
    annotations
}

fn owner(meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        block_owner_deletion: Some(true),
        controller: Some(true),
        kind: "Endpoints".to_owned(),
        name: meta.name().to_owned(),
        uid: meta.uid().to_owned(),
    }
}
