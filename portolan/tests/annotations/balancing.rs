//! Who gets how much.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::{At, Case, World, case, holds, pods};

pub fn cases() -> Vec<Case> {
    let shared = |name: &'static str, annotations: &[(&str, &str)], check| {
        case(name, &["vgroup-port", "weight"], annotations, check)
    };
    let group = json!({"listeners": [{"port": 80, "protocol": "TCP", "group": "shop", "scheduler": "wrr"}]});
    vec![
        case("turns", &["scheduler"], &[], turns),
        case("weighed", &["scheduler"], &[("scheduler", "wrr")], weighed).nodes("Local"),
        case("unweighed", &["scheduler"], &[("scheduler", "rr")], unweighed).nodes("Local"),
        case("by-client", &["scheduler"], &[("scheduler", "sch")], by_client),
        case("fewest-connections", &["scheduler"], &[("scheduler", "wlc")], turns),
        case("nothing", &["default-weight"], &[("scheduler", "wrr"), ("default-weight", "0")], nothing),
        shared("blue", &[("id", "lb-blue"), ("vgroup-port", "shop:80"), ("weight", "80")], four_to_one)
            .app("blue")
            .instance(group.clone()),
        shared("green", &[("id", "lb-blue"), ("vgroup-port", "shop:80"), ("weight", "20")], four_to_one).app("green"),
        case("by-hand", &["ignore-weight-update"], &[("scheduler", "wrr"), ("ignore-weight-update", "on")], by_hand),
    ]
}

fn counted(world: &World, at: &At, n: usize) -> BTreeMap<String, usize> {
    pods(&world.http(at, json!({"n": n})))
}

fn turns(world: &World, at: &At) -> Result<(), String> {
    let counts = counted(world, at, 60);
    holds(counts.len() == 3 && counts.values().all(|count| (18..=22).contains(count)), counts)
}

/// Two Pods on node-1, one on node-2.
fn by_node(world: &World, at: &At, n: usize) -> (usize, usize) {
    let counts = counted(world, at, n);
    let of = |pod: &str| counts.get(pod).copied().unwrap_or_default();
    (of("back-1") + of("back-2"), of("back-3"))
}

fn weighed(world: &World, at: &At) -> Result<(), String> {
    let (first, second) = by_node(world, at, 90);
    holds(first + second == 90 && (57..=63).contains(&first), (first, second))
}

fn unweighed(world: &World, at: &At) -> Result<(), String> {
    let (first, second) = by_node(world, at, 60);
    holds(first + second == 60 && (28..=32).contains(&first), (first, second))
}

fn by_client(world: &World, at: &At) -> Result<(), String> {
    let counts = counted(world, at, 20);
    holds(counts.len() == 1 && !counts.contains_key("none"), counts)
}

fn nothing(world: &World, at: &At) -> Result<(), String> {
    let answer = world.http(at, json!({"timeout": 2})).remove(0);
    holds(answer["error"].is_string(), answer)
}

/// Two Services behind one listener.
fn four_to_one(world: &World, _: &At) -> Result<(), String> {
    let address = world.instance("lb-blue")["spec"]["addresses"][0].as_str().unwrap().parse().unwrap();
    let at = At { name: "blue".to_owned(), addresses: vec![address] };
    let counts = counted(world, &at, 100);
    let of = |pod: &str| counts.get(pod).copied().unwrap_or_default();
    holds((76..=84).contains(&of("blue")) && (16..=24).contains(&of("green")), &counts)
}

/// What somebody wrote into the instance stays.
fn by_hand(world: &World, at: &At) -> Result<(), String> {
    let instance = world.instance_of(&at.name)?;
    let name = instance["metadata"]["name"].as_str().unwrap();
    let mut listeners: Value = instance["spec"]["listeners"].clone();
    if listeners[0]["backends"][0]["defaultWeight"] != 0 {
        listeners[0]["backends"][0]["defaultWeight"] = json!(0);
        world.patch(
            &format!("/apis/portolan.dev/v1alpha1/loadbalancers/{name}"),
            &json!({"spec": {"listeners": listeners}}),
        );
        std::thread::sleep(std::time::Duration::from_secs(3));
    }
    nothing(world, at)
}
