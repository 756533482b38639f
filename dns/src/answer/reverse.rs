//! From addresses to names.
//!
//! The ranges that ClusterIPs come from are the cluster's: what has no name there is NXDOMAIN, from a zone that is cut at the
//! next boundary of labels (`96.10.in-addr.arpa` for 10.96.0.0/16). All other addresses belong to somebody else, save those
//! of endpoints that have a hostname.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use super::{Answer, Reply, soa};
use crate::names::{Names, Pointer};

/// Labels that a name is shortened by, in search of a range that it lies in.
const MAX_DEPTH: usize = 34;

pub(super) fn answer(names: &Names, name: &Name, kind: RecordType) -> Answer {
    let Some((asked, exact)) = address_range(name) else { return Answer::Elsewhere };
    if !names.synced() {
        // Whose it is, is not known yet.
        return Answer::Known(Reply::failure());
    }
    let (zone, ttl) = (names.zone(), names.zone().ttl);
    // Above an address there are names if there is any range of addresses; below one there are none.
    let whole = asked.prefix_len() == asked.max_prefix_len() || !exact;
    let found: Vec<Name> = if whole && exact { found(names, asked) } else { Vec::new() };
    let ours = names.service_cidr(asked);
    if ours.is_none() && (found.is_empty() || kind != RecordType::PTR) {
        return Answer::Elsewhere;
    }
    let mut reply = Reply {
        code: ResponseCode::NoError,
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        follow: None,
    };
    if kind == RecordType::PTR && !found.is_empty() {
        let data = found.into_iter().map(|name| RData::PTR(PTR(name)));
        reply.answers.extend(data.map(|data| Record::from_rdata(name.clone(), ttl, data)));
    } else if let Some(range) = ours {
        let apex = apex(range, asked);
        let soa = soa(zone, apex.clone(), names.serial());
        if kind == RecordType::SOA && apex == *name {
            reply.answers.push(soa);
        } else {
            if whole && found.is_empty() {
                reply.code = ResponseCode::NXDomain;
            }
            reply.authorities.push(soa);
        }
    }
    Answer::Known(reply)
}

/// The names of an address: the Service that has it as its ClusterIP, else every endpoint with a hostname that has it.
fn found(names: &Names, address: IpNet) -> Vec<Name> {
    let zone = names.zone();
    let service = names.pointers(address.addr()).find_map(|pointer| match pointer {
        Pointer::Service(key) => zone.name(&[&key.name, &key.namespace, "svc"]),
        Pointer::Endpoint(..) => None,
    });
    if let Some(service) = service {
        return vec![service];
    }
    let endpoints = names.pointers(address.addr()).filter_map(|pointer| match pointer {
        Pointer::Endpoint(key, hostname) => zone.name(&[hostname, &key.name, &key.namespace, "svc"]),
        Pointer::Service(_) => None,
    });
    endpoints.collect()
}

/// The range of addresses that a name of their tree stands for, or the nearest name above it that stands for one (`01.96.10…` is
/// spelt as no address is). `None` for names that are not in the tree, and for its top.
fn address_range(name: &Name) -> Option<(IpNet, bool)> {
    let labels = name.iter().count();
    // An address of IPv6 has 34 labels, and a name at most 127; more than a few too many are not worth looking at.
    let candidates = (3..=labels).rev().map(|count| (name.trim_to(count), count == labels));
    candidates.take(MAX_DEPTH).find_map(|(name, exact)| {
        let range = name.parse_arpa_name().ok()?;
        (arpa(range)? == name).then_some((range, exact))
    })
}

/// The name of a range that ends at a boundary of labels.
fn arpa(range: IpNet) -> Option<Name> {
    let whole = Name::from(range.addr());
    let step = if range.addr().is_ipv4() { 8 } else { 4 };
    let beyond = usize::from((range.max_prefix_len() - range.prefix_len()) / step);
    let kept = whole.iter().count().checked_sub(beyond)?;
    Some(whole.trim_to(kept))
}

/// The top of the zone that `asked` is in, of those that `range` is made of.
fn apex(range: IpNet, asked: IpNet) -> Name {
    let step = if range.addr().is_ipv4() { 8 } else { 4 };
    let length = range.prefix_len().div_ceil(step) * step;
    let top = IpNet::new(asked.addr(), length).map(|net| net.trunc()).unwrap_or(asked);
    arpa(top).unwrap_or_else(Name::root)
}
