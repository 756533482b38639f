//! Rows of what is programmed for itself alone, or not at all.

use serde_json::{Value, json};

use super::support::service;
use super::world::{ELSEWHERE, Outcome, Tcp, Udp, World, both_families, everywhere, node, spec};

pub fn one_family(world: &World) -> Outcome {
    let made = [("r23-v4", "IPv4"), ("r23-v6", "IPv6")].map(|(name, family)| {
        let more = json!({"type": "NodePort", "ipFamilyPolicy": "SingleStack", "ipFamilies": [family]});
        world.service(name, spec(json!({"app": "web"}), more))
    });
    world.wait();
    everywhere(|v6, transport| {
        let [own, other] = if v6 { [&made[1], &made[0]] } else { [&made[0], &made[1]] };
        let caller = world.pod_address("caller", v6);
        let web = ["web-1", "web-2"];
        world.answered("caller", transport, own.at(v6), &web, &[caller])?;
        world.answered("caller", transport, own.on(node(1, v6), transport), &web, &[caller, node(1, v6)])?;
        world.refused("caller", transport, other.on(node(1, v6), transport))
    })
}

pub fn sctp(world: &World) -> Outcome {
    let ports = json!([{"name": "sctp", "port": 80, "targetPort": 8080, "protocol": "SCTP"}]);
    let made = world.service("r24", spec(json!({"app": "web"}), json!({"type": "NodePort", "ports": ports})));
    world.wait();
    let programmed = world.programmed("r24");
    both_families(|v6| {
        let address = made.address(v6).to_string();
        let there = programmed.iter().any(|line| line.contains("sctp") && line.contains(&address));
        if there { Ok(()) } else { Err(format!("no {address} in {programmed:?}")) }
    })?;
    let others = programmed.iter().filter(|line| line.contains("tcp ") && !line.contains("sctp"));
    if others.count() == 0 { Ok(()) } else { Err(format!("it is for SCTP alone: {programmed:?}")) }
}

/// Sends an echo request and says whether it was answered within half a second.
const PING: &str = r#"
import os, socket, struct, sys, time
to = sys.argv[1]
v6 = ":" in to
family, protocol, ask, answer = (socket.AF_INET6, 58, 128, 129) if v6 else (socket.AF_INET, 1, 8, 0)
packet = struct.pack("!BBHHH", ask, 0, 0, os.getpid() & 0xffff, 1)
total = sum(struct.unpack("!4H", packet))
total = (total & 0xffff) + (total >> 16)
packet = packet[:2] + struct.pack("!H", ~total & 0xffff) + packet[4:]
s = socket.socket(family, socket.SOCK_RAW, protocol)
s.sendto(packet, (to, 0))
end = time.time() + 0.5
while time.time() < end:
    s.settimeout(max(end - time.time(), 0.001))
    try:
        data, peer = s.recvfrom(2048)
    except OSError:
        break
    data = data if v6 else data[(data[0] & 15) * 4:]
    if data[0] == answer and data[4:6] == packet[4:6]:
        sys.exit(print("answered"))
print("silence")
"#;

pub fn ping(world: &World) -> Outcome {
    let made = world.service("r25", spec(json!({"app": "web"}), json!({})));
    world.wait();
    both_families(|v6| {
        for (to, expected) in [(world.pod_address("web-2", v6), "answered"), (made.address(v6), "silence")] {
            let said = world.lab.exec("caller", &["python3", "-c", PING, &to.to_string()]);
            if said.trim() != expected {
                return Err(format!("{to}: {}, not {expected}", said.trim()));
            }
        }
        Ok(())
    })
}

fn labelled(name: &str, labels: Value, spec: Value) -> Value {
    let mut service = service(name, spec);
    service["metadata"]["labels"] = labels;
    service
}

pub fn other_proxy(world: &World) -> Outcome {
    let labels = json!({"service.kubernetes.io/service-proxy-name": "another"});
    let spec = spec(json!({"app": "web"}), json!({"type": "NodePort"}));
    let made = world.make_service(&labelled("r26", labels, spec));
    world.wait();
    world.give_elsewhere([false, true].map(|v6| made.address(v6)));
    both_families(|v6| world.answered("node-1", Tcp, made.at(v6), &[ELSEWHERE], &[node(1, v6)]))?;
    everywhere(|v6, transport| world.refused("caller", transport, made.on(node(1, v6), transport)))?;
    absent(world, "r26")
}

pub fn without_address(world: &World) -> Outcome {
    world.service("r27-headless", spec(json!({"app": "web"}), json!({"clusterIP": "None"})));
    world.service("r27-name", json!({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]}));
    let usual = world.service("r27-usual", spec(json!({"app": "web"}), json!({})));
    world.wait();
    absent(world, "r27-headless")?;
    absent(world, "r27-name")?;
    // The names of others are there.
    if world.programmed("r27-usual").is_empty() {
        return Err("the tables do not name their Services".into());
    }
    for transport in [Tcp, Udp] {
        world.answered(
            "caller",
            transport,
            usual.at(false),
            &["web-1", "web-2"],
            &[world.pod_address("caller", false)],
        )?;
    }
    Ok(())
}

fn absent(world: &World, name: &str) -> Outcome {
    let programmed = world.programmed(name);
    if programmed.is_empty() { Ok(()) } else { Err(format!("{name} is programmed: {programmed:?}")) }
}
