//! Random packets: mostly to a place that the plan has, from whoever may ask, and consistent with themselves. Whether a client
//! is a pod of this node follows from its address, and whether a destination is this machine's from the machine.

use std::net::IpAddr;

use model::types::Protocol;
use proptest::prelude::*;
use proptest::sample::Index;

use super::plans::OWN;
use crate::plan::{Action, At, Plan};
use crate::route::{Origin, Packet};

#[derive(Clone, Debug)]
pub struct PacketLike {
    place: Index,
    client: Index,
    twist: Twist,
}

/// What is otherwise than at the place.
#[derive(Clone, Debug)]
enum Twist {
    Nothing,
    Protocol(Protocol),
    Port(u16),
    Address(Index),
}

const CLIENTS: [&str; 16] = [
    "172.31.255.11",
    "172.31.254.11",
    "127.0.0.1",
    "127.0.0.7",
    "10.244.1.77",
    "10.244.1.222",
    "10.244.2.77",
    "172.31.255.12",
    "172.31.255.100",
    "198.51.100.77",
    "fd00:31::11",
    "::1",
    "fd00:244:1::77",
    "fd00:244:2::77",
    "fd00:31::100",
    "2001:db8:9::77",
];
/// Beside what the plan has.
const DESTINATIONS: [&str; 14] = [
    "10.96.0.1",
    "10.96.0.2",
    "10.96.0.200",
    "10.96.7.7",
    "172.31.255.11",
    "172.31.254.11",
    "172.31.255.12",
    "203.0.113.1",
    "203.0.113.99",
    "127.0.0.1",
    "127.7.7.7",
    "fd00:10:96::200",
    "fd00:31::11",
    "::1",
];

pub fn arbitrary() -> impl Strategy<Value = PacketLike> {
    let twist = prop_oneof![
        16 => Just(Twist::Nothing),
        1 => prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)].prop_map(Twist::Protocol),
        1 => prop_oneof![Just(80u16), Just(53), Just(8080), Just(30_000), Just(9999)].prop_map(Twist::Port),
        1 => any::<Index>().prop_map(Twist::Address),
    ];
    (any::<Index>(), any::<Index>(), twist).prop_map(|(place, client, twist)| PacketLike { place, client, twist })
}

impl PacketLike {
    /// The packet, if there can be one like this.
    pub fn build(&self, plan: &Plan) -> Option<Packet> {
        let destinations = DESTINATIONS.map(|a| a.parse::<IpAddr>().unwrap());
        let frontends = || plan.services.values().flat_map(|s| &s.frontends);
        let mut places: Vec<_> =
            plan.services.values().filter_map(|s| s.addresses.first()).map(|a| (*a, Protocol::Tcp, 80)).collect();
        for frontend in frontends() {
            match frontend.at {
                At::Address(address) => places.push((address, frontend.protocol, frontend.port)),
                At::NodePort(family) => {
                    let own = OWN.iter().chain(&["127.0.0.1"]).map(|a| a.parse::<IpAddr>().unwrap());
                    let own = own.filter(|a| crate::plan::Family::of(*a) == family);
                    places.extend(own.map(|a| (a, frontend.protocol, frontend.port)));
                }
            }
        }
        if places.is_empty() {
            places.extend(destinations.map(|a| (a, Protocol::Tcp, 80)));
        }
        let (mut destination, mut protocol, mut port) = *self.place.get(&places);
        match &self.twist {
            Twist::Nothing => {}
            Twist::Protocol(other) => protocol = *other,
            Twist::Port(other) => port = *other,
            Twist::Address(other) => destination = *other.get(&destinations),
        }

        // Where the node answers itself, the address is the machine's.
        let answered: Vec<_> = frontends().filter(|f| f.action == Action::Here).map(|f| f.at).collect();
        let own =
            |a: IpAddr| a.is_loopback() || OWN.contains(&a.to_string().as_str()) || answered.contains(&At::Address(a));
        let pools = plan.services.values().flat_map(|s| &s.pools);
        let endpoints = pools.flat_map(|p| &p.endpoints).map(|e| e.address);
        let clients = CLIENTS.iter().map(|a| a.parse().unwrap()).chain(endpoints);
        let answering = answered.iter().filter_map(|at| match at {
            At::Address(address) => Some(*address),
            At::NodePort(_) => None,
        });
        let mut clients: Vec<IpAddr> = clients.chain(answering).collect();
        // Now and then one of the other family, of which nothing can come.
        if self.client.index(64) != 0 {
            clients.retain(|c| c.is_ipv4() == destination.is_ipv4());
        }
        let client = *self.client.get(&clients);
        let origin = if own(client) {
            Origin::ThisNode
        } else if plan.node.pod_cidrs.iter().any(|cidr| cidr.contains(&client)) {
            Origin::Pod
        } else {
            Origin::Outside
        };
        // What a process sends from a loopback address stays with the machine.
        let possible = !client.is_loopback() || destination.is_loopback();
        possible.then(|| Packet { client, origin, destination, protocol, port, here: own(destination) })
    }
}
