//! What others do to the tables is undone, or cannot be done at all.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use dataplane::nftables::{Owner, Ownership, Table};
use dataplane::{Dirty, Repairs};
use dataplane::{Family, Plan};
use ipnet::IpNet;
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

/// Both tables as `nft` lists them, without handles: an object or element in each line, sorted.
fn state() -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["ip", "ip6"] {
        let output = Command::new("nft").args(["-j", "list", "table", family, "portolan"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        for object in listed["nftables"].as_array().into_iter().flatten() {
            let mut object = object.clone();
            let (kind, object) = object.as_object_mut().unwrap().iter_mut().next().unwrap();
            let object = object.as_object_mut().unwrap();
            object.remove("handle");
            let elements = object.remove("elem");
            let name =
                format!("{family} {kind} {}", object.get("name").or(object.get("chain")).unwrap_or(&Value::Null));
            lines.push(format!("{name} {}", Value::from(object.clone())));
            let elements = elements.as_ref().and_then(Value::as_array).into_iter().flatten();
            lines.extend(elements.map(|element| format!("{name} {element}")));
        }
    }
    lines.sort_unstable();
    lines
}

/// Fails with what is different, which is easier to read than two tables.
#[track_caller]
fn same(now: &[String], before: &[String], what: &str) {
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).take(5).cloned().collect()
    };
    assert!(now == before, "{what}\nnow: {:#?}\nbefore: {:#?}", only(now, before), only(before, now));
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
    let mut table = Table::open_with(Owner::Agent, ownership).unwrap();
    let plan = plan(1, &services());
    table.program(&plan, &Dirty::All).unwrap();
    (table, plan)
}

/// Whether this kernel is Linux 6.9 or newer.
fn tables_can_be_owned() -> bool {
    Namespace::new().run(|| {
        let (_table, _) = loaded(Ownership::Owned);
        !nft("delete table ip portolan")
    })
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
            assert!(before.len() > 500, "{}", before.len());
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
                same(&state(), &before, commands);
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
            same(&state(), &before, "");
        });
    });
}

#[test]
fn an_owned_table_cannot_be_changed() {
    with_rights("repair::an_owned_table_cannot_be_changed", || {
        if !tables_can_be_owned() {
            println!("this kernel is older than Linux 6.9: what others do is undone, as the other tests show");
            return;
        }
        Namespace::new().run(|| {
            let (mut table, plan) = loaded(Ownership::Owned);
            let before = state();
            for (commands, by) in DEEDS {
                let done = nft(commands);
                // `flush ruleset` passes an owned table by.
                assert_eq!(done, by == By::Nobody || commands == "flush ruleset", "{commands}");
                same(&state(), &before, commands);
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
            let mut table = Table::open_with(Owner::Agent, Ownership::Open).unwrap();
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

/// Ranges that overlap, which no compiler makes and no kernel takes: one Service's fault is not the others'.
#[test]
fn a_service_that_the_kernel_refuses_does_not_keep_the_others_out() {
    with_rights("repair::a_service_that_the_kernel_refuses_does_not_keep_the_others_out", || {
        let webs: Vec<_> = (1..=40).map(|n| Web::new(n, &[(1, 2), (2, 2)])).collect();
        let good = plan(1, &webs);
        let mut plan = good.clone();
        for n in [7, 31] {
            let key = webs[n].key();
            let mut service = webs[n].plan();
            let overlapping: Vec<IpNet> =
                ["10.0.0.0/8", "10.1.0.0/16"].iter().map(|net| net.parse().unwrap()).collect();
            let frontend = service.frontends.iter_mut().find(|f| f.at.family() == Family::V4).unwrap();
            frontend.sources = Some(overlapping.into());
            plan.services.insert(key, service.into());
        }
        let culprits = [webs[31].key(), webs[7].key()];
        let expected = {
            let (good, culprits) = (good.clone(), culprits.clone());
            Namespace::new().run(move || {
                let mut plan = good;
                plan.services.retain(|key, _| !culprits.contains(key));
                let mut table = Table::open().unwrap();
                table.program(&plan, &Dirty::All).unwrap();
                state()
            })
        };
        Namespace::new().run(move || {
            let mut table = Table::open().unwrap();
            let report = table.program(&plan, &Dirty::All).unwrap();
            let names: Vec<_> = report.refused.iter().map(|refused| refused.service.clone()).collect();
            assert_eq!(names, culprits);
            println!("{}", report.refused[0].error);
            assert!(report.refused[0].error.contains("the kernel refused adding elements of ip "), "{report:?}");
            same(&state(), &expected, "without the culprits");
            // As changes of a table that has had them before: what it had stays.
            plan.revision = 2;
            drop(table);
            let mut table = Table::open().unwrap();
            table.program(&good, &Dirty::All).unwrap();
            let before = state();
            let report = table.program(&plan, &Dirty::Services(culprits.clone().into())).unwrap();
            assert_eq!(report.refused.len(), 2);
            same(&state(), &before, "");
            plan.services = good.services.clone();
            plan.revision = 3;
            assert!(table.program(&plan, &Dirty::Services(culprits.into())).unwrap().refused.is_empty());
            same(&state(), &before, "");
        });
    });
}

/// What an agent finds it keeps, however firmly it was held, unless it is to be held more firmly than it can be.
#[test]
fn a_table_changes_hands() {
    with_rights("repair::a_table_changes_hands", || {
        let owned = tables_can_be_owned();
        Namespace::new().run(move || {
            let (table, plan) = loaded(Ownership::Owned);
            drop(table);
            for (ownership, adopted) in
                [(Ownership::Owned, true), (Ownership::Open, true), (Ownership::Open, true), (Ownership::Owned, true)]
            {
                let mut table = Table::open_with(Owner::Agent, ownership).unwrap();
                let report = table.program(&plan, &Dirty::All).unwrap();
                assert_eq!(report.adopted, adopted, "{ownership:?}");
                let deleted = nft("delete element ip portolan services { 10.96.0.1 . tcp . 80 }");
                assert_eq!(deleted, !owned || ownership == Ownership::Open, "{ownership:?}");
                assert_eq!(settle(&mut table, &plan).elements, u64::from(deleted), "{ownership:?}");
            }
            // A table that nobody was to own from its beginning cannot be taken into possession.
            nft("flush ruleset");
            let (table, plan) = loaded(Ownership::Open);
            drop(table);
            let mut table = Table::open().unwrap();
            let report = table.program(&plan, &Dirty::All).unwrap();
            assert_eq!(report.adopted, !owned, "{report:?}");
            assert_eq!(nft("delete table ip portolan"), !owned);
        });
    });
}
