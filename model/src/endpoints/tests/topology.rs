//! Hints in derived slices.

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::endpoints::hints::{NoHints, TOPOLOGY_MODE};

/// Nodes by name and zone, of two CPUs each; no zone for an empty name.
fn nodes_of(zones: &[(&str, &str)]) -> BTreeMap<String, Node> {
    let node = |zone: &str| {
        let labels = if zone.is_empty() { json!({}) } else { json!({ZONE: zone}) };
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let status = json!({"allocatable": {"cpu": "2"}, "conditions": ready});
        serde_json::from_value(json!({"metadata": {"labels": labels}, "status": status})).unwrap()
    };
    zones.iter().map(|(name, zone)| ((*name).to_owned(), node(zone))).collect()
}

fn pod_on(name: &str, n: u32, node: &str) -> Pod {
    let mut pod = pod(name, n);
    pod.spec.node_name = node.into();
    pod
}

/// Each slice in a line: the hints of each Pod.
fn hints_of(slices: &Slices) -> String {
    let mut text = String::new();
    for slice in slices.by_name.values() {
        text += slice.metadata.name();
        for endpoint in &slice.endpoints {
            text += &format!(" {}", endpoint.target_ref.as_ref().unwrap().name.as_deref().unwrap());
            if let Some(hints) = &endpoint.hints {
                let nodes = hints.for_nodes.iter().map(|node| format!("={}", node.name));
                text += &nodes.chain(hints.for_zones.iter().map(|zone| format!("~{}", zone.name))).collect::<String>();
            }
        }
        text += "\n";
    }
    text
}

#[test]
fn distribution_hints_at_the_own_zone_and_node_of_what_is_ready() {
    let nodes = nodes_of(&[("n1", "a"), ("n2", "b"), ("n3", "")]);
    let mut going = pod_on("d", 4, "n1");
    going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
    let mut waiting = pod_on("e", 5, "n2");
    unready(&mut waiting);
    let pods = [pod_on("a", 1, "n1"), pod_on("b", 2, "n2"), pod_on("c", 3, "n3"), going, waiting, pod_on("f", 6, "")];
    let mut slices = Slices::default();
    let mut text = String::new();
    for distribution in [json!("PreferClose"), json!("PreferSameZone"), json!("PreferSameNode"), json!(null)] {
        let service = service(json!({"trafficDistribution": distribution}));
        let changes = slices.derive_on(&nodes, &service, &pods, None).len();
        text += &format!("{distribution}: {changes} written: {}", hints_of(&slices));
        assert_eq!(slices.derive_on(&nodes, &service, &pods, None), []);
        assert_eq!(slices.allocated, []);
    }
    let published = service(json!({"trafficDistribution": "PreferClose", "publishNotReadyAddresses": true}));
    slices.derive_on(&nodes, &published, &pods, None);
    text += &format!("published: {}", hints_of(&slices));
    expect![[r#"
        "PreferClose": 1 written: web-00001 a~a b~b c d e f
        "PreferSameZone": 0 written: web-00001 a~a b~b c d e f
        "PreferSameNode": 1 written: web-00001 a=n1~a b=n2~b c=n3 d e f
        null: 1 written: web-00001 a b c d e f
        published: web-00001 a~a b~b c d~a e~b f
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_somebody_wrote_into_hints_is_undone() {
    let nodes = nodes_of(&[("n1", "a")]);
    let close = service(json!({"trafficDistribution": "PreferClose"}));
    let pods = [pod_on("a", 1, "n1")];
    let mut slices = Slices::default();
    slices.derive_on(&nodes, &close, &pods, None);
    let right = slices.by_name.clone();
    let wrong = [
        json!(null),
        json!({}),
        json!({"forZones": [{"name": "b"}]}),
        json!({"forZones": [{"name": "a"}, {"name": "b"}]}),
        json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}),
    ];
    for hints in wrong {
        slices.by_name.get_mut("web-00001").unwrap().endpoints[0].hints = serde_json::from_value(hints).unwrap();
        assert_eq!(slices.derive_on(&nodes, &close, &pods, None).len(), 1);
        assert_eq!(slices.by_name["web-00001"].endpoints, right["web-00001"].endpoints);
    }
}

#[test]
fn the_zone_of_a_node_changes_the_slices_that_hold_its_pods() {
    let close = service(json!({"trafficDistribution": "PreferClose"}));
    let mut slices = Slices::default();
    let pods: Vec<Pod> =
        (1..=150).map(|n| pod_on(&format!("p{n:03}"), n, if n <= 100 { "n1" } else { "n2" })).collect();
    slices.derive_on(&nodes_of(&[("n1", "a"), ("n2", "b")]), &close, &pods, None);
    let changes = slices.derive_on(&nodes_of(&[("n1", "a"), ("n2", "c")]), &close, &pods, None);
    assert_eq!(changes.iter().map(SliceChange::name).collect::<Vec<_>>(), ["web-00002"]);
}

fn auto() -> Service {
    let mut auto = service(json!({"trafficDistribution": "PreferSameNode"}));
    auto.metadata.annotations.insert(TOPOLOGY_MODE.into(), "Auto".into());
    auto
}

#[test]
fn auto_allocates_to_zones_or_gives_no_hints() {
    let nodes = nodes_of(&[("n1", "a"), ("n2", "b")]);
    let auto = auto();
    let mut slices = Slices::default();
    let mut text = String::new();
    let mut step = |what: &str, nodes: &BTreeMap<String, Node>, pods: &[Pod]| {
        slices.derive_on(nodes, &auto, pods, None);
        let [allocated] = slices.allocated.as_slice() else { panic!("one family") };
        let outcome = allocated.outcome.as_ref().map_or_else(NoHints::to_string, |()| "allocated".to_owned());
        text += &format!("{what}: {} → {outcome}\n  {}", allocated.had_hints, hints_of(&slices));
        assert_eq!(slices.derive_on(nodes, &auto, pods, None), []);
    };
    let mut pods = vec![pod_on("a", 1, "n1")];
    step("one Pod", &nodes, &pods);
    pods.push(pod_on("b", 2, "n1"));
    step("two Pods of one zone", &nodes, &pods);
    pods.push(pod_on("c", 3, "n2"));
    step("one of the other zone", &nodes, &pods);
    pods.push(pod_on("d", 4, "n2"));
    step("and one more", &nodes, &pods);
    unready(&mut pods[3]);
    step("it is not ready", &nodes, &pods);
    step("three zones", &nodes_of(&[("n1", "a"), ("n2", "b"), ("n3", "c")]), &pods);
    step("one zone", &nodes_of(&[("n1", "a"), ("n2", "a")]), &pods);
    step("a Node without a zone", &nodes_of(&[("n1", "a"), ("n2", "b"), ("n3", "")]), &pods);
    pods.push(pod_on("e", 5, ""));
    step("a Pod without a Node", &nodes, &pods);
    expect![[r#"
        one Pod: false → ready endpoints: 1, fewer than the 2 zones
          web-00001 a
        two Pods of one zone: false → allocated
          web-00001 a~b b~a
        one of the other zone: true → 3 ready endpoints cannot be shared among 2 zones without an overload of more than 20 %
          web-00001 a b c
        and one more: false → allocated
          web-00001 a~a b~a c~b d~b
        it is not ready: true → 3 ready endpoints cannot be shared among 2 zones without an overload of more than 20 %
          web-00001 a b c d
        three zones: false → allocated
          web-00001 a~c b~a c~b d
        one zone: true → zones with ready Nodes: 1; two are needed
          web-00001 a b c d
        a Node without a zone: false → a ready Node says no zone (label topology.kubernetes.io/zone) or no allocatable CPU
          web-00001 a b c d
        a Pod without a Node: false → Pod e is in no zone
          web-00001 a b c d e
    "#]].assert_eq(&text);
}

#[test]
fn families_are_allocated_apart() {
    let mut auto = auto();
    auto.spec.ip_families = vec!["IPv6".into(), "IPv4".into()];
    let mut pods = [pod_on("a", 1, "n1"), pod_on("b", 2, "n2")];
    pods[1].status.pod_ips.truncate(1);
    let mut slices = Slices::default();
    slices.derive_on(&nodes_of(&[("n1", "a"), ("n2", "b")]), &auto, &pods, None);
    expect![[r#"
        web-00001 a
        web-00002 a~a b~b
        [
            Allocated {
                family: V6,
                had_hints: false,
                outcome: Err(
                    Endpoints {
                        endpoints: 1,
                        zones: 2,
                    },
                ),
            },
            Allocated {
                family: V4,
                had_hints: false,
                outcome: Ok(
                    (),
                ),
            },
        ]
    "#]]
    .assert_eq(&format!("{}{:#?}\n", hints_of(&slices), slices.allocated));
}
