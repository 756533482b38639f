//! The dataplanes beside each other, in one run: what programming a kernel costs by nftables and by both variants of iptables,
//! and what a connection to the last of many Services pays for the way to its rule.
//!
//! - a full load from nothing and one endpoint's change;
//! - new connections per second: direct, by each dataplane, and by rules of iptables that stand one after the other ([`flat`]).
//!
//! Everything happens in network namespaces of its own.

mod flat;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bench::figures::{Figure, Figures, Unit};
use dataplane::xtables::variant::Variant;
use dataplane::{Dirty, Plan, Report, iptables, nftables};
use serde_json::{Value, json};

use crate::case::Outcome;
use crate::plot::{self, Axis, even, powers};
use crate::support::namespace::isolated;
use crate::support::plans::{self, Endpoints};
use crate::support::{connections, median, number, spread};

struct Sizes {
    /// Services with ten endpoints each.
    services: Vec<u32>,
    changes: u32,
    rounds: usize,
    round: Duration,
}

/// A node has few of a large cluster's endpoints: one of a hundred, which is still a thousand where there are 100,000.
const ENDPOINTS: Endpoints = Endpoints { each: 10, one_of: 100 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nftables,
    Iptables(Variant),
}

impl Kind {
    const ALL: [Self; 3] = [Self::Nftables, Self::Iptables(Variant::Legacy), Self::Iptables(Variant::Nft)];

    /// In the names of figures.
    fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables(Variant::Legacy) => "legacy",
            Self::Iptables(Variant::Nft) => "over-nft",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables(Variant::Legacy) => "iptables, legacy",
            Self::Iptables(Variant::Nft) => "iptables over nf_tables",
        }
    }

    /// Opens it in the calling thread's network namespace; what is returned programs it.
    fn open(self) -> Program {
        match self {
            Self::Nftables => {
                let mut table = nftables::Table::open().unwrap();
                Box::new(move |plan, dirty| table.program(plan, dirty).unwrap())
            }
            Self::Iptables(variant) => {
                let options = iptables::Options { variant: Some(variant) };
                let mut tables = iptables::Tables::open(options).unwrap();
                Box::new(move |plan, dirty| tables.program(plan, dirty).unwrap())
            }
        }
    }
}

type Program = Box<dyn FnMut(&Plan, &Dirty) -> Report + Send>;

pub fn run(outcome: &mut Outcome) {
    let toy = Sizes { services: vec![10, 50], changes: 3, rounds: 1, round: Duration::from_millis(50) };
    let usual = || Sizes { services: vec![10, 1000, 10_000], changes: 30, rounds: 9, round: Duration::from_secs(1) };
    let sizes = outcome.size.pick(toy, usual(), usual());
    let mut loads = Vec::new();
    for services in &sizes.services {
        for kind in Kind::ALL {
            let row = load(kind, *services, sizes.changes);
            add(&mut outcome.figures, kind, *services, &row);
            loads.push(row);
        }
    }
    let connections: Vec<Value> =
        sizes.services.iter().map(|services| connections(*services, sizes.rounds, sizes.round)).collect();
    for row in &connections {
        for path in row["paths"].as_array().unwrap() {
            let (word, name) = (path["word"].as_str().unwrap(), path["path"].as_str().unwrap());
            let of = |word: &str| format!("dataplanes/connections-{word}-{}", row["services"]);
            let about = format!("new connections through the last of {} Services: {name}", row["services"]);
            let figure = Figure::rate(&of(word), number(path, "/perSecond"), Unit::PerSecond, &about);
            outcome.figures.add(if word == "nftables" { figure } else { figure.beside(&of("nftables")) });
        }
    }
    draw(outcome, &loads, &connections);
    outcome.detail = json!({"loads": loads, "connections": connections});
}

fn add(figures: &mut Figures, kind: Kind, services: u32, row: &Value) {
    for (what, pointer, scale, unit, about) in [
        ("load", "/fullLoadSeconds", 1.0, Unit::Seconds, "full load"),
        ("change", "/oneChangeSeconds/p50", 1e3, Unit::Milliseconds, "one endpoint's change, p50"),
    ] {
        let of = |word: &str| format!("dataplanes/{what}-{word}-{services}");
        let about = format!("{about}: {}, {services} Services × {} endpoints", kind.name(), ENDPOINTS.each);
        let figure = Figure::cost(&of(kind.word()), number(row, pointer) * scale, unit, &about);
        figures.add(if kind == Kind::Nftables { figure } else { figure.beside(&of("nftables")) });
    }
}

fn draw(outcome: &Outcome, loads: &[Value], connections: &[Value]) {
    for (what, title, pointer) in [
        ("load", "A full load: Services with 10 endpoints each", "/fullLoadSeconds"),
        ("change", "One endpoint's change", "/oneChangeSeconds/p50"),
    ] {
        let line = |kind: Kind| {
            let rows = loads.iter().filter(|row| row["dataplane"] == kind.name());
            (kind.name().to_owned(), rows.map(|row| (number(row, "/services"), number(row, pointer) * 1e3)).collect())
        };
        plot::lines(&outcome.plot(what), title, powers("Services"), powers("milliseconds"), &Kind::ALL.map(line));
    }
    let count = connections[0]["paths"].as_array().unwrap().len();
    let line = |n: usize| {
        let points = connections.iter().map(|row| (number(row, "/services"), number(&row["paths"][n], "/toNftables")));
        (connections[0]["paths"][n]["path"].as_str().unwrap().to_owned(), points.collect())
    };
    let lines: Vec<plot::Line> = (0..count).map(line).collect();
    let ratio: Axis = even("nftables = 1");
    let title = "New connections through the last Service";
    plot::lines(&outcome.plot("connections"), title, powers("Services"), ratio, &lines);
}

/// Full loads and single changes, in a network namespace that goes with them.
fn load(kind: Kind, services: u32, changes: u32) -> Value {
    isolated(move || {
        let mut plan = plans::plan(services, ENDPOINTS);
        let begin = Instant::now();
        let mut program = kind.open();
        program(&plan, &Dirty::All);
        let full = begin.elapsed().as_secs_f64();
        let mut times = Vec::new();
        for round in 0..changes {
            // Takes an endpoint away, and gives it back when the Service's turn comes again.
            let service = round.wrapping_mul(7919) % services;
            plans::toggle(&mut plan, service, ENDPOINTS);
            let dirty = Dirty::Services(BTreeSet::from([plans::key(service)]));
            let begin = Instant::now();
            let report = program(&plan, &dirty);
            times.push(begin.elapsed().as_secs_f64());
            assert!(!report.full && report.bytes > 0);
        }
        json!({"dataplane": kind.name(), "services": services, "fullLoadSeconds": full, "oneChangeSeconds": spread(&times)})
    })
}

/// New connections per second through the last of so many Services: medians of rounds, and of the ratios to nftables in each.
fn connections(services: u32, rounds: usize, round: Duration) -> Value {
    let by = |kind: Kind| {
        connections::Path::new(services, move || {
            let mut plan = plans::plan(services, Endpoints { each: 1, ..ENDPOINTS });
            plans::lead(&mut plan, services - 1, connections::SERVER);
            let mut program = kind.open();
            program(&plan, &Dirty::All);
            program
        })
    };
    let flat = |variant| connections::Path::new(services, move || flat::write(variant, services));
    let mut names: Vec<(String, String)> =
        Kind::ALL.iter().map(|kind| (kind.word().to_owned(), kind.name().to_owned())).collect();
    let mut paths: Vec<_> = Kind::ALL.into_iter().map(by).collect();
    for variant in Variant::ALL {
        let kind = Kind::Iptables(variant);
        names.push((format!("{}-one-chain", kind.word()), format!("{}, one chain", kind.name())));
        paths.push(flat(variant));
    }
    let rounds = connections::measure(&paths, rounds, round);
    let rate = |n: usize| median(rounds.iter().map(|r| r[n]).collect());
    let ratio = |n: usize| median(rounds.iter().map(|r| r[n] / r[1]).collect());
    let paths: Vec<Value> = (1..)
        .zip(&names)
        .map(|(n, (word, name))| json!({"word": word, "path": name, "perSecond": rate(n), "toNftables": ratio(n)}))
        .collect();
    json!({"services": services, "direct": {"perSecond": rate(0), "toNftables": ratio(0)}, "paths": paths})
}
