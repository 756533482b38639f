//! What the tables look like, whose they are, and what becomes of them.

use dataplane::Dirty;
use dataplane::nftables::{self, Owner, ProgramError, Table};

use crate::lab::{Lab, Namespace, tcp, with_rights};
use crate::plans::{Node, Web, plan};

/// How many objects of each kind `nft` lists.
fn count(namespace: &Namespace) -> (usize, usize, usize) {
    let listed: serde_json::Value = serde_json::from_str(&namespace.command("nft --terse -j list ruleset")).unwrap();
    let objects = listed["nftables"].as_array().unwrap();
    let of = |kinds: &[&str]| objects.iter().filter(|o| kinds.iter().any(|k| o.get(k).is_some())).count();
    (of(&["chain"]), of(&["rule"]), of(&["set", "map"]))
}

fn many(count: u16) -> Vec<Web> {
    (1..=count)
        .map(|n| Web {
            node_port: Some((30_000 + n, n % 2 == 0)),
            affinity_seconds: (n % 3 == 0).then_some(60),
            ..Web::new(n, &[(1, 2), (1, 3), (2, 2)])
        })
        .collect()
}

#[test]
fn the_number_of_rules_is_constant() {
    with_rights("shape::the_number_of_rules_is_constant", || {
        let namespace = Namespace::new();
        let mut node = Node::new(&namespace);
        node.program(&many(10));
        let few = count(&namespace);
        assert!(few.0 > 20 && few.1 > 100 && few.2 > 10, "{few:?}");
        node.program(&many(10_000));
        assert_eq!(count(&namespace), few);
        // From scratch too.
        node.table().forget();
        assert!(node.program_dirty(Dirty::All).full);
        assert_eq!(count(&namespace), few);
    });
}

#[test]
fn nft_reads_every_element() {
    with_rights("shape::nft_reads_every_element", || {
        let namespace = Namespace::new();
        let mut node = Node::new(&namespace);
        let web = Web { node_port: Some((30001, true)), affinity_seconds: Some(60), ..Web::new(1, &[(1, 2), (2, 2)]) };
        node.program(&[web]);
        let text = namespace.command("nft list table ip portolan");
        for line in [
            "10.96.0.1 . tcp . 80 comment \"default/web-1\" : 0x",
            "tcp . 30001 comment \"default/web-1\" : 0x",
            ": 10.244.1.2 . 8080",
            "10.244.1.2 . 10.244.1.2",
            "10.96.0.0/16",
            "10.244.1.0/24",
            "172.31.255.11",
            "goto sticky-2-60s",
            "ip daddr @service-cidrs drop",
            "meta priority set ip daddr . meta l4proto . th dport map @services goto balance",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("invalid type"), "{text}");
        let text = namespace.command("nft list table ip6 portolan");
        for line in
            ["fd00:10:96::1 . tcp . 80 comment \"default/web-1\" : 0x", "fd00:244:1::2 . 8080", "fd00:10:96::/112"]
        {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    });
}

#[test]
fn a_restart_keeps_the_table() {
    with_rights("shape::a_restart_keeps_the_table", || {
        let lab = Lab::new();
        let mut node = Node::new(&lab.node);
        node.program(&[Web::new(1, &[(1, 2)]), Web::new(2, &[(1, 2)])]);
        // The process ends; the kernel keeps forwarding.
        drop(node);
        assert_eq!(tcp(&lab.outside, "10.96.0.1:80").unwrap().pod, "pod-2");
        let mut node = Node::new(&lab.node);
        let report = node.program(&[Web::new(1, &[(1, 3)])]);
        assert!(report.full && report.adopted, "{report:?}");
        assert_eq!(tcp(&lab.outside, "10.96.0.1:80").unwrap().pod, "pod-3");
        assert!(tcp(&lab.outside, "10.96.0.2:80").is_err());
    });
}

/// Rules and chains are the very ones, the elements are the same, and clients stay with their endpoints.
#[test]
fn a_restart_changes_nothing_that_was_right() {
    with_rights("shape::a_restart_changes_nothing_that_was_right", || {
        let lab = Lab::new();
        let mut node = Node::new(&lab.node);
        let mut webs = many(40);
        webs[0] = Web { affinity_seconds: Some(600), ..Web::new(1, &[(1, 2), (1, 3), (2, 2), (2, 3)]) };
        node.program(&webs);
        let ask = || tcp(&lab.outside, "10.96.0.1:80").unwrap().pod;
        let before = (ask(), listing(&lab.node));
        assert_eq!(ask(), before.0);
        for round in 0..8 {
            drop(node);
            node = Node::new(&lab.node);
            let report = node.program(&webs);
            assert!(report.adopted, "{report:?}");
            let after = listing(&lab.node);
            let differ = before.1.lines().zip(after.lines()).find(|(a, b)| a != b);
            assert!(after == before.1, "round {round}: {differ:?}");
            assert_eq!(ask(), before.0, "round {round}: the client stays");
        }
        // Somebody has changed a rule while no agent ran: the table is made anew.
        drop(node);
        lab.node.command("nft flush chain ip portolan source");
        let mut node = Node::new(&lab.node);
        let report = node.program(&webs);
        assert!(report.full && !report.adopted, "{report:?}");
        assert!(lab.node.command("nft list chain ip portolan source").contains("masquerade"));
    });
}

/// Everything that `nft` says of both tables, handles included, but for what the packet path has written.
fn listing(namespace: &Namespace) -> String {
    let text = ["ip", "ip6"].map(|family| namespace.command(&format!("nft -a list table {family} portolan"))).concat();
    let mut lines = Vec::new();
    // Elements stand in no order, and several on a line. What is remembered of clients has a time.
    for line in text.lines().filter(|l| !l.contains("progname") && !l.contains("expires")) {
        let line = line.trim().trim_start_matches("elements = { ").trim_end_matches([',', '}', ' ']);
        lines.extend(line.split(", ").filter(|part| !part.is_empty()).map(str::to_owned));
    }
    lines.sort();
    lines.join("\n")
}

/// What node ports on 127.0.0.1 need is set, and set back with the table, by whoever removes it.
#[test]
fn route_localnet() {
    with_rights("shape::route_localnet", || {
        let namespace = Namespace::new();
        let setting =
            || namespace.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap());
        assert_eq!(setting(), "0\n");
        let mut node = Node::new(&namespace);
        node.program(&many(2));
        assert_eq!(setting(), "1\n");
        // Not forgotten over a restart.
        drop(node);
        let mut node = Node::new(&namespace);
        assert!(node.program(&many(2)).adopted);
        drop(node);
        namespace.run(|| nftables::cleanup().unwrap());
        assert_eq!(setting(), "0\n");
        // What was on before is the administrator's.
        namespace.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap());
        let mut node = Node::new(&namespace);
        node.program(&many(2));
        drop(node);
        namespace.run(|| nftables::cleanup().unwrap());
        assert_eq!(setting(), "1\n");
    });
}

/// It may be handed from one dataplane to another, without being off in between.
#[test]
fn route_localnet_is_handed_over() {
    with_rights("shape::route_localnet_is_handed_over", || {
        let namespace = Namespace::new();
        let setting =
            || namespace.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap());
        namespace.run(|| {
            // Whoever set it has told of it.
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            let mut table = Table::open().unwrap();
            table.program(&plan(1, &many(2)), &Dirty::All).unwrap();
            assert!(!nftables::localnet_was_off().unwrap());
            table.take_over_localnet().unwrap();
            table.take_over_localnet().unwrap();
            assert!(nftables::localnet_was_off().unwrap());
            // Another plan leaves the note where it is, and so does another agent.
            assert!(!table.program(&plan(2, &many(3)), &Dirty::All).unwrap().full);
            drop(table);
            let mut table = Table::open().unwrap();
            assert!(table.program(&plan(3, &many(4)), &Dirty::All).unwrap().adopted);
            assert!(nftables::localnet_was_off().unwrap());
            drop(table);
            assert!(nftables::remove_tables(Owner::Agent, false).unwrap());
        });
        assert_eq!(setting(), "1\n", "it is another's now");
        namespace.run(|| {
            let mut table = Table::open().unwrap();
            table.program(&plan(1, &many(2)), &Dirty::All).unwrap();
            table.take_over_localnet().unwrap();
            drop(table);
            nftables::cleanup().unwrap();
        });
        assert_eq!(setting(), "0\n");
    });
}

#[test]
fn only_forward() {
    with_rights("shape::only_forward", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let mut table = Table::open().unwrap();
            table.program(&plan(5, &[Web::new(1, &[(1, 2)])]), &Dirty::All).unwrap();
            let stale = table.program(&plan(4, &[]), &Dirty::All);
            assert!(matches!(stale, Err(ProgramError::Stale { plan: 4, programmed: 5 })), "{stale:?}");
            let again = table.program(&plan(5, &[Web::new(1, &[(1, 2)])]), &Dirty::All).unwrap();
            assert_eq!((again.bytes, again.full), (0, false), "already there");
        });
    });
}

#[test]
fn one_change_is_small() {
    with_rights("shape::one_change_is_small", || {
        let namespace = Namespace::new();
        let mut node = Node::new(&namespace);
        node.program(&many(200));
        let mut web = many(200).remove(6);
        web.pods.pop();
        let report = node.program(&[web]);
        // Four pools (two families, two protocols): an endpoint and a draw less each, and another class in each of
        // their frontends.
        assert!(report.elements_removed + report.elements_added <= 40, "{report:?}");
        assert!(report.bytes < 6000, "{report:?}");
    });
}

#[test]
fn others_cannot_touch_it() {
    with_rights("shape::others_cannot_touch_it", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let mut table = Table::open().unwrap();
            let there = || {
                let tables = std::process::Command::new("nft").args(["list", "tables"]).output().unwrap();
                String::from_utf8(tables.stdout).unwrap().matches("portolan").count()
            };
            assert_eq!(there(), 0);
            table.program(&plan(1, &many(3)), &Dirty::All).unwrap();
            assert_eq!(there(), 2);
            let flushed = std::process::Command::new("nft").args(["flush", "ruleset"]).status().unwrap();
            assert!(flushed.success());
            if there() == 2 {
                // The kernel knows ownership: a second agent is turned away with a reason.
                let mut second = Table::open().unwrap();
                let error = second.program(&plan(1, &[]), &Dirty::All).unwrap_err();
                assert!(matches!(error, ProgramError::Owned(_)), "{error:?}");
                assert!(matches!(nftables::cleanup(), Err(ProgramError::Owned(_))));
                assert_eq!(there(), 2);
            }
            // Whatever happened, the next full program puts it right.
            table.forget();
            table.program(&plan(2, &many(2)), &Dirty::All).unwrap();
            assert_eq!(there(), 2);
            drop(table);
            assert!(nftables::cleanup().unwrap());
            assert!(!nftables::cleanup().unwrap());
        });
        assert_eq!(count(&namespace), (0, 0, 0));
    });
}

/// Service ranges and node addresses may change while a table is in use.
#[test]
fn the_node_changes() {
    with_rights("shape::the_node_changes", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let mut table = Table::open().unwrap();
            let mut plan = plan(1, &many(3));
            table.program(&plan, &Dirty::All).unwrap();
            for cidrs in [
                &["10.96.0.0/15", "fd00:10:96::/108"][..],
                &["10.96.0.0/17", "255.255.255.0/24"],
                &[],
                &["10.97.0.0/16"],
            ] {
                plan.revision += 1;
                plan.node.service_cidrs = cidrs.iter().map(|c| c.parse().unwrap()).collect();
                let report = table.program(&plan, &Dirty::Services([].into())).unwrap();
                assert!(!report.full && report.bytes > 0);
                let arguments = ["list", "set", "ip", "portolan", "service-cidrs"];
                let listed = std::process::Command::new("nft").args(arguments).output().unwrap();
                let text = String::from_utf8(listed.stdout).unwrap();
                for cidr in cidrs.iter().filter(|c| c.contains('.')) {
                    assert!(text.contains(cidr), "{cidr} is not in {text}");
                }
            }
        });
    });
}

/// Without the right to change nftables there is one sentence that says so, and nothing else happens.
#[test]
fn no_rights() {
    with_rights("shape::no_rights", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let mut table = Table::open().unwrap();
            // Capabilities belong to a thread, so this one can give its up.
            let thread = std::thread::spawn(move || {
                give_up_capabilities();
                let error = table.program(&plan(1, &many(3)), &Dirty::All).unwrap_err();
                assert!(matches!(error, ProgramError::NotPermitted(_)), "{error:?}");
                assert!(error.to_string().contains("run as root"), "{error}");
            });
            thread.join().unwrap();
        });
    });
}

/// Whether the tables can be had is found out without making them.
#[test]
fn usable() {
    with_rights("shape::usable", || {
        let namespace = Namespace::new();
        let ruleset = || {
            let listed = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
            String::from_utf8(listed.stdout).unwrap()
        };
        namespace.run(move || {
            nftables::usable().unwrap();
            assert_eq!(ruleset(), "");
            let refused = std::thread::spawn(|| {
                give_up_capabilities();
                nftables::usable().unwrap_err()
            });
            let error = refused.join().unwrap();
            assert!(matches!(error, ProgramError::NotPermitted(_)), "{error:?}");
            // Those that are there are left as they are.
            let mut table = Table::open().unwrap();
            table.program(&plan(1, &many(3)), &Dirty::All).unwrap();
            let before = ruleset();
            nftables::usable().unwrap();
            assert_eq!(ruleset(), before);
            // And taken away without what belongs to the node.
            drop(table);
            assert!(nftables::remove_tables(Owner::Agent, true).unwrap());
            assert!(!nftables::remove_tables(Owner::Agent, true).unwrap());
            assert_eq!(ruleset(), "");
        });
    });
}

/// Takes this thread's capabilities away.
fn give_up_capabilities() {
    // _LINUX_CAPABILITY_VERSION_3, this thread; no effective, permitted or inheritable ones.
    let header = [0x2008_0522u32, 0];
    let data = [0u32; 6];
    // SAFETY: the two structures are as large as the version in the header says, and the call only reads them.
    let outcome = unsafe { nix::libc::syscall(nix::libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(outcome, 0);
}
