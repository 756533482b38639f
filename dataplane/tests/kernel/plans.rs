//! Plans as a test says them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::nftables::Table;
use dataplane::{
    Action, At, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Plan, Pool, PoolKey, ServicePlan,
    Serving,
};
use dataplane::{Dirty, Report};
use model::Key;
use model::types::Protocol;

use crate::lab::{Namespace, PORT};
use crate::spellings::Spelling;

/// A Service of both families on port 80 and 53/UDP: number `n` has 10.96.0.n and fd00:10:96::n.
#[derive(Clone)]
pub struct Web {
    pub number: u16,
    /// The last bytes of pods: `(1, 2)` is 10.244.1.2 on this node, `(2, 2)` is 10.244.2.2 on another.
    pub pods: Vec<(u8, u8)>,
    pub affinity_seconds: Option<u32>,
    /// Node port, and whether externalTrafficPolicy is Local.
    pub node_port: Option<(u16, bool)>,
    pub internal_local: bool,
}

impl Web {
    pub fn new(number: u16, pods: &[(u8, u8)]) -> Self {
        Self { number, pods: pods.to_vec(), affinity_seconds: None, node_port: None, internal_local: false }
    }

    pub fn key(&self) -> Key {
        Key::new("default", &format!("web-{}", self.number))
    }

    pub fn plan(&self) -> ServicePlan {
        let mut plan = ServicePlan::default();
        for family in Family::ALL {
            let address: IpAddr = match family {
                Family::V4 => format!("10.96.{}.{}", self.number >> 8, self.number & 255),
                Family::V6 => format!("fd00:10:96::{:x}", self.number),
            }
            .parse()
            .unwrap();
            plan.addresses.push(address);
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                self.add(&mut plan, family, address, protocol);
            }
        }
        plan.pools.sort_by_key(|p| p.key);
        plan
    }

    fn add(&self, plan: &mut ServicePlan, family: Family, address: IpAddr, protocol: Protocol) {
        let mut endpoints: Vec<_> = self
            .pods
            .iter()
            .map(|(node, host)| Endpoint {
                address: match family {
                    Family::V4 => format!("10.244.{node}.{host}"),
                    Family::V6 => format!("fd00:244:{node}::{host}"),
                }
                .parse()
                .unwrap(),
                port: PORT,
                local: *node == 1,
                share: 1,
            })
            .collect();
        endpoints.sort_unstable();
        let locals: Vec<_> = endpoints.iter().filter(|e| e.local).copied().collect();
        let key = PoolKey { family, protocol, port: 80, local: false };
        let local_key = PoolKey { local: true, ..key };
        let action = |local: bool, masquerade| match (local, endpoints.is_empty(), locals.is_empty()) {
            (_, true, _) => Action::Reject,
            (true, _, true) => Action::Drop,
            (true, ..) => Action::Balance { pool: local_key, masquerade: false },
            (false, ..) => Action::Balance { pool: key, masquerade },
        };
        plan.frontends.push(Frontend {
            at: At::Address(address),
            protocol,
            port: 80,
            action: action(self.internal_local, false),
            inside: None,
            sources: None,
            kind: FrontendKind::ClusterIp,
            limits: Limits::default(),
        });
        if let Some((port, local)) = self.node_port {
            plan.frontends.push(Frontend {
                at: At::NodePort(family),
                protocol,
                port,
                action: action(local, true),
                inside: local.then(|| action(false, false)),
                sources: None,
                kind: FrontendKind::NodePort,
                limits: Limits::default(),
            });
        }
        if protocol == Protocol::Udp {
            plan.serving.push(Serving {
                family,
                port: 80,
                node_port: self.node_port.map_or(0, |(port, _)| port),
                endpoints: endpoints.iter().map(Endpoint::socket).collect(),
            });
        }
        let affinity_seconds = self.affinity_seconds;
        for (key, endpoints) in [(key, endpoints.clone()), (local_key, locals)] {
            if !endpoints.is_empty() {
                plan.pools.push(Pool { key, method: Method::Chance, affinity_seconds, endpoints });
            }
        }
    }
}

pub fn plan(revision: u64, services: &[Web]) -> Plan {
    let parse = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>();
    let node = NodePlan {
        name: "node-1".into(),
        node_port_ranges: parse(&["172.31.255.11/32", "fd00:31::11/128"]),
        localhost_node_ports: true,
        pod_cidrs: parse(&["10.244.1.0/24", "fd00:244:1::/64"]),
        service_cidrs: parse(&["10.96.0.0/16", "fd00:10:96::/112"]),
        masqueraded_clients: Vec::new(),
        dns: None,
        edges: Vec::new(),
    };
    let services: BTreeMap<_, _> = services.iter().map(|s| (s.key(), Arc::new(s.plan()))).collect();
    Plan { revision, node, services }
}

/// A dataplane of the node, and the Services in it.
pub struct Node<'a, S = Table> {
    namespace: &'a Namespace,
    /// Travels into the namespace and back with each call.
    spelling: Option<S>,
    revision: u64,
    pub services: BTreeMap<u16, Web>,
}

impl<'a> Node<'a> {
    pub fn new(namespace: &'a Namespace) -> Self {
        Self::by(namespace, || Table::open().unwrap())
    }
}

impl<'a, S: Spelling> Node<'a, S> {
    /// With the dataplane that `open` makes in the node's namespace.
    pub fn by(namespace: &'a Namespace, open: impl FnOnce() -> S + Send + 'static) -> Self {
        Self { namespace, spelling: Some(namespace.run(open)), revision: 0, services: BTreeMap::new() }
    }

    /// Programs the Services that are given, beside those that were.
    pub fn program(&mut self, services: &[Web]) -> Report {
        let dirty: BTreeSet<_> = services.iter().map(Web::key).collect();
        self.services.extend(services.iter().map(|s| (s.number, s.clone())));
        self.program_dirty(Dirty::Services(dirty))
    }

    pub fn program_dirty(&mut self, dirty: Dirty) -> Report {
        self.revision += 1;
        let plan = plan(self.revision, &self.services.values().cloned().collect::<Vec<_>>());
        let mut spelling = self.spelling.take().unwrap();
        let (spelling, report) = self.namespace.run(move || {
            let report = spelling.must(&plan, &dirty);
            (spelling, report)
        });
        self.spelling = Some(spelling);
        report
    }

    pub fn table(&mut self) -> &mut S {
        self.spelling.as_mut().unwrap()
    }
}
