//! Listeners of layer 4 and TLS: who is let in, how long connections live, what backends see of clients.

use serde_json::{Value, json};

use super::world::{At, CLIENT, Case, World, case, holds, pods};

/// Lines of the client, one connection each.
fn lines(world: &World, at: &At, port: u16, more: Value) -> Vec<Value> {
    world.to(at, "lines", port, more).as_array().unwrap().clone()
}

pub fn cases() -> Vec<Case> {
    let raw = [("main", "TCP", 80, 8083)];
    let tls = [("main", "TCP", 80, 8083)];
    let nlb = |case: Case| case.spec("loadBalancerClass", json!("alibabacloud.com/nlb"));
    vec![
        case("persistent", &["persistence-timeout"], &[("persistence-timeout", "60")], persistent),
        case("forgotten", &["established-timeout"], &[("established-timeout", "10")], forgotten).ports(&raw),
        case("remembered", &["established-timeout"], &[], remembered).ports(&raw),
        nlb(case("forgotten-nlb", &["idle-timeout"], &[("idle-timeout", "4")], forgotten_soon).ports(&raw)),
        case("proxied", &["proxy-protocol"], &[("proxy-protocol", "on")], proxied)
            .ports(&[("main", "TCP", 80, 8081), ("udp", "UDP", 80, 8082)]),
        case("not-proxied", &["proxy-protocol"], &[], not_proxied)
            .ports(&[("main", "TCP", 80, 8081), ("udp", "UDP", 80, 8082)]),
        nlb(case("own-address", &["preserve-client-ip"], &[("preserve-client-ip", "on")], own_address).nodes("Local")),
        nlb(case("hidden-address", &["preserve-client-ip"], &[("preserve-client-ip", "off")], hidden_address)),
        nlb(case("slowly", &["cps"], &[("cps", "5")], slowly)),
        case("white", ACL, &[("acl-status", "on"), ("acl-type", "white"), ("acl-id", "empty,office")], answered),
        case("white-others", ACL, &[("acl-status", "on"), ("acl-type", "white"), ("acl-id", "others")], unanswered),
        case("white-empty", ACL, &[("acl-status", "on"), ("acl-type", "white"), ("acl-id", "empty")], unanswered),
        case("black", ACL, &[("acl-status", "on"), ("acl-type", "black"), ("acl-id", "office")], unanswered),
        case("black-others", ACL, &[("acl-status", "on"), ("acl-type", "black"), ("acl-id", "others")], answered),
        case("acl-off", ACL, &[("acl-status", "off"), ("acl-type", "black"), ("acl-id", "office")], answered),
        nlb(case("ranged", &["listener-port-range"], &[("listener-port-range", "1000-1010:80")], ranged)),
        case("drains", DRAIN, &[("connection-drain", "on"), ("connection-drain-timeout", "30")], drains)
            .ports(&raw)
            .app("drained"),
        case("cuts", &["connection-drain"], &[("connection-drain", "off")], cuts).ports(&raw).app("cut"),
        nlb(case(
            "ended-tls",
            &["protocol-port", "cert-id"],
            &[("protocol-port", "tcpssl:80"), ("cert-id", "a-test")],
            ended_tls,
        )
        .ports(&tls)),
        nlb(case(
            "alpn-1",
            &["alpn", "alpn-policy"],
            &[("protocol-port", "tcpssl:80"), ("cert-id", "a-test"), ("alpn", "on"), ("alpn-policy", "HTTP1Only")],
            alpn_1,
        )
        .ports(&tls)),
        nlb(case(
            "alpn-2",
            &["alpn", "alpn-policy"],
            &[("protocol-port", "tcpssl:80"), ("cert-id", "a-test"), ("alpn", "on"), ("alpn-policy", "HTTP2Preferred")],
            alpn_2,
        )
        .ports(&tls)),
        nlb(case(
            "known-clients",
            &["cacert", "cacert-id"],
            &[("protocol-port", "tcpssl:80"), ("cert-id", "a-test"), ("cacert", "on"), ("cacert-id", "client")],
            known_clients,
        )
        .ports(&tls)),
        nlb(case(
            "more-certificates",
            &["additional-cert-ids"],
            &[("protocol-port", "tcpssl:80"), ("cert-id", "a-test"), ("additional-cert-ids", "b-test,c-test")],
            more_certificates,
        )
        .ports(&tls)),
    ]
}

const ACL: &[&str] = &["acl-status", "acl-type", "acl-id"];
const DRAIN: &[&str] = &["connection-drain", "connection-drain-timeout"];

fn answered(world: &World, at: &At) -> Result<(), String> {
    world.one(at, json!({})).map(drop)
}

fn unanswered(world: &World, at: &At) -> Result<(), String> {
    let answer = world.http(at, json!({"timeout": 2})).remove(0);
    holds(
        answer["error"].as_str().is_some_and(|error| error.contains("timed out") || error.contains("Timeout")),
        answer,
    )
}

fn persistent(world: &World, at: &At) -> Result<(), String> {
    let counts = pods(&world.http(at, json!({"n": 12})));
    holds(counts.len() == 1 && !counts.contains_key("none"), counts)
}

/// The turn has gone on meanwhile, so what comes after the silence is sent to somebody who knows nothing of it.
fn forgotten(world: &World, at: &At) -> Result<(), String> {
    silence(world, at, 14, false)
}

fn forgotten_soon(world: &World, at: &At) -> Result<(), String> {
    silence(world, at, 8, false)
}

fn remembered(world: &World, at: &At) -> Result<(), String> {
    silence(world, at, 14, true)
}

fn silence(world: &World, at: &At, seconds: u32, alive: bool) -> Result<(), String> {
    let answer = lines(world, at, 80, json!({"waits": [0.1, seconds], "timeout": 5})).remove(0);
    holds((answer["echoes"] == json!(["still there", "still there"])) == alive, answer)
}

fn proxied(world: &World, at: &At) -> Result<(), String> {
    let answer = lines(world, at, 80, json!({})).remove(0);
    let proxy = &answer["proxy"];
    holds(proxy["source"] == CLIENT && proxy["target"] == at.ip() && proxy["target_port"] == 80, &answer)?;
    holds(proxy["transport"] == 1, proxy)?;
    let answer = world.to(at, "udp", 80, json!({}))[0].clone();
    let proxy = &answer["proxy"];
    holds(answer["text"] == "hello" && proxy["source"] == CLIENT && proxy["transport"] == 2, answer)
}

fn not_proxied(world: &World, at: &At) -> Result<(), String> {
    // The backend waits for 16 bytes of a header in vain.
    let answer = lines(world, at, 80, json!({"first": "0123456789abcdef"})).remove(0);
    holds(answer["pod"].is_string() && answer["proxy"].is_null() && answer["peer"] == CLIENT, answer)?;
    let answer = world.to(at, "udp", 80, json!({}))[0].clone();
    holds(answer["text"] == "hello" && answer["proxy"].is_null() && answer["peer"] == CLIENT, answer)
}

fn own_address(world: &World, at: &At) -> Result<(), String> {
    let body = world.one(at, json!({}))?;
    holds(body["peer"] == CLIENT, body)
}

fn hidden_address(world: &World, at: &At) -> Result<(), String> {
    let body = world.one(at, json!({}))?;
    holds(body["peer"] != CLIENT, body)
}

fn slowly(world: &World, at: &At) -> Result<(), String> {
    let let_in = world.to(at, "burst", 80, json!({"n": 100, "seconds": 2}));
    holds(let_in.as_u64().is_some_and(|n| (5..=30).contains(&n)), let_in)
}

fn ranged(world: &World, at: &At) -> Result<(), String> {
    for port in [1000, 1007, 1010] {
        let answer = world.to(at, "http", port, json!({}))[0].clone();
        holds(answer["status"] == 200, (port, answer))?;
    }
    let beyond = world.to(at, "http", 1011, json!({"timeout": 2}))[0].clone();
    holds(beyond["error"].is_string(), beyond)
}

/// A Pod leaves the Service while a connection to it is open, and lives on.
fn leaves(world: &World, at: &At, app: &str) -> Value {
    let pods = world.get("/api/v1/namespaces/default/pods");
    let waits: Vec<f32> = vec![0.1, 4.0, 4.0];
    std::thread::scope(|scope| {
        let talk = scope.spawn(|| lines(world, at, 80, json!({"waits": waits, "timeout": 5})).remove(0));
        std::thread::sleep(std::time::Duration::from_secs(2));
        // Whichever has the connection: all of them leave.
        for pod in pods["items"].as_array().unwrap() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            if name.starts_with(app) {
                world.patch(
                    &format!("/api/v1/namespaces/default/pods/{name}"),
                    &json!({"metadata": {"labels": {"app": "gone"}}}),
                );
            }
        }
        let answer = talk.join().unwrap();
        for pod in pods["items"].as_array().unwrap() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            if name.starts_with(app) {
                world.patch(
                    &format!("/api/v1/namespaces/default/pods/{name}"),
                    &json!({"metadata": {"labels": {"app": app}}}),
                );
            }
        }
        answer
    })
}

fn drains(world: &World, at: &At) -> Result<(), String> {
    let answer = leaves(world, at, "drained");
    holds(answer["echoes"] == json!(["still there", "still there", "still there"]), answer)
}

fn cuts(world: &World, at: &At) -> Result<(), String> {
    let answer = leaves(world, at, "cut");
    holds(answer["error"].is_string(), answer)
}

fn ended_tls(world: &World, at: &At) -> Result<(), String> {
    let answer = lines(world, at, 80, json!({"tls": world.tls(Some("a.test"))})).remove(0);
    holds(answer["pod"].is_string() && answer["tls"]["names"] == json!(["a.test"]), answer)
}

fn chosen(world: &World, at: &At) -> Value {
    let mut tls = world.tls(Some("a.test"));
    tls["alpn"] = json!(["h2", "http/1.1"]);
    lines(world, at, 80, json!({"tls": tls})).remove(0)
}

fn alpn_1(world: &World, at: &At) -> Result<(), String> {
    let answer = chosen(world, at);
    holds(answer["tls"]["alpn"] == "http/1.1", answer)
}

fn alpn_2(world: &World, at: &At) -> Result<(), String> {
    let answer = chosen(world, at);
    holds(answer["tls"]["alpn"] == "h2", answer)
}

fn known_clients(world: &World, at: &At) -> Result<(), String> {
    let answer = lines(world, at, 80, json!({"tls": world.tls(Some("a.test"))})).remove(0);
    holds(answer["error"].is_string(), answer)?;
    let mut tls = world.tls(Some("a.test"));
    tls["cert"] = json!(world.file("client.crt"));
    tls["key"] = json!(world.file("client.key"));
    let answer = lines(world, at, 80, json!({"tls": tls})).remove(0);
    holds(answer["pod"].is_string(), answer)
}

fn more_certificates(world: &World, at: &At) -> Result<(), String> {
    for (sni, shown) in
        [(Some("b.test"), "b.test"), (Some("c.test"), "c.test"), (Some("d.test"), "a.test"), (None, "a.test")]
    {
        let answer = lines(world, at, 80, json!({"tls": world.tls(sni)})).remove(0);
        holds(answer["tls"]["names"] == json!([shown]), (sni, answer))?;
    }
    Ok(())
}
