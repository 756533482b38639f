//! The tables against the oracle, in memory.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use expect_test::expect;
use model::Key;
use model::types::Protocol;
use proptest::prelude::*;

use super::Dirty;
use super::balancer::{Class, Made};
use super::render::{render, render_changes, render_layout};
use super::set::Set;
use super::shadow::{Chains, Shadow};
use super::trace::Kernel;
use super::walk::Walker;
use crate::plan::{
    Action, At, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Plan, Pool, PoolKey, ServicePlan,
};
use crate::route::{Origin, Packet, Verdict, route};
use crate::testing::{Cluster, arbitrary_service};

mod flow_tests;
mod shadow_tests;

fn endpoints(count: u32) -> Vec<Endpoint> {
    let endpoint = |n: u32| Endpoint {
        address: IpAddr::from((0x0af4_0000 + n).to_be_bytes()),
        port: 8080,
        local: n.is_multiple_of(2),
        share: 1,
    };
    (1..=count).map(endpoint).collect()
}

/// One Service, `10.96.0.1:80/TCP`, with these endpoints.
fn plan_of(revision: u64, endpoints: Vec<Endpoint>, affinity_seconds: Option<u32>) -> Plan {
    let key = PoolKey { family: Family::V4, protocol: Protocol::Tcp, port: 80, local: false };
    let address = IpAddr::from([10, 96, 0, 1]);
    let action = if endpoints.is_empty() { Action::Reject } else { Action::Balance { pool: key, masquerade: false } };
    let pools = if endpoints.is_empty() {
        Vec::new()
    } else {
        vec![Pool { key, method: Method::Chance, affinity_seconds, endpoints }]
    };
    let frontend = Frontend {
        at: At::Address(address),
        protocol: Protocol::Tcp,
        port: 80,
        action,
        inside: None,
        sources: None,
        kind: FrontendKind::ClusterIp,
        limits: Limits::default(),
    };
    let service = ServicePlan { addresses: vec![address], frontends: vec![frontend], pools, ..ServicePlan::default() };
    let node = NodePlan {
        name: "node-1".into(),
        node_port_ranges: vec!["172.31.255.11/32".parse().unwrap()],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        ..NodePlan::default()
    };
    Plan { revision, node, services: [(Key::new("default", "web"), Arc::new(service))].into() }
}

fn web() -> Dirty {
    Dirty::Services(BTreeSet::from([Key::new("default", "web")]))
}

fn packet() -> Packet {
    Packet {
        client: IpAddr::from([172, 31, 255, 100]),
        origin: Origin::Outside,
        destination: IpAddr::from([10, 96, 0, 1]),
        protocol: Protocol::Tcp,
        port: 80,
        here: false,
    }
}

#[test]
fn sets_stand_at_their_own_index() {
    for set in Set::all() {
        assert_eq!(set.spec().set, set);
    }
}

#[test]
fn layout() {
    let text = render_layout(Family::V4);
    let picks = text.find("chain draw-3\n").unwrap();
    let rest = text.find("chain pick-8\n").unwrap();
    let end = text.find("chain pick-16\n").unwrap();
    let last = text.find("chain last").unwrap();
    expect_test::expect_file!["tests/layout.txt"].assert_eq(&format!(
        "{}…\n{}…\n{}",
        &text[..picks],
        &text[rest..end],
        &text[last..]
    ));
}

#[test]
fn rules_and_chains_are_constant() {
    let count = |family| render_layout(family).lines().count();
    // The chain `input` with its three rules is of IPv4 alone.
    assert_eq!(count(Family::V4), count(Family::V6) + 4);
}

#[test]
fn elements_of_a_plan() {
    expect![[r#"
        + ip cluster-ips 10.96.0.1
        + ip draws 1032746 . 0 : #8f6529ff
        + ip draws 1032746 . 1 : #8c4b44dd
        + ip draws 1032746 . 2 : #9087ae7a
        + ip endpoints 1032746 . #8c4b44dd : 10.244.0.2 . 8080
        + ip endpoints 1032746 . #8f6529ff : 10.244.0.1 . 8080
        + ip endpoints 1032746 . #9087ae7a : 10.244.0.3 . 8080
        + ip hairpin 10.244.0.2 . 10.244.0.2
        + ip local-clients 10.244.1.0/24
        + ip node-addresses 172.31.255.11/32
        + ip service-cidrs 10.96.0.0/16
        + ip services 10.96.0.1 . tcp . 80 : pick-3 pool 1032746  # default/web
    "#]]
    .assert_eq(&render(&plan_of(1, endpoints(3), None)).unwrap());
}

fn with_method(mut plan: Plan, method: Method) -> Plan {
    for service in plan.services.values_mut() {
        Arc::make_mut(service).pools.iter_mut().for_each(|pool| pool.method = method);
    }
    plan
}

/// From any method and number of endpoints to any other: turns are exact, and their chains go with them.
#[test]
fn turns_and_hashes_come_and_go() {
    let mut kernel = Kernel::new();
    let mut shadow = Shadow::default();
    let chains = kernel.chain_names().len();
    let steps: &[(u32, Method, Option<u32>)] = &[
        (3, Method::Turns, None),
        (3, Method::Turns, None),
        (5, Method::Turns, None),
        (5, Method::Turns, Some(10)),
        (5, Method::Hash, Some(10)),
        (4, Method::Hash, None),
        (20, Method::Hash, None),
        (20, Method::Chance, None),
        (20, Method::Turns, None),
        (0, Method::Turns, None),
        (2, Method::Turns, None),
        (2, Method::Chance, Some(10)),
    ];
    for (revision, (count, method, seconds)) in (1..).zip(steps) {
        let mut endpoints = endpoints(*count);
        if let Some(first) = endpoints.first_mut() {
            first.share = 3;
        }
        let plan = with_method(plan_of(revision, endpoints, *seconds), *method);
        kernel.apply(&shadow.update(&plan, &Dirty::All).unwrap());
        kernel.check_invariants();
        let turns = kernel.chain_names().iter().filter(|name| name.starts_with("turn-")).count();
        assert_eq!(turns, usize::from(*method == Method::Turns && *count > 0));
        for last in 1..=20 {
            let packet = Packet { client: [172, 31, 255, last].into(), ..packet() };
            let (verdict, probabilities) = kernel.route(&packet);
            let (got, expected) = (tried(&verdict), route(&plan, &packet));
            assert_eq!(got, tried(&expected), "{count} {method:?} {seconds:?}");
            if let Verdict::Endpoints { candidates, .. } = expected {
                let total: u32 = candidates.iter().map(|c| u32::from(c.share)).sum();
                for (candidate, probability) in candidates.iter().zip(probabilities) {
                    let due = f64::from(candidate.share) / f64::from(total);
                    assert!((probability - due).abs() < 0.001, "{count} {method:?}: {probability} for {due}");
                }
            }
        }
    }
    // For the timeout: three chains for clients of turns and tables, two for others.
    assert_eq!(kernel.chain_names().len() - chains, 5);
}

/// Where a packet may go.
fn tried(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Endpoints { candidates, .. } => {
            let mut all: Vec<_> = candidates.iter().map(|c| format!("{} {:?}", c.endpoint, c.source)).collect();
            all.sort();
            all
        }
        other => vec![format!("{other:?}")],
    }
}

/// What a table was found with is used again, and turns that nobody has are removed.
#[test]
fn turns_are_found_again() {
    let plan = with_method(plan_of(1, endpoints(3), Some(10)), Method::Turns);
    let mut first = Shadow::default();
    let changes = first.update(&plan, &Dirty::All).unwrap();
    assert_eq!(changes.chains.len(), 3);
    let found = |size| {
        let made = Made::Turns { action: 70, size, seconds: Some(10) };
        Chains { actions: [((Family::V4, made), 70)].into(), stays: [(Family::V4, 10)].into(), edges: false }
    };
    let changes = Shadow::with_chains(found(3)).update(&plan, &Dirty::All).unwrap();
    assert!(changes.chains.is_empty() && changes.gone.is_empty());
    let changes = Shadow::with_chains(found(4)).update(&plan, &Dirty::All).unwrap();
    assert_eq!(changes.chains.len(), 1);
    assert_eq!(changes.gone, [(Family::V4, "turn-70-of-4-10s".to_owned())]);
}

#[test]
fn names_of_chains_are_read_as_they_are_written() {
    let class = Class::of(12);
    for made in [
        Made::Sticky { class, seconds: 10 },
        Made::Hash { size: 1021, seconds: 3600 },
        Made::Turns { action: 64, size: 5, seconds: None },
        Made::Turns { action: 2047, size: 65_536, seconds: Some(1) },
    ] {
        assert_eq!(Made::parse(&made.name()), Some(made));
    }
    for name in
        ["turn-64-of-05", "turn-64-of-0", "turn-4096-of-1", "hash-1021", "hash-7-10s", "sticky-12-010s", "turn-"]
    {
        assert_eq!(Made::parse(name), None, "{name}");
    }
}

/// Every endpoint is as likely as the other, whatever their number.
#[test]
fn draws_are_uniform() {
    for count in (1..=40).chain([64, 65, 96, 97]) {
        let plan = plan_of(1, endpoints(count), None);
        let mut kernel = Kernel::new();
        kernel.apply(&Shadow::default().update(&plan, &Dirty::All).unwrap());
        let (verdict, probabilities) = kernel.route(&packet());
        assert_eq!(verdict, route(&plan, &packet()), "{count} endpoints");
        for probability in probabilities {
            let share = probability * f64::from(count);
            assert!((share - 1.0).abs() < 0.001, "{count} endpoints: {share}");
        }
    }
}

#[test]
fn classes_hold_their_pools() {
    for count in 1..=crate::plan::MAX_ENDPOINTS {
        let class = Class::of(count);
        assert!(class.size() as usize >= count);
        assert!(class.size() as usize <= (count * 3).div_ceil(2), "a miss is at most one in three: {count}");
    }
}

#[test]
fn a_sticky_client_stays_until_its_endpoint_goes() {
    let mut shadow = Shadow::default();
    let mut kernel = Kernel::new();
    let plan = plan_of(1, endpoints(20), Some(60));
    let changes = shadow.update(&plan, &Dirty::All).unwrap();
    assert!(render_changes(&changes).contains("+ ip balancers 64 : goto sticky-24-60s"));
    kernel.apply(&changes);
    kernel.remember(packet().client, "10.244.0.7:8080".parse().unwrap());
    let (verdict, _) = kernel.route(&packet());
    let Verdict::Endpoints { candidates, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].endpoint, "10.244.0.7:8080".parse().unwrap());

    // When no more clients can be remembered, new ones are balanced all the same.
    kernel.affinity_full = true;
    let stranger = Packet { client: IpAddr::from([172, 31, 255, 101]), ..packet() };
    let (verdict, _) = kernel.route(&stranger);
    let Verdict::Endpoints { candidates, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(candidates.len(), 20);
    kernel.affinity_full = false;

    let mut rest = endpoints(20);
    rest.remove(6);
    let plan = plan_of(2, rest, Some(60));
    kernel.apply(&shadow.update(&plan, &web()).unwrap());
    let (verdict, _) = kernel.route(&packet());
    let Verdict::Endpoints { candidates, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(candidates.len(), 19);
}

/// One chain per size class and timeout, however many Services.
#[test]
fn sticky_chains_are_shared() {
    let mut plan = plan_of(1, endpoints(3), Some(60));
    let service = plan.services[&Key::new("default", "web")].clone();
    for n in 2..50u8 {
        let mut other = (*service).clone();
        other.addresses = vec![IpAddr::from([10, 96, 0, n])];
        other.frontends[0].at = At::Address(other.addresses[0]);
        plan.services.insert(Key::new("default", &format!("web-{n}")), Arc::new(other));
    }
    assert_eq!(Shadow::default().update(&plan, &Dirty::All).unwrap().chains.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However the cluster changes, what is written step by step does what the oracle says.
    #[test]
    fn tables_follow_the_oracle(steps in prop::collection::vec((0..4usize, prop::option::weighted(0.85, arbitrary_service())), 1..10)) {
        let mut cluster = Cluster::new();
        let mut shadow = Shadow::default();
        let mut kernel = Kernel::new();
        for (step, (index, service)) in steps.into_iter().enumerate() {
            let key = cluster.set(index, service);
            let plan = cluster.plan();
            let dirty = if step % 4 == 3 { Dirty::All } else { Dirty::Services(BTreeSet::from([key])) };
            let changes = shadow.update(&plan, &dirty).unwrap();
            kernel.apply(&changes);
            kernel.check_invariants();
            // Some of the packets after each step: together, every one of them often.
            for packet in cluster.packets(&plan).into_iter().skip(step % 5).step_by(5) {
                let mut expected = route(&plan, &packet);
                let mut shares = Vec::new();
                if let Verdict::Endpoints { candidates, affinity_seconds } = &mut expected {
                    candidates.sort_unstable();
                    shares = candidates.iter().map(|c| f64::from(c.share)).collect();
                    candidates.iter_mut().for_each(|c| c.share = 1);
                    *affinity_seconds = None;
                }
                let (verdict, probabilities) = kernel.route(&packet);
                prop_assert_eq!(verdict, expected, "{:?}", packet);
                let total: f64 = shares.iter().sum();
                for (share, probability) in shares.iter().zip(probabilities) {
                    prop_assert!((share / total - probability).abs() < 0.001, "{} of {}: {}", share, total, probability);
                }
            }
            prop_assert!(shadow.update(&plan, &Dirty::All).unwrap().is_empty());
        }
        // Nothing is left when everything is gone.
        let empty = Plan { revision: u64::MAX, ..Plan::default() };
        kernel.apply(&shadow.update(&empty, &Dirty::All).unwrap());
        for set in Set::all() {
            for family in Family::ALL {
                prop_assert_eq!(kernel.count(set, family), 0, "{}", set.name());
            }
        }
    }
}
