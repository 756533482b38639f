//! One change, many watchers: how late they see it and what that costs the server, ours beside etcd's.
//!
//! Ours: Leases by JSON over TLS; every event has the whole object. etcd's: keys with values as large as such a Lease, over
//! plain gRPC. Every watcher has a connection of its own and is for every change. Changes come in an open loop at rates that
//! rise until one is not borne, or beyond the one of which figures are made. Lags are counted from when a change was to be sent, so that a loop that comes too late hides
//! nothing. The watchers are one thread of this process and the writers another: on two cores they are in the server's way,
//! and equally in either's.

mod servers;
mod watchers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::figures::{Figure, Unit};
use bench::histogram::Times;
use serde_json::{Value, json};

use crate::case::Outcome;
use crate::plot::{lines, powers};
use crate::support::{process, raise_file_limit};
use servers::{Ours, Peer, Server};
use watchers::Seen;

/// Changes under way at once at most, each on a connection of its own.
const WRITERS: usize = 32;

/// The lag that a rate is borne with.
const BORNE_MS: f64 = 200.0;

/// How long the last events may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The rate of which figures are made.
const SHOWN: u64 = 100;

struct Sizes {
    watchers: usize,
    rates: &'static [u64],
    time: Duration,
}

/// What the changes of one rate were like.
struct Rate {
    changes_per_second: u64,
    lags: Times,
    /// That have come until the last of them, by the time since the first change.
    events_per_second: f64,
    missing: u64,
    /// Processor time of the server and of the watchers with the writers, for each event, in microseconds.
    server_micros: f64,
    client_micros: f64,
    /// Of the server, in percent of a core.
    server_percent: f64,
}

/// What one server did with all rates.
struct Run {
    rates: Vec<Rate>,
    watcher_kib: f64,
}

pub fn run(outcome: &mut Outcome) {
    let sizes = outcome.size.pick(
        Sizes { watchers: 20, rates: &[SHOWN], time: Duration::from_millis(500) },
        Sizes { watchers: 1_000, rates: &[10, 30, SHOWN, 200, 400, 800], time: Duration::from_secs(5) },
        Sizes { watchers: 1_000, rates: &[10, 20, 50, SHOWN, 200, 300, 400, 600, 800], time: Duration::from_secs(20) },
    );
    raise_file_limit();
    let runtime = crate::support::alone();
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let (ours, bytes) = {
            let ours = Ours::start().await;
            (climb(&ours, &sizes).await, ours.bytes())
        };
        let etcd = climb(&Peer::start(bytes).await, &sizes).await;
        figures(outcome, &sizes, &ours, &etcd);
        outcome.detail =
            json!({"watchers": sizes.watchers, "bytes": bytes, "ours": detail(&ours), "etcd": detail(&etcd)});
    }));
}

/// Rate after rate, until one is not borne that is no lower than what figures are made of, or events are missing.
async fn climb<S: Server>(server: &S, sizes: &Sizes) -> Run {
    let origin = Instant::now();
    let before = process::memory_mib(server.pid());
    let seen = Seen::new(origin);
    watchers::start(server, sizes.watchers, &seen).await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(server.writer().await);
    }
    all_watch(&mut writers[0], sizes.watchers, &seen).await;
    let watcher_kib = (process::memory_mib(server.pid()) - before) * 1024.0 / sizes.watchers as f64;
    let mut run = Run { rates: Vec::new(), watcher_kib };
    for changes_per_second in sizes.rates {
        let rate;
        (rate, writers) = measure(server, *changes_per_second, sizes, writers, &seen).await;
        let enough = rate.missing > 0 || (!rate.borne() && *changes_per_second >= SHOWN);
        run.rates.push(rate);
        if enough {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    seen.end();
    run
}

impl Rate {
    fn borne(&self) -> bool {
        self.missing == 0 && self.lags.ms(0.99) <= BORNE_MS
    }
}

/// Changes something until a change has reached all.
async fn all_watch<W: servers::Writer>(writer: &mut W, watchers: usize, seen: &Seen) {
    for _ in 0..60 {
        seen.take();
        writer.write(0, seen.now()).await;
        if seen.wait(watchers as u64, Duration::from_secs(1)).await {
            return;
        }
    }
    panic!("{} of {watchers} watchers see changes", seen.take().count());
}

async fn measure<S: Server>(
    server: &S,
    changes_per_second: u64,
    sizes: &Sizes,
    writers: Vec<S::Writer>,
    seen: &Arc<Seen>,
) -> (Rate, Vec<S::Writer>) {
    seen.take();
    let (cpu, own, start) = (process::cpu(server.pid()), process::own(), Instant::now());
    let changes = (changes_per_second as f64 * sizes.time.as_secs_f64()).ceil() as u64;
    let period = Duration::from_secs(1) / changes_per_second as u32;
    let writers = servers::write(writers, changes, period, seen).await;
    let expected = changes * sizes.watchers as u64;
    seen.wait(expected, PATIENCE).await;
    let (took, lags) = (start.elapsed().as_secs_f64(), seen.take());
    let cpu = (process::cpu(server.pid()) - cpu).as_secs_f64();
    let own = (process::own() - own).as_secs_f64();
    let events = lags.count();
    let rate = Rate {
        changes_per_second,
        events_per_second: events as f64 / took,
        missing: expected.saturating_sub(events),
        server_micros: cpu * 1e6 / events as f64,
        client_micros: own * 1e6 / events as f64,
        server_percent: cpu * 100.0 / took,
        lags,
    };
    (rate, writers)
}

fn detail(run: &Run) -> Value {
    let rates = run.rates.iter().map(|rate| {
        json!({"changesPerSecond": rate.changes_per_second, "eventsPerSecond": rate.events_per_second, "lagMs": rate.lags.summary(),
            "missing": rate.missing, "serverMicrosPerEvent": rate.server_micros, "serverPercent": rate.server_percent,
            "clientMicrosPerEvent": rate.client_micros})
    });
    json!({"rates": rates.collect::<Vec<_>>(), "kibPerWatcher": run.watcher_kib})
}

impl Run {
    /// The highest rate of no more than this.
    fn at(&self, changes_per_second: u64) -> &Rate {
        self.rates.iter().rfind(|rate| rate.changes_per_second <= changes_per_second).expect("there is a rate that low")
    }

    /// Events per second at the highest rate that was borne.
    fn borne(&self) -> f64 {
        let borne = self.rates.iter().filter(|rate| rate.borne());
        borne.map(|rate| rate.events_per_second).fold(0.0, f64::max)
    }
}

fn figures(outcome: &mut Outcome, sizes: &Sizes, ours: &Run, etcd: &Run) {
    let watchers = sizes.watchers;
    // One that both have come to: otherwise they would not stand beside each other.
    let shown = ours.at(SHOWN).changes_per_second.min(etcd.at(SHOWN).changes_per_second);
    for (name, run, whose) in [("etcd", etcd, "etcd"), ("ours", ours, "ours")] {
        let rate = run.at(shown);
        let at = format!("{watchers} watchers of {} changes/s", rate.changes_per_second);
        let ms = |q: f64, word: &str| {
            let about = format!("{whose}: change to be sent → event read, {at}: {word}");
            Figure::cost(&format!("fanout/lag-{word}-{name}"), rate.lags.ms(q), Unit::Milliseconds, &about)
        };
        let about = format!("{whose}: processor time of the server for each event of each watcher, {at}");
        let micros = Figure::cost(&format!("fanout/cpu-{name}"), rate.server_micros, Unit::Microseconds, &about);
        let about =
            format!("{whose}: events read by all, at the highest rate with a p99 of no more than {BORNE_MS} ms");
        let events = Figure::rate(&format!("fanout/events-{name}"), run.borne(), Unit::PerSecond, &about);
        let about = format!("{whose}: memory of the server for each watcher that waits, with its connection");
        let memory = Figure::cost(&format!("fanout/memory-{name}"), run.watcher_kib, Unit::Kibibytes, &about);
        for figure in [ms(0.5, "p50"), ms(0.99, "p99"), micros, events, memory] {
            let beside = figure.name.strip_suffix("ours").map(|what| format!("{what}etcd"));
            outcome.figures.add(match beside {
                Some(beside) => figure.beside(&beside),
                None => figure,
            });
        }
    }
    let line = |name: &str, run: &Run, q: f64| {
        let points = run.rates.iter().map(|rate| (rate.changes_per_second as f64, rate.lags.ms(q)));
        (name.to_owned(), points.collect())
    };
    let drawn = [
        line("Portolan, p50", ours, 0.5),
        line("Portolan, p99", ours, 0.99),
        line("etcd, p50", etcd, 0.5),
        line("etcd, p99", etcd, 0.99),
    ];
    let title = format!("{watchers} watchers of every change: lag");
    lines(&outcome.plot("lag"), &title, powers("changes per second"), powers("milliseconds"), &drawn);
    let line = |name: &str, run: &Run| {
        let points = run.rates.iter().map(|rate| (rate.changes_per_second as f64, rate.server_micros));
        (name.to_owned(), points.collect())
    };
    let drawn = [line("Portolan, JSON over TLS", ours), line("etcd, plain gRPC", etcd)];
    let title = format!("{watchers} watchers of every change: processor time of the server");
    lines(&outcome.plot("cpu"), &title, powers("changes per second"), powers("µs per event"), &drawn);
}
