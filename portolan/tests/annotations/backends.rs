//! Which backends there are.

use serde_json::json;

use super::world::{At, CLIENT, Case, World, case, holds, pods};

pub fn cases() -> Vec<Case> {
    vec![
        case("direct", &["backend-type"], &[], direct),
        case("through-nodes", &["backend-type"], &[("backend-type", "ecs")], through_nodes).nodes("Cluster"),
        case("foreign-key", &["backend-type"], &[("service.beta.kubernetes.io/backend-type", "eni")], direct)
            .nodes("Cluster"),
        case("labelled", &["backend-label"], &[("backend-label", "kubernetes.io/hostname=node-2")], only_second)
            .nodes("Local"),
        case("not-cordoned", &["remove-unscheduled-backend"], &[("remove-unscheduled-backend", "on")], not_cordoned)
            .nodes("Local"),
        case(
            "other-family",
            &["backend-ip-version"],
            &[("protocol-port", "http:80"), ("ip-version", "ipv4"), ("backend-ip-version", "ipv6")],
            other_family,
        )
        .spec("ipFamilies", json!(["IPv6"])),
    ]
}

fn direct(world: &World, at: &At) -> Result<(), String> {
    let body = world.one(at, json!({}))?;
    holds(body["peer"] == CLIENT, body)
}

/// The nodes are asked by the edge node, in its own name.
fn through_nodes(world: &World, at: &At) -> Result<(), String> {
    let body = world.one(at, json!({}))?;
    holds(body["peer"] != CLIENT && body["peer"] != at.ip(), body)
}

fn only_second(world: &World, at: &At) -> Result<(), String> {
    let counts = pods(&world.http(at, json!({"n": 12})));
    holds(counts.len() == 1 && counts.contains_key("back-3"), counts)
}

fn not_cordoned(world: &World, at: &At) -> Result<(), String> {
    let cordon = |on: bool| world.patch("/api/v1/nodes/node-1", &json!({"spec": {"unschedulable": on}}));
    cordon(true);
    let outcome = world.until("without the cordoned node", || only_second(world, at));
    cordon(false);
    outcome
}

fn other_family(world: &World, at: &At) -> Result<(), String> {
    let body = world.one(at, json!({}))?;
    holds(at.addresses[0].is_ipv4() && body["peer"].as_str().is_some_and(|peer| peer.contains(':')), body)
}
