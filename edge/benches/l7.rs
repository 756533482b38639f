//! Requests per second, 99th percentile and processor time of the proxy, beside nginx and HAProxy.
//!
//! The three are processes of their own on loopback with the same two backends behind them, and take turns, several times over,
//! so that whatever else the machine does meets all alike. A client asks on 64 connections that stay, as fast as it is
//! answered. Client, proxy and backends share the machine's cores: what a request costs in processor time is printed, too,
//! since that says what the proxy would do with cores of its own.
//!
//! `PORTOLAN_BENCH_SECONDS` is the length of one turn, 3 by default, `PORTOLAN_BENCH_ROUNDS` their number, 5 by default.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

#[path = "l7/load.rs"]
mod load;
#[path = "l7/subjects.rs"]
mod subjects;

use std::time::Duration;

use subjects::{Role, Subject};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections of the client.
const CONNECTIONS: usize = 64;

/// What is to be reached: of nginx's rate.
const AIM: f64 = 0.95;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn main() {
    if let Some(role) = Role::from_environment() {
        return role.play();
    }
    let length = Duration::from_secs(number("PORTOLAN_BENCH_SECONDS", 3));
    let rounds = number("PORTOLAN_BENCH_ROUNDS", 5);
    let work = tempfile::tempdir().unwrap();
    let backends = subjects::backends();
    let all: Vec<Subject> = [
        Some(subjects::portolan(&backends.addresses)),
        subjects::nginx(work.path(), &backends.addresses),
        subjects::haproxy(work.path(), &backends.addresses),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut measured: Vec<Vec<load::Measured>> = all.iter().map(|_| Vec::new()).collect();
    for subject in &all {
        load::run(subject.address, CONNECTIONS, Duration::from_millis(500));
    }
    for _ in 0..rounds {
        for (subject, measured) in all.iter().zip(&mut measured) {
            let before = subject.processor_time();
            let mut run = load::run(subject.address, CONNECTIONS, length);
            run.processor = subject.processor_time() - before;
            measured.push(run);
        }
    }
    println!("\n{CONNECTIONS} connections, {rounds} turns of {length:?} each; medians\n");
    println!("{:10} {:>12} {:>10} {:>10} {:>16} {:>8}", "", "requests/s", "p50", "p99", "µs of processor", "failed");
    let mut rates = Vec::new();
    for (subject, runs) in all.iter().zip(&measured) {
        let median = |of: &dyn Fn(&load::Measured) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let rate = median(&|r| r.rate());
        let (p50, p99) = (median(&|r| r.percentile(0.50)), median(&|r| r.percentile(0.99)));
        let processor = median(&|r| r.processor.as_secs_f64() * 1e6 / r.answered() as f64);
        let failed: u64 = runs.iter().map(|r| r.failed).sum();
        println!("{:10} {rate:>12.0} {p50:>8.2}ms {p99:>8.2}ms {processor:>16.1} {failed:>8}", subject.name);
        rates.push((subject.name, rate, p99, processor));
    }
    let own = rates[0];
    for (name, rate, p99, processor) in &rates[1..] {
        println!(
            "beside {name}: {:.0} % of its rate, {:.0} % of its p99, {:.0} % of its processor time",
            100.0 * own.1 / rate,
            100.0 * own.2 / p99,
            100.0 * own.3 / processor
        );
        if *name == "nginx" && own.1 < AIM * rate {
            println!("short of the aim: {:.0} % of nginx's rate", 100.0 * AIM);
        }
    }
}
