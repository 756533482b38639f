//! The packet-flow table: every kind of frontend × traffic policy × family × protocol × where the client is × the state of
//! an endpoint on this node and of one elsewhere, with what must become of a connection, in the words of Kubernetes' rules.
//!
//! It is run against the oracle and each dataplane's rules in memory (`src/agreement.rs`; the crate's own tests take this file
//! in), and with packets in network namespaces (`flows.rs`). Nothing here asks the code under test.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::{Family, Local, Origin, Packet};
use model::Key;
use model::snapshot::Snapshot;
use model::types::{
    EndpointConditions, EndpointPort, EndpointSlice, LoadBalancerIngress, Node, NodeAddress, Protocol, Service,
    ServicePort,
};

/// What the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
    /// The node port on 127.0.0.1. There is none on ::1: the kernel lets nothing leave from there.
    Localhost,
}

/// `internalTrafficPolicy` for ClusterIPs, `externalTrafficPolicy` for everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    Cluster,
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// A pod of this node beside the endpoint.
    Pod,
    /// The endpoint on this node.
    Itself,
    /// A process of the node.
    Node,
    /// Another node of the cluster.
    OtherNode,
    /// Somebody outside the cluster.
    Stranger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Absent,
    NotReady,
    /// Terminating, and still serving.
    Leaving,
    Ready,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub kind: Kind,
    pub policy: Policy,
    pub family: Family,
    pub protocol: Protocol,
    pub client: Client,
    /// Of the endpoint on this node.
    pub here: State,
    /// Of the endpoint on another node.
    pub there: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Here,
    There,
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// One of these answers, each now and then; `true` where it sees this node's address in place of the client's.
    Answer(BTreeSet<(Place, bool)>),
    Refused,
    Dropped,
}

const KINDS: [Kind; 5] = [Kind::ClusterIp, Kind::ExternalIp, Kind::LoadBalancer, Kind::NodePort, Kind::Localhost];
const POLICIES: [Policy; 2] = [Policy::Cluster, Policy::Local];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const CLIENTS: [Client; 5] = [Client::Pod, Client::Itself, Client::Node, Client::OtherNode, Client::Stranger];
pub const STATES: [State; 4] = [State::Absent, State::NotReady, State::Leaving, State::Ready];

/// Every row.
pub fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for kind in KINDS {
        for policy in POLICIES {
            for family in Family::ALL {
                for protocol in PROTOCOLS {
                    // A loopback address is the node's own.
                    let asks = |c: &Client| kind != Kind::Localhost || (*c == Client::Node && family == Family::V4);
                    for client in CLIENTS.into_iter().filter(asks) {
                        for here in STATES {
                            for there in STATES {
                                cells.push(Cell { kind, policy, family, protocol, client, here, there });
                            }
                        }
                    }
                }
            }
        }
    }
    cells
}

impl Cell {
    /// The rules of Services. They know neither family nor protocol.
    pub fn expected(&self) -> Expected {
        let endpoints = [(Place::Here, self.here), (Place::There, self.there)];
        // Ready ones; without any, those that still serve while they go.
        let usable = |among: &[(Place, State)]| -> BTreeSet<Place> {
            let of = |state| among.iter().filter(move |(_, s)| *s == state).map(|(place, _)| *place);
            let ready: BTreeSet<_> = of(State::Ready).collect();
            if ready.is_empty() { of(State::Leaving).collect() } else { ready }
        };
        let everywhere = usable(&endpoints);
        let on_this_node = matches!(self.client, Client::Pod | Client::Itself | Client::Node);
        // externalTrafficPolicy binds those who come from outside this node only.
        let bound = self.policy == Policy::Local && (self.kind == Kind::ClusterIp || !on_this_node);
        let chosen = if bound { usable(&endpoints[..1]) } else { everywhere.clone() };
        if chosen.is_empty() {
            return if everywhere.is_empty() { Expected::Refused } else { Expected::Dropped };
        }
        let hidden = |place: &Place| match (self.client, place) {
            _ if self.kind == Kind::Localhost => true,
            (Client::Itself, Place::Here) => true,
            // The answer would go straight to whoever asked, from an address that it did not ask.
            (Client::Stranger, Place::There) if self.kind == Kind::ClusterIp => true,
            (Client::Stranger | Client::OtherNode, Place::There) => self.kind != Kind::ClusterIp,
            _ => false,
        };
        Expected::Answer(chosen.iter().map(|place| (*place, hidden(place))).collect())
    }

    /// The Service of this row: one for each policy and pair of states.
    pub fn service(&self) -> u8 {
        let state = |s| STATES.iter().position(|x| *x == s).unwrap();
        let policy = POLICIES.iter().position(|p| *p == self.policy).unwrap();
        u8::try_from(1 + policy * 16 + state(self.here) * 4 + state(self.there)).unwrap()
    }

    /// Where the client sends to.
    pub fn destination(&self) -> (IpAddr, u16) {
        let at = |kind| place(kind, self.family, self.service());
        match self.kind {
            Kind::NodePort => (node(self.family), node_port(self.service(), self.protocol)),
            Kind::Localhost => (IpAddr::from([127, 0, 0, 1]), node_port(self.service(), self.protocol)),
            kind => (at(kind), 80),
        }
    }

    /// The client's own address; the node's as the kernel will choose it.
    pub fn source(&self) -> IpAddr {
        let [v4, v6] = match (self.client, self.kind) {
            (Client::Node, Kind::Localhost) => return IpAddr::from([127, 0, 0, 1]),
            (Client::Node, _) => return node(self.family),
            (Client::Pod, _) => ["10.244.1.3", "fd00:244:1::3"],
            (Client::Itself, _) => ["10.244.1.2", "fd00:244:1::2"],
            (Client::OtherNode, _) => ["172.31.253.12", "fd00:29::12"],
            (Client::Stranger, _) => ["172.31.255.100", "fd00:31::100"],
        };
        if self.family == Family::V4 { v4 } else { v6 }.parse().unwrap()
    }

    /// The connection's first packet as this node sees it.
    #[allow(dead_code, reason = "the test that sends packets does not describe them")]
    pub fn packet(&self) -> Packet {
        let (destination, port) = self.destination();
        let origin = match self.client {
            Client::Pod | Client::Itself => Origin::Pod,
            Client::Node => Origin::ThisNode,
            Client::OtherNode | Client::Stranger => Origin::Outside,
        };
        let here = matches!(self.kind, Kind::NodePort | Kind::Localhost);
        Packet { client: self.source(), origin, destination, protocol: self.protocol, port, here }
    }
}

impl Place {
    pub fn address(self, family: Family) -> IpAddr {
        match (self, family) {
            (Self::Here, Family::V4) => "10.244.1.2",
            (Self::There, Family::V4) => "10.244.2.2",
            (Self::Here, Family::V6) => "fd00:244:1::2",
            (Self::There, Family::V6) => "fd00:244:2::2",
        }
        .parse()
        .unwrap()
    }
}

pub fn node(family: Family) -> IpAddr {
    if family == Family::V4 { "172.31.255.11" } else { "fd00:31::11" }.parse().unwrap()
}

fn place(kind: Kind, family: Family, service: u8) -> IpAddr {
    let prefix = match (kind, family) {
        (Kind::ExternalIp, Family::V4) => "192.0.2.",
        (Kind::ExternalIp, Family::V6) => "2001:db8::",
        (Kind::LoadBalancer, Family::V4) => "203.0.113.",
        (Kind::LoadBalancer, Family::V6) => "2001:db8:1::",
        (_, Family::V4) => "10.96.1.",
        (_, Family::V6) => "fd00:10:96::1",
    };
    // Two digits each, so that IPv6 reads them as it should.
    if family == Family::V4 { format!("{prefix}{service}") } else { format!("{prefix}{service:02}") }.parse().unwrap()
}

fn node_port(service: u8, protocol: Protocol) -> u16 {
    let protocol = PROTOCOLS.iter().position(|p| *p == protocol).unwrap();
    30_000 + u16::from(service) * 10 + u16::try_from(protocol).unwrap()
}

/// The cluster of the table as the API would tell of it.
pub fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { revision: 1, ..Snapshot::default() };
    snapshot.service_cidrs = vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/112".parse().unwrap()];
    let mut this = Node::default();
    for family in Family::ALL {
        let address = node(family).to_string();
        this.status.addresses.push(NodeAddress { type_: "InternalIP".into(), address });
    }
    this.spec.pod_cidrs = vec!["10.244.1.0/24".into(), "fd00:244:1::/64".into()];
    snapshot.nodes.insert("node-1".into(), Arc::new(this));
    for policy in POLICIES {
        for here in STATES {
            for there in STATES {
                let cell = Cell { policy, here, there, ..all()[0] };
                let key = Key::new("default", &format!("service-{}", cell.service()));
                snapshot.services.insert(key.clone(), Arc::new(service(&cell)));
                let slices = Family::ALL.map(|family| (family.to_string(), Arc::new(slice(&cell, family))));
                snapshot.slices.insert(key, slices.into());
            }
        }
    }
    snapshot
}

/// What the node's agent is told.
pub fn local() -> Local {
    let cidrs =
        ["10.244.0.0/16", "172.31.253.0/24", "172.31.254.0/24", "fd00:244::/32", "fd00:29::/64", "fd00:30::/64"];
    Local { cluster_cidrs: cidrs.map(|c| c.parse().unwrap()).into(), ..Local::new("node-1") }
}

fn service(cell: &Cell) -> Service {
    let mut service = Service::default();
    service.metadata.name = Some(format!("service-{}", cell.service()));
    let spec = &mut service.spec;
    spec.type_ = "LoadBalancer".into();
    let policy = Some(format!("{:?}", cell.policy));
    spec.internal_traffic_policy.clone_from(&policy);
    spec.external_traffic_policy = policy;
    for family in Family::ALL {
        spec.cluster_ips.push(place(Kind::ClusterIp, family, cell.service()).to_string());
        spec.ip_families.push(family.to_string());
        spec.external_ips.push(place(Kind::ExternalIp, family, cell.service()).to_string());
        let ip = place(Kind::LoadBalancer, family, cell.service()).to_string();
        let ingress = LoadBalancerIngress { ip, ip_mode: Some("VIP".into()), ..LoadBalancerIngress::default() };
        service.status.load_balancer.ingress.push(ingress);
    }
    spec.cluster_ip.clone_from(&spec.cluster_ips[0]);
    for protocol in PROTOCOLS {
        spec.ports.push(ServicePort {
            name: protocol.to_string().to_lowercase(),
            protocol: protocol.to_string(),
            port: 80,
            node_port: node_port(cell.service(), protocol).into(),
            ..ServicePort::default()
        });
    }
    service
}

fn slice(cell: &Cell, family: Family) -> EndpointSlice {
    let mut slice = EndpointSlice { address_type: family.to_string(), ..EndpointSlice::default() };
    for protocol in PROTOCOLS {
        slice.ports.push(EndpointPort {
            name: Some(protocol.to_string().to_lowercase()),
            protocol: Some(protocol.to_string()),
            port: Some(8080),
            ..EndpointPort::default()
        });
    }
    for (place, state, node) in [(Place::Here, cell.here, "node-1"), (Place::There, cell.there, "node-2")] {
        if state == State::Absent {
            continue;
        }
        slice.endpoints.push(model::types::Endpoint {
            addresses: vec![place.address(family).to_string()],
            conditions: EndpointConditions {
                ready: Some(state == State::Ready),
                serving: Some(state != State::NotReady),
                terminating: Some(state == State::Leaving),
            },
            node_name: Some(node.into()),
            ..model::types::Endpoint::default()
        });
    }
    slice
}
