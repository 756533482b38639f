//! Which instance, which address.

use serde_json::{Value, json};

use super::world::{At, Case, World, case, holds};

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "by-id",
            &["id", "force-override-listeners"],
            &[("id", "lb-by-id"), ("force-override-listeners", "true")],
            answers,
        )
        .instance(json!({})),
        case("left-alone", &["force-override-listeners"], &[("id", "lb-left-alone")], silent).instance(json!({})),
        case("named", &["name"], &[("name", "the shop"), ("additional-resource-tags", "team=shop,cost")], named),
        case(
            "tagged",
            &["additional-resource-tags"],
            &[("portolan.dev/lb-additional-resource-tags", "team=shop")],
            tagged,
        ),
        case("inside", &["address-type"], &[("address-type", "intranet")], inside),
        case("asked-for", &["ip"], &[("ip", "172.31.255.190")], asked_for),
        case("sixth", &["ip-version"], &[("ip-version", "ipv6")], sixth)
            .spec("ipFamilyPolicy", json!("PreferDualStack")),
        case(
            "both",
            &["ip-version", "ipv6-address-type"],
            &[("ip-version", "DualStack"), ("address-type", "intranet"), ("ipv6-address-type", "intranet")],
            both,
        )
        .spec("ipFamilyPolicy", json!("RequireDualStack"))
        .spec("loadBalancerClass", json!("alibabacloud.com/nlb")),
        case("of-a-pool", &["vswitch-id"], &[("vswitch-id", "special")], of_a_pool),
        case("at-edge-2", &["master-zoneid"], &[("master-zoneid", "edge-2")], at_edge_2),
        case("at-edge-1", &["master-zoneid"], &[("master-zoneid", "edge-1")], at_edge_1),
        case("by-name", &["hostname"], &[("hostname", "shop.example.com")], by_name),
        case("kept", &["preserve-lb-on-delete"], &[("preserve-lb-on-delete", "true")], kept),
        case(
            "old-prefix",
            &["address-type"],
            &[("service.beta.kubernetes.io/alicloud-loadbalancer-address-type", "intranet")],
            inside,
        ),
        case(
            "own-prefix",
            &["address-type"],
            &[("portolan.dev/lb-address-type", "intranet"), ("address-type", "internet")],
            inside,
        ),
    ]
}

fn answers(world: &World, at: &At) -> Result<(), String> {
    world.one(at, json!({})).map(drop)
}

/// The listeners of an instance that somebody made by hand are left alone.
fn silent(world: &World, at: &At) -> Result<(), String> {
    let answer = world.http(at, json!({"timeout": 2})).remove(0);
    holds(answer["error"].is_string(), answer)
}

/// A name has no effect on packets: it is for people.
fn named(world: &World, at: &At) -> Result<(), String> {
    answers(world, at)?;
    let instance = world.instance_of(&at.name)?;
    holds(instance["spec"]["displayName"] == "the shop", instance)
}

fn tagged(world: &World, at: &At) -> Result<(), String> {
    answers(world, at)?;
    let instance = world.instance_of(&at.name)?;
    holds(instance["metadata"]["labels"]["team"] == "shop", instance)
}

fn last(at: &At, index: usize) -> u8 {
    match at.addresses[index] {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(ip) => ip.octets()[13],
    }
}

fn inside(world: &World, at: &At) -> Result<(), String> {
    answers(world, at)?;
    holds((192..200).contains(&last(at, 0)), at)
}

fn asked_for(world: &World, at: &At) -> Result<(), String> {
    answers(world, at)?;
    holds(last(at, 0) == 190, at)
}

fn sixth(world: &World, at: &At) -> Result<(), String> {
    answers(world, at)?;
    let body = world.one(at, json!({}))?;
    holds(at.addresses.len() == 1 && at.addresses[0].is_ipv6() && body["peer"] == "fd00:31::100", (at, body))
}

fn both(world: &World, at: &At) -> Result<(), String> {
    holds(at.addresses.len() == 2 && at.addresses[0].is_ipv4() != at.addresses[1].is_ipv4(), at)?;
    holds(last(at, 0) >= 192 && last(at, 1) == 2, at)?;
    answers(world, at)?;
    answers(world, &At { addresses: vec![at.addresses[1]], ..at.clone() })
}

fn of_a_pool(world: &World, at: &At) -> Result<(), String> {
    answers(world, at)?;
    holds((230..240).contains(&last(at, 0)), at)
}

/// Whose link-layer address the client learns.
fn held_by(world: &World, at: &At, edge: &str) -> Result<(), String> {
    answers(world, at)?;
    let link: Value = serde_json::from_str(&world.exec(edge, &["ip", "-j", "link", "show", "dev", "eth0"])).unwrap();
    let neighbour = world.exec("client", &["ip", "-j", "neigh", "show", &at.ip()]);
    let neighbour: Value = serde_json::from_str(&neighbour).unwrap();
    holds(neighbour[0]["lladdr"] == link[0]["address"], (link, neighbour))
}

fn at_edge_1(world: &World, at: &At) -> Result<(), String> {
    held_by(world, at, "edge-1")
}

fn at_edge_2(world: &World, at: &At) -> Result<(), String> {
    held_by(world, at, "edge-2")
}

fn by_name(world: &World, at: &At) -> Result<(), String> {
    answers(world, at)?;
    let service = world.get("/api/v1/namespaces/default/services/by-name");
    holds(service["status"]["loadBalancer"]["ingress"] == json!([{"hostname": "shop.example.com"}]), service)
}

/// When its Service has gone the address is there still, and nobody else's.
fn kept(world: &World, at: &At) -> Result<(), String> {
    let path = format!("/api/v1/namespaces/default/services/{}", at.name);
    if world.get("/api/v1/namespaces/default/services")["items"]
        .as_array()
        .unwrap()
        .iter()
        .any(|service| service["metadata"]["name"] == at.name.as_str())
    {
        answers(world, at)?;
        world.delete(&path);
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    let all = world.get("/apis/portolan.dev/v1alpha1/loadbalancers");
    let has = |lb: &&Value| lb["spec"]["addresses"][0] == at.ip();
    let instance = all["items"].as_array().unwrap().iter().find(has).cloned().ok_or("the instance has gone")?;
    holds(instance["spec"]["owner"].is_null(), instance)?;
    let answer = world.to(at, "ping", 0, json!({"timeout": 2}));
    holds(answer == json!({"from": at.ip(), "type": 0, "text": "ahoy"}), answer)
}
