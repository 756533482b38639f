//! The packets that show whether a node does what it should: to every frontend of its plan, from everybody for whom the
//! rules make a difference; and the oracle's verdicts on so many.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::Key;
use model::types::{Node, Protocol};

use super::resolve::own_addresses;
use crate::plan::{At, Family, Frontend, Plan, ServicePlan};
use crate::route::{Origin, Packet, Verdict, route};

/// A client that nobody is: from the ranges for documentation (RFC 5737, RFC 3849).
const STRANGER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
const STRANGER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 77));

/// A packet, and whose Service it asks for, if it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub service: Option<Key>,
    pub packet: Packet,
}

/// Packets for everything that the plan says. `node` is the plan's.
pub fn probes(plan: &Plan, node: &Node) -> Vec<Probe> {
    let own: Vec<IpAddr> = own_addresses(node).collect();
    let mut probes = Vec::new();
    for (key, service) in &plan.services {
        let mut add = |packet: Packet| probes.push(Probe { service: Some(key.clone()), packet });
        for frontend in &service.frontends {
            let family = frontend.at.family();
            match frontend.at {
                At::Address(address) => of_frontend(plan, service, frontend, address, &own).for_each(&mut add),
                At::NodePort(_) => {
                    for address in own.iter().copied().filter(|a| Family::of(*a) == family) {
                        of_frontend(plan, service, frontend, address, &own).for_each(&mut add);
                    }
                    let itself = loopback(family);
                    add(packet(itself, Origin::ThisNode, itself, frontend.protocol, frontend.port, &own));
                }
            }
        }
        // A port that the Service does not have.
        for address in &service.addresses {
            let taken: HashSet<u16> = service.frontends.iter().map(|f| f.port).collect();
            let port = (1..=u16::MAX).find(|port| !taken.contains(port)).unwrap_or(1);
            add(packet(stranger(Family::of(*address)), Origin::Outside, *address, Protocol::Tcp, port, &own));
        }
    }
    let used: HashSet<IpAddr> = plan.services.values().flat_map(|s| s.addresses.iter().copied()).collect();
    for range in &plan.node.service_cidrs {
        if let Some(free) = (0..64).filter_map(|n| from_end(*range, n)).find(|a| !used.contains(a)) {
            let client = stranger(Family::of(free));
            probes
                .push(Probe { service: None, packet: packet(client, Origin::Outside, free, Protocol::Tcp, 80, &own) });
        }
    }
    probes
}

/// From outside, from the node, from a Pod of it, from an endpoint on it, and from whom source ranges let in.
fn of_frontend<'a>(
    plan: &'a Plan,
    service: &'a ServicePlan,
    frontend: &'a Frontend,
    to: IpAddr,
    own: &'a [IpAddr],
) -> impl Iterator<Item = Packet> + 'a {
    let family = Family::of(to);
    let mut clients = vec![(stranger(family), Origin::Outside)];
    clients.extend(own.iter().find(|a| Family::of(**a) == family).map(|a| (*a, Origin::ThisNode)));
    let pods = plan.node.pod_cidrs.iter().find(|range| Family::of(range.addr()) == family);
    clients.extend(pods.and_then(|range| from_end(*range, 1)).map(|a| (a, Origin::Pod)));
    let known = |a: IpAddr| plan.node.pod_cidrs.iter().any(|range| range.contains(&a));
    let endpoints = service.pools.iter().filter(|p| p.key.family == family).flat_map(|p| &p.endpoints);
    clients.extend(endpoints.filter(|e| e.local && known(e.address)).map(|e| (e.address, Origin::Pod)).next());
    clients.extend(frontend.sources.iter().flat_map(|s| s.first()).map(|range| (range.addr(), Origin::Outside)));
    clients.into_iter().map(move |(client, origin)| packet(client, origin, to, frontend.protocol, frontend.port, own))
}

fn packet(
    client: IpAddr,
    origin: Origin,
    destination: IpAddr,
    protocol: Protocol,
    port: u16,
    own: &[IpAddr],
) -> Packet {
    let here = destination.is_loopback() || own.contains(&destination);
    Packet { client, origin, destination, protocol, port, here }
}

fn stranger(family: Family) -> IpAddr {
    match family {
        Family::V4 => STRANGER_V4,
        Family::V6 => STRANGER_V6,
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The address that so many follow in its range.
fn from_end(range: IpNet, back: u32) -> Option<IpAddr> {
    let address = match range.broadcast() {
        IpAddr::V4(a) => IpAddr::V4(u32::from(a).checked_sub(back)?.into()),
        IpAddr::V6(a) => IpAddr::V6(u128::from(a).checked_sub(back.into())?.into()),
    };
    range.contains(&address).then_some(address)
}

/// The oracle for many packets: [`route()`] looks through all Services for each, which is what makes it obvious; here it
/// only gets those that can have to do with the packet.
pub struct Oracle<'a> {
    plan: &'a Plan,
    places: HashMap<(At, Protocol, u16), Vec<&'a Key>>,
    addresses: HashMap<IpAddr, Vec<&'a Key>>,
}

impl<'a> Oracle<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let mut oracle = Self { plan, places: HashMap::new(), addresses: HashMap::new() };
        for (key, service) in &plan.services {
            for frontend in &service.frontends {
                oracle.places.entry((frontend.at, frontend.protocol, frontend.port)).or_default().push(key);
            }
            for address in &service.addresses {
                oracle.addresses.entry(*address).or_default().push(key);
            }
        }
        oracle
    }

    /// What the plan says about the packet.
    pub fn route(&self, packet: &Packet) -> Verdict {
        let to = packet.destination;
        let at = |at: At| self.places.get(&(at, packet.protocol, packet.port)).into_iter().flatten();
        let keys = at(At::Address(to)).chain(at(At::NodePort(Family::of(to))));
        let keys = keys.chain(self.addresses.get(&to).into_iter().flatten());
        let services = keys.filter_map(|key| Some(((*key).clone(), self.plan.services.get(*key)?.clone()))).collect();
        route(&Plan { revision: self.plan.revision, node: self.plan.node.clone(), services }, packet)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Cluster, NODE, arbitrary_service};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// It is the same oracle, and probes meet every frontend.
        #[test]
        fn only_faster(services in prop::collection::vec(arbitrary_service(), 0..4)) {
            let mut cluster = Cluster::new();
            for (index, service) in services.into_iter().enumerate() {
                cluster.set(index, Some(service));
            }
            let plan = cluster.plan();
            let oracle = Oracle::new(&plan);
            let probes = probes(&plan, &cluster.snapshot.nodes[NODE]);
            for packet in cluster.packets(&plan).iter().chain(probes.iter().map(|probe| &probe.packet)) {
                prop_assert_eq!(oracle.route(packet), route(&plan, packet), "{:?}", packet);
            }
            for (key, service) in &plan.services {
                let asked: HashSet<_> = probes
                    .iter()
                    .filter(|p| p.service.as_ref() == Some(key))
                    .map(|p| (p.packet.destination, p.packet.protocol, p.packet.port))
                    .collect();
                for frontend in &service.frontends {
                    if let At::Address(address) = frontend.at {
                        prop_assert!(asked.contains(&(address, frontend.protocol, frontend.port)));
                    }
                }
            }
            let drops = probes.iter().filter(|p| p.service.is_none());
            for probe in drops {
                prop_assert_eq!(oracle.route(&probe.packet), Verdict::Drop);
            }
        }
    }
}
