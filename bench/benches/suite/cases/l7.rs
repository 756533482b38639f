//! Requests per second, 99th percentile and processor time of the proxy, beside nginx and HAProxy.
//!
//! The three are processes of their own on loopback with the same two backends behind them, and take turns, several times over,
//! so that whatever else the machine does meets all alike. A client asks on 64 connections that stay, as fast as it is
//! answered. Client, proxy and backends share the machine's cores: what a request costs in processor time is printed, too,
//! since that says what the proxy would do with cores of its own.

mod load;
mod subjects;

use std::time::Duration;

use bench::figures::{Aim, Figure, Unit};
use serde_json::{Value, json};

use subjects::Subject;
pub use subjects::play;

use crate::case::Outcome;
use crate::plot;
use crate::support::median;

/// Connections of the client.
const CONNECTIONS: usize = 64;

pub fn run(outcome: &mut Outcome) {
    let (rounds, length) =
        outcome.size.pick((1, Duration::from_millis(200)), (5, Duration::from_secs(3)), (15, Duration::from_secs(4)));
    let work = tempfile::tempdir().unwrap();
    let backends = subjects::backends();
    let all: [Subject; 3] = [
        subjects::nginx(work.path(), &backends.addresses),
        subjects::haproxy(work.path(), &backends.addresses),
        subjects::portolan(&backends.addresses),
    ];
    let mut measured: Vec<Vec<load::Measured>> = all.iter().map(|_| Vec::new()).collect();
    for subject in &all {
        load::run(subject.address, CONNECTIONS, length / 6);
    }
    for _ in 0..rounds {
        for (subject, measured) in all.iter().zip(&mut measured) {
            let before = subject.process.cpu();
            let mut run = load::run(subject.address, CONNECTIONS, length);
            run.processor = subject.process.cpu() - before;
            measured.push(run);
        }
    }
    let (mut rows, mut bars) = (Vec::<Value>::new(), Vec::new());
    for (subject, runs) in all.iter().zip(&measured) {
        let median = |of: &dyn Fn(&load::Measured) -> f64| median(runs.iter().map(of).collect());
        let row = json!({"name": subject.name, "failed": runs.iter().map(|r| r.failed).sum::<u64>(),
            "requestsPerSecond": median(&|r| r.rate()), "p50Ms": median(&|r| r.percentile(0.50)),
            "p99Ms": median(&|r| r.percentile(0.99)),
            "cpuMicros": median(&|r| r.processor.as_secs_f64() * 1e6 / r.answered() as f64)});
        add(outcome, subject.name, &row);
        bars.push((subject.name.to_owned(), row["requestsPerSecond"].as_f64().unwrap()));
        rows.push(row);
    }
    let title = format!("HTTP requests per second, {CONNECTIONS} connections that stay");
    plot::bars(&outcome.plot("requests"), &title, "/s", &bars);
    outcome.detail =
        json!({"connections": CONNECTIONS, "rounds": rounds, "seconds": length.as_secs_f64(), "subjects": rows});
}

/// Each of the figures of one of the three, beside nginx.
fn add(outcome: &mut Outcome, whose: &str, row: &Value) {
    let value = |name: &str| row[name].as_f64().unwrap();
    let (rate, p99, cpu) = (value("requestsPerSecond"), value("p99Ms"), value("cpuMicros"));
    let requests = format!("HTTP requests through {whose}, {CONNECTIONS} connections that stay");
    for (what, figure) in [
        ("requests", Figure::rate(&format!("l7/requests-{whose}"), rate, Unit::PerSecond, &requests)),
        ("p99", Figure::cost(&format!("l7/p99-{whose}"), p99, Unit::Milliseconds, &format!("{requests}: p99"))),
        (
            "cpu",
            Figure::cost(
                &format!("l7/cpu-{whose}"),
                cpu,
                Unit::Microseconds,
                &format!("processor time of a request through {whose}"),
            ),
        ),
    ] {
        let figure = if whose == "nginx" { figure } else { figure.beside(&format!("l7/{what}-nginx")) };
        let wanted = whose == "portolan" && what == "requests";
        outcome.figures.add(if wanted { figure.aim(Aim::Ratio(0.95)) } else { figure });
    }
}
