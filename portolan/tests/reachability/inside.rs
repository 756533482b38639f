//! Rows of clients inside the cluster that ask a ClusterIP.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::world::{Outcome, Tcp, World, both_families, client, counts, everywhere, external, node, spec};

pub fn spread(world: &World) -> Outcome {
    let made = world.service("r1", spec(json!({"app": "web"}), json!({})));
    world.wait();
    everywhere(|v6, transport| {
        let caller = world.pod_address("caller", v6);
        world.answered("caller", transport, made.at(v6), &["web-1", "web-2"], &[caller])?;
        world.answered("node-1", transport, made.at(v6), &["web-1", "web-2"], &[node(1, v6)])?;
        world.answered("node-3", transport, made.at(v6), &["web-1", "web-2"], &[node(3, v6)])
    })
}

pub fn no_endpoints(world: &World) -> Outcome {
    let more = json!({"type": "LoadBalancer", "externalIPs": [external(2, false), external(2, true)]});
    let made = world.service("r2", spec(json!({"app": "nobody"}), more));
    world.ingress(&made, 102, "VIP");
    world.wait();
    everywhere(|v6, transport| {
        world.refused("caller", transport, made.at(v6))?;
        world.refused("client", transport, made.on(node(1, v6), transport))?;
        world.refused("client", transport, SocketAddr::new(external(2, v6), 80))?;
        world.refused("client", transport, SocketAddr::new(external(102, v6), 80))
    })
}

pub fn undefined_port(world: &World) -> Outcome {
    let made = world.service("r3", spec(json!({"app": "web"}), json!({})));
    world.wait();
    everywhere(|v6, transport| world.refused("caller", transport, SocketAddr::new(made.address(v6), 81)))
}

pub fn unallocated(world: &World) -> Outcome {
    let in_use = world.addresses_in_use();
    everywhere(|v6, transport| {
        // Services without a wish get theirs from the upper part of the range, where these rows take no address.
        let mut low = (2..16).map(|n| if v6 { format!("fd00:10:96::{n:x}") } else { format!("10.96.0.{n}") });
        let free = low.find(|ip| !in_use.contains(&ip.parse().unwrap())).ok_or("no address is free")?;
        world.dropped("caller", transport, SocketAddr::new(free.parse().unwrap(), 80))
    })
}

pub fn nothing_local(world: &World) -> Outcome {
    let more = json!({"type": "LoadBalancer", "externalIPs": [external(5, false), external(5, true)],
        "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"});
    let made = world.service("r5", spec(json!({"app": "web", "at": "2"}), more));
    world.ingress(&made, 105, "VIP");
    world.wait();
    everywhere(|v6, transport| {
        world.dropped("caller", transport, made.at(v6))?;
        world.dropped("client", transport, made.on(node(1, v6), transport))?;
        world.dropped("client", transport, SocketAddr::new(external(5, v6), 80))?;
        world.dropped("client", transport, SocketAddr::new(external(105, v6), 80))
    })
}

pub fn hairpin(world: &World) -> Outcome {
    let alone = world.service("r6-alone", spec(json!({"app": "web", "at": "1"}), json!({})));
    let both = world.service("r6-both", spec(json!({"app": "web"}), json!({})));
    world.wait();
    everywhere(|v6, transport| {
        let own = world.pod_address("web-1", v6);
        // Of several addresses of the node, the kernel takes the one of the Pod's link.
        let mut hidden = vec![node(1, v6)];
        if v6 {
            hidden.push("fe80::1".parse().unwrap());
        }
        world.answered("web-1", transport, alone.at(v6), &["web-1"], &hidden)?;
        let report = world.probe("web-1", transport, both.at(v6), 40, 5000);
        let (pods, clients) = (counts(&report, "pods"), counts(&report, "clients"));
        let kept = clients.get(&own.to_string()).copied().unwrap_or(0);
        let right = report["answered"] == 40
            && pods.len() == 2
            && kept == pods["web-2"]
            && clients.keys().all(|ip| *ip == own.to_string() || hidden.contains(&ip.parse().unwrap()));
        if right { Ok(()) } else { Err(format!("{report}")) }
    })
}

pub fn internal_policy_local(world: &World) -> Outcome {
    let more = json!({"type": "LoadBalancer", "internalTrafficPolicy": "Local"});
    let made = world.service("r11", spec(json!({"app": "web"}), more));
    world.ingress(&made, 111, "VIP");
    world.wait();
    everywhere(|v6, transport| {
        let caller = world.pod_address("caller", v6);
        world.answered("caller", transport, made.at(v6), &["web-1"], &[caller])?;
        let any: [IpAddr; 3] = [client(v6), node(1, v6), node(3, v6)];
        world.answered("client", transport, made.on(node(3, v6), transport), &["web-1", "web-2"], &any)?;
        world.answered("client", transport, SocketAddr::new(external(111, v6), 80), &["web-1", "web-2"], &any)
    })?;
    both_families(|v6| world.dropped("node-3", Tcp, made.at(v6)))
}
