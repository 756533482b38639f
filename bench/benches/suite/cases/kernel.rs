//! From a Pod's status to the kernel of a node, in a cluster of 10,000 Services with 10 endpoints each, of which a hundred
//! change in each second.
//!
//! The changes are an open loop, and a time begins when a change was due. On its way it is looked at in three places: when
//! its writer has the answer, when a watcher of EndpointSlices has it, and when the kernel tells everybody of a new
//! generation of its tables that speaks of the Pod's address. The node's agent is the real one, in a network namespace with
//! the server; nine Pods in ten are on no node, the tenth is on this one.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bench::figures::{Aim, Figure, Unit};
use bench::histogram::Times;
use bench::load::watchers::Watcher;
use bench::load::{self, arrivals, objects, pace};
use bench::stop::Stop;
use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::json;
use tokio::task::JoinSet;

use crate::case::Outcome;
use crate::support::cluster::create_node;
use crate::support::kernel::Changes;
use crate::support::{Agent, Server, cpu, inside, memory};

const SPACE: &str = "portolan-load";
const CONNECTIONS: usize = 32;
/// A prime, so that changes that follow each other are of Services far apart.
const STRIDE: u64 = 1_000_003;

struct Sizes {
    services: u32,
    pods: u32,
    rate: u32,
    seconds: u32,
}

pub fn run(outcome: &mut Outcome) {
    inside();
    let sizes = outcome.size.pick(
        Sizes { services: 20, pods: 3, rate: 50, seconds: 1 },
        Sizes { services: 10_000, pods: 10, rate: 100, seconds: 30 },
        Sizes { services: 10_000, pods: 10, rate: 100, seconds: 120 },
    );
    let runtime = crate::support::many_threads();
    runtime.block_on(measure(&sizes, outcome));
}

async fn measure(sizes: &Sizes, outcome: &mut Outcome) {
    let server = Server::start().await;
    let client = server.client();
    fill(&client, sizes).await;
    let start = Instant::now();
    let agent = Agent::start(&server, start).await;
    let programmed = start.elapsed();
    let watcher = Watcher::open(client.clone(), SPACE.into()).await.unwrap();
    let kernel = Changes::open();
    // A few that do not count: connections, caches.
    change(&client, sizes, sizes.rate.into(), 0).await;
    settled(&kernel).await;
    watcher.seen();

    let before = (server.cpu(), cpu(agent.child.id()), Instant::now());
    let count = u64::from(sizes.rate) * u64::from(sizes.seconds);
    let changes = change(&client, sizes, count, u64::from(sizes.rate)).await;
    let spent = before.2.elapsed();
    let (by_server, by_agent) = (server.cpu() - before.0, cpu(agent.child.id()) - before.1);
    let kernel = settled(&kernel).await;
    let seen = watcher.seen();

    let times = Stages::of(&changes, &kernel, &seen, sizes);
    assert_eq!((times.lost, watcher.cuts()), (0, 0), "changes that never came, watches that were cut");
    let figures = &mut outcome.figures;
    let about = "a Pod's status → programmed in the kernel, from when the write was due";
    for (what, q, limit) in [("p50", 0.5, 5.0), ("p99", 0.99, 20.0)] {
        let figure = Figure::cost(&format!("kernel/{what}"), times.kernel.ms(q), Unit::Milliseconds, about);
        figures.add(figure.aim(Aim::Value(limit)));
    }
    for (what, stage, about) in [
        ("answer", &times.answer, "of that, until the writer has its answer"),
        ("watch", &times.watch, "of that, until a watcher has the EndpointSlice"),
    ] {
        for (quantile, q) in [("p50", 0.5), ("p99", 0.99)] {
            figures.add(Figure::cost(&format!("kernel/{what}-{quantile}"), stage.ms(q), Unit::Milliseconds, about));
        }
    }
    let share = |time: Duration| time.as_secs_f64() / spent.as_secs_f64() * 100.0;
    let about = "processor time of the server at that rate, of one core";
    figures.add(Figure::cost("kernel/server", share(by_server), Unit::Percent, about));
    let about = "processor time of the agent";
    figures.add(Figure::cost("kernel/agent", share(by_agent), Unit::Percent, about));
    outcome.detail = json!({"services": sizes.services, "podsEach": sizes.pods, "perSecond": sizes.rate, "changes": count,
        "agentStartToProgrammedSeconds": programmed.as_secs_f64(),
        "ms": {"answer": times.answer, "watch": times.watch, "kernel": times.kernel},
        "server": memory(server.pid()), "agent": memory(agent.child.id())});
}

/// Makes everything by `bench load`, and binds a tenth of the Pods to node-1.
async fn fill(client: &Client, sizes: &Sizes) {
    create_node(client).await;
    let arguments = load::Arguments {
        client: client.clone(),
        namespace: SPACE.into(),
        services: sizes.services,
        pods: sizes.pods,
        bind: 10,
        clients: 64,
        rate: sizes.rate,
        seconds: 0,
        replace_pods: 0,
        replace_services: 0,
        watchers: 0,
        agent_metrics: Vec::new(),
        record: None,
        keep: true,
        timeout: Duration::from_secs(600),
    };
    let (_wish, stop) = Stop::new();
    let report = load::run(arguments, stop).await.unwrap();
    let failures: u64 = report.created.iter().flat_map(|c| c.requests.values()).map(load::Tally::failures).sum();
    assert_eq!(failures, 0, "{report}");
}

/// A change, and when its writer had the answer.
struct Change {
    pod: u32,
    revision: u64,
    due: Instant,
    /// The same since 1970.
    micros: u64,
    answered: Instant,
}

/// Turns the readiness of `count` Pods, from the one of this number on.
async fn change(client: &Client, sizes: &Sizes, count: u64, first: u64) -> Vec<Change> {
    let pods = u64::from(sizes.services * sizes.pods);
    let clients: Arc<[Client]> = (0..CONNECTIONS).map(|_| client.apart()).collect();
    let (begin, since) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    let mut beats = pace::beat(begin, sizes.rate, count).unwrap();
    let mut work = JoinSet::new();
    while let Some(beat) = beats.recv().await {
        let after = pace::due(beat, sizes.rate);
        let (due, micros) = (begin + after, u64::try_from((since + after).as_micros()).unwrap());
        let (n, clients) = (first + beat, Arc::clone(&clients));
        work.spawn(async move {
            let pod = (n * STRIDE % pods) as u32;
            let path = format!("/api/v1/namespaces/{SPACE}/pods/{}/status", objects::pod_name(pod));
            // All are ready in the beginning.
            let status = objects::status(pod, (n / pods) % 2 == 1);
            let object = clients[n as usize % CONNECTIONS].patch(&path, MERGE_PATCH, &status).await.unwrap();
            let answered = Instant::now();
            let revision = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            Change { pod, revision, due, micros, answered }
        });
    }
    let mut changes = work.join_all().await;
    changes.sort_by_key(|change| change.revision);
    changes
}

/// What the kernel has told, when it tells nothing more.
async fn settled(kernel: &Changes) -> HashMap<Ipv4Addr, Vec<Instant>> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.addresses([198])
}

#[derive(Default)]
struct Stages {
    answer: Times,
    watch: Times,
    kernel: Times,
    /// Changes that were not seen everywhere.
    lost: u64,
}

impl Stages {
    fn of(
        changes: &[Change],
        kernel: &HashMap<Ipv4Addr, Vec<Instant>>,
        seen: &[arrivals::Moment],
        sizes: &Sizes,
    ) -> Self {
        let mut stages = Self::default();
        let write = |change: &Change| {
            let Change { pod, revision, micros, .. } = *change;
            arrivals::Moment { revision, micros, service: pod / sizes.pods }
        };
        let writes: Vec<_> = changes.iter().map(write).collect();
        let followed = arrivals::followed(&writes, seen);
        let (watch, lost) = arrivals::lags(&writes, followed.iter().map(|moment| moment.map(|moment| moment.micros)));
        (stages.watch, stages.lost) = (watch, lost);
        for change in changes {
            stages.answer.record(change.answered - change.due);
            let times = kernel.get(&objects::address(change.pod));
            match times.and_then(|times| times.iter().find(|at| **at >= change.due)) {
                Some(at) => stages.kernel.record(*at - change.due),
                None => stages.lost += 1,
            }
        }
        stages
    }
}
