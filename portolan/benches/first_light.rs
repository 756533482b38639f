//! What the first whole of Portolan costs, measured through the real binary, the real API and the real kernel.
//!
//! - durable Service creates and Pod status updates per second with 64 clients, beside the disk's own rate of
//!   write + fdatasync, in turns, in one run;
//! - the time from a Pod's status write to the programmed kernel with 1,000 Services of 10 endpoints;
//! - the memory of server and agent at that size.
//!
//! It runs in a network namespace of its own (`unshare`), so the agent programs no table of the host's. Figures go to
//! stdout as a table and to `target/bench/first_light.json`. `PORTOLAN_BENCH_SMALL=1` runs a toy size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::{Value, json};
use support::kernel::Notifications;
use support::{Agent, CLIENTS, Server, fdatasync_rate, inside, machine, median, memory, rate, service};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";

struct Sizes {
    /// Rounds of each rate; the median is reported.
    rounds: usize,
    creates: usize,
    updates: usize,
    services: usize,
    endpoints: usize,
    changes: usize,
}

fn main() {
    inside();
    let small = std::env::var_os("PORTOLAN_BENCH_SMALL").is_some();
    let sizes = if small {
        Sizes { rounds: 1, creates: 200, updates: 200, services: 20, endpoints: 3, changes: 20 }
    } else {
        Sizes { rounds: 5, creates: 6000, updates: 12000, services: 1000, endpoints: 10, changes: 1000 }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rates = runtime.block_on(rates(&sizes));
    let programming = runtime.block_on(programming(&sizes));
    let report = json!({"machine": machine(), "rates": rates, "programming": programming});
    support::save("first_light", &report);
    print_table(&report);
}

fn pod(name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": {
        "nodeName": "node-1", "containers": [{"name": "web", "image": "example.com/web", "ports": [{"containerPort": 8080}]}]}})
}

fn status(i: usize, ready: bool) -> Value {
    let ip = format!("10.{}.{}.{}", 128 + i / 65536, i / 256 % 256, i % 256);
    json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

async fn rates(sizes: &Sizes) -> Value {
    let server = Server::start().await;
    let mut fsync = Vec::new();
    let mut creates = Vec::new();
    for round in 0..sizes.rounds {
        fsync.push(fdatasync_rate(server.dir.path(), 2000));
        creates.push(
            rate(&server, sizes.creates, move |client, i| async move {
                let name = format!("s{round}-{i}");
                client.post(SERVICES, &service(&name, &name)).await.unwrap();
            })
            .await,
        );
    }
    let rss = memory(server.child.id());
    drop(server);

    let server = Server::start().await;
    let pods = sizes.services * sizes.endpoints / 4;
    let services = pods.div_ceil(sizes.endpoints);
    create_node(&server.client()).await;
    rate(&server, services, |client, i| async move {
        client.post(SERVICES, &service(&format!("s{i}"), &format!("a{i}"))).await.unwrap();
    })
    .await;
    let per = sizes.endpoints;
    rate(&server, pods, move |client, i| async move {
        client.post(PODS, &pod(&format!("p{i}"), &format!("a{}", i / per))).await.unwrap();
    })
    .await;
    let mut updates = Vec::new();
    for round in 0..sizes.rounds {
        fsync.push(fdatasync_rate(server.dir.path(), 2000));
        updates.push(
            rate(&server, sizes.updates, move |client, n| async move {
                let i = (n * 7919) % pods;
                let ready = ((round * 1_000_000 + n) / pods).is_multiple_of(2);
                client.patch(&format!("{PODS}/p{i}/status"), MERGE_PATCH, &status(i, ready)).await.unwrap();
            })
            .await,
        );
    }
    json!({"clients": CLIENTS, "fdatasyncPerSecond": median(fsync.clone()), "createsPerSecond": median(creates.clone()),
        "statusUpdatesPerSecond": median(updates.clone()), "serverAfterCreates": rss,
        "runs": {"fdatasync": fsync, "creates": creates, "statusUpdates": updates}})
}

async fn create_node(client: &Client) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "spec": {"podCIDR": "10.128.0.0/16"}});
    client.post("/api/v1/nodes", &node).await.unwrap();
    let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.2"}]}});
    client.patch("/api/v1/nodes/node-1/status", MERGE_PATCH, &addresses).await.unwrap();
}

async fn programming(sizes: &Sizes) -> Value {
    let server = Server::start().await;
    create_node(&server.client()).await;
    let (services, per) = (sizes.services, sizes.endpoints);
    rate(&server, services, |client, i| async move {
        client.post(SERVICES, &service(&format!("s{i}"), &format!("a{i}"))).await.unwrap();
    })
    .await;
    let pods = services * per;
    rate(&server, pods, move |client, i| async move {
        client.post(PODS, &pod(&format!("p{i}"), &format!("a{}", i / per))).await.unwrap();
    })
    .await;
    rate(&server, pods, |client, i| async move {
        client.patch(&format!("{PODS}/p{i}/status"), MERGE_PATCH, &status(i, true)).await.unwrap();
    })
    .await;

    let start = Instant::now();
    let agent = Agent::start(&server, start).await;
    let first = start.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;

    let notifications = Notifications::open();
    let client = server.client();
    let mut latencies = Vec::new();
    for n in 0..sizes.changes {
        // Each change is of another Pod, spread over the Services; a lease or the like does not touch the table.
        let i = n * 7919 % pods;
        notifications.drain();
        let start = Instant::now();
        client.patch(&format!("{PODS}/p{i}/status"), MERGE_PATCH, &status(i, n / pods % 2 == 1)).await.unwrap();
        latencies.push((notifications.next() - start).as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    latencies.sort_by(f64::total_cmp);
    let at = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize];
    let result = json!({"services": services, "endpointsEach": per, "agentStartToProgrammedMs": first.as_secs_f64() * 1000.0,
        "podWriteToKernelMs": {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)},
        "server": memory(server.child.id()), "agent": memory(agent.child.id())});
    result
}

fn print_table(report: &Value) {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap();
    let fsync = number("/rates/fdatasyncPerSecond");
    let creates = number("/rates/createsPerSecond");
    let updates = number("/rates/statusUpdatesPerSecond");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report["machine"].as_str().unwrap()).unwrap();
    writeln!(out, "write + fdatasync of one file        {fsync:8.0} /s   1.00").unwrap();
    writeln!(out, "Service creates, 64 clients          {creates:8.0} /s   {:.2}", creates / fsync).unwrap();
    writeln!(out, "Pod status updates, 64 clients       {updates:8.0} /s   {:.2}", updates / fsync).unwrap();
    writeln!(
        out,
        "Pod status → kernel                  p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        number("/programming/podWriteToKernelMs/p50"),
        number("/programming/podWriteToKernelMs/p99"),
        number("/programming/podWriteToKernelMs/max")
    )
    .unwrap();
    writeln!(out, "agent start → all programmed         {:.0} ms", number("/programming/agentStartToProgrammedMs"))
        .unwrap();
    writeln!(out, "server memory                        {:.0} MiB", number("/programming/server/residentMiB")).unwrap();
    writeln!(out, "agent memory                         {:.0} MiB", number("/programming/agent/residentMiB")).unwrap();
}
