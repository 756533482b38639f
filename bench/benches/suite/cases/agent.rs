//! An agent beside very many endpoints: how soon it is there, what memory it takes, and how long a change takes from the
//! event on the wire to the kernel.
//!
//! The endpoints are slices written by hand, as somebody does whose workloads are no Pods. The event's time is that of a
//! second watcher of the same slices in this process, which gets it with the agent; the kernel's word that its tables have
//! changed is the end.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bench::figures::{Figure, Unit};
use serde_json::{Value, json};

use crate::case::Outcome;
use crate::support::kernel::Notifications;
use crate::support::{Agent, Server, alone, inside, memory, number, rate, spread};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Services, endpoints of each, changes.
type Size = (usize, usize, usize);

pub fn run(outcome: &mut Outcome) {
    inside();
    const SIZES: &[Size] = &[(100, 10, 1000), (10_000, 10, 1000), (5000, 50, 1000)];
    let sizes: &[Size] = outcome.size.pick(&[(20, 5, 20)], SIZES, SIZES);
    let runtime = alone();
    let mut rows = Vec::new();
    for size in sizes {
        let row = runtime.block_on(measure(*size, outcome.size.settling()));
        let (services, endpoints, _) = size;
        for (what, pointer, unit, about) in [
            ("start", "/startToProgrammedSeconds", Unit::Seconds, "an agent's start → all programmed"),
            ("memory", "/agent/residentMiB", Unit::Mebibytes, "the agent's memory"),
            ("event-p50", "/eventToKernelMs/p50", Unit::Milliseconds, "a change's event → kernel, p50"),
            ("event-p99", "/eventToKernelMs/p99", Unit::Milliseconds, "a change's event → kernel, p99"),
            ("write-p99", "/writeToKernelMs/p99", Unit::Milliseconds, "a slice's write → kernel, p99"),
        ] {
            let name = format!("agent/{what}-{services}x{endpoints}");
            let about = format!("{about}; {services} Services × {endpoints} endpoints");
            outcome.figures.add(Figure::cost(&name, number(&row, pointer), unit, &about));
        }
        rows.push(row);
    }
    outcome.detail = json!({"rows": rows});
}

fn slice(service: usize, endpoints: usize, first: usize) -> Value {
    let address = |n: usize| {
        let number = service * endpoints + n;
        format!("11.{}.{}.{}", number / 65536, number / 256 % 256, number % 256)
    };
    let endpoint = |n| json!({"addresses": [address(n)], "conditions": {"ready": true}, "nodeName": "node-2"});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("s{service}"), "labels": {"kubernetes.io/service-name": format!("s{service}")}},
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": (first..endpoints).map(endpoint).collect::<Vec<_>>()})
}

async fn measure((services, endpoints, changes): Size, settling: Duration) -> Value {
    let server = Server::start().await;
    let client = server.client();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "spec": {}});
    client.post("/api/v1/nodes", &node).await.unwrap();
    rate(&server, services, move |client, i| async move {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{i}")},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
        client.post(SERVICES, &service).await.unwrap();
        client.post(SLICES, &slice(i, endpoints, 0)).await.unwrap();
    })
    .await;
    let start = Instant::now();
    let agent = Agent::start(&server, start).await;
    let ready = start.elapsed();
    tokio::time::sleep(settling).await;

    let list = client.get(&format!("{SLICES}?limit=1")).await.unwrap();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let events = watch(&server, revision);
    let notifications = Notifications::open();
    let (mut from_event, mut from_write) = (Vec::new(), Vec::new());
    for n in 0..changes {
        let service = n * 7919 % services;
        notifications.drain();
        while events.try_recv().is_ok() {}
        let begin = Instant::now();
        let changed = slice(service, endpoints, usize::from(n / services % 2 == 0));
        client.put(&format!("{SLICES}/s{service}"), &changed).await.unwrap();
        let programmed = notifications.next();
        let event = events.recv_timeout(Duration::from_secs(5)).expect("the event of the change");
        from_event.push(programmed.saturating_duration_since(event).as_secs_f64() * 1e3);
        from_write.push((programmed - begin).as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    json!({"services": services, "endpointsEach": endpoints, "startToProgrammedSeconds": ready.as_secs_f64(),
        "agent": memory(agent.child.id()), "eventToKernelMs": spread(&from_event), "writeToKernelMs": spread(&from_write)})
}

/// When each change of a slice arrives at a watcher on a thread and a connection of its own.
fn watch(server: &Server, revision: String) -> mpsc::Receiver<Instant> {
    let (sender, receiver) = mpsc::channel();
    let (joined, is_joined) = mpsc::channel();
    let client = server.client();
    std::thread::spawn(move || {
        let runtime = crate::support::alone();
        runtime.block_on(async {
            let mut stream = client.watch(&format!("{SLICES}?watch=1&resourceVersion={revision}")).await.unwrap();
            joined.send(()).unwrap();
            while let Ok(Some(_)) = stream.next().await {
                if sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
    });
    is_joined.recv().unwrap();
    receiver
}
