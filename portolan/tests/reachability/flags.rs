//! Rows that depend on the agent's flags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::json;

use super::world::{Outcome, Tcp, Udp, World, client, everywhere, node, spec};

pub fn off_cluster_kept(world: &World) -> Outcome {
    let made = world.service("r10", spec(json!({"app": "web", "at": "1"}), json!({})));
    world.wait();
    everywhere(|v6, transport| world.answered("client", transport, made.at(v6), &["web-1"], &[client(v6)]))
}

pub fn off_cluster_hidden(world: &World) -> Outcome {
    let here = world.service("r10-here", spec(json!({"app": "web", "at": "1"}), json!({})));
    let there = world.service("r10-there", spec(json!({"app": "web", "at": "2"}), json!({})));
    world.wait();
    everywhere(|v6, transport| {
        world.answered("client", transport, there.at(v6), &["web-2"], &[node(1, v6)])?;
        world.answered("client", transport, here.at(v6), &["web-1"], &[client(v6)])?;
        world.answered("caller", transport, there.at(v6), &["web-2"], &[world.pod_address("caller", v6)])
    })
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub fn localhost(world: &World) -> Outcome {
    let made = world.service("r17", spec(json!({"app": "web"}), json!({"type": "NodePort"})));
    world.wait();
    for transport in [Tcp, Udp] {
        let web = ["web-1", "web-2"];
        world.answered("node-1", transport, made.on(LOCALHOST, transport), &web, &[node(1, false)])?;
        world.refused("node-1", transport, made.on(Ipv6Addr::LOCALHOST.into(), transport))?;
    }
    Ok(())
}

pub fn localhost_off(world: &World) -> Outcome {
    let made = world.service("r17", spec(json!({"app": "web"}), json!({"type": "NodePort"})));
    world.wait();
    world.refused("node-1", Tcp, made.on(LOCALHOST, Tcp))?;
    world.refused("node-1", Udp, made.on(LOCALHOST, Udp))
}

/// A further address of node-2, where no other row's clients run, whose own address it might become; and a Service with
/// node ports.
fn further_address(world: &World) -> (super::world::Made, impl Fn(bool) -> IpAddr) {
    for (ip, v6) in [("192.0.2.18/32", false), ("2001:db8:18::1/128", true)] {
        world.lab.exec("node-2", &["ip", "address", "add", ip, "dev", "lo"]);
        world.lab.exec("node-1", &["ip", "route", "add", ip, "via", &node(2, v6).to_string()]);
    }
    let made = world.service("r18", spec(json!({"app": "web", "at": "2"}), json!({"type": "NodePort"})));
    world.wait();
    (made, |v6| if v6 { "2001:db8:18::1" } else { "192.0.2.18" }.parse().unwrap())
}

pub fn primary_address(world: &World) -> Outcome {
    let (made, further) = further_address(world);
    everywhere(|v6, transport| {
        let caller = world.pod_address("caller", v6);
        world.answered("caller", transport, made.on(node(2, v6), transport), &["web-2"], &[caller])?;
        world.refused("caller", transport, made.on(further(v6), transport))
    })
}

pub fn other_addresses(world: &World) -> Outcome {
    let (made, further) = further_address(world);
    everywhere(|v6, transport| {
        let caller = world.pod_address("caller", v6);
        let to: SocketAddr = made.on(further(v6), transport);
        world.answered("caller", transport, to, &["web-2"], &[caller])?;
        world.refused("caller", transport, made.on(node(2, v6), transport))
    })
}
