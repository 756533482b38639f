//! Rows of node ports, external addresses and the addresses of load balancers.

use std::net::SocketAddr;

use serde_json::json;

use super::world::{ELSEWHERE, Outcome, Tcp, World, both_families, client, everywhere, external, node, spec};

pub fn policy_cluster(world: &World) -> Outcome {
    let more = json!({"type": "LoadBalancer", "externalIPs": [external(7, false), external(7, true)]});
    let made = world.service("r7", spec(json!({"app": "web", "at": "2"}), more));
    world.ingress(&made, 107, "VIP");
    world.wait();
    everywhere(|v6, transport| {
        let asks = |to, seen| world.answered("client", transport, to, &["web-2"], &[seen]);
        for number in [1, 3] {
            asks(made.on(node(number, v6), transport), node(number, v6))?;
        }
        asks(made.on(node(2, v6), transport), client(v6))?;
        asks(SocketAddr::new(external(7, v6), 80), node(1, v6))?;
        asks(SocketAddr::new(external(107, v6), 80), node(1, v6))
    })
}

pub fn policy_local(world: &World) -> Outcome {
    let more = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "externalIPs": [external(8, false), external(8, true)]});
    let made = world.service("r8", spec(json!({"app": "web", "at": "2"}), more));
    world.ingress(&made, 108, "VIP");
    for v6 in [false, true] {
        // To the node that has the endpoint.
        let (to, via) = (external(108, v6).to_string(), node(2, v6).to_string());
        world.lab.exec("client", &["ip", "route", "add", &to, "via", &via]);
    }
    world.wait();
    everywhere(|v6, transport| {
        let asks = |to| world.answered("client", transport, to, &["web-2"], &[client(v6)]);
        asks(made.on(node(2, v6), transport))?;
        asks(SocketAddr::new(external(108, v6), 80))?;
        world.dropped("client", transport, made.on(node(1, v6), transport))?;
        world.dropped("client", transport, made.on(node(3, v6), transport))?;
        world.dropped("client", transport, SocketAddr::new(external(8, v6), 80))
    })
}

pub fn short_cut(world: &World) -> Outcome {
    let more = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "externalIPs": [external(9, false), external(9, true)]});
    let made = world.service("r9", spec(json!({"app": "web", "at": "2"}), more));
    world.ingress(&made, 109, "VIP");
    world.wait();
    everywhere(|v6, transport| {
        for (from, seen) in [("caller", world.pod_address("caller", v6)), ("node-1", node(1, v6))] {
            let asks = |to| world.answered(from, transport, to, &["web-2"], &[seen]);
            asks(made.on(node(1, v6), transport))?;
            asks(SocketAddr::new(external(9, v6), 80))?;
            asks(SocketAddr::new(external(109, v6), 80))?;
        }
        Ok(())
    })
}

pub fn source_ranges(world: &World) -> Outcome {
    let selector = json!({"app": "web"});
    let only_node =
        json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["172.31.255.11/32", "fd00:31::11/128"]});
    let for_node = world.service("r15-node", spec(selector.clone(), only_node));
    world.ingress(&for_node, 15, "VIP");
    let only_client =
        json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["172.31.255.64/26", "fd00:31::100/128"]});
    let for_client = world.service("r15-client", spec(selector, only_client));
    world.ingress(&for_client, 115, "VIP");
    world.wait();
    everywhere(|v6, transport| {
        let (at_node, at_client) = (SocketAddr::new(external(15, v6), 80), SocketAddr::new(external(115, v6), 80));
        let web = ["web-1", "web-2"];
        world.dropped("client", transport, at_node)?;
        world.answered("node-1", transport, at_node, &web, &[node(1, v6)])?;
        world.answered("client", transport, at_client, &web, &[client(v6), node(1, v6)])?;
        world.dropped("caller", transport, at_client)?;
        // Neither do they apply to node ports.
        world.answered("client", transport, for_node.on(node(1, v6), transport), &web, &[client(v6), node(1, v6)])
    })
}

pub fn mode_proxy(world: &World) -> Outcome {
    let made = world.service("r16", spec(json!({"app": "web"}), json!({"type": "LoadBalancer"})));
    world.ingress(&made, 16, "Proxy");
    world.wait();
    world.give_elsewhere([false, true].map(|v6| external(16, v6)));
    let asks = |pods: &[&str]| {
        both_families(|v6| world.answered("node-1", Tcp, SocketAddr::new(external(16, v6), 80), pods, &[node(1, v6)]))
    };
    asks(&[ELSEWHERE])?;
    world.ingress(&made, 16, "VIP");
    world.wait();
    asks(&["web-1", "web-2"])
}

pub fn external_ips(world: &World) -> Outcome {
    let more = json!({"type": "LoadBalancer", "externalIPs": [external(19, false), external(19, true)],
        "loadBalancerSourceRanges": ["192.0.2.1/32", "2001:db8::1/128"]});
    let cluster = world.service("r19-cluster", spec(json!({"app": "web", "at": "2"}), more));
    world.ingress(&cluster, 119, "VIP");
    let more = json!({"type": "NodePort", "externalIPs": [external(219, false), external(219, true)],
        "externalTrafficPolicy": "Local"});
    world.service("r19-local", spec(json!({"app": "web"}), more));
    world.wait();
    everywhere(|v6, transport| {
        let asks = |to, pod, seen| world.answered("client", transport, SocketAddr::new(to, 80), &[pod], &[seen]);
        asks(external(19, v6), "web-2", node(1, v6))?;
        asks(external(219, v6), "web-1", client(v6))?;
        world.dropped("client", transport, SocketAddr::new(external(119, v6), 80))
    })
}
