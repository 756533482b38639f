//! A small cluster for tests: Services that change at random, seen from `node-1`. The crate's own tests take this file in
//! too.
#![allow(dead_code, reason = "each of the two uses a part")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::{At, Family, Local, Origin, Packet, Plan, compile};
use model::Key;
use model::snapshot::Snapshot;
use model::types::{
    ClientIpConfig, EndpointConditions, EndpointPort, EndpointSlice, LoadBalancerIngress, Node, NodeAddress, Protocol,
    Service, ServicePort, SessionAffinityConfig,
};
use proptest::prelude::*;

pub const NODE: &str = "node-1";
/// Its addresses in the network.
const OWN: [&str; 2] = ["172.31.255.11", "fd00:31::11"];

/// What a test says about a Service.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    pub internal_local: bool,
    pub external_local: bool,
    pub affinity: Option<i32>,
    pub node_port: bool,
    /// All Services share one external address, so these collide.
    pub external_ip: bool,
    /// Type LoadBalancer, with an address of its own; and who may ask it: everybody, one range, or two.
    pub load_balancer: Option<u8>,
    pub foreign: bool,
    /// TCP and UDP on port 53, where the node answers for Service 0.
    pub dns: bool,
    pub families: Vec<Family>,
    pub endpoints: Vec<EndpointSpec>,
}

#[derive(Clone, Debug)]
pub struct EndpointSpec {
    pub host: u8,
    pub local: bool,
    pub state: State,
    pub weight: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    NotReady,
    /// Terminating, still serving.
    Leaving,
}

pub fn arbitrary_service() -> impl Strategy<Value = ServiceSpec> {
    let state = prop_oneof![4 => Just(State::Ready), 1 => Just(State::NotReady), 1 => Just(State::Leaving)];
    let weight = prop_oneof![16 => Just(100u8), 1 => Just(0), 1 => Just(50), 1 => Just(30)];
    let endpoint = (1..25u8, any::<bool>(), state, weight).prop_map(|(host, local, state, weight)| EndpointSpec {
        host,
        local,
        state,
        weight,
    });
    let families = prop_oneof![Just(vec![Family::V4]), Just(vec![Family::V6]), Just(vec![Family::V4, Family::V6])];
    (
        (any::<bool>(), any::<bool>(), prop::option::of(1..3i32), any::<bool>()),
        (prop::bool::weighted(0.3), prop::bool::weighted(0.1), families, prop::option::weighted(0.3, 0..3u8)),
        prop::collection::vec(endpoint, 0..16),
        prop::bool::weighted(0.4),
    )
        .prop_map(
            |(
                (internal_local, external_local, affinity, node_port),
                (external_ip, foreign, families, load_balancer),
                endpoints,
                dns,
            )| {
                ServiceSpec {
                    internal_local,
                    external_local,
                    affinity,
                    node_port,
                    external_ip,
                    load_balancer,
                    foreign,
                    dns,
                    families,
                    endpoints,
                }
            },
        )
}

/// A snapshot that tests change.
pub struct Cluster {
    pub snapshot: Snapshot,
    pub local: Local,
}

impl Cluster {
    pub fn new() -> Self {
        let mut node = Node::default();
        for address in ["172.31.255.11", "fd00:31::11", "127.0.0.1"] {
            node.status.addresses.push(NodeAddress { type_: "InternalIP".into(), address: address.into() });
        }
        node.spec.pod_cidrs = vec!["10.244.1.0/24".into(), "fd00:244:1::/64".into()];
        let snapshot = Snapshot {
            nodes: [(NODE.to_owned(), Arc::new(node))].into(),
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/112".parse().unwrap()],
            ..Snapshot::default()
        };
        let local = Local {
            cluster_cidrs: ["10.244.0.0/16", "172.31.255.0/26", "fd00:244::/32", "fd00:31::/124"]
                .map(|c| c.parse().unwrap())
                .into(),
            dns: Some(key(0)),
            ..Local::new(NODE)
        };
        Self { snapshot, local }
    }

    pub fn plan(&self) -> Plan {
        compile(&self.snapshot, &self.local)
    }

    /// Makes Service `index` like this, or deletes it. Returns its key.
    pub fn set(&mut self, index: usize, spec: Option<ServiceSpec>) -> Key {
        let key = key(index);
        self.snapshot.revision += 1;
        match spec {
            Some(spec) => {
                self.snapshot.services.insert(key.clone(), Arc::new(service(index, &spec)));
                self.snapshot.slices.insert(key.clone(), slices(&spec));
            }
            None => {
                self.snapshot.services.remove(&key);
                self.snapshot.slices.remove(&key);
            }
        }
        key
    }

    /// Packets to every place of the plan and to places that it does not have, from everybody.
    pub fn packets(&self, plan: &Plan) -> Vec<Packet> {
        let mut places = vec![
            ("10.96.0.200".parse().unwrap(), Protocol::Tcp, 80),
            ("fd00:10:96::200".parse().unwrap(), Protocol::Tcp, 80),
            ("198.51.100.1".parse().unwrap(), Protocol::Udp, 53),
            ("172.31.255.11".parse().unwrap(), Protocol::Tcp, 22),
        ];
        let mut hosts: Vec<IpAddr> = Vec::new();
        for service in plan.services.values() {
            places.extend(service.addresses.iter().map(|a| (*a, Protocol::Tcp, 9999)));
            for frontend in &service.frontends {
                match frontend.at {
                    At::Address(address) => places.push((address, frontend.protocol, frontend.port)),
                    At::NodePort(_) => places.extend(
                        // An address that is not the node's has no node ports.
                        ["172.31.255.11", "fd00:31::11", "127.0.0.1", "127.1.2.3", "::1", "172.31.255.12"]
                            .map(|a| (a.parse().unwrap(), frontend.protocol, frontend.port)),
                    ),
                }
            }
            // Pods that are endpoints, for hairpins.
            hosts
                .extend(service.pools.iter().flat_map(|p| &p.endpoints).filter(|e| e.local).map(|e| e.address).take(2));
        }
        let mut clients: Vec<(IpAddr, Origin)> = hosts.into_iter().map(|h| (h, Origin::Pod)).collect();
        for (address, origin) in [
            ("10.244.1.77", Origin::Pod),
            ("fd00:244:1::77", Origin::Pod),
            ("172.31.255.11", Origin::ThisNode),
            ("fd00:31::11", Origin::ThisNode),
            ("127.0.0.1", Origin::ThisNode),
            ("::1", Origin::ThisNode),
            ("172.31.255.12", Origin::Outside),
            ("172.31.255.100", Origin::Outside),
            ("fd00:31::100", Origin::Outside),
        ] {
            clients.push((address.parse().unwrap(), origin));
        }
        let mut packets = Vec::new();
        for (destination, protocol, port) in places {
            for (client, origin) in &clients {
                // What a process sends from a loopback address stays with the machine.
                if client.is_ipv4() == destination.is_ipv4() && (!client.is_loopback() || destination.is_loopback()) {
                    let here = destination.is_loopback() || OWN.contains(&destination.to_string().as_str());
                    packets.push(Packet { client: *client, origin: *origin, destination, protocol, port, here });
                }
            }
        }
        packets
    }
}

fn key(index: usize) -> Key {
    Key::new("default", &format!("service-{index}"))
}

fn number<T: TryFrom<usize>>(n: usize) -> T {
    T::try_from(n).ok().unwrap()
}

pub fn service(index: usize, spec: &ServiceSpec) -> Service {
    let mut service = Service::default();
    let s = &mut service.spec;
    s.type_ = if spec.node_port { "NodePort" } else { "ClusterIP" }.into();
    for family in &spec.families {
        s.cluster_ips.push(match family {
            Family::V4 => format!("10.96.0.{}", index + 1),
            Family::V6 => format!("fd00:10:96::{}", index + 1),
        });
        s.ip_families.push(family.to_string());
    }
    s.cluster_ip.clone_from(&s.cluster_ips[0]);
    if let Some(ranges) = spec.load_balancer {
        s.type_ = "LoadBalancer".into();
        let sources = ["172.31.255.96/28", "fd00:31::/64"];
        s.load_balancer_source_ranges = sources.iter().take(ranges.into()).map(|r| (*r).into()).collect();
        for ip in [format!("203.0.113.{}", index + 1), format!("2001:db8:1::{}", index + 1)] {
            let ingress = LoadBalancerIngress { ip, ip_mode: Some("VIP".into()), ..LoadBalancerIngress::default() };
            service.status.load_balancer.ingress.push(ingress);
        }
    }
    let s = &mut service.spec;
    if spec.external_ip {
        s.external_ips = vec!["192.0.2.1".into(), "2001:db8::1".into()];
    }
    s.internal_traffic_policy = Some(if spec.internal_local { "Local" } else { "Cluster" }.into());
    s.external_traffic_policy = Some(if spec.external_local { "Local" } else { "Cluster" }.into());
    if let Some(seconds) = spec.affinity {
        s.session_affinity = "ClientIP".into();
        let client_ip = Some(ClientIpConfig { timeout_seconds: Some(seconds) });
        s.session_affinity_config = Some(SessionAffinityConfig { client_ip });
    }
    for (n, protocol) in ["TCP", "UDP", "SCTP"].into_iter().enumerate() {
        let node_port = if spec.node_port { number(30_000 + index * 10 + n) } else { 0 };
        s.ports.push(ServicePort {
            name: protocol.to_lowercase(),
            protocol: protocol.into(),
            port: if spec.dns && protocol != "SCTP" { 53 } else { number(80 + n) },
            node_port,
            ..ServicePort::default()
        });
    }
    if spec.foreign {
        service.metadata.labels.insert("service.kubernetes.io/service-proxy-name".into(), "other".into());
    }
    service
}

pub fn slices(spec: &ServiceSpec) -> BTreeMap<String, Arc<EndpointSlice>> {
    let mut slices = BTreeMap::new();
    for family in Family::ALL {
        let mut weights = Vec::new();
        let mut slice = EndpointSlice { address_type: family.to_string(), ..EndpointSlice::default() };
        for (n, protocol) in ["TCP", "UDP", "SCTP"].into_iter().enumerate() {
            slice.ports.push(EndpointPort {
                name: Some(protocol.to_lowercase()),
                protocol: Some(protocol.into()),
                port: Some(number(8080 + n)),
                ..EndpointPort::default()
            });
        }
        for endpoint in &spec.endpoints {
            let node = if endpoint.local { 1 } else { 2 };
            let address = match family {
                Family::V4 => format!("10.244.{node}.{}", endpoint.host),
                Family::V6 => format!("fd00:244:{node}::{}", endpoint.host),
            };
            weights.push(format!("{address}={}", endpoint.weight));
            slice.endpoints.push(model::types::Endpoint {
                addresses: vec![address],
                conditions: EndpointConditions {
                    ready: Some(endpoint.state == State::Ready),
                    serving: Some(endpoint.state != State::NotReady),
                    terminating: Some(endpoint.state == State::Leaving),
                },
                node_name: Some(format!("node-{node}")),
                ..model::types::Endpoint::default()
            });
        }
        weights.sort();
        weights.dedup_by(|a, b| a.split('=').next() == b.split('=').next());
        slice.metadata.annotations.insert("portolan.dev/weights".into(), weights.join(","));
        slices.insert(family.to_string(), Arc::new(slice));
    }
    slices
}
