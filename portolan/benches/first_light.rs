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

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_NETFILTER};
use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::{Value, json};
use support::{CLIENTS, Server, fdatasync_rate, machine, median, memory, rate, service};

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
    if std::env::var_os("PORTOLAN_BENCH_INSIDE").is_none() {
        // Namespaces belong to a whole process, and this one may have threads already: start anew inside.
        let me = std::env::current_exe().unwrap();
        let error = Command::new("unshare")
            .args(["--map-root-user", "--net", "--", "sh", "-c", "ip link set lo up && exec \"$0\""])
            .arg(me)
            .env("PORTOLAN_BENCH_INSIDE", "1")
            .exec();
        panic!("cannot run unshare: {error}");
    }
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
    let mut agent = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["agent", "--node-name", "node-1", "--kubeconfig"])
        .arg(server.kubeconfig())
        .stderr(File::create(server.dir.path().join("agent.log")).unwrap())
        .spawn()
        .unwrap();
    let metrics = Client::new("http://127.0.0.1:10249", None, None).unwrap();
    let programmed = |text: &str| {
        text.lines()
            .any(|l| l.starts_with("portolan_agent_programmed_revision{resource=\"services\"}") && !l.ends_with(" 0"))
    };
    loop {
        assert!(start.elapsed() < Duration::from_secs(60), "the agent has programmed nothing");
        if metrics.get_text("/metrics").await.is_ok_and(|text| programmed(&text)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
        "server": memory(server.child.id()), "agent": memory(agent.id())});
    agent.kill().unwrap();
    agent.wait().unwrap();
    result
}

/// The kernel's word that a new generation of tables is in force (NFNLGRP_NFTABLES), with the time it came.
struct Notifications(mpsc::Receiver<Instant>);

impl Notifications {
    fn open() -> Self {
        const NFNLGRP_NFTABLES: u32 = 7;
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind(&NetlinkAddr::new(0, 0)).unwrap();
        socket.add_membership(NFNLGRP_NFTABLES).unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0u8; 1 << 16];
            while socket.recv(&mut &mut buffer[..], 0).is_ok() && sender.send(Instant::now()).is_ok() {}
        });
        Self(receiver)
    }

    /// Forgets what has come so far.
    fn drain(&self) {
        while self.0.try_recv().is_ok() {}
    }

    /// When the next generation was in force.
    fn next(&self) -> Instant {
        self.0.recv_timeout(Duration::from_secs(5)).expect("a Pod's change changes the kernel's tables within 5 s")
    }
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
