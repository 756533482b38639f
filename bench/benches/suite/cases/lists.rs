//! What a long list costs: 10,000 Services as JSON, as a Table and with gzip, beside a copy of the same bytes in memory.

use std::time::{Duration, Instant};

use bench::figures::{Figure, Unit};
use serde_json::{Value, json};

use crate::case::Outcome;
use crate::support::wire::{Dialer, Wire};
use crate::support::{Server, many_threads, median, number, quantile, rate, service};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const TABLE: &str = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n";
const GZIP: &str = "Accept-Encoding: gzip\r\n";

pub fn run(outcome: &mut Outcome) {
    let (services, rounds) = outcome.size.pick((200, 3), (10_000, 21), (10_000, 21));
    let lists = many_threads().block_on(lists(services, rounds, outcome.size.settling()));
    let copy = number(&lists, "/copyMs");
    let copied = "a copy in memory of the JSON list";
    outcome.figures.add(Figure::cost("lists/copy", copy, Unit::Milliseconds, copied));
    for (name, pointer, what) in [
        ("lists/json", "/json/ms", "JSON"),
        ("lists/table", "/table/ms", "a Table"),
        ("lists/json-gzip", "/jsonGzip/ms", "JSON with gzip"),
        ("lists/table-gzip", "/tableGzip/ms", "a Table with gzip"),
    ] {
        let about = format!("list of {services} Services as {what}");
        let figure = Figure::cost(name, number(&lists, pointer), Unit::Milliseconds, &about);
        outcome.figures.add(figure.beside("lists/copy"));
    }
    outcome.detail = lists;
}

async fn lists(services: usize, rounds: usize, settling: Duration) -> Value {
    let server = Server::start().await;
    rate(&server, services, |client, i| async move {
        let name = format!("s{i}");
        client.post(SERVICES, &service(&name, &name)).await.unwrap();
    })
    .await;
    tokio::time::sleep(settling).await;
    let mut wire = Dialer::new(&server).connect().await;
    let mut report = json!({"services": services, "serverMiB": server.resident_kib() / 1024.0});
    for (name, headers) in
        [("json", ""), ("table", TABLE), ("jsonGzip", GZIP), ("tableGzip", &format!("{TABLE}{GZIP}"))]
    {
        report[name] = list(&server, &mut wire, headers, rounds).await;
    }
    let bytes = report["json"]["bytes"].as_u64().unwrap() as usize;
    report["copyMs"] = copy_ms(bytes).into();
    report
}

async fn list(server: &Server, wire: &mut Wire, headers: &str, rounds: usize) -> Value {
    let path = "/api/v1/services";
    let bytes = wire.fetch(path, headers).await;
    let mut times = Vec::new();
    let cpu = server.cpu();
    for _ in 0..rounds {
        let start = Instant::now();
        wire.fetch(path, headers).await;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu = (server.cpu() - cpu).as_secs_f64() * 1000.0 / rounds as f64;
    json!({"bytes": bytes, "ms": median(times.clone()), "slowestMs": quantile(times, 1.0), "serverCpuMs": cpu})
}

/// The time of a copy of so many bytes from one buffer to another, both in use already.
fn copy_ms(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; bytes], vec![2u8; bytes]);
    let times = (0..11).map(|_| {
        let start = Instant::now();
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        start.elapsed().as_secs_f64() * 1000.0
    });
    median(times.collect())
}
