//! A cluster at the size where others break: thousands of nodes that watch all of a large state while it changes.
//!
//! The nodes are hollow ([`crowd`]): certificate, Node, Lease, beats, watches, acknowledgements and questions are those of an
//! agent, the kernel is missing, and they share one list of each resource, since a thousand lists of a hundred thousand
//! endpoints are not what is measured here. Server, load and all nodes are on this machine: whatever the nodes spend is
//! not the server's to have.

use std::time::{Duration, Instant};

use bench::figures::{Aim, Figure, Unit};
use serde_json::{Value, json};

use crate::case::{Outcome, Size};
use crate::support::crowd::{self, Hollow, State};
use crate::support::{Server, raise_file_limit};

/// One size of cluster.
struct Part {
    nodes: u32,
    state: State,
    /// Changes per second, and for how many seconds.
    rate: u32,
    seconds: u32,
    /// The lag that 99 of 100 are to stay below, in milliseconds, and the memory of the server, in MiB.
    lag: f64,
    memory: Option<f64>,
}

pub fn run(outcome: &mut Outcome) {
    raise_file_limit();
    let whole = State { services: 10_000, pods: 10 };
    let thousand = Part { nodes: 1_000, state: whole, rate: 100, seconds: 60, lag: 200.0, memory: None };
    let parts = match outcome.size {
        Size::Toy => vec![Part { nodes: 5, state: State { services: 10, pods: 2 }, rate: 10, seconds: 2, ..thousand }],
        Size::Usual => vec![Part { seconds: 30, ..thousand }],
        Size::Full => {
            let most = Part { nodes: 5_000, rate: 20, lag: 1_000.0, memory: Some(1_536.0), ..thousand };
            vec![thousand, most]
        }
    };
    let runtime = crate::support::alone();
    outcome.detail = json!({});
    for part in parts {
        let detail = runtime.block_on(measure(outcome, &part));
        outcome.detail[part.nodes.to_string()] = detail;
    }
}

async fn measure(outcome: &mut Outcome, part: &Part) -> Value {
    let Part { nodes, state, rate, seconds, .. } = *part;
    let server = Server::start().await;
    let made = crowd::make(&server, state);
    let before_mib = server.resident_kib() / 1024.0;
    let hollow = Hollow::start(&server, 1, nodes);
    // The writer has its upkeep to do, and the nodes' first beats come in a heap.
    tokio::time::sleep(Duration::from_secs(outcome.size.pick(1, 5, 10))).await;
    let (idle_mib, idle) = (server.resident_kib() / 1024.0, usage(&server, &hollow).await);
    let (mut most_mib, begun, cpu) = (idle_mib, Instant::now(), (server.cpu(), hollow.cpu()));
    let churned = crowd::churn(&server, state, rate, seconds, &hollow.record, || {
        most_mib = most_mib.max(server.resident_kib() / 1024.0);
    });
    let time = begun.elapsed().as_secs_f64();
    let of_a_core = |now: Duration, then: Duration| (now - then).as_secs_f64() / time * 100.0;
    let cpu = (of_a_core(server.cpu(), cpu.0), of_a_core(hollow.cpu(), cpu.1));
    let hollow_memory = crate::support::memory(hollow.pid());
    let seen = hollow.finish();

    let number = |pointer: &str| seen.pointer(pointer).and_then(Value::as_f64).unwrap();
    let pods = state.all_pods();
    let mut add = |what: &str, aim: Option<f64>, value: f64, unit: Unit, about: &str| {
        let about = format!("{about}; {nodes} nodes, {} Services, {pods} Pods, {rate} changes/s", state.services);
        let figure = Figure::cost(&format!("nodes/{what}-{nodes}"), value, unit, &about);
        outcome.figures.add(aim.into_iter().fold(figure, |figure, aim| figure.aim(Aim::Value(aim))));
    };
    add("lag-p50", None, number("/lag/p50"), Unit::Milliseconds, "from a Pod's change to a node, the middle");
    add("lag-p99", Some(part.lag), number("/lag/p99"), Unit::Milliseconds, "the same, of 99 in 100");
    add("missing", Some(0.0), number("/lag/missing"), Unit::Count, "changes that a node did not get");
    let cut = number("/seen/cut") + number("/seen/tooSlow");
    add("cut", Some(0.0), cut, Unit::Count, "watches that were cut");
    add("memory", part.memory, most_mib, Unit::Mebibytes, "resident memory of the server");
    add("node-memory", None, (idle_mib - before_mib) * 1024.0 / f64::from(nodes), Unit::Kibibytes, "of it, for a node");
    add("server", None, cpu.0, Unit::Percent, "CPU of the server, of a core");
    add("idle-server", None, idle.0, Unit::Percent, "CPU of the server while nothing changes");
    add("hollow", None, cpu.1, Unit::Percent, "CPU of the nodes, all together");
    json!({"made": made, "churned": churned, "seen": seen, "hollowMemory": hollow_memory,
        "idleHollowPercent": idle.1, "serverMiB": {"before": before_mib, "idle": idle_mib, "most": most_mib}})
}

/// The processor time of server and nodes while nothing changes, in percent of a core.
async fn usage(server: &Server, hollow: &Hollow) -> (f64, f64) {
    let (begun, before) = (Instant::now(), (server.cpu(), hollow.cpu()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let percent = |now: Duration, then: Duration| (now - then).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    (percent(server.cpu(), before.0), percent(hollow.cpu(), before.1))
}
