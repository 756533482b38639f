//! What the first whole of Portolan costs, measured through the real binary, the real API and the real kernel.
//!
//! - durable Service creates and Pod status updates per second with 64 clients, beside the disk's own rate of
//!   write + fdatasync, in turns, in one run;
//! - the time from a Pod's status write to the programmed kernel with 1,000 Services of 10 endpoints;
//! - the memory of server and agent at that size.
//!
//! It runs in a network namespace of its own (`unshare`), so the agent programs no table of the host's.

use std::time::{Duration, Instant};

use bench::figures::{Figure, Unit};
use proxy_agent::client::MERGE_PATCH;
use serde_json::{Value, json};

use crate::case::Outcome;
use crate::support::cluster::{PODS, SERVICES, create_node, fill, pod, status};
use crate::support::kernel::Notifications;
use crate::support::{
    Agent, CLIENTS, Server, alone, fdatasync_rate, inside, median, memory, number, rate, service, spread,
};

struct Sizes {
    /// Rounds of each rate; the median is reported.
    rounds: usize,
    /// Of the disk's own rate.
    syncs: u32,
    creates: usize,
    updates: usize,
    services: usize,
    endpoints: usize,
    changes: usize,
}

pub fn run(outcome: &mut Outcome) {
    inside();
    let toy = Sizes { rounds: 1, syncs: 50, creates: 100, updates: 100, services: 20, endpoints: 3, changes: 20 };
    let usual = || Sizes {
        rounds: 5,
        syncs: 2000,
        creates: 6000,
        updates: 12000,
        services: 1000,
        endpoints: 10,
        changes: 1000,
    };
    let sizes = outcome.size.pick(toy, usual(), usual());
    let runtime = alone();
    let rates = runtime.block_on(rates(&sizes));
    let programming = runtime.block_on(programming(&sizes, outcome.size.settling()));
    let figures = &mut outcome.figures;
    let disk = Figure::rate(
        "light/fdatasync",
        number(&rates, "/fdatasyncPerSecond"),
        Unit::PerSecond,
        "write of 4 KiB and fdatasync, one file",
    );
    figures.add(disk);
    let creates = "durable Service creates through the API, 64 clients";
    let creates = Figure::rate("light/creates", number(&rates, "/createsPerSecond"), Unit::PerSecond, creates);
    figures.add(creates.beside("light/fdatasync"));
    let updates = "durable Pod status updates through the API, with slice and Endpoints, 64 clients";
    let updates = Figure::rate("light/updates", number(&rates, "/statusUpdatesPerSecond"), Unit::PerSecond, updates);
    figures.add(updates.beside("light/fdatasync"));
    let at = format!("{} Services × {} endpoints", sizes.services, sizes.endpoints);
    for (name, pointer, unit, about) in [
        (
            "light/status-to-kernel-p50",
            "/podWriteToKernelMs/p50",
            Unit::Milliseconds,
            "Pod status write → programmed kernel, p50",
        ),
        (
            "light/status-to-kernel-p99",
            "/podWriteToKernelMs/p99",
            Unit::Milliseconds,
            "Pod status write → programmed kernel, p99",
        ),
        ("light/agent-start", "/agentStartToProgrammedMs", Unit::Milliseconds, "an agent's start → all programmed"),
        ("light/server-memory", "/server/residentMiB", Unit::Mebibytes, "the server's memory"),
        ("light/agent-memory", "/agent/residentMiB", Unit::Mebibytes, "the agent's memory"),
    ] {
        figures.add(Figure::cost(name, number(&programming, pointer), unit, &format!("{about}; {at}")));
    }
    outcome.detail = json!({"rates": rates, "programming": programming});
}

async fn rates(sizes: &Sizes) -> Value {
    let server = Server::start().await;
    let mut fsync = Vec::new();
    let mut creates = Vec::new();
    for round in 0..sizes.rounds {
        fsync.push(fdatasync_rate(server.dir.path(), sizes.syncs));
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
        fsync.push(fdatasync_rate(server.dir.path(), sizes.syncs));
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

async fn programming(sizes: &Sizes, settling: Duration) -> Value {
    let server = Server::start().await;
    let (services, per) = (sizes.services, sizes.endpoints);
    fill(&server, services, per).await;
    let pods = services * per;

    let start = Instant::now();
    let agent = Agent::start(&server, start).await;
    let first = start.elapsed();
    tokio::time::sleep(settling).await;

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
    json!({"services": services, "endpointsEach": per, "agentStartToProgrammedMs": first.as_secs_f64() * 1000.0,
        "podWriteToKernelMs": spread(&latencies),
        "server": memory(server.child.id()), "agent": memory(agent.child.id())})
}
