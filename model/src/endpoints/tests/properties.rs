//! Whatever happens to the Pods, the slices say what a linear scan of them says, at the price of few writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::endpoints::weights::{FULL, WEIGHT, WEIGHTS};

/// What can happen to the Pod with a number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Come,
    Go,
    TurnReady,
    TurnUnready,
    Terminate,
    Finish,
    Move,
    Renumber,
    LosePort,
    LoseSecondAddress,
    Weigh(u8),
    /// To the Node that has fallen silent.
    Strand,
}

const STEPS: [Step; 14] = [
    Step::Come,
    Step::Go,
    Step::TurnReady,
    Step::TurnUnready,
    Step::Terminate,
    Step::Finish,
    Step::Move,
    Step::Renumber,
    Step::LosePort,
    Step::LoseSecondAddress,
    Step::Weigh(0),
    Step::Weigh(50),
    Step::Weigh(FULL),
    Step::Strand,
];

type Pods = BTreeMap<u32, Pod>;

fn step(pods: &mut Pods, number: u32, step: Step) {
    let name = format!("p{number:04}");
    if let Step::Come = step {
        pods.entry(number).or_insert_with(|| pod(&name, number));
    }
    if let Step::Go = step {
        pods.remove(&number);
    }
    let Some(pod) = pods.get_mut(&number) else { return };
    match step {
        Step::TurnReady => pod.status.conditions[0].status = "True".into(),
        Step::TurnUnready => unready(pod),
        Step::Terminate => pod.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into()),
        Step::Finish => pod.status.phase = "Succeeded".into(),
        Step::Move => pod.spec.node_name = "node-2".into(),
        Step::Renumber => pod.spec.containers[0].ports[0].container_port = 8081,
        Step::LosePort => pod.spec.containers[0].ports[0].name.clear(),
        Step::LoseSecondAddress => pod.status.pod_ips.truncate(1),
        Step::Strand => pod.spec.node_name = "node-3".into(),
        Step::Weigh(weight) => _ = pod.metadata.annotations.insert(WEIGHT.into(), weight.to_string()),
        Step::Come | Step::Go => {}
    }
}

fn any_service() -> impl Strategy<Value = Service> {
    let distribution = prop::sample::select(vec![None, Some("PreferClose"), Some("PreferSameNode")]);
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), distribution).prop_map(
        |(dual, named, publish, headless, distribution)| {
            let target = if named { json!("http") } else { json!(8080) };
            let address = if headless { "None" } else { "10.96.0.1" };
            service(json!({
                "ipFamilies": if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv6"]) },
                "ports": [
                    {"name": "http", "port": 80, "protocol": "TCP", "targetPort": target},
                    {"name": "x", "port": 81, "protocol": "UDP", "targetPort": 81},
                ],
                "trafficDistribution": distribution,
                "publishNotReadyAddresses": publish, "clusterIP": address, "clusterIPs": [address],
            }))
        },
    )
}

/// An endpoint in words: family, ports, address, Pod, conditions, place, weight and hints.
type Fact = (String, String, String, String, [bool; 3], String);

fn scan(service: &Service, pods: &Pods) -> BTreeSet<Fact> {
    let mut facts = BTreeSet::new();
    for pod in pods.values().filter(|p| p.status.phase == "Running") {
        let port = &pod.spec.containers[0].ports[0];
        let named = matches!(service.spec.ports[0].target_port, Some(crate::types::IntOrString::String(_)));
        let http = match (named, port.name.as_str()) {
            (true, "http") => format!("http:{} ", port.container_port),
            (true, _) => String::new(),
            (false, _) => "http:8080 ".to_owned(),
        };
        let ready = pod.status.conditions[0].status == "True" && pod.spec.node_name != "node-3";
        let going = pod.metadata.deletion_timestamp.is_some();
        let conditions = [service.spec.publish_not_ready_addresses || (ready && !going), ready, going];
        let zone = match pod.spec.node_name.as_str() {
            "node-1" => "a",
            "node-2" => "b",
            _ => "c",
        };
        for ip in &pod.status.pod_ips {
            let family = if ip.ip.parse::<IpAddr>().unwrap().is_ipv4() { "IPv4" } else { "IPv6" };
            if service.spec.ip_families.iter().any(|f| f == family) {
                let ports = format!("{http}x:81 ");
                let weight = pod.metadata.annotations.get(WEIGHT).map_or("100", String::as_str);
                let hints = match service.spec.traffic_distribution.as_deref().filter(|_| conditions[0]) {
                    None => String::new(),
                    Some("PreferClose") => format!("~{zone}"),
                    Some(_) => format!("={}~{zone}", pod.spec.node_name),
                };
                let place = format!("{}/{zone} {weight} {hints}", pod.spec.node_name);
                facts.insert((family.into(), ports, ip.ip.clone(), pod.metadata.uid().into(), conditions, place));
            }
        }
    }
    facts
}

fn said(slices: &Slices) -> Vec<Fact> {
    let mut facts = Vec::new();
    for slice in slices.by_name.values() {
        let ports: String =
            slice.ports.iter().map(|p| format!("{}:{} ", p.name.as_deref().unwrap(), p.port.unwrap())).collect();
        let weights = slice.metadata.annotations.get(WEIGHTS);
        let mut weights = weights.map(|text| weights::parse(text).unwrap()).unwrap_or_default();
        for endpoint in &slice.endpoints {
            let weight = weights.remove(&endpoint.addresses[0].parse().unwrap()).unwrap_or(FULL);
            let c = endpoint.conditions;
            let hints = endpoint.hints.clone().unwrap_or_default();
            let nodes = hints.for_nodes.iter().map(|node| format!("={}", node.name));
            let hints: String = nodes.chain(hints.for_zones.iter().map(|zone| format!("~{}", zone.name))).collect();
            facts.push((
                slice.address_type.clone(),
                ports.clone(),
                endpoint.addresses[0].clone(),
                endpoint.target_ref.as_ref().unwrap().uid.clone().unwrap(),
                [c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap()],
                format!(
                    "{}/{} {weight} {hints}",
                    endpoint.node_name.as_deref().unwrap(),
                    endpoint.zone.as_deref().unwrap()
                ),
            ));
        }
        assert_eq!(weights, BTreeMap::new(), "weights of addresses that the slice does not have");
    }
    facts.sort();
    facts
}

/// The Pods of each slice in their order.
fn places(slices: &Slices) -> BTreeMap<String, Vec<String>> {
    let name = |endpoint: &Endpoint| endpoint.target_ref.as_ref().unwrap().name.clone().unwrap();
    slices.by_name.iter().map(|(key, slice)| (key.clone(), slice.endpoints.iter().map(name).collect())).collect()
}

fn check(service: &Service, pods: &Pods, slices: &Slices) -> Result<(), TestCaseError> {
    prop_assert_eq!(said(slices), scan(service, pods).into_iter().collect::<Vec<_>>());
    for slice in slices.by_name.values() {
        prop_assert!(slice.endpoints.len() <= MAX_ENDPOINTS_PER_SLICE);
        let family = |f: &String| slices.by_name.values().filter(|s| s.address_type == *f).count();
        prop_assert!(!slice.endpoints.is_empty() || family(&slice.address_type) == 1, "an empty slice beside others");
    }
    for family in &service.spec.ip_families {
        prop_assert!(slices.by_name.values().any(|s| s.address_type == *family), "no slice of {family}");
    }
    Ok(())
}

fn list(pods: &Pods) -> Vec<Pod> {
    pods.values().cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn slices_follow_pods_at_the_price_of_one_write_a_family(
        service in any_service(),
        start in 0u32..230,
        steps in prop::collection::vec((0u32..240, prop::sample::select(STEPS.to_vec())), 1..25),
    ) {
        let mut pods: Pods = (0..start).map(|n| (n, pod(&format!("p{n:04}"), n))).collect();
        let mut slices = Slices::default();
        slices.derive(&service, &list(&pods));
        check(&service, &pods, &slices)?;
        for (number, what) in steps {
            let before = places(&slices);
            step(&mut pods, number, what);
            let changes = slices.derive(&service, &list(&pods));
            check(&service, &pods, &slices)?;
            prop_assert_eq!(slices.derive(&service, &list(&pods)), vec![]);

            for family in ["IPv4", "IPv6"] {
                let of = |slice: &&EndpointSlice| slice.address_type == family;
                let created = changes.iter().filter_map(|c| match c { SliceChange::Create(s) => Some(s), _ => None });
                let updated = changes.iter().filter_map(|c| match c { SliceChange::Update(s) => Some(s), _ => None });
                // Another set of ports is another slice: one to leave and one to enter.
                let most = if matches!(what, Step::Renumber | Step::LosePort) { 2 } else { 1 };
                prop_assert!(created.filter(of).count() + updated.filter(of).count() <= most);
            }
            let deleted = changes.iter().filter(|c| matches!(c, SliceChange::Delete { .. })).count();
            prop_assert!(deleted <= 2, "one of each family at most");

            // Every other Pod stays in its slice, in the same order.
            let other = |names: &[String]| {
                let own = format!("p{number:04}");
                names.iter().filter(|n| **n != own).cloned().collect::<Vec<_>>()
            };
            let after = places(&slices);
            for (name, names) in &before {
                let now = after.get(name).map(|names| other(names)).unwrap_or_default();
                prop_assert_eq!(other(names), now);
            }
        }
    }

    #[test]
    fn any_jump_between_sets_is_followed(
        service in any_service(),
        sets in prop::collection::vec(prop::collection::btree_set(0u32..300, 0..260), 1..6),
    ) {
        let mut slices = Slices::default();
        for set in sets {
            let pods: Pods = set.into_iter().map(|n| (n, pod(&format!("p{n:04}"), n))).collect();
            let mut backwards = list(&pods);
            backwards.reverse();
            let mut other = slices.clone();
            slices.derive(&service, &list(&pods));
            other.derive(&service, &backwards);
            prop_assert_eq!(&other.by_name, &slices.by_name, "the order of the Pods makes a difference");
            check(&service, &pods, &slices)?;
            prop_assert_eq!(slices.derive(&service, &list(&pods)), vec![]);
        }
    }

    #[test]
    fn an_allocation_to_zones_costs_few_writes(
        cpus in (1u64..9, 1u64..9),
        start in 0u32..230,
        steps in prop::collection::vec((0u32..240, prop::sample::select(STEPS.to_vec())), 1..25),
    ) {
        let mut auto = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
        auto.metadata.annotations.insert(hints::TOPOLOGY_MODE.into(), "Auto".into());
        let mut nodes = nodes();
        for (node, cpu) in nodes.values_mut().zip([cpus.0, cpus.1]) {
            node.status.allocatable.cpu_milli = cpu * 1000;
            node.status.conditions = vec![NodeCondition { type_: "Ready".into(), status: "True".into(), ..NodeCondition::default() }];
        }
        let mut pods: Pods = (0..start).map(|n| (n, pod(&format!("p{n:04}"), n))).collect();
        let mut slices = Slices::default();
        slices.derive_on(&nodes, &auto, &list(&pods), None);
        for (number, what) in steps {
            let on = |slices: &Slices| -> Vec<bool> { slices.allocated.iter().map(|a| a.outcome.is_ok()).collect() };
            let before = on(&slices);
            step(&mut pods, number, what);
            let changes = slices.derive_on(&nodes, &auto, &list(&pods), None);
            let after = on(&slices);
            prop_assert_eq!(slices.derive_on(&nodes, &auto, &list(&pods), None), vec![]);
            for (at, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
                let of_family = slices.by_name.values().filter(|slice| slice.address_type == family);
                let endpoints: Vec<&Endpoint> = of_family.clone().flat_map(|slice| &slice.endpoints).collect();
                let ready = |endpoint: &&&Endpoint| endpoint.conditions.ready == Some(true);
                let hinted = endpoints.iter().filter(|endpoint| endpoint.hints.is_some()).count();
                prop_assert_eq!(hinted, if after[at] { endpoints.iter().filter(ready).count() } else { 0 });
                prop_assert!(endpoints.iter().all(|endpoint| endpoint.hints.is_none() || ready(&endpoint)));
                let written = changes.iter().filter(|change| {
                    let (SliceChange::Create(slice) | SliceChange::Update(slice)) = change else { return false };
                    slice.address_type == family
                });
                if before[at] == after[at] {
                    // One to leave, one to enter, one for each zone.
                    prop_assert!(written.count() <= 2 + 2);
                }
            }
        }
    }
}
