//! What a cluster costs in which nothing happens: three real nodes in the lab, with 10 Services and then with 100. And how
//! big the one file is that all of it comes in.
//!
//! Nothing is written but what is always written: beats and Leases. The lab's own part (its scheduler and the kubelets of its
//! nodes watch the server) is in the server's figure.

use std::thread::sleep;
use std::time::Duration;

use bench::figures::{Aim, Figure, Unit};
use proxy_agent::client::Client;
use serde_json::{Value, json};

use crate::case::{Outcome, Size};
use crate::support::lab::Lab;
use crate::support::{alone, median, memory, number, portolan, service};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

pub fn run(outcome: &mut Outcome) {
    let (settle, seconds) = outcome.size.pick((1, 1), (10, 60), (30, 300));
    let runtime = alone();
    let lab = Lab::up_with(3, &["--edges", "0"]);
    let mut detail = json!({});
    let mut begun = 0;
    for services in [10, 100] {
        let client = lab.client();
        runtime.block_on(async {
            for i in begun..services {
                create(&client, i).await;
            }
        });
        begun = services;
        lab.wait();
        sleep(Duration::from_secs(settle));
        let (server, agents) = lab.processes();
        let processes: Vec<u32> = [server].into_iter().chain(agents).collect();
        let before: Vec<f64> = processes.iter().map(|pid| processor(*pid)).collect();
        sleep(Duration::from_secs(seconds));
        let of_one: Vec<Value> = processes
            .iter()
            .zip(before)
            .map(|(pid, before)| {
                let percent = 100.0 * (processor(*pid) - before) / seconds as f64;
                json!({"percentOfCore": percent, "memory": memory(*pid)})
            })
            .collect();
        detail[format!("{services}Services")] = json!({"server": of_one[0], "agents": of_one[1..]});
    }
    let agents =
        |what: &str| median((0..3).map(|i| number(&detail, &format!("/100Services/agents/{i}/{what}"))).collect());
    let figures = [
        (
            "idle/server-cpu",
            number(&detail, "/10Services/server/percentOfCore"),
            Unit::Percent,
            0.3,
            "an idle server's part of a core, 3 nodes, 10 Services",
        ),
        (
            "idle/server-memory",
            number(&detail, "/10Services/server/memory/residentMiB"),
            Unit::Mebibytes,
            40.0,
            "its resident memory",
        ),
        ("idle/agent-cpu", agents("percentOfCore"), Unit::Percent, 0.2, "an idle agent's part of a core, 100 Services"),
        ("idle/agent-memory", agents("memory/residentMiB"), Unit::Mebibytes, 15.0, "its resident memory"),
    ];
    for (name, value, unit, aim, about) in figures {
        let figure = Figure::cost(name, value, unit, about);
        outcome.figures.add(if outcome.size == Size::Toy { figure } else { figure.aim(Aim::Value(aim)) });
    }
    let about = "the part of an agent's memory that is its own: without the program, which processes share";
    let own = agents("memory/anonymousMiB");
    outcome.figures.add(Figure::cost("idle/agent-memory-of-its-own", own, Unit::Mebibytes, about));
    let bytes = std::fs::metadata(portolan()).unwrap().len();
    let binary = Figure::cost("idle/binary", bytes as f64 / f64::from(1 << 20), Unit::Mebibytes, "the binary's file");
    outcome.figures.add(if outcome.size == Size::Toy { binary } else { binary.aim(Aim::Value(40.0)) });
    outcome.detail = detail;
}

/// A Service with an EndpointSlice of ten endpoints, written by hand: no Pod has to run for it.
async fn create(client: &Client, i: usize) {
    let name = format!("s{i}");
    let mut object = service(&name, &name);
    object["spec"].as_object_mut().unwrap().remove("selector");
    client.post(SERVICES, &object).await.unwrap();
    let endpoints: Vec<Value> =
        (0..10).map(|n| json!({"addresses": [format!("10.200.{i}.{n}")], "conditions": {"ready": true}})).collect();
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{name}-byhand"), "labels": {"kubernetes.io/service-name": name}},
        "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
    client.post(SLICES, &slice).await.unwrap();
}

/// The seconds of processor time that all threads of a process had so far; the kernel counts them in nanoseconds.
fn processor(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| -> f64 {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0.0)
    };
    tasks.map(of).sum::<f64>() / 1e9
}
