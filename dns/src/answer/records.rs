//! What is recorded at a place of the zone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::question::Part;
use super::{Found, Records};
use crate::names::{Entry, Kind, Names, PodRecords};

/// The version of the specification that the names follow.
const VERSION: &str = "1.1.0";
const VERSION_TTL: u32 = 28_800;

/// Where one target of an SRV record is, and under which port.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    name: Name,
    port: u16,
}

pub(super) fn version() -> Records {
    let data = vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))];
    Records { data, ttl: Some(VERSION_TTL), ..Records::default() }
}

/// `ns.dns.ZONE`: the addresses of the Service that DNS is.
pub(super) fn name_server(names: &Names, kind: RecordType) -> Records {
    let service = &names.zone().service;
    let entry = names.service(&service.namespace, &service.name);
    let data = entry.map(|entry| own(entry, kind)).unwrap_or_default();
    Records { data, ..Records::default() }
}

/// The address records of `ns.dns.ZONE`, for behind an NS record.
pub(super) fn addresses_of(names: &Names, server: &Name) -> Vec<Record> {
    let both = [RecordType::A, RecordType::AAAA].into_iter().flat_map(|kind| name_server(names, kind).data);
    both.map(|data| Record::from_rdata(server.clone(), names.zone().ttl, data)).collect()
}

/// `LABEL.NAMESPACE.pod.ZONE`
pub(super) fn pod(names: &Names, namespace: &str, label: &str, kind: RecordType) -> Found {
    let address = match names.zone().pods {
        PodRecords::Insecure if names.namespace(namespace) => pod_address(label),
        PodRecords::Insecure | PodRecords::Disabled => None,
    };
    match address {
        Some(address) => {
            Found::Records(Records { data: data_of(address, kind).into_iter().collect(), ..Records::default() })
        }
        None => Found::Nothing,
    }
}

/// `10-244-1-2`, or `fd00-244-1--2`.
fn pod_address(label: &str) -> Option<IpAddr> {
    if let Ok(v4) = label.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(v4.into());
    }
    label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::from)
}

/// Everything at and below `SERVICE.NAMESPACE.svc.ZONE`.
pub(super) fn service(names: &Names, namespace: &str, service: &str, part: &Part, kind: RecordType) -> Found {
    let Some(entry) = names.service(namespace, service) else { return Found::Nothing };
    if let Kind::External(name) = &entry.kind {
        // It has no ports and no endpoints of its own.
        return match (part, name) {
            (Part::Itself, Some(name)) => Found::Alias(name.clone()),
            _ => Found::Nothing,
        };
    }
    let Some(own_name) = names.zone().name(&[service, namespace, "svc"]) else { return Found::Nothing };
    let ttl = names.zone().ttl;
    match (part, &entry.kind) {
        (Part::Endpoint(label), _) => endpoint(entry, label, &own_name, kind, ttl),
        (_, Kind::Headless) => headless(entry, part, &own_name, kind, ttl),
        _ => cluster_ip(entry, part, own_name, kind, ttl),
    }
}

/// A Service with addresses of its own: they are what every port's name has, and what SRV leads to.
fn cluster_ip(entry: &Entry, part: &Part, own_name: Name, kind: RecordType, ttl: u32) -> Found {
    let ports: Vec<u16> = entry
        .service
        .spec
        .ports
        .iter()
        .filter(|port| part.has(&port.name, &port.protocol))
        .filter_map(|port| u16::try_from(port.port).ok())
        .collect();
    match part {
        Part::Itself => {}
        _ if ports.is_empty() => return Found::Nothing,
        Part::Protocol(_) => return Found::Records(Records::default()),
        _ => {}
    }
    if kind != RecordType::SRV {
        return Found::Records(Records { data: own(entry, kind), ..Records::default() });
    }
    let targets = ports.into_iter().map(|port| Target { name: own_name.clone(), port }).collect();
    let addresses = entry.v4.iter().map(|a| IpAddr::from(*a)).chain(entry.v6.iter().map(|a| IpAddr::from(*a)));
    let addresses = addresses.map(|address| (own_name.clone(), address)).collect();
    Found::Records(srv(targets, addresses, ttl))
}

/// A Service without an address: its endpoints are its records, and without a ready one it is not there.
fn headless(entry: &Entry, part: &Part, own_name: &Name, kind: RecordType, ttl: u32) -> Found {
    let (mut any, mut addresses) = (false, BTreeSet::new());
    let (mut targets, mut named) = (BTreeSet::new(), BTreeSet::new());
    for endpoint in entry.endpoints() {
        let ports = || {
            let ports = endpoint.ports.iter();
            let wanted = ports.filter(|port| {
                part.has(port.name.as_deref().unwrap_or_default(), port.protocol.as_deref().unwrap_or("TCP"))
            });
            wanted.filter_map(|port| u16::try_from(port.port?).ok())
        };
        if *part != Part::Itself && ports().next().is_none() {
            continue;
        }
        any = true;
        if kind != RecordType::SRV {
            addresses.insert(endpoint.address);
        } else if let Some(name) = below(&endpoint.label(), own_name) {
            targets.extend(ports().map(|port| Target { name: name.clone(), port }));
            named.insert((name, endpoint.address));
        }
    }
    match (any, part) {
        (false, _) => Found::Nothing,
        (true, Part::Protocol(_)) => Found::Records(Records::default()),
        (true, _) if kind == RecordType::SRV => Found::Records(srv(targets, named, ttl)),
        (true, _) => {
            let data = addresses.into_iter().filter_map(|address| data_of(address, kind)).collect();
            Found::Records(Records { data, ..Records::default() })
        }
    }
}

/// One endpoint by its label, of whichever kind of Service.
fn endpoint(entry: &Entry, label: &str, own_name: &Name, kind: RecordType, ttl: u32) -> Found {
    let Some(name) = below(label, own_name) else { return Found::Nothing };
    let (mut addresses, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for endpoint in entry.endpoints().filter(|endpoint| endpoint.label() == label) {
        addresses.insert(endpoint.address);
        let ports = endpoint.ports.iter().filter_map(|port| u16::try_from(port.port?).ok());
        targets.extend(ports.map(|port| Target { name: name.clone(), port }));
    }
    if addresses.is_empty() {
        return Found::Nothing;
    }
    if kind == RecordType::SRV {
        return Found::Records(srv(targets, addresses.into_iter().map(|a| (name.clone(), a)).collect(), ttl));
    }
    let data = addresses.into_iter().filter_map(|address| data_of(address, kind)).collect();
    Found::Records(Records { data, ..Records::default() })
}

/// SRV records that share the weight of 100, with the addresses of their targets.
fn srv(targets: BTreeSet<Target>, addresses: BTreeSet<(Name, IpAddr)>, ttl: u32) -> Records {
    let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
    if targets.is_empty() {
        return Records::default();
    }
    let data = targets.into_iter().map(|target| RData::SRV(SRV::new(0, weight, target.port, target.name))).collect();
    let additionals =
        addresses.into_iter().map(|(name, address)| Record::from_rdata(name, ttl, address.into())).collect();
    Records { data, additionals, ttl: None }
}

/// The Service's own addresses of the type asked for.
fn own(entry: &Entry, kind: RecordType) -> Vec<RData> {
    match kind {
        RecordType::A => entry.v4.iter().map(|address| IpAddr::from(*address).into()).collect(),
        RecordType::AAAA => entry.v6.iter().map(|address| IpAddr::from(*address).into()).collect(),
        _ => Vec::new(),
    }
}

fn data_of(address: IpAddr, kind: RecordType) -> Option<RData> {
    let family = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
    (kind == family).then(|| address.into())
}

fn below(label: &str, name: &Name) -> Option<Name> {
    name.prepend_label(label.as_bytes()).ok()
}

impl Part {
    /// Whether a port with this name and protocol is meant. A port without a name has no SRV name; only the Service's own
    /// name, asked for SRV, lists it.
    fn has(&self, name: &str, protocol: &str) -> bool {
        match self {
            Self::Itself => true,
            Self::Protocol(wanted) => !name.is_empty() && protocol.eq_ignore_ascii_case(wanted),
            Self::Port { port, protocol: wanted } => {
                name == port && !name.is_empty() && protocol.eq_ignore_ascii_case(wanted)
            }
            Self::Endpoint(_) => false,
        }
    }
}
