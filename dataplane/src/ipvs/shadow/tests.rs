//! Changes of one Service come to what all Services at once do.

use proptest::prelude::*;

use super::*;
use crate::flow_table;
use crate::testing::{Cluster, arbitrary_service};
use crate::{Local, compile};

fn machine() -> BTreeSet<IpAddr> {
    ["172.31.255.11", "fd00:31::11", "192.0.2.1"].iter().map(|a| a.parse().unwrap()).collect()
}

fn apply(changes: &Changes, servers: &mut BTreeMap<Place, Server>, elements: &mut BTreeSet<Element>) {
    for (place, server) in &changes.servers {
        match server {
            Some(server) => assert_ne!(servers.insert(*place, server.clone()).as_ref(), Some(server)),
            None => assert!(servers.remove(place).is_some()),
        }
    }
    for element in &changes.removed {
        assert!(elements.remove(element), "{element:?}");
    }
    for element in &changes.added {
        assert!(elements.insert(*element), "{element:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_are_changes_at_once(
        steps in prop::collection::vec((0..5usize, prop::option::weighted(0.8, arbitrary_service())), 1..12),
    ) {
        let mut cluster = Cluster::new();
        let mut shadow = Shadow::default();
        let (mut servers, mut elements) = (BTreeMap::new(), BTreeSet::new());
        for (index, spec) in steps {
            let key = cluster.set(index, spec);
            let plan = cluster.plan();
            let dirty = Dirty::Services([key].into());
            let changes = shadow.update(&plan, &machine(), Scheduler::RoundRobin, &dirty);
            apply(&changes, &mut servers, &mut elements);
            let mut fresh = Shadow::default();
            let whole = fresh.update(&plan, &machine(), Scheduler::RoundRobin, &Dirty::All);
            let (mut all_servers, mut all_elements) = (BTreeMap::new(), BTreeSet::new());
            apply(&whole, &mut all_servers, &mut all_elements);
            prop_assert_eq!(&servers, &all_servers);
            prop_assert_eq!(&elements, &all_elements);
            prop_assert_eq!(shadow.servers().map(|(p, s)| (p, s.clone())).collect::<BTreeMap<_, _>>(), all_servers);
        }
        let nothing = Plan { node: crate::plan::NodePlan::default(), ..Plan::default() };
        apply(&shadow.update(&nothing, &machine(), Scheduler::RoundRobin, &Dirty::All), &mut servers, &mut elements);
        prop_assert!(servers.is_empty() && elements.is_empty());
    }
}

#[test]
fn a_change_of_the_machine_concerns_all() {
    let plan = compile(&flow_table::snapshot(), &flow_table::local());
    let mut shadow = Shadow::default();
    shadow.update(&plan, &machine(), Scheduler::RoundRobin, &Dirty::All);
    let nobody = Dirty::Services(BTreeSet::new());
    assert!(shadow.update(&plan, &machine(), Scheduler::RoundRobin, &nobody).is_empty());
    let changes = shadow.update(&plan, &machine(), Scheduler::LeastConnections, &nobody);
    assert!(changes.added.is_empty() && changes.removed.is_empty());
    assert!(changes.servers.values().all(|s| s.as_ref().unwrap().scheduler == Scheduler::LeastConnections));
    let node_port: Place = Place::new("172.31.255.11".parse().unwrap(), model::types::Protocol::Tcp, 30_160);
    assert!(shadow.server(&node_port).is_some());
    let changes = shadow.update(&plan, &BTreeSet::new(), Scheduler::LeastConnections, &nobody);
    assert_eq!(changes.servers.get(&node_port), Some(&None));
    assert!(
        changes.added.contains(&Element { set: Set::Addresses, entry: Entry::Address("192.0.2.1".parse().unwrap()) })
    );
}

#[test]
fn shares_that_differ_need_weights_and_a_choice_is_a_choice() {
    let mut cluster = Cluster::new();
    let mut spec = crate::testing::ServiceSpec {
        internal_local: false,
        external_local: false,
        affinity: Some(60),
        node_port: false,
        external_ip: false,
        load_balancer: None,
        foreign: false,
        dns: false,
        families: vec![crate::Family::V4],
        endpoints: Vec::new(),
    };
    let state = crate::testing::State::Ready;
    for (host, weight) in [(2, 100), (3, 50)] {
        spec.endpoints.push(crate::testing::EndpointSpec { host, local: false, state, weight });
    }
    let key = cluster.set(0, Some(spec));
    let place = Place::new("10.96.0.1".parse().unwrap(), model::types::Protocol::Tcp, 80);
    let server = |cluster: &Cluster, default| {
        let mut shadow = Shadow::default();
        shadow.update(&compile(&cluster.snapshot, &Local::new("node-1")), &machine(), default, &Dirty::All);
        shadow.server(&place).cloned().unwrap()
    };
    let found = server(&cluster, Scheduler::RoundRobin);
    assert_eq!((found.scheduler, found.persistence_seconds), (Scheduler::WeightedRoundRobin, Some(60)));
    assert_eq!(found.destinations.values().copied().collect::<Vec<_>>(), [2, 1]);
    assert_eq!(server(&cluster, Scheduler::SourceHashing).scheduler, Scheduler::SourceHashing);
    let service = Arc::make_mut(cluster.snapshot.services.get_mut(&key).unwrap());
    service.metadata.annotations.insert(model::service::scheduler::SCHEDULER.into(), "rr".into());
    assert_eq!(server(&cluster, Scheduler::SourceHashing).scheduler, Scheduler::RoundRobin);
}
