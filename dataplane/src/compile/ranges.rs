//! Sets of address ranges.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use crate::plan::{Family, NodePlan};

/// Nobody's but the machine's own.
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// The same addresses in ranges that neither overlap nor can be joined; sorted.
pub fn disjoint(ranges: &[IpNet]) -> Vec<IpNet> {
    let (v4, v6) = by_family(ranges);
    v4.into_iter().map(IpNet::V4).chain(v6.into_iter().map(IpNet::V6)).collect()
}

/// Every address of a family that is in none of `ranges`; nothing of a family that has no range there. Sorted and
/// disjoint.
pub(crate) fn outside(ranges: &[IpNet]) -> Vec<IpNet> {
    let (v4, v6) = by_family(ranges);
    let mut all = Vec::new();
    if !v4.is_empty() {
        let mut next = Some(Ipv4Addr::UNSPECIFIED);
        for range in v4 {
            if let (Some(first), Some(last)) = (next, u32::from(range.network()).checked_sub(1))
                && u32::from(first) <= last
            {
                all.extend(Ipv4Subnets::new(first, last.into(), 0).map(IpNet::V4));
            }
            next = u32::from(range.broadcast()).checked_add(1).map(Ipv4Addr::from);
        }
        all.extend(next.into_iter().flat_map(|first| Ipv4Subnets::new(first, Ipv4Addr::BROADCAST, 0)).map(IpNet::V4));
    }
    if !v6.is_empty() {
        let mut next = Some(Ipv6Addr::UNSPECIFIED);
        let end = Ipv6Addr::from(u128::MAX);
        for range in v6 {
            if let (Some(first), Some(last)) = (next, u128::from(range.network()).checked_sub(1))
                && u128::from(first) <= last
            {
                all.extend(Ipv6Subnets::new(first, last.into(), 0).map(IpNet::V6));
            }
            next = u128::from(range.broadcast()).checked_add(1).map(Ipv6Addr::from);
        }
        all.extend(next.into_iter().flat_map(|first| Ipv6Subnets::new(first, end, 0)).map(IpNet::V6));
    }
    all
}

/// Every address of the family that is in none of `ranges`, of which those of the other family do not count.
pub fn complement(ranges: &[IpNet], family: Family) -> Vec<IpNet> {
    let of_family: Vec<IpNet> = ranges.iter().copied().filter(|r| Family::of(r.addr()) == family).collect();
    if of_family.is_empty() { vec![everything(family)] } else { outside(&of_family) }
}

/// The addresses of the family that are both in `a` and in `b`.
pub fn intersection(a: &[IpNet], b: &[IpNet], family: Family) -> Vec<IpNet> {
    let mut neither = complement(a, family);
    neither.extend(complement(b, family));
    complement(&neither, family)
}

/// Where node ports answer, of the machine's own addresses: sorted and disjoint. Without loopback addresses, however large the
/// ranges are that the node was told, but for 127.0.0.0/8 where the node is to have node ports there.
pub fn node_ports(node: &NodePlan) -> Vec<IpNet> {
    let elsewhere = outside(&LOOPBACK);
    let mut all: Vec<_> =
        Family::ALL.into_iter().flat_map(|family| intersection(&node.node_port_ranges, &elsewhere, family)).collect();
    all.extend(LOOPBACK.into_iter().filter(|range| node.localhost_node_ports && range.addr().is_ipv4()));
    disjoint(&all)
}

fn everything(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::default()),
        Family::V6 => IpNet::V6(Ipv6Net::default()),
    }
}

fn by_family(ranges: &[IpNet]) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for range in ranges {
        match range.trunc() {
            IpNet::V4(range) => v4.push(range),
            IpNet::V6(range) => v6.push(range),
        }
    }
    (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn overlapping_ranges_are_joined() {
        assert_eq!(disjoint(&nets("10.0.0.0/9 10.128.0.0/9 10.1.2.3/32 fd00::/64")), nets("10.0.0.0/8 fd00::/64"));
        assert_eq!(disjoint(&nets("10.1.2.3/8")), nets("10.0.0.0/8"));
    }

    #[test]
    fn what_lies_outside() {
        assert!(outside(&[]).is_empty());
        assert_eq!(outside(&nets("0.0.0.0/1")), nets("128.0.0.0/1"));
        assert!(outside(&nets("0.0.0.0/0 ::/0")).is_empty());
        assert_eq!(outside(&nets("10.0.0.0/8")).len(), 8);
        assert_eq!(outside(&nets("fd00::/8")).len(), 8);
    }

    #[test]
    fn complements_and_intersections() {
        let v4 = |list: &str| complement(&nets(list), Family::V4);
        assert_eq!(v4(""), nets("0.0.0.0/0"));
        assert_eq!(v4("fd00::/8"), nets("0.0.0.0/0"), "the other family's are nobody here");
        assert_eq!(v4("0.0.0.0/0"), nets(""));
        assert_eq!(v4("128.0.0.0/1"), nets("0.0.0.0/1"));
        assert_eq!(complement(&nets(""), Family::V6), nets("::/0"));
        let both = |a: &str, b: &str| intersection(&nets(a), &nets(b), Family::V4);
        assert_eq!(both("10.0.0.0/8 192.0.2.0/24", "10.1.0.0/16 192.0.0.0/8"), nets("10.1.0.0/16 192.0.2.0/24"));
        assert_eq!(both("10.0.0.0/8", ""), nets(""));
        assert_eq!(both("10.0.0.0/8", "0.0.0.0/0"), nets("10.0.0.0/8"));
    }

    #[test]
    fn node_ports_and_loopback_addresses() {
        let at = |ranges: &str, localhost_node_ports| {
            node_ports(&NodePlan { node_port_ranges: nets(ranges), localhost_node_ports, ..NodePlan::default() })
        };
        assert_eq!(at("", false), nets(""));
        assert_eq!(at("192.0.2.1/32 fd00::/64", true), nets("127.0.0.0/8 192.0.2.1/32 fd00::/64"));
        assert_eq!(at("0.0.0.0/0", true), nets("0.0.0.0/0"));
        assert_eq!(at("0.0.0.0/0", false), outside(&nets("127.0.0.0/8")));
        assert_eq!(at("::/0", true), [nets("127.0.0.0/8"), outside(&nets("::1/128"))].concat());
    }

    proptest! {
        #[test]
        fn an_address_is_inside_or_outside(
            ranges in prop::collection::vec((any::<u32>(), 0..=32u8), 1..6), addresses in prop::collection::vec(any::<u32>(), 1..50),
        ) {
            let ranges: Vec<IpNet> =
                ranges.iter().map(|(a, p)| IpNet::new(Ipv4Addr::from(*a).into(), *p).unwrap()).collect();
            let edges = ranges.iter().flat_map(|r| [r.network(), r.broadcast()]);
            let (joined, out) = (disjoint(&ranges), outside(&ranges));
            let some = addresses.iter().map(|a| IpAddr::from(Ipv4Addr::from(*a)));
            for address in some.chain(edges) {
                let inside = ranges.iter().any(|r| r.contains(&address));
                prop_assert_eq!(joined.iter().filter(|r| r.contains(&address)).count(), usize::from(inside));
                prop_assert_eq!(out.iter().filter(|r| r.contains(&address)).count(), usize::from(!inside));
            }
        }
    }
}
