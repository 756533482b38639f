//! Rows of endpoints that come, go, and are chosen again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::world::{Outcome, Tcp, Transport, Udp, World, both_families, client, counts, everywhere, node, spec};

/// Who answers a single request.
fn who(world: &World, transport: Transport, to: std::net::SocketAddr) -> Result<String, String> {
    let report = world.probe("caller", transport, to, 1, 5000);
    counts(&report, "pods").into_keys().next().ok_or_else(|| report.to_string())
}

fn sticky(timeout: u32) -> Value {
    json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}}})
}

pub fn affinity(world: &World) -> Outcome {
    let pods = ["r12-1", "r12-2", "r12-3"];
    for (pod, node) in pods.iter().zip(["node-1", "node-2", "node-3"]) {
        world.pod(pod, node, json!({"row": "12"}));
    }
    let [long, renewed, short] = [("r12-long", 600), ("r12-renewed", 4), ("r12-short", 1)]
        .map(|(name, timeout)| world.service(name, spec(json!({"row": "12"}), sticky(timeout))));
    world.ready(&pods);
    world.wait();
    everywhere(|v6, transport| {
        let first = who(world, transport, long.at(v6))?;
        world.answered("caller", transport, long.at(v6), &[&first], &[world.pod_address("caller", v6)])
    })?;
    stays_while_renewed(world, &renewed)?;
    // Once it has ended, one of three is chosen again: nineteen times the same once in a thousand million.
    let before = who(world, Tcp, short.at(false))?;
    let mut other = false;
    for _ in 0..19 {
        std::thread::sleep(Duration::from_millis(1300));
        if who(world, Tcp, short.at(false))? != before {
            other = true;
            break;
        }
    }
    if !other {
        return Err(format!("{before} answers still, long after the affinity has ended"));
    }
    let gone = who(world, Tcp, long.at(false))?;
    world.label(&gone, json!({"row": "none"}));
    world.wait();
    let next = who(world, Tcp, long.at(false))?;
    if next == gone { Err(format!("{gone} is gone and answers still")) } else { Ok(()) }
}

/// Asked more often than it ends, for longer than it lasts.
fn stays_while_renewed(world: &World, made: &super::world::Made) -> Outcome {
    'again: for _ in 0..3 {
        let first = who(world, Tcp, made.at(false))?;
        for _ in 0..4 {
            let began = Instant::now();
            std::thread::sleep(Duration::from_millis(1500));
            let now = who(world, Tcp, made.at(false))?;
            // A busy machine may have come too late.
            if began.elapsed() > Duration::from_millis(3500) {
                continue 'again;
            }
            if now != first {
                return Err(format!("{first}, then {now}, although asked every 1.5 s of 4 s"));
            }
        }
        return Ok(());
    }
    Err("the machine is too slow to ask every 4 s".into())
}

pub fn terminating(world: &World) -> Outcome {
    for (pod, node, labels) in [
        ("r13-1", "node-1", json!({"row": "13", "mixed": "13"})),
        ("r13-2", "node-2", json!({"row": "13"})),
        ("r13-live", "node-2", json!({"mixed": "13"})),
    ] {
        let container = json!({"name": "echo", "command": World::lasting_echo("120000")});
        world.make_pod(pod, node, labels, json!({"terminationGracePeriodSeconds": 120, "containers": [container]}));
    }
    let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    let all = world.service("r13-all", spec(json!({"row": "13"}), local.clone()));
    let mixed = world.service("r13-mixed", spec(json!({"mixed": "13"}), local));
    world.ready(&["r13-1", "r13-2", "r13-live"]);
    world.wait();
    // A command is ready at once, here before it listens.
    let caller = |v6| world.pod_address("caller", v6);
    for _ in 0..50 {
        if world.answered("caller", Tcp, all.at(false), &["r13-1", "r13-2"], &[caller(false)]).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    world.delete_pod("r13-1");
    world.delete_pod("r13-2");
    world.terminating(&["r13-1", "r13-2"]);
    world.wait();
    everywhere(|v6, transport| {
        world.answered("caller", transport, all.at(v6), &["r13-1", "r13-2"], &[caller(v6)])?;
        world.answered("caller", transport, mixed.at(v6), &["r13-live"], &[caller(v6)])?;
        let asks = |service: &super::world::Made, number, pod| {
            world.answered("client", transport, service.on(node(number, v6), transport), &[pod], &[client(v6)])
        };
        asks(&all, 1, "r13-1")?;
        asks(&mixed, 1, "r13-1")?;
        asks(&mixed, 2, "r13-live")
    })
}

pub fn publish_not_ready(world: &World) -> Outcome {
    let ports = json!([{"containerPort": 8080}, {"containerPort": 8080, "protocol": "UDP"}]);
    let containers = json!([{"name": "echo", "ports": ports}, {"name": "fails", "command": ["false"]}]);
    world.make_pod("r14", "node-2", json!({"row": "14"}), json!({"restartPolicy": "Never", "containers": containers}));
    let published = world.service("r14-yes", spec(json!({"row": "14"}), json!({"publishNotReadyAddresses": true})));
    let usual = world.service("r14-no", spec(json!({"row": "14"}), json!({})));
    world.until("r14", "running and not ready", |pod| {
        let Some(pod) = pod else { return false };
        let all = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let is = |name: &str, state: &str| all.iter().any(|c| c["name"] == name && c["state"][state].is_object());
        is("fails", "terminated") && is("echo", "running")
    });
    world.wait();
    everywhere(|v6, transport| {
        let caller = world.pod_address("caller", v6);
        world.answered("caller", transport, published.at(v6), &["r14"], &[caller])?;
        world.refused("caller", transport, usual.at(v6))
    })
}

pub fn udp_endpoint_removed(world: &World) -> Outcome {
    world.pod("r20-1", "node-1", json!({"row": "20"}));
    let made = world.service("r20", spec(json!({"row": "20"}), json!({"type": "NodePort"})));
    world.ready(&["r20-1"]);
    world.wait();
    let mut clients = Vec::new();
    for v6 in [false, true] {
        clients.push(world.keep_asking("caller", Udp, made.at(v6)));
        clients.push(world.keep_asking("client", Udp, made.on(node(1, v6), Udp)));
    }
    // Until the last of them is answered, too.
    std::thread::sleep(Duration::from_millis(200));
    world.pod("r20-2", "node-2", json!({"row": "20"}));
    world.ready(&["r20-2"]);
    world.wait();
    world.remove_pod("r20-1");
    for client in clients {
        let report = client.report();
        let pods = counts(&report, "pods");
        // Each of them sends at least five times, unanswered, in the second that it may take until the flow moves on.
        if !(pods.contains_key("r20-1") && pods.get("r20-2").is_some_and(|n| *n >= 20)) {
            return Err(format!("the flow does not move on: {report}"));
        }
    }
    Ok(())
}

pub fn udp_before_endpoints(world: &World) -> Outcome {
    let node_port = |port: u16| {
        let mut spec = spec(json!({"row": "21"}), json!({"type": "NodePort"}));
        spec["ports"][1]["nodePort"] = json!(port);
        spec
    };
    let made = world.service("r21", node_port(30021));
    world.wait();
    let mut clients = Vec::new();
    for v6 in [false, true] {
        clients.push(world.keep_asking("caller", Udp, made.at(v6)));
        clients.push(world.keep_asking("client", Udp, made.on(node(1, v6), Udp)));
        // And one that sent before there was a Service.
        clients.push(world.keep_asking("client", Udp, std::net::SocketAddr::new(node(1, v6), 32021)));
    }
    // Until the last of them has sent, too.
    std::thread::sleep(Duration::from_millis(200));
    world.service("r21-later", node_port(32021));
    world.pod("r21", "node-2", json!({"row": "21"}));
    world.ready(&["r21"]);
    world.wait();
    for (n, client) in clients.into_iter().enumerate() {
        let report = client.report();
        let answered = counts(&report, "pods").get("r21").copied().unwrap_or(0);
        if answered < 20 || counts(&report, "failures").is_empty() {
            return Err(format!("client {n} is not answered once there is an endpoint, or was before: {report}"));
        }
    }
    Ok(())
}

pub fn tcp_endpoint_removed(world: &World) -> Outcome {
    world.pod("r22-1", "node-2", json!({"row": "22"}));
    let made = world.service("r22", spec(json!({"row": "22"}), json!({})));
    world.ready(&["r22-1"]);
    world.wait();
    let connections = [false, true].map(|v6| world.keep_asking("caller", Tcp, made.at(v6)));
    world.pod("r22-2", "node-1", json!({"row": "22"}));
    world.ready(&["r22-2"]);
    // No endpoint any more; it runs on.
    world.label("r22-1", json!({"row": "none"}));
    world.wait();
    both_families(|v6| world.answered("caller", Tcp, made.at(v6), &["r22-2"], &[world.pod_address("caller", v6)]))?;
    for connection in connections {
        let report = connection.report();
        if !(report["answered"] == report["sent"] && counts(&report, "pods").keys().eq(["r22-1"])) {
            return Err(format!("the connection did not stay: {report}"));
        }
    }
    Ok(())
}
