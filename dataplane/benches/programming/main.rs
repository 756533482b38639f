//! What programming a kernel costs, and what a packet pays for it, beside a rule set of kube-proxy's shape in the same run.
//!
//! - a full load from nothing and one endpoint's change, at several sizes, by this crate;
//! - the same with a chain for each Service and each endpoint, written by `nft -f`, as far as patience goes;
//! - new connections per second: direct, through the only Service, and through the last of many, in turns.
//!
//! Everything happens in network namespaces of its own. Figures go to stdout as a table, to `target/bench/dataplane.json`
//! and, with `--docs`, as plots into `docs/`. `PORTOLAN_BENCH_SMALL=1` runs a toy size, `PORTOLAN_BENCH_LONG=1` also
//! loads 10,000 Services in kube-proxy's shape, which takes minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod chains;
mod connections;
mod plans;
mod plot;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use dataplane::nftables::{Dirty, Table};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// Services × endpoints each.
type Size = (u32, u32);

struct Sizes {
    loads: Vec<Size>,
    chains: Vec<Size>,
    changes: u32,
    many: u32,
    rounds: usize,
    round: Duration,
}

fn sizes() -> Sizes {
    if std::env::var_os("PORTOLAN_BENCH_SMALL").is_some() {
        let round = Duration::from_millis(50);
        return Sizes {
            loads: vec![(10, 10), (50, 10)],
            chains: vec![(10, 10)],
            changes: 20,
            many: 50,
            rounds: 2,
            round,
        };
    }
    let long = std::env::var_os("PORTOLAN_BENCH_LONG").is_some();
    Sizes {
        loads: vec![(10, 10), (1000, 10), (10_000, 10), (50_000, 10), (5000, 50)],
        chains: [(10, 10), (1000, 10), (3000, 10)].into_iter().chain(long.then_some((10_000, 10))).collect(),
        changes: 2000,
        many: 50_000,
        rounds: 15,
        round: Duration::from_secs(1),
    }
}

fn main() {
    let sizes = sizes();
    let loads: Vec<Value> = sizes.loads.iter().map(|size| isolated(*size, sizes.changes, load)).collect();
    let chains: Vec<Value> = sizes.chains.iter().map(|size| isolated(*size, 20, chains::load)).collect();
    let connections = connections::measure(sizes.many, sizes.rounds, sizes.round);
    let report = json!({"machine": machine(), "loads": loads, "chains": chains, "connections": connections});
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("target/bench/dataplane.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
    print_table(&report);
    if std::env::args().any(|a| a == "--docs") {
        plot::write(&report, &root.join("docs"));
    }
}

/// Runs `measure` on a thread in a network namespace of its own, which goes with it.
fn isolated(size: Size, changes: u32, measure: fn(Size, u32) -> Value) -> Value {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("making a network namespace (run as root, or under `unshare -Ur`)");
        measure(size, changes)
    });
    thread.join().unwrap()
}

/// Full loads and single changes by this crate.
fn load((services, endpoints): Size, changes: u32) -> Value {
    let mut plan = plans::plan(services, endpoints);
    let mut full = Vec::new();
    let mut table = Table::open().unwrap();
    for _ in 0..3 {
        // From nothing: what was there is removed before, and not in the time that is measured.
        drop(table);
        dataplane::nftables::cleanup().unwrap();
        table = Table::open().unwrap();
        let begin = Instant::now();
        let report = table.program(&plan, &Dirty::All).unwrap();
        full.push(begin.elapsed().as_secs_f64());
        assert!(report.full);
    }
    // The same over a table that is there: a restart.
    drop(table);
    let mut table = Table::open().unwrap();
    let begin = Instant::now();
    assert!(table.program(&plan, &Dirty::All).unwrap().adopted);
    let restart = begin.elapsed().as_secs_f64();

    let mut times = Vec::new();
    for round in 0..changes {
        // Takes an endpoint away, and gives it back when the Service's turn comes again.
        let service = round.wrapping_mul(7919) % services;
        plans::toggle(&mut plan, service, endpoints);
        let dirty = Dirty::Services(BTreeSet::from([plans::key(service)]));
        let begin = Instant::now();
        let report = table.program(&plan, &dirty).unwrap();
        times.push(begin.elapsed().as_secs_f64());
        assert!(!report.full && report.bytes > 0);
    }
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    json!({"services": services, "endpointsEach": endpoints, "fullLoadSeconds": median(full), "restartSeconds": restart,
        "oneChangeSeconds": {"p50": at(0.5), "p99": at(0.99)}})
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown processor");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} × {}, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

#[expect(clippy::print_stdout, reason = "the result")]
fn print_table(report: &Value) {
    let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_f64).unwrap();
    println!("{}", report["machine"].as_str().unwrap());
    println!(
        "Services × endpoints    full load   restart    one change p50      p99    kube-proxy's shape: load   change"
    );
    for row in report["loads"].as_array().unwrap() {
        let same = |c: &&Value| c["services"] == row["services"] && c["endpointsEach"] == row["endpointsEach"];
        let chains = report["chains"].as_array().unwrap().iter().find(same).map_or_else(String::new, |c| {
            let (load, change) = (number(c, "/fullLoadSeconds"), number(c, "/oneChangeSeconds/p50"));
            let ratio = load / number(row, "/fullLoadSeconds");
            format!("{load:>12.2} s (× {ratio:.0}) {:>9.1} ms", change * 1e3)
        });
        println!(
            "{:>8} × {:<10} {:>11.3} s {:>7.3} s {:>13.1} µs {:>8.1} µs {chains}",
            row["services"],
            row["endpointsEach"],
            number(row, "/fullLoadSeconds"),
            number(row, "/restartSeconds"),
            number(row, "/oneChangeSeconds/p50") * 1e6,
            number(row, "/oneChangeSeconds/p99") * 1e6,
        );
    }
    let c = &report["connections"];
    let [direct, only, last] =
        ["direct", "throughTheOnlyService", "throughTheLastOfMany"].map(|k| number(c, &format!("/{k}")));
    println!(
        "new connections per second: direct {direct:.0}, through the only Service {only:.0}, through the last of {} {last:.0}",
        c["many"]
    );
    println!(
        "ratios, medians of rounds side by side: last/only {:.3}, last/direct {:.3}",
        number(c, "/lastToOnly"),
        number(c, "/lastToDirect")
    );
}
