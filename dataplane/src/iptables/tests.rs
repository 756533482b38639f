//! Plans against the rules that are made of them, in memory: written as text, read back, and walked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Key;
use model::types::Protocol;
use proptest::prelude::*;

use super::spelling::Spelling;
use crate::compile_node;
use crate::plan::*;
use crate::program::Dirty;
use crate::route::{Candidate, Origin, Packet, Verdict, route};
use crate::testing::{Cluster, arbitrary_service};
use crate::xtables::shadow::Written;
use crate::xtables::walk::{Nothing, Walker};
use crate::xtables::{Changes, Ruleset, Shadow};

mod flow_tests;

/// What the kernel would have, and a spelling that knows it.
#[derive(Default)]
struct Kernel {
    spelling: Spelling,
    shadow: Shadow,
}

impl Kernel {
    /// Returns how many chains were written or removed.
    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> usize {
        let updated = self.spelling.update(plan, dirty);
        let mut changes = updated.changes;
        if updated.whole {
            changes.complete(&self.shadow);
        }
        changes.reduce(&self.shadow);
        leads_nowhere(&changes, &self.shadow);
        let count = changes.batches(&self.shadow).iter().map(|batch| batch.written + batch.gone).sum();
        self.shadow.apply(changes);
        count
    }

    fn fresh(plan: &Plan) -> Self {
        let mut kernel = Self::default();
        kernel.program(plan, &Dirty::All);
        kernel
    }

    fn rules(&self) -> Ruleset {
        self.shadow.rules().unwrap()
    }
}

/// No kernel takes a rule that leads to a chain which is not there.
fn leads_nowhere(changes: &Changes, before: &Shadow) {
    let mut after = before.clone();
    after.apply(changes.clone());
    for (place, Written { chains, jumps }) in &after.tables {
        let lines = chains.values().flat_map(|body| body.lines()).chain(jumps.iter().map(|(_, line)| line.as_str()));
        for line in lines {
            let target = line.rsplit(' ').next().unwrap();
            assert!(!target.starts_with("PORTOLAN-") || chains.contains_key(target), "{place:?}: {line}");
        }
    }
}

fn check(rules: &Ruleset, plan: &Plan, packet: &Packet) -> Result<(), String> {
    let oracle = route(plan, packet);
    let way = Walker::new(rules, &Nothing).walk(packet).map_err(|e| format!("{packet:?}: {e}"))?;
    let same = match (&oracle, &way.verdict) {
        (
            Verdict::Endpoints { candidates: wanted, affinity_seconds: seconds },
            Verdict::Endpoints { candidates, affinity_seconds },
        ) => {
            let mut parts: BTreeMap<Candidate, f64> = BTreeMap::new();
            let all: f64 = wanted.iter().map(|c| f64::from(c.share)).sum();
            for candidate in wanted {
                *parts.entry(Candidate { share: 1, ..*candidate }).or_default() += f64::from(candidate.share) / all;
            }
            let near =
                |((c, want), (d, have)): ((&Candidate, &f64), (&Candidate, &f64))| c == d && (want - have).abs() < 1e-6;
            parts.len() == candidates.len()
                && parts.iter().zip(candidates.iter().zip(&way.probabilities)).all(near)
                && seconds == affinity_seconds
        }
        (oracle, verdict) => oracle == verdict,
    };
    if same { Ok(()) } else { Err(format!("{packet:?}: oracle {oracle:?}, rules {way:?}")) }
}

#[test]
fn the_chains_of_a_small_cluster() {
    let mut cluster = Cluster::new();
    let spec = |yaml: &str| {
        let mut spec = crate::testing::ServiceSpec {
            internal_local: false,
            external_local: false,
            affinity: None,
            node_port: false,
            external_ip: false,
            load_balancer: None,
            foreign: false,
            dns: false,
            families: vec![Family::V4],
            endpoints: Vec::new(),
        };
        for word in yaml.split_whitespace() {
            let endpoint = |host, local| crate::testing::EndpointSpec {
                host,
                local,
                state: crate::testing::State::Ready,
                weight: 100,
            };
            match word {
                "dns" => spec.dns = true,
                "node-port" => spec.node_port = true,
                "local" => spec.external_local = true,
                "sticky" => spec.affinity = Some(10_800),
                "ranges" => spec.load_balancer = Some(1),
                "foreign" => spec.foreign = true,
                "here" => spec.endpoints.push(endpoint(2, true)),
                "there" => spec.endpoints.push(endpoint(3, false)),
                word => panic!("{word}"),
            }
        }
        Some(spec)
    };
    cluster.set(0, spec("dns here there"));
    cluster.set(1, spec("node-port local here there"));
    cluster.set(2, spec("sticky there"));
    cluster.set(3, spec("ranges there"));
    cluster.set(4, spec(""));
    cluster.set(5, spec("foreign"));
    let mut plan = cluster.plan();
    plan.node.edges = vec![EdgeNeighbor { mac: [2, 0, 0, 0, 0, 7], number: 3 }];
    let kernel = Kernel::fresh(&plan);
    let batches = kernel.shadow.mend(&Shadow::default()).batches(&Shadow::default());
    let texts: Vec<String> = batches.into_iter().filter(|b| b.family == Family::V4).map(|b| b.text).collect();
    expect_test::expect_file!["tests/chains.txt"].assert_eq(&texts.join(""));
}

#[test]
fn a_change_writes_what_it_is_about() {
    let mut plan = large(1000);
    let mut kernel = Kernel::fresh(&plan);
    let key = Key::new("default", "service-500");
    let service = Arc::make_mut(plan.services.get_mut(&key).unwrap());
    service.pools[0].endpoints.remove(3);
    assert_eq!(kernel.program(&plan, &Dirty::Services([key.clone()].into())), 1, "the pool's chain");
    assert_eq!(kernel.program(&plan, &Dirty::All), 0);
    // Its own chains, and the chain of the tree in which its address stands.
    plan.services.remove(&key);
    assert_eq!(kernel.program(&plan, &Dirty::Services([key].into())), 2);
    assert_eq!(kernel.shadow, Kernel::fresh(&plan).shadow);
}

/// So many Services with ten endpoints each, all elsewhere.
fn large(count: u32) -> Plan {
    let mut plan = Plan::default();
    plan.node.service_cidrs = vec!["10.96.0.0/12".parse().unwrap()];
    for number in 0..count {
        let address = std::net::Ipv4Addr::from(0x0a60_0001 + number).into();
        let key = PoolKey { family: Family::V4, protocol: Protocol::Tcp, port: 80, local: false };
        let endpoint = |n: u32| Endpoint {
            address: std::net::Ipv4Addr::from(0x0a80_0000 + number * 10 + n).into(),
            port: 8080,
            local: false,
            share: 1,
        };
        let pool =
            Pool { key, method: Method::Chance, affinity_seconds: None, endpoints: (0..10).map(endpoint).collect() };
        let frontend = Frontend {
            at: At::Address(address),
            protocol: Protocol::Tcp,
            port: 80,
            action: Action::Balance { pool: key, masquerade: false },
            inside: None,
            sources: None,
            kind: FrontendKind::ClusterIp,
            limits: Limits::default(),
        };
        let service = ServicePlan {
            addresses: vec![address],
            frontends: vec![frontend],
            pools: vec![pool],
            ..ServicePlan::default()
        };
        plan.services.insert(Key::new("default", &format!("service-{number}")), Arc::new(service));
    }
    plan
}

#[test]
fn what_rules_cannot_say() {
    let mut plan = large(1);
    let service = Arc::make_mut(plan.services.values_mut().next().unwrap());
    assert_eq!(super::service::refusal(service), None);
    service.pools[0].method = Method::Turns;
    assert_eq!(super::service::refusal(service), None);
    service.pools[0].endpoints[0].share = 2_000;
    assert!(super::service::refusal(service).unwrap().contains("turns"));
    service.pools[0].method = Method::Hash;
    assert!(super::service::refusal(service).unwrap().contains("client's address"));
    service.pools[0].method = Method::Chance;
    service.frontends[0].limits.connections_per_second = Some(1);
    assert!(super::service::refusal(service).unwrap().contains("limits"));
    service.frontends[0].limits = Limits::default();
    service.echo = true;
    assert!(super::service::refusal(service).unwrap().contains("pings"));
}

/// In turn: each of as many connections in a row as there are shares has its own endpoint.
#[test]
fn turns_are_counted() {
    let mut plan = large(1);
    let service = Arc::make_mut(plan.services.values_mut().next().unwrap());
    service.pools[0].method = Method::Turns;
    service.pools[0].endpoints.truncate(3);
    service.pools[0].endpoints[1].share = 2;
    let rules = Kernel::fresh(&plan).rules();
    let packet = Packet {
        client: "192.0.2.1".parse().unwrap(),
        origin: Origin::Outside,
        destination: "10.96.0.1".parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 80,
        here: false,
    };
    check(&rules, &plan, &packet).unwrap();
    let chains = &rules.tables[&(Family::V4, crate::xtables::Table::Nat)];
    let pool = chains.iter().find(|(name, _)| name.starts_with("PORTOLAN-SVC-")).unwrap().1;
    // As xt_statistic counts: a rule with `packet` p begins there and fits when it has come round.
    let mut counters: Vec<u32> = pool.iter().map(|_| 0).collect();
    for (counter, rule) in counters.iter_mut().zip(pool) {
        if let Some(crate::xtables::Match::Turn { packet, .. }) = rule.matches.last() {
            *counter = *packet;
        }
    }
    let mut hits = Vec::new();
    for _ in 0..8 {
        for (counter, rule) in counters.iter_mut().zip(pool) {
            if let Some(crate::xtables::Match::Turn { every, .. }) = rule.matches.last() {
                *counter = (*counter + 1) % every;
                if *counter != 0 {
                    continue;
                }
            }
            hits.push(rule.target.clone());
            break;
        }
    }
    for round in hits.chunks(4) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        round.iter().for_each(|target| *seen.entry(format!("{target:?}")).or_default() += 1);
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [1, 2, 1]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to a small cluster, the chains are those of one that was written from nothing, and packets go where
    /// the oracle says.
    #[test]
    fn step_by_step_is_as_at_once(
        steps in prop::collection::vec((0..20usize, prop::option::weighted(0.85, arbitrary_service()), any::<bool>()), 1..40)
    ) {
        let mut cluster = Cluster::new();
        let mut kernel = Kernel::default();
        let mut plan = cluster.plan();
        for (index, spec, all) in steps {
            let key = cluster.set(index, spec);
            plan = cluster.plan();
            plan.node = compile_node(&cluster.snapshot, &cluster.local);
            let dirty = if all { Dirty::All } else { Dirty::Services(BTreeSet::from([key])) };
            kernel.program(&plan, &dirty);
        }
        prop_assert_eq!(&kernel.shadow, &Kernel::fresh(&plan).shadow);
        let rules = kernel.rules();
        for packet in cluster.packets(&plan) {
            if let Err(text) = check(&rules, &plan, &packet) {
                return Err(TestCaseError::fail(text));
            }
        }
    }
}
