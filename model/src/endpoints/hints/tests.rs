use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::types::Node;

fn zones(cpus: &[(&str, u64)]) -> Zones {
    let mut zones = Zones::default();
    for &(zone, cpu_milli) in cpus {
        zones.add(Share::Of { zone, cpu_milli });
    }
    zones
}

fn node(labels: serde_json::Value, cpu: serde_json::Value, ready: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": "n", "labels": labels},
        "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}]},
    }))
    .unwrap()
}

#[test]
fn a_ready_node_of_no_control_plane_counts() {
    let zone = json!({"topology.kubernetes.io/zone": "a"});
    let share = |node: Node| format!("{:?}", Share::of(&node));
    assert_eq!(share(node(zone.clone(), json!("1500m"), "True")), r#"Of { zone: "a", cpu_milli: 1500 }"#);
    assert_eq!(share(node(zone.clone(), json!(2), "True")), r#"Of { zone: "a", cpu_milli: 2000 }"#);
    assert_eq!(share(node(zone.clone(), json!("0"), "True")), "Lacking");
    assert_eq!(share(node(zone.clone(), json!(null), "True")), "Lacking");
    assert_eq!(share(node(zone.clone(), json!("many"), "True")), "Lacking");
    assert_eq!(share(node(json!({}), json!("2"), "True")), "Lacking");
    assert_eq!(share(node(zone.clone(), json!("2"), "Unknown")), "None");
    assert_eq!(share(Node::default()), "None");
    for role in ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"] {
        assert_eq!(share(node(json!({role: ""}), json!("2"), "True")), "None");
    }
}

#[test]
fn the_service_says_which_hints_it_wants() {
    let of = |annotations: serde_json::Value, distribution: Option<&str>| {
        let service = json!({"metadata": {"annotations": annotations}, "spec": {"trafficDistribution": distribution}});
        Topology::of(&serde_json::from_value(service).unwrap())
    };
    assert_eq!(of(json!({}), None), Topology::Anywhere);
    assert_eq!(of(json!({}), Some("PreferClose")), Topology::SameZone);
    assert_eq!(of(json!({}), Some("PreferSameZone")), Topology::SameZone);
    assert_eq!(of(json!({}), Some("PreferSameNode")), Topology::SameNode);
    assert_eq!(of(json!({TOPOLOGY_MODE: "Auto"}), None), Topology::Auto);
    assert_eq!(of(json!({TOPOLOGY_MODE: "auto"}), Some("PreferClose")), Topology::Auto);
    assert_eq!(of(json!({TOPOLOGY_MODE: "AUTO"}), Some("PreferClose")), Topology::SameZone);
    assert_eq!(of(json!({TOPOLOGY_MODE: "Auto", TOPOLOGY_AWARE_HINTS: "disabled"}), None), Topology::Anywhere);
    assert_eq!(of(json!({TOPOLOGY_MODE: "x", TOPOLOGY_AWARE_HINTS: "auto"}), None), Topology::Auto);
}

#[test]
fn allocations_are_in_proportion_to_cpu() {
    let mut text = String::new();
    let cases: [(&[(&str, u64)], usize); 11] = [
        (&[], 3),
        (&[("a", 1000)], 3),
        (&[("a", 1000), ("b", 1000)], 1),
        (&[("a", 1000), ("b", 1000)], 2),
        (&[("a", 1000), ("b", 1000)], 3),
        (&[("a", 1000), ("b", 1000)], 5),
        (&[("a", 1000), ("b", 1000)], 6),
        (&[("a", 1000), ("b", 1000), ("c", 2000)], 20),
        (&[("a", 8000), ("b", 1000)], 2),
        (&[("a", 8000), ("b", 1000)], 9),
        (&[("a", 1000), ("b", 1000), ("c", 1000)], 100),
    ];
    for (cpus, endpoints) in cases {
        text += &match allocate(&zones(cpus), endpoints) {
            Ok(list) => {
                let list: Vec<String> =
                    list.iter().map(|a| format!("{} {} (at least {})", a.zone, a.target, a.minimum)).collect();
                format!("{endpoints}: {}\n", list.join(", "))
            }
            Err(why) => format!("{endpoints}: {why}\n"),
        };
    }
    expect![[r#"
        3: zones with ready Nodes: 0; two are needed
        3: zones with ready Nodes: 1; two are needed
        1: ready endpoints: 1, fewer than the 2 zones
        2: a 1 (at least 1), b 1 (at least 1)
        3: 3 ready endpoints cannot be shared among 2 zones without an overload of more than 20 %
        5: 5 ready endpoints cannot be shared among 2 zones without an overload of more than 20 %
        6: a 3 (at least 3), b 3 (at least 3)
        20: a 5 (at least 5), b 5 (at least 5), c 10 (at least 9)
        2: 2 ready endpoints cannot be shared among 2 zones without an overload of more than 20 %
        9: a 8 (at least 7), b 1 (at least 1)
        100: a 34 (at least 28), b 33 (at least 28), c 33 (at least 28)
    "#]]
    .assert_eq(&text);
    let mut lacking = zones(&[("a", 1000), ("b", 1000)]);
    lacking.add(Share::Lacking);
    assert_eq!(allocate(&lacking, 6), Err(NoHints::Nodes));
    lacking.remove(Share::Lacking);
    assert!(allocate(&lacking, 6).is_ok());
}

/// Each member in a letter: the zone that it is for, in capitals where it is in that zone.
fn assigned(cpus: &[(&str, u64)], members: &[(&str, &str)]) -> String {
    let zones = zones(cpus);
    let allocations = allocate(&zones, members.len()).unwrap();
    let place = |zone: &str| allocations.iter().position(|allocation| allocation.zone == zone);
    let mut members: Vec<Member> =
        members.iter().map(|(home, zone)| Member { home: place(home), zone: place(zone) }).collect();
    assign(&allocations, &mut members);
    let letter = |member: &Member| {
        let zone = allocations[member.zone.unwrap()].zone;
        if member.home == member.zone { zone.to_uppercase() } else { zone.to_owned() }
    };
    members.iter().map(letter).collect()
}

#[test]
fn endpoints_are_for_their_own_zone_as_far_as_that_goes() {
    let even: [(&str, u64); 2] = [("a", 1000), ("b", 1000)];
    let at = |home: &'static str| (home, "-");
    assert_eq!(assigned(&even, &[at("a"), at("b"), at("a"), at("b")]), "ABAB");
    // The first of the zone that has too many.
    assert_eq!(assigned(&even, &[at("a"), at("a"), at("a"), at("b")]), "bAAB");
    // A zone without capacity of its own: they go where most are lacking.
    assert_eq!(assigned(&even, &[at("a"), at("z"), at("z"), at("z")]), "Abab");
}

#[test]
fn a_hint_stays_as_long_as_no_zone_is_overloaded() {
    let even: [(&str, u64); 2] = [("a", 1000), ("b", 1000)];
    // 11 and 9 of 20, where 10 would be even and 9 are enough.
    let mut members = [vec![("a", "a"); 11], vec![("b", "b"); 9]].concat();
    assert_eq!(assigned(&even, &members), "AAAAAAAAAAABBBBBBBBB");
    // One of b's goes, one of a's comes: b needs one more.
    members.pop();
    members.push(("a", "-"));
    assert_eq!(assigned(&even, &members), "AAAAAAAAAAABBBBBBBBb");
    // Who is for another zone comes home first.
    assert_eq!(assigned(&even, &[("a", "a"), ("b", "a"), ("a", "a"), ("b", "b")]), "ABAB");
    // Who is not at home anyhow moves before who is.
    let three: [(&str, u64); 3] = [("a", 1000), ("b", 1000), ("c", 1000)];
    let members = [("a", "a"), ("c", "a"), ("a", "a"), ("b", "b"), ("c", "c"), ("c", "c")];
    assert_eq!(assigned(&three, &members), "AbABCC");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn zones_are_what_a_scan_of_the_nodes_says(
        nodes in prop::collection::vec((0usize..4, 0u64..3, any::<bool>()), 0..12),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let names = ["", "a", "b", "c"];
        let share = |&(zone, cpu, counts): &(usize, u64, bool)| match (counts, names[zone], cpu) {
            (false, ..) => Share::None,
            (_, "", _) | (.., 0) => Share::Lacking,
            (_, zone, cpu_milli) => Share::Of { zone, cpu_milli },
        };
        let mut kept = Zones::default();
        nodes.iter().for_each(|node| kept.add(share(node)));
        let mut left = nodes.clone();
        for index in gone {
            if !left.is_empty() {
                kept.remove(share(&left.remove(index.index(left.len()))));
            }
        }
        let mut scanned = Zones::default();
        left.iter().for_each(|node| scanned.add(share(node)));
        prop_assert_eq!(kept, scanned);
    }

    #[test]
    fn no_zone_is_overloaded_and_one_change_moves_few(
        cpus in prop::collection::vec(1u64..64_000, 2..6),
        homes in prop::collection::vec(0usize..7, 2..150),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..7, 0u8..3), 0..20),
    ) {
        const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
        let cpus: Vec<(&str, u64)> = NAMES.into_iter().zip(cpus).collect();
        let zones = zones(&cpus);
        let total: u64 = cpus.iter().map(|(_, cpu)| cpu).sum();
        // By the name of their zones.
        let mut members: Vec<(usize, Option<&str>)> = homes.into_iter().map(|home| (home, None)).collect();
        let mut was_assigned = false;
        for change in [None].into_iter().chain(changes.into_iter().map(Some)) {
            let (at, home, what) = match change {
                Some((index, home, what)) => (index.index(members.len()), home, what),
                None => (0, 0, 3),
            };
            let changed = match what {
                0 => { members.push((home, None)); members.len() - 1 }
                1 if members.len() > 1 => { members.remove(at); usize::MAX }
                1 | 2 => { members[at].0 = home; at }
                _ => usize::MAX,
            };
            let allocations = match allocate(&zones, members.len()) {
                Ok(allocations) => allocations,
                Err(_) => {
                    members.iter_mut().for_each(|member| member.1 = None);
                    was_assigned = false;
                    continue;
                }
            };
            prop_assert_eq!(allocations.iter().map(|a| a.target).sum::<usize>(), members.len());
            let place = |name: &str| allocations.iter().position(|a| a.zone == name);
            let read = |(home, zone): &(usize, Option<&str>)| (place(NAMES[*home]), zone.and_then(place));
            let before: Vec<Member> = members.iter().map(read).map(|(home, zone)| Member { home, zone }).collect();
            let mut after = before.clone();
            assign(&allocations, &mut after);
            let moved = before.iter().zip(&after).enumerate().filter(|(i, (b, a))| *i != changed && b.zone != a.zone);
            if was_assigned {
                prop_assert!(moved.count() <= cpus.len(), "more than one for each zone");
            }
            for (at, (_, cpu)) in cpus.iter().enumerate() {
                let count = after.iter().filter(|member| member.zone == Some(at)).count();
                // Load on one of its endpoints, in parts of the average: at most 1.2.
                prop_assert!(count > 0 && *cpu as usize * members.len() * 10 <= count * total as usize * 12);
            }
            let mut again = after.clone();
            assign(&allocations, &mut again);
            prop_assert_eq!(&again, &after);
            for (member, now) in members.iter_mut().zip(&after) {
                member.1 = now.zone.map(|zone| NAMES[zone]);
            }
            was_assigned = true;
        }
    }
}
