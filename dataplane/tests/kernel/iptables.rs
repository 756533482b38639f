//! The chains of iptables in a real kernel, with both variants: packets, repair, restart, cleanup.

use std::collections::BTreeMap;

use dataplane::iptables::inspect::Inspector;
use dataplane::iptables::{Options, Tables, cleanup};
use dataplane::xtables::{Tools, Variant};
use dataplane::{Dirty, EdgeNeighbor, Method, Plan, Repairs, Report};

use crate::lab::{Failure, Lab, Namespace, tcp, udp, with_rights};
use crate::plans::{Node, Web, plan};
use crate::traffic::{self, census};
use crate::{edge, flows, here};

fn legacy() -> Tables {
    open(Variant::Legacy)
}

fn nft() -> Tables {
    open(Variant::Nft)
}

fn open(variant: Variant) -> Tables {
    Tables::open(Options { variant: Some(variant) }).unwrap()
}

/// What the namespace has, without the times and counters in it.
fn saved(namespace: &Namespace, variant: Variant) -> Vec<String> {
    let mut lines = Vec::new();
    for program in ["iptables", "ip6tables"] {
        let text = namespace.command(&format!("{program}-{}-save", variant.word()));
        // A built-in chain's policy stands before its counters.
        let plain = |line: &str| line.split(" [").next().unwrap().to_owned();
        lines.extend(text.lines().filter(|line| !line.starts_with('#')).map(plain));
    }
    lines
}

fn localnet(namespace: &Namespace) -> String {
    namespace.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap()).trim().to_owned()
}

macro_rules! on_both {
    ($($test:ident: $body:expr;)*) => {
        mod legacy_variant {
            use super::*;
            $(#[test] fn $test() {
                with_rights(concat!("iptables::legacy_variant::", stringify!($test)), || $body(legacy));
            })*
        }
        mod nft_variant {
            use super::*;
            $(#[test] fn $test() {
                with_rights(concat!("iptables::nft_variant::", stringify!($test)), || $body(nft));
            })*
        }
    };
}

on_both! {
    every_cell: flows::every_cell_by;
    cluster_ip: traffic::cluster_ip_by;
    what_is_not_there: traffic::what_is_not_there_by;
    hairpin: traffic::hairpin_by;
    node_port: traffic::node_port_by;
    internal_policy_local: traffic::internal_policy_local_by;
    spread: traffic::spread_by;
    affinity: traffic::affinity_by;
    changes_lose_nothing: traffic::changes_lose_nothing_by;
    what_is_written_is_read_back: read_back;
    a_restart_keeps_what_is_there: restart;
    what_others_do_is_undone: repair;
    nothing_is_left: cleaned_up;
    turns_are_strict: turns;
    dns_is_answered_here: here::queries_end_on_the_node_by;
    dns_is_taken_back: dns_taken_back;
    answers_go_back_through_the_edge_node: edge_answers;
    what_is_refused_keeps_nobody_out: refused;
    a_large_cluster: large;
}

type Open = fn() -> Tables;

/// What the kernel says it has is what was written, and a second process finds nothing to do.
fn read_back(open: Open) {
    let lab = Lab::new();
    let plan = crate::flow_table::snapshot();
    let plan = dataplane::compile(&plan, &crate::flow_table::local());
    let (first, second) = (plan.clone(), plan.clone());
    lab.node.run(move || {
        let report = open().program(&first, &Dirty::All).unwrap();
        assert!(report.full && !report.adopted && report.elements_added > 100, "{report:?}");
    });
    let report = lab.node.run(move || open().program(&second, &Dirty::All).unwrap());
    assert_eq!((report.elements_added, report.elements_removed, report.bytes), (0, 0, 0), "{report:?}");
    assert!(report.full && report.adopted);
    let cells = crate::flow_table::all();
    let wrong = lab.node.run(move || {
        let tools = Tools { variant: open().variant(), named: true };
        let inspector = Inspector::open_with(&tools).unwrap();
        let packets: Vec<_> = cells.iter().map(crate::flow_table::Cell::packet).collect();
        let mut wrong = Vec::new();
        for (packet, way) in packets.iter().zip(inspector.ways(&packets)) {
            let verdict = way.unwrap().verdict;
            if verdict != dataplane::route(&plan, packet) {
                wrong.push(format!("{packet:?}: {verdict:?}"));
            }
        }
        wrong
    });
    assert_eq!(wrong, [""; 0]);
}

/// A new process finds what the last one left, and clients stay with their endpoints, even where chains are rewritten.
fn restart(open: Open) {
    let lab = Lab::new();
    let mut node = Node::by(&lab.node, open);
    let web = Web { affinity_seconds: Some(600), ..Web::new(1, &[(1, 2), (1, 3), (2, 2), (2, 3)]) };
    node.program(&[web.clone(), Web::new(2, &[(1, 2)])]);
    let before = census(&lab.outside, "10.96.0.1:80", 5);
    assert_eq!(before.len(), 1);
    for round in 0..4 {
        node = Node::by(&lab.node, open);
        // In between another endpoint has come, or gone.
        let pods: Vec<_> = web.pods.iter().copied().chain((round % 2 == 1).then_some((2, 9))).collect();
        let report = node.program(&[Web { pods, ..web.clone() }]);
        assert!(report.full && report.adopted, "{report:?}");
        assert_eq!(census(&lab.outside, "10.96.0.1:80", 5), before, "round {round}");
    }
    // The second Service is gone with the process that knew it.
    assert_eq!(tcp(&lab.outside, "10.96.0.2:80"), Err(Failure::TimedOut));
}

fn repair(open: Open) {
    let lab = Lab::new();
    let variant = lab.node.run(move || open().variant());
    let namespace = &lab.node;
    let programmed = plan(1, &[Web { node_port: Some((30001, false)), ..Web::new(1, &[(1, 2), (2, 2)]) }]);
    let again = programmed.clone();
    let mut tables = namespace.run(move || {
        let mut tables = open();
        tables.program(&again, &Dirty::All).unwrap();
        tables
    });
    let written = saved(namespace, variant);
    let mut mend = |what: &str| -> Report {
        let plan = programmed.clone();
        let mut own = std::mem::replace(&mut tables, namespace.run(open));
        let (own, report) = namespace.run(move || {
            let report = own.repair(&plan).unwrap();
            (own, report)
        });
        tables = own;
        assert_eq!(saved(namespace, variant), written, "{what}");
        assert_eq!(localnet(namespace), "1", "{what}");
        report
    };
    assert_eq!(mend("nothing was done").repairs, Repairs::default());
    let word = variant.word();
    let one = Repairs { elements: 1, tables: 0 };
    for (what, repairs) in [
        ("-t nat -F PORTOLAN-SERVICES", one),
        ("-t nat -D PREROUTING 1", one),
        ("-t filter -F", Repairs::default()),
        ("-t nat -A PORTOLAN-REJECT -j RETURN", one),
        ("-t nat -N PORTOLAN-STALE", one),
    ] {
        namespace.command(&format!("iptables-{word} {what}"));
        let report = mend(what);
        assert!(report.repairs == repairs || repairs == Repairs::default(), "{what}: {report:?}");
        assert_eq!(report.repairs.elements + report.repairs.tables, 1, "{what}: {report:?}");
        assert_eq!(mend(what).repairs, Repairs::default(), "once");
    }
    for program in ["iptables", "ip6tables"] {
        for table in ["nat", "filter"] {
            namespace.command(&format!("{program}-{word} -t {table} -F"));
            namespace.command(&format!("{program}-{word} -t {table} -X"));
        }
    }
    // With the note about the setting, which is no rule.
    namespace.set("ipv4/conf/all/route_localnet", "0");
    let plan = programmed.clone();
    let mut own = std::mem::replace(&mut tables, namespace.run(open));
    let report = namespace.run(move || own.repair(&plan).unwrap());
    assert_eq!(report.repairs, Repairs { elements: 0, tables: 1 });
    assert!(tcp(&lab.outside, "172.31.255.11:30001").is_ok());
    assert!(udp(&lab.pod_a, "[fd00:10:96::1]:80").is_ok());
    assert_eq!(localnet(namespace), "1");
}

fn cleaned_up(open: Open) {
    let lab = Lab::new();
    let variant = lab.node.run(move || open().variant());
    // Somebody else's rules stay, wherever they stand.
    let word = variant.word();
    for table in ["raw", "mangle", "nat", "filter"] {
        for program in ["iptables", "ip6tables"] {
            lab.node.command(&format!("{program}-{word} -t {table} -A OUTPUT -p udp --dport 9 -j ACCEPT"));
        }
    }
    let before = saved(&lab.node, variant);
    let mut programmed = plan(1, &[Web { node_port: Some((30001, false)), ..Web::new(1, &[(1, 2), (2, 2)]) }]);
    programmed.node.edges = vec![EdgeNeighbor { mac: [2, 0, 0, 0, 0, 1], number: 1 }];
    lab.node.run(move || drop(open().program(&programmed, &Dirty::All).unwrap()));
    assert_ne!(saved(&lab.node, variant), before);
    assert_eq!(localnet(&lab.node), "1");
    lab.node.run(|| {
        assert!(cleanup().unwrap());
        assert!(!cleanup().unwrap());
    });
    assert_eq!(saved(&lab.node, variant), before);
    assert_eq!(localnet(&lab.node), "0");
    assert_eq!(tcp(&lab.outside, "172.31.255.11:30001"), Err(Failure::Refused));
}

/// Of as many connections in a row as there are endpoints each has one.
fn turns(open: Open) {
    let lab = Lab::new();
    let mut plan: Plan = plan(1, &[Web::new(1, &[(1, 2), (1, 3), (2, 2)])]);
    let service = std::sync::Arc::make_mut(plan.services.values_mut().next().unwrap());
    service.pools.iter_mut().for_each(|pool| pool.method = Method::Turns);
    lab.node.run(move || drop(open().program(&plan, &Dirty::All).unwrap()));
    for _ in 0..4 {
        let seen: BTreeMap<_, _> = census(&lab.outside, "10.96.0.1:80", 9);
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }
}

/// Where nobody says which, it is the one that others use.
#[test]
fn the_variant_of_the_host() {
    with_rights("iptables::the_variant_of_the_host", || {
        let namespace = Namespace::new();
        let variant = |namespace: &Namespace| {
            namespace.run(|| {
                let tables = Tables::open(Options::default()).unwrap();
                assert!(tables.why().starts_with(&tables.variant().to_string()), "{}", tables.why());
                tables.variant()
            })
        };
        for variant_of_others in Variant::ALL {
            let word = variant_of_others.word();
            for port in [7, 8, 9] {
                namespace.command(&format!("iptables-{word} -A OUTPUT -p udp --dport {port} -j ACCEPT"));
            }
            assert_eq!(variant(&namespace), variant_of_others);
            namespace.command(&format!("iptables-{word} -F OUTPUT"));
        }
    });
}

/// The node answers, its endpoints do, and it answers again.
fn dns_taken_back(open: Open) {
    let lab = Lab::new();
    here::settle(&lab);
    let mut tables = lab.node.run(open);
    for (revision, here) in [(1, true), (2, false), (3, true), (4, false)] {
        tables = lab.node.run(move || {
            let mut tables = tables;
            let report = tables.program(&here::answered(revision, here), &Dirty::All).unwrap();
            assert_eq!(report.full, revision == 1);
            tables
        });
        let who = if here { "node-dns" } else { "pod-3" };
        for to in ["10.96.0.10:53", "[fd00:10:96::a]:53"] {
            for from in [&lab.pod_a, &lab.node, &lab.outside] {
                assert_eq!(udp(from, to).map(|answer| answer.pod), Ok(who.into()), "{to}, {here}");
                assert_eq!(tcp(from, to).map(|answer| answer.pod), Ok(who.into()), "{to}, {here}");
            }
        }
    }
}

fn edge_answers(open: Open) {
    let net = edge::answers_go_back_by(open);
    net.node.run(|| {
        assert!(cleanup().unwrap());
        assert!(!cleanup().unwrap());
    });
}

/// A Service that no rule can say, and one with which iptables-restore cannot do anything.
fn refused(open: Open) {
    let lab = Lab::new();
    let mut broken = plan(1, &[Web::new(1, &[(1, 2)]), Web::new(2, &[(1, 3)]), Web::new(3, &[(1, 2), (2, 2)])]);
    let key = |number| Web::new(number, &[]).key();
    fn change(plan: &mut Plan, key: &model::Key, to: impl Fn(&mut dataplane::Pool)) {
        let service = std::sync::Arc::make_mut(plan.services.get_mut(key).unwrap());
        service.pools.iter_mut().for_each(to);
    }
    change(&mut broken, &key(2), |pool| pool.endpoints[0].address = "192.0.2.1".parse().unwrap());
    change(&mut broken, &key(3), |pool| pool.method = Method::Hash);
    let mended = Plan { revision: 2, ..plan(2, &[Web::new(1, &[(1, 2)]), Web::new(2, &[(1, 3)])]) };
    let again = Plan { revision: 2, ..broken.clone() };
    let (tables, report) = lab.node.run(move || {
        let mut tables = open();
        let report = tables.program(&broken, &Dirty::All).unwrap();
        (tables, report)
    });
    let named: Vec<_> = report.refused.iter().map(|refused| refused.service.name.as_ref()).collect();
    assert_eq!(named, ["web-2", "web-3"], "{report:?}");
    assert!(report.refused[1].error.contains("nftables"), "{report:?}");
    assert_eq!(tcp(&lab.outside, "10.96.0.1:80").unwrap().pod, "pod-2");
    let mut tables = lab.node.run(move || {
        let mut tables = tables;
        // It is not tried again while it is as it was.
        let report = tables.program(&again, &Dirty::All).unwrap();
        assert_eq!((report.bytes, report.refused.len()), (0, 2));
        tables
    });
    let report =
        lab.node.run(move || tables.program(&mended, &Dirty::Services([Web::new(2, &[]).key()].into())).unwrap());
    assert_eq!(report.refused, []);
    assert_eq!(tcp(&lab.outside, "10.96.0.2:80").unwrap().pod, "pod-3");
}

/// Two thousand Services with ten endpoints each: each is found, and a change writes little.
fn large(open: Open) {
    let lab = Lab::new();
    let count = 2000;
    let mut node = Node::by(&lab.node, open);
    let pods: Vec<_> = (2..12).map(|host| (2, host)).collect();
    let services: Vec<_> = (1..=count).map(|number| Web::new(number, &pods)).collect();
    let report = node.program(&services);
    assert!(report.full && report.elements_added > 8000, "{report:?}");
    for number in [1, 255, 256, 1000, count] {
        let report = node.program(&[Web::new(number, &[(1, 2)])]);
        assert!(report.bytes < 20_000 && report.elements_added <= 8, "{report:?}");
        let [_, _, high, low] = (u32::from(number)).to_be_bytes();
        assert_eq!(tcp(&lab.outside, &format!("10.96.{high}.{low}:80")).unwrap().pod, "pod-2");
        assert_eq!(udp(&lab.pod_b, &format!("[fd00:10:96::{number:x}]:80")).unwrap().pod, "pod-2");
    }
}

/// Legacy iptables says that a batch was refused, and not why: here of a kernel that has no `recent`, which a program in the
/// place of `iptables-legacy-restore` plays.
#[test]
fn what_a_kernel_lacks_keeps_nobody_out() {
    const TEST: &str = "iptables::what_a_kernel_lacks_keeps_nobody_out";
    with_rights(TEST, || {
        if std::env::var_os("PORTOLAN_TEST_LACKS").is_none() {
            let directory = std::env::temp_dir().join(format!("portolan-lacks-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            for program in ["iptables", "ip6tables"] {
                let path = directory.join(format!("{program}-legacy-restore"));
                let script = format!(
                    "#!/bin/sh\nbatch=$(cat)\ncase $batch in *' recent '*) echo 'iptables-restore: line 9999 failed' >&2; exit 1;; \
                     esac\nprintf '%s\\n' \"$batch\" | /usr/sbin/{program}-legacy-restore \"$@\"\n"
                );
                std::fs::write(&path, script).unwrap();
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            }
            let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args([TEST, "--exact", "--nocapture"])
                .env("PORTOLAN_TEST_LACKS", "1")
                .env("PATH", path)
                .status()
                .unwrap();
            std::fs::remove_dir_all(&directory).unwrap();
            assert!(status.success());
            return;
        }
        let lab = Lab::new();
        let mut node = Node::by(&lab.node, legacy);
        let mut webs: Vec<_> = (1..=6).map(|number| Web::new(number, &[(1, 2)])).collect();
        webs[3].affinity_seconds = Some(10);
        let refused = |report: Report| report.refused.iter().map(|r| r.service.name.to_string()).collect::<Vec<_>>();
        assert_eq!(refused(node.program(&webs)), ["web-4"]);
        for number in 1..=6 {
            assert_eq!(tcp(&lab.outside, &format!("10.96.0.{number}:80")).is_ok(), number != 4, "{number}");
        }
        // Another one joins it, and both are taken when they ask for it no more.
        webs[1].affinity_seconds = Some(10);
        assert_eq!(refused(node.program(&webs[1..2])), ["web-2", "web-4"]);
        assert!(tcp(&lab.outside, "10.96.0.3:80").is_ok());
        (webs[1].affinity_seconds, webs[3].affinity_seconds) = (None, None);
        assert_eq!(refused(node.program(&webs)), [""; 0]);
        assert!(tcp(&lab.outside, "10.96.0.2:80").is_ok() && tcp(&lab.outside, "10.96.0.4:80").is_ok());
    });
}
