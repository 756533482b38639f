//! What others do to the tables is undone, or cannot be done at all.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use dataplane::Plan;
use dataplane::nftables::{Dirty, Ownership, Repairs, Table};
use nix::libc;
use serde_json::Value;

use crate::lab::{Namespace, with_rights};
use crate::plans::{Web, plan};

/// How a deed is undone where it is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Elements,
    Table,
    /// It does not concern the tables.
    Nobody,
}

/// What somebody may do, as arguments of `nft`.
const DEEDS: [(&str, By); 18] = [
    ("delete element ip portolan services { 10.96.0.1 . tcp . 80 }", By::Elements),
    ("delete element ip6 portolan services { fd00:10:96::1 . tcp . 80 }", By::Elements),
    ("add element ip portolan services { 10.96.9.9 . tcp . 80 : 0x00000001 }", By::Elements),
    (
        "delete element ip portolan services { 10.96.0.1 . tcp . 80 }; \
         add element ip portolan services { 10.96.0.1 . tcp . 80 : 0x00000001 }",
        By::Elements,
    ),
    ("delete element ip portolan service-cidrs { 10.96.0.0/16 }", By::Elements),
    ("add element ip6 portolan local-clients { fd00:ffff::/64 }", By::Elements),
    ("add element ip portolan balancers { 0x00000077 : goto refuse }", By::Elements),
    ("flush map ip portolan draws", By::Elements),
    ("flush map ip portolan services; flush map ip6 portolan endpoints", By::Elements),
    ("add element ip portolan affinity { 172.31.255.100 . 0x00000800 timeout 1h : 0x00000001 }", By::Elements),
    ("flush chain ip portolan outside", By::Table),
    ("add rule ip portolan outside drop", By::Table),
    ("insert rule ip6 portolan balance accept", By::Table),
    ("add set ip portolan strange { type ipv4_addr; }", By::Table),
    ("delete table ip portolan", By::Table),
    ("flush ruleset", By::Table),
    ("delete table ip portolan; add table ip portolan", By::Table),
    ("add table ip other; add chain ip other forward { type filter hook forward priority 0; }", By::Nobody),
];

fn nft(commands: &str) -> bool {
    let output = Command::new("nft").arg(commands).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || error.contains("Operation not permitted"), "{commands}: {error}");
    output.status.success()
}

/// Both tables as `nft` lists them, without handles, elements sorted.
fn state() -> String {
    let list = |family: &str| {
        let output = Command::new("nft").args(["-j", "list", "table", family, "portolan"]).output().unwrap();
        let mut listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        normalise(&mut listed);
        listed.to_string()
    };
    list("ip") + &list("ip6")
}

fn normalise(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(normalise),
        Value::Object(object) => {
            object.remove("handle");
            object.remove("metainfo");
            if let Some(Value::Array(elements)) = object.get_mut("elem") {
                elements.sort_by_cached_key(Value::to_string);
            }
            object.values_mut().for_each(normalise);
        }
        _ => {}
    }
}

/// Whether the table has something to read within a moment.
fn disturbed(table: &Table) -> bool {
    let mut fd = libc::pollfd { fd: table.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one `pollfd` is passed, and its descriptor is open for as long as the table is borrowed.
    unsafe { libc::poll(&raw mut fd, 1, 50) > 0 }
}

fn services() -> Vec<Web> {
    let affinity = Web { affinity_seconds: Some(3600), ..Web::new(2, &[(1, 2), (1, 3), (2, 2)]) };
    vec![Web { node_port: Some((30001, true)), ..Web::new(1, &[(1, 2), (2, 2)]) }, affinity, Web::new(3, &[])]
}

fn loaded(ownership: Ownership) -> (Table, Plan) {
    let mut table = Table::open_with(ownership).unwrap();
    let plan = plan(1, &services());
    table.program(&plan, &Dirty::All).unwrap();
    (table, plan)
}

/// Repairs until there is nothing left to read.
fn settle(table: &mut Table, plan: &Plan) -> Repairs {
    let mut sum = Repairs::default();
    while disturbed(table) {
        let repairs = table.repair(plan).unwrap().repairs;
        sum.elements += repairs.elements;
        sum.tables += repairs.tables;
    }
    sum
}

#[test]
fn whatever_others_do_is_undone() {
    with_rights("repair::whatever_others_do_is_undone", || {
        Namespace::new().run(|| {
            let (mut table, plan) = loaded(Ownership::Open);
            let before = state();
            assert!(before.len() > 10_000, "{before}");
            let mut times = Vec::new();
            for (commands, by) in DEEDS {
                assert!(nft(commands), "{commands}");
                let begin = Instant::now();
                assert!(disturbed(&table), "{commands}");
                let repairs = table.repair(&plan).unwrap().repairs;
                let took = begin.elapsed();
                let expected = match by {
                    By::Elements => Repairs { elements: 1, tables: 0 },
                    By::Table => Repairs { elements: 0, tables: 1 },
                    By::Nobody => Repairs::default(),
                };
                assert_eq!(repairs, expected, "{commands}");
                assert_eq!(state(), before, "{commands}");
                println!("{took:?} {commands}");
                times.push(took);
                assert_eq!(settle(&mut table, &plan), Repairs::default(), "{commands}: our own change is no news");
            }
            times.sort_unstable();
            // Other tests run beside this one: only most of them are sure to have had a processor at once.
            assert!(times[times.len() * 3 / 4] < Duration::from_millis(100), "{times:?}");
            let handle =
                Command::new("nft").args(["-a", "list", "chain", "ip", "portolan", "refuse"]).output().unwrap();
            let listed = String::from_utf8(handle.stdout).unwrap();
            let handle = listed.lines().find(|l| l.contains("reject")).unwrap().rsplit(' ').next().unwrap();
            assert!(nft(&format!("delete rule ip portolan refuse handle {handle}")));
            assert_eq!(settle(&mut table, &plan).tables, 1);
            assert_eq!(state(), before);
        });
    });
}

#[test]
fn an_owned_table_cannot_be_changed() {
    with_rights("repair::an_owned_table_cannot_be_changed", || {
        Namespace::new().run(|| {
            let (mut table, plan) = loaded(Ownership::Owned);
            let before = state();
            for (commands, by) in DEEDS {
                let done = nft(commands);
                // `flush ruleset` passes an owned table by.
                assert_eq!(done, by == By::Nobody || commands == "flush ruleset", "{commands}");
                assert_eq!(state(), before, "{commands}");
            }
            assert!(!disturbed(&table), "nothing is heard of a table that nobody else can change");
            assert_eq!(table.repair(&plan).unwrap().repairs, Repairs::default());
        });
    });
}

/// A change of ours is made for what the kernel has: what came before it is undone before it.
#[test]
fn a_change_meets_damage() {
    with_rights("repair::a_change_meets_damage", || {
        Namespace::new().run(|| {
            let (mut table, mut plan) = loaded(Ownership::Open);
            let mut program = |table: &mut Table, number: u16, pods: &[(u8, u8)]| {
                let web = Web::new(number, pods);
                plan.revision += 1;
                plan.services.insert(web.key(), web.plan().into());
                let report = table.program(&plan, &Dirty::Services([web.key()].into())).unwrap();
                let heard = settle(table, &plan);
                assert_eq!(heard, Repairs::default(), "everything was heard in time");
                report
            };
            assert_eq!(program(&mut table, 4, &[(1, 2)]).repairs, Repairs::default());
            // Nobody has listened yet when the next change comes.
            assert!(nft("flush map ip portolan services"));
            let report = program(&mut table, 5, &[(1, 2)]);
            assert_eq!((report.full, report.repairs), (false, Repairs { elements: 1, tables: 0 }));
            // The stranger has just written what we are about to write, with another meaning.
            assert!(nft("add element ip portolan services { 10.96.0.6 . tcp . 80 : 0x00000001 }"));
            let report = program(&mut table, 6, &[(1, 2)]);
            assert_eq!((report.full, report.repairs), (false, Repairs { elements: 1, tables: 0 }));
            assert!(nft("delete table ip6 portolan"));
            let report = program(&mut table, 7, &[(1, 2)]);
            assert_eq!((report.full, report.repairs), (true, Repairs { elements: 0, tables: 1 }));
            let repaired = state();
            table.forget();
            table.program(&plan, &Dirty::All).unwrap();
            assert_eq!(state().len(), repaired.len());
        });
    });
}

/// More changes than the socket can hold: the kernel says that messages were lost.
#[test]
fn a_flood_is_answered_by_a_whole_load() {
    with_rights("repair::a_flood_is_answered_by_a_whole_load", || {
        Namespace::new().run(|| {
            let mut table = Table::open_with(Ownership::Open).unwrap();
            let pods: Vec<_> = (1..=250).map(|host| (2, host)).collect();
            let plan = plan(1, &(1..=80).map(|n| Web::new(n, &pods)).collect::<Vec<_>>());
            table.program(&plan, &Dirty::All).unwrap();
            let count = |set: &str| {
                let output = Command::new("nft").args(["list", "map", "ip", "portolan", set]).output().unwrap();
                String::from_utf8(output.stdout).unwrap().matches(" : ").count()
            };
            let before = (count("draws"), count("endpoints"));
            assert!(nft("flush map ip portolan draws; flush map ip6 portolan draws; flush map ip6 portolan endpoints"));
            assert!(count("draws") < before.0 / 2);
            assert_eq!(settle(&mut table, &plan), Repairs { elements: 0, tables: 1 });
            assert_eq!((count("draws"), count("endpoints")), before);
        });
    });
}
