//! Durable creates of Services through the whole API, beside what others make of a durable write of as many bytes.
//!
//! Ours is TLS, authentication, validation, the allocation of an address, and a transaction of four objects: the Service, its
//! EndpointSlice, Endpoints and IPAddress. The peers' is one put or one row of the size of the Service alone, without TLS.
//! Each client has a connection of its own and one request under way. etcd's many clients also share fewer connections, as in
//! its own benchmark; the better of both counts.
//!
//! Rounds go in turns, and every round of everybody begins empty: what a shared disk does meanwhile meets all alike.

mod round;
mod writers;

use bench::figures::{Aim, Figure, Unit};
use serde_json::json;

use crate::case::Outcome;
use crate::plot::{lines, powers};
use crate::support::{fdatasync_rate, median, raise_file_limit, target};
use round::Rounds;
use writers::{creates, inserts, puts};

const FEW: usize = 64;
const MANY: usize = 1_000;
/// Among how many connections etcd's many clients are shared in the second of its rounds.
const SHARED: usize = 100;

#[derive(Default)]
struct Measured {
    disk: Vec<f64>,
    ours: Rounds,
    etcd: Rounds,
    postgres: Rounds,
    ours_many: Rounds,
    etcd_many: Rounds,
    etcd_shared: Rounds,
    bytes: usize,
}

impl Measured {
    /// etcd with many clients, over as many connections or fewer.
    fn etcd_at_best(&self) -> &Rounds {
        let shared = self.etcd_shared.per_second() > self.etcd_many.per_second();
        if shared { &self.etcd_shared } else { &self.etcd_many }
    }
}

pub fn run(outcome: &mut Outcome) {
    let (rounds, count, many) = outcome.size.pick((1, 200, 100), (3, 20_000, MANY), (7, 30_000, MANY));
    raise_file_limit();
    let runtime = crate::support::alone();
    let measured = runtime.block_on(tokio::task::LocalSet::new().run_until(measure(rounds, count, many)));
    figures(outcome, &measured, count);
    plot(outcome, &measured);
}

async fn measure(rounds: usize, count: usize, many: usize) -> Measured {
    std::fs::create_dir_all(target()).unwrap();
    let dir = tempfile::tempdir_in(target()).unwrap();
    let mut all = Measured::default();
    for _ in 0..rounds {
        all.disk.push(fdatasync_rate(dir.path(), count as u32 / 10));
        let (round, bytes) = creates(FEW, count).await;
        all.ours.0.push(round);
        all.bytes = bytes;
        let value = "v".repeat(bytes);
        all.etcd.0.push(puts(FEW, FEW, count, value.as_bytes()).await);
        all.postgres.0.push(inserts(FEW, count, &value));
        all.ours_many.0.push(creates(many, count).await.0);
        all.etcd_many.0.push(puts(many, many, count, value.as_bytes()).await);
        all.etcd_shared.0.push(puts(many, many.min(SHARED), count, value.as_bytes()).await);
    }
    all
}

fn figures(outcome: &mut Outcome, all: &Measured, count: usize) {
    let etcd_many = all.etcd_at_best();
    let rate = |name: &str, value: f64, about: &str| Figure::rate(name, value, Unit::PerSecond, about);
    let ms = |name: &str, value: f64, about: &str| Figure::cost(name, value, Unit::Milliseconds, about);
    let mib = |name: &str, value: f64, about: &str| Figure::cost(name, value, Unit::Mebibytes, about);
    let figures = &mut outcome.figures;
    figures.add(rate("creates/fdatasync", median(all.disk.clone()), "write of 4 KiB and fdatasync, one file"));
    let about = "durable puts into etcd, as large as a Service, 64 clients";
    figures.add(rate("creates/etcd-64", all.etcd.per_second(), about));
    figures.add(rate("creates/etcd-1000", etcd_many.per_second(), "the same, 1,000 clients"));
    let about = "rows inserted into PostgreSQL, each durable by itself, 64 clients";
    figures.add(rate("creates/postgresql-64", all.postgres.per_second(), about).beside("creates/etcd-64"));
    let about = "Services created through the whole API, durable, with what follows from them, 64 clients";
    let ours = rate("creates/ours-64", all.ours.per_second(), about);
    figures.add(ours.beside("creates/etcd-64").aim(Aim::Ratio(1.0)));
    let ours = rate("creates/ours-1000", all.ours_many.per_second(), "the same, 1,000 clients");
    figures.add(ours.beside("creates/etcd-1000").aim(Aim::Ratio(1.0)));
    let errors = all.ours_many.errors() as f64;
    figures.add(
        Figure::cost("creates/errors-1000", errors, Unit::Count, "writes that failed with 1,000 clients")
            .aim(Aim::Value(0.0)),
    );
    for (name, rounds, whose) in [
        ("etcd-64", &all.etcd, "a put into etcd"),
        ("postgresql-64", &all.postgres, "a row"),
        ("ours-64", &all.ours, "a create"),
        ("etcd-1000", etcd_many, "a put into etcd"),
        ("ours-1000", &all.ours_many, "a create"),
    ] {
        let (_, clients) = name.rsplit_once('-').unwrap();
        for (q, word) in [(0.5, "p50"), (0.99, "p99")] {
            let about = format!("{whose}, with {clients} clients: {word}");
            let figure = ms(&format!("creates/{word}-{name}"), rounds.times().ms(q), &about);
            let beside = format!("creates/{word}-etcd-{clients}");
            figures.add(if name.starts_with("ours") { figure.beside(&beside) } else { figure });
        }
    }
    let about = format!("resident memory of etcd after {count} puts by 1,000 clients");
    figures.add(mib("creates/memory-etcd-1000", etcd_many.memory_mib(), &about));
    let about = format!("resident memory of the server after {count} creates, which are four times as many objects");
    figures.add(mib("creates/memory-ours-1000", all.ours_many.memory_mib(), &about).beside("creates/memory-etcd-1000"));
    outcome.detail = json!({"bytes": all.bytes, "writes": count, "fdatasyncPerSecond": all.disk,
        "64": {"ours": all.ours.detail(), "etcd": all.etcd.detail(), "postgresql": all.postgres.detail()},
        "1000": {"ours": all.ours_many.detail(), "etcd": all.etcd_many.detail(), "etcdShared": all.etcd_shared.detail()}});
}

/// How long the slowest of so many writes took.
fn plot(outcome: &Outcome, all: &Measured) {
    let line = |name: &str, rounds: &Rounds| {
        let times = rounds.times();
        let points = [1.1, 1.5, 2.0, 4.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0].into_iter();
        let points = points.filter(|of| *of <= times.count() as f64).map(|of| (of, times.ms(1.0 - 1.0 / of))).collect();
        (name.to_owned(), points)
    };
    let drawn = [
        line("Portolan, 64 clients", &all.ours),
        line("etcd, 64 clients", &all.etcd),
        line("PostgreSQL, 64 clients", &all.postgres),
        line("Portolan, 1,000 clients", &all.ours_many),
        line("etcd, 1,000 clients", all.etcd_at_best()),
    ];
    let (x, y) = (powers("one of so many writes takes longer"), powers("milliseconds"));
    lines(&outcome.plot("latency"), "Durable writes: how long one takes", x, y, &drawn);
}
