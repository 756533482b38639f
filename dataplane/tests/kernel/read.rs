//! What is read from the kernel is what was written, and what others do to a table is seen.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use dataplane::Dirty;
use dataplane::Family;
use dataplane::nftables::netlink::NetlinkError;
use dataplane::nftables::netlink::socket::Socket;
use dataplane::nftables::read::{self, Value};
use dataplane::nftables::set::Set;
use dataplane::nftables::verify::{difference, same_layout};
use dataplane::nftables::{Table, cleanup};

use crate::lab::{Lab, Namespace, tcp, with_rights};
use crate::plans::{Node, Web, plan};

type Elements = BTreeMap<Vec<u8>, Vec<u8>>;

fn elements(socket: &Socket, family: Family, set: Set) -> Elements {
    let pair = |e: &read::Entry<'_>| Some((e.key.to_vec(), e.value.data().unwrap_or_default().to_vec()));
    read::dump(socket, family, set, pair).unwrap().into_iter().collect()
}

fn nft(line: &str) {
    let output = Command::new("nft").args(line.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "nft {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A key of `services`: address, protocol, port.
fn frontend(host: u8, port: u16) -> Vec<u8> {
    let [a, b] = port.to_be_bytes();
    vec![10, 96, 0, host, 6, 0, 0, 0, a, b, 0, 0]
}

#[test]
fn elements_by_key_and_all() {
    with_rights("read::elements_by_key_and_all", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let mut table = Table::open().unwrap();
            let services: Vec<_> = (1..=200).map(|n| Web::new(n, &[(1, 2), (2, 2), (2, 3)])).collect();
            table.program(&plan(1, &services), &Dirty::All).unwrap();
            let socket = Socket::open().unwrap();

            let services = elements(&socket, Family::V4, Set::Services);
            // Both protocols; more than fits into one part of a dump.
            assert_eq!(services.len(), 400);
            assert_eq!(elements(&socket, Family::V6, Set::Services).len(), 400);
            assert_eq!(elements(&socket, Family::V4, Set::Draws).len(), 1600);

            // Present and absent ones mixed, more than go into one question.
            let keys: Vec<_> = (1..=220).flat_map(|host| [frontend(host, 80), frontend(host, 81)]).collect();
            let found = read::get(&socket, Family::V4, Set::Services, &keys, |e| e.value.data().map(<[u8]>::to_vec));
            let found = found.unwrap();
            assert_eq!(found.len(), keys.len());
            for (key, found) in keys.iter().zip(found) {
                assert_eq!(found.flatten().as_ref(), services.get(key), "{key:?}");
            }

            // A range is found by any address in it.
            let keys = [[10, 96, 0, 0], [10, 96, 7, 7], [10, 96, 255, 255], [10, 97, 0, 0], [10, 95, 255, 255]];
            let found = read::get(&socket, Family::V4, Set::ServiceCidrs, &keys, |e| e.key.to_vec()).unwrap();
            let range = Some(vec![10, 96, 0, 0]);
            assert_eq!(found, [range.clone(), range.clone(), range, None, None]);
            let ends = read::dump(&socket, Family::V4, Set::ServiceCidrs, |e| Some((e.key.to_vec(), e.end))).unwrap();
            assert!(ends.contains(&(vec![10, 96, 0, 0], false)) && ends.contains(&(vec![10, 97, 0, 0], true)));

            let chain = |e: &read::Entry<'_>| match e.value {
                Value::Goto(chain) => Some(chain.to_owned()),
                _ => None,
            };
            let chains = read::get(&socket, Family::V6, Set::Balancers, &[1u32.to_ne_bytes()], chain).unwrap();
            assert_eq!(chains, [Some(Some("refuse".to_owned()))]);

            let before = read::generation(&socket).unwrap();
            assert_eq!(read::generation(&socket).unwrap(), before);
            table.program(&plan(2, &[]), &Dirty::All).unwrap();
            assert_ne!(read::generation(&socket).unwrap(), before);
            assert_eq!(elements(&socket, Family::V4, Set::Services), Elements::new());
        });
    });
}

#[test]
fn a_table_that_is_not_there() {
    with_rights("read::a_table_that_is_not_there", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let socket = Socket::open().unwrap();
            assert!(!same_layout(&socket, Family::V4).unwrap());
            let found = read::get(&socket, Family::V4, Set::Services, &[frontend(1, 80)], |_| ()).unwrap();
            assert_eq!(found, [None]);
            let error = read::dump(&socket, Family::V4, Set::Services, |_| Some(())).unwrap_err();
            assert!(matches!(error, NetlinkError::Refused { .. }), "{error:?}");
            // The next answer is not the rest of the last.
            assert!(read::chains(&socket, Family::V4).unwrap().is_empty());
        });
    });
}

#[test]
fn clients_that_are_remembered() {
    with_rights("read::clients_that_are_remembered", || {
        let lab = Lab::new();
        let mut node = Node::new(&lab.node);
        node.program(&[Web { affinity_seconds: Some(100), ..Web::new(1, &[(1, 2), (1, 3)]) }]);
        tcp(&lab.outside, "10.96.0.1:80").unwrap();
        let known = lab.node.run(|| {
            let socket = Socket::open().unwrap();
            let read = |e: &read::Entry<'_>| Some((e.key[..4].to_vec(), e.timeout, e.expires));
            read::dump(&socket, Family::V4, Set::Affinity, read).unwrap()
        });
        let [(client, timeout, expires)] = &known[..] else { panic!("{known:?}") };
        assert_eq!(client, &[172, 31, 255, 100]);
        assert_eq!(*timeout, Some(Duration::from_secs(100)));
        assert!(expires.is_some_and(|e| e <= Duration::from_secs(100) && e > Duration::from_secs(80)), "{expires:?}");
    });
}

/// The layout that this kernel has is recognized, with the chains that were made on demand; whatever somebody does to
/// its chains and rules is not.
#[test]
fn the_layout_and_what_others_make_of_it() {
    with_rights("read::the_layout_and_what_others_make_of_it", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let services = [Web { affinity_seconds: Some(60), ..Web::new(1, &[(1, 2), (2, 2)]) }, Web::new(2, &[])];
            let program = || {
                // Dropped with its socket: the table then belongs to nobody, and others may change it.
                let mut table = Table::open().unwrap();
                table.program(&plan(1, &services), &Dirty::All).unwrap();
            };
            let socket = Socket::open().unwrap();
            let same = || Family::ALL.map(|family| same_layout(&socket, family).unwrap());
            program();
            assert_eq!(difference(&socket, Family::V4).unwrap(), None);
            assert_eq!(same(), [true, true]);
            for line in [
                "add rule ip portolan refuse accept",
                "insert rule ip portolan outside accept",
                "add chain ip portolan mine",
                "flush chain ip portolan discard",
                "flush chain ip portolan sticky-2-60s",
                "add set ip portolan mine { type ipv4_addr ; }",
                "delete table ip portolan",
            ] {
                nft(line);
                assert_eq!(same(), [false, true], "{line}");
                program();
                assert_eq!(same(), [true, true]);
            }
            // Elements are another matter, and so are other tables.
            nft("flush set ip portolan cluster-ips");
            nft("add table ip other");
            nft("add chain ip other refuse");
            assert_eq!(same(), [true, true]);
            assert!(cleanup().unwrap());
            assert_eq!(same(), [false, false]);
        });
    });
}
