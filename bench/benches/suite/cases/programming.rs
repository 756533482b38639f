//! What programming a kernel costs, and what a packet pays for it, beside a rule set of kube-proxy's shape in the same run.
//!
//! - a full load from nothing and one endpoint's change, at several sizes, by this crate;
//! - the same with a chain for each Service and each endpoint, written by `nft -f`, as far as patience goes;
//! - new connections per second: direct, through the only Service, and through the last of many, in turns.
//!
//! Everything happens in network namespaces of its own. A full run also loads 10,000 Services in kube-proxy's shape, which
//! takes minutes.

mod chains;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bench::figures::{Aim, Figure, Figures, Unit};
use dataplane::Dirty;
use dataplane::nftables::Table;
use serde_json::{Value, json};

use crate::case::{self, Outcome};
use crate::plot::{self, powers};
use crate::support::namespace::isolated;
use crate::support::plans::{self, Endpoints};
use crate::support::{connections, median, number, spread};

/// Of how many endpoints one is on this node: as in a small cluster, which is the most that it can be.
const ONE_OF: u32 = 3;

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

fn sizes(size: case::Size) -> Sizes {
    if size == case::Size::Toy {
        let (loads, chains) = (vec![(10, 10), (50, 10)], vec![(10, 10)]);
        return Sizes { loads, chains, changes: 20, many: 50, rounds: 2, round: Duration::from_millis(50) };
    }
    let long = (size == case::Size::Full).then_some((10_000, 10));
    Sizes {
        loads: vec![(10, 10), (1000, 10), (10_000, 10), (50_000, 10), (5000, 50)],
        chains: [(10, 10), (1000, 10), (3000, 10)].into_iter().chain(long).collect(),
        changes: 2000,
        many: 50_000,
        rounds: 15,
        round: Duration::from_secs(1),
    }
}

pub fn run(outcome: &mut Outcome) {
    let sizes = sizes(outcome.size);
    let changes = sizes.changes;
    let loads: Vec<Value> = sizes.loads.iter().copied().map(|size| isolated(move || load(size, changes))).collect();
    let chains: Vec<Value> =
        sizes.chains.iter().copied().map(|size| isolated(move || chains::load(size, 20))).collect();
    let connections = through(sizes.many, sizes.rounds, sizes.round);
    let figures = &mut outcome.figures;
    chains.iter().for_each(|row| add(figures, "chains-", "a chain per Service and endpoint, nft -f", row));
    loads.iter().for_each(|row| add(figures, "", "Portolan", row));
    for (name, pointer, about) in [
        ("programming/direct", "/direct", "connections per second without a Service".to_owned()),
        ("programming/through-one", "/throughTheOnlyService", "new connections through the only Service".to_owned()),
        (
            "programming/through-last",
            "/throughTheLastOfMany",
            format!("new connections through the last of {} Services", sizes.many),
        ),
    ] {
        let figure = Figure::rate(name, number(&connections, pointer), Unit::PerSecond, &about);
        figures.add(if name == "programming/direct" { figure } else { figure.beside("programming/direct") });
    }
    for (what, title, pointer) in [
        ("load", "A full load: Services with 10 endpoints each", "/fullLoadSeconds"),
        ("change", "One endpoint's change", "/oneChangeSeconds/p50"),
    ] {
        // The sizes of one line have equally many endpoints.
        let of = |rows: &[Value]| -> Vec<(f64, f64)> {
            let rows = rows.iter().filter(|row| row["endpointsEach"] == 10);
            rows.map(|row| (number(row, "/services"), number(row, pointer) * 1e3)).collect()
        };
        let lines = [("Portolan".to_owned(), of(&loads)), ("a chain per Service and endpoint".to_owned(), of(&chains))];
        plot::lines(&outcome.plot(what), title, powers("Services"), powers("milliseconds"), &lines);
    }
    outcome.detail = json!({"loads": loads, "chains": chains, "connections": connections});
}

/// Of one size, what it costs; beside the rule set of kube-proxy's shape, where that was measured.
fn add(figures: &mut Figures, prefix: &str, whose: &str, row: &Value) {
    let at = format!("{}x{}", row["services"], row["endpointsEach"]);
    for (what, pointer, scale, unit, about) in [
        ("load", "/fullLoadSeconds", 1.0, Unit::Seconds, "full load"),
        ("change-p50", "/oneChangeSeconds/p50", 1e6, Unit::Microseconds, "one endpoint's change, p50"),
        ("change-p99", "/oneChangeSeconds/p99", 1e6, Unit::Microseconds, "one endpoint's change, p99"),
    ] {
        let name = format!("programming/{prefix}{what}-{at}");
        let mut figure = Figure::cost(&name, number(row, pointer) * scale, unit, &format!("{about}; {whose}, {at}"));
        let beside = format!("programming/chains-{what}-{at}");
        if name != beside && figures.get(&beside).is_some() {
            figure = figure.beside(&beside);
        }
        figure = match (what, &at[..]) {
            ("load", "50000x10") => figure.aim(Aim::Value(2.5)),
            ("load", "5000x50") => figure.aim(Aim::Value(1.0)),
            _ => figure,
        };
        figures.add(figure);
    }
}

/// Full loads and single changes by this crate.
fn load((services, endpoints): Size, changes: u32) -> Value {
    let of = Endpoints { each: endpoints, one_of: ONE_OF };
    let mut plan = plans::plan(services, of);
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
        plans::toggle(&mut plan, service, of);
        let dirty = Dirty::Services(BTreeSet::from([plans::key(service)]));
        let begin = Instant::now();
        let report = table.program(&plan, &dirty).unwrap();
        times.push(begin.elapsed().as_secs_f64());
        assert!(!report.full && report.bytes > 0);
    }
    json!({"services": services, "endpointsEach": endpoints, "fullLoadSeconds": median(full), "restartSeconds": restart,
        "oneChangeSeconds": spread(&times)})
}

/// New connections per second through the only Service and through the last of many; medians of so many rounds of this length,
/// and of the ratios within each.
fn through(many: u32, rounds: usize, round: Duration) -> Value {
    let path = |services| {
        connections::Path::new(services, move || {
            let mut plan = plans::plan(services, Endpoints { each: 10, one_of: ONE_OF });
            plans::lead(&mut plan, services - 1, connections::SERVER);
            let mut table = Table::open().unwrap();
            table.program(&plan, &Dirty::All).unwrap();
            table
        })
    };
    let rounds = connections::measure(&[path(1), path(many)], rounds, round);
    let rate = |n: usize| median(rounds.iter().map(|r| r[n]).collect());
    let ratio = |a: usize, b: usize| median(rounds.iter().map(|r| r[a] / r[b]).collect());
    json!({"many": many, "lastToOnly": ratio(2, 1), "lastToDirect": ratio(2, 0),
        "direct": rate(0), "throughTheOnlyService": rate(1), "throughTheLastOfMany": rate(2)})
}
