//! Sets in a kernel, seen by `ipset` and asked by rules of iptables.

use std::collections::BTreeSet;
use std::process::Command;

use dataplane::Family;
use dataplane::ipset::Sets;
use dataplane::ipvs::sets::{Entry, Kind};
use dataplane::ipvs::state::Place;
use model::types::Protocol;

use crate::lab::{Namespace, with_rights};

const KINDS: [Kind; 5] = [Kind::Address, Kind::Net, Kind::Port, Kind::PortAddress, Kind::PortNet];

/// Runs a command in the calling thread's network namespace; what it printed, or what it said when it failed.
pub fn run(line: &str) -> Result<String, String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn entries(kind: Kind, family: Family) -> BTreeSet<Entry> {
    let [one, other, range] = match family {
        Family::V4 => ["10.96.0.1", "10.244.1.2", "192.0.2.0/24"],
        Family::V6 => ["fd00:10:96::1", "fd00:244:1::2", "2001:db8::/64"],
    };
    let places = [(Protocol::Tcp, 80), (Protocol::Udp, 53), (Protocol::Sctp, 65_535)]
        .map(|(protocol, port)| Place::new(one.parse().unwrap(), protocol, port));
    let second = other.parse().unwrap();
    let range = range.parse().unwrap();
    match kind {
        Kind::Address => vec![Entry::Address(one.parse().unwrap()), Entry::Address(second)],
        Kind::Net => vec![Entry::Net(range), Entry::Net(second.into())],
        Kind::Port => places.map(Entry::Port).to_vec(),
        Kind::PortAddress => places.map(|place| Entry::PortAddress(place, second)).to_vec(),
        Kind::PortNet => places.map(|place| Entry::PortNet(place, range)).to_vec(),
    }
    .into_iter()
    .collect()
}

/// As `ipset save` writes it.
fn text(entry: &Entry) -> String {
    let place = |p: &Place| format!("{},{}:{}", p.address, p.protocol.to_string().to_lowercase(), p.port);
    // A range of one address is written as the address.
    let range = |range: &ipnet::IpNet| {
        if range.prefix_len() == range.max_prefix_len() { range.addr().to_string() } else { range.to_string() }
    };
    match entry {
        Entry::Address(address) => address.to_string(),
        Entry::Net(net) => range(net),
        Entry::Port(p) => place(p),
        Entry::PortAddress(p, address) => format!("{},{address}", place(p)),
        Entry::PortNet(p, net) => format!("{},{}", place(p), range(net)),
    }
}

/// What `ipset` has to say of the set.
fn seen(name: &str) -> BTreeSet<String> {
    let prefix = format!("add {name} ");
    run(&format!("ipset save {name}"))
        .unwrap()
        .lines()
        .filter_map(|l| l.strip_prefix(&prefix))
        .map(Into::into)
        .collect()
}

/// In a network namespace of the kernel that runs this.
pub fn sets() {
    Namespace::new().run(|| {
        let sets = Sets::open().unwrap();
        assert!(sets.names().unwrap().is_empty());
        assert_eq!(sets.read("PORTOLAN-NONE").unwrap(), None);
        assert!(!sets.destroy("PORTOLAN-NONE").unwrap());
        for kind in KINDS {
            for family in Family::ALL {
                let name = format!("PORTOLAN-{kind:?}-{family:?}");
                assert!(sets.create(&name, kind, family).unwrap(), "{name}");
                assert!(!sets.create(&name, kind, family).unwrap(), "{name}");
                let some = entries(kind, family);
                sets.add(&name, &some).unwrap();
                // A second time makes no difference.
                sets.add(&name, &some).unwrap();
                assert_eq!(seen(&name), some.iter().map(text).collect(), "{name}");
                let contents = sets.read(&name).unwrap().unwrap();
                assert_eq!((contents.kind.as_str(), contents.family), (kind.name(), Some(family)));
                assert_eq!(contents.entries, some, "{name}");
                let first = some.first().unwrap();
                sets.remove(&name, [first]).unwrap();
                sets.remove(&name, [first]).unwrap();
                assert_eq!(seen(&name), some.iter().skip(1).map(text).collect(), "{name}");
                sets.replace(&name, kind, family, &[*first].into()).unwrap();
                assert_eq!(seen(&name), [text(first)].into(), "{name}");
                sets.flush(&name).unwrap();
                assert!(seen(&name).is_empty());
            }
        }
        assert_eq!(sets.names().unwrap().len(), KINDS.len() * 2);
        // What somebody else adds is read as it is.
        run("ipset add PORTOLAN-Port-V4 192.0.2.7,udp:5353").unwrap();
        let place = Place::new("192.0.2.7".parse().unwrap(), Protocol::Udp, 5353);
        assert_eq!(sets.read("PORTOLAN-Port-V4").unwrap().unwrap().entries, [Entry::Port(place)].into());
        // A set of the other family refuses, in words.
        let refused = sets.add("PORTOLAN-Port-V6", [&Entry::Port(place)]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the kernel refused adding entries to the set PORTOLAN-Port-V6: they are not of the set's type and address family"
        );
        asked(&sets, place);
        many(&sets);
        for name in sets.names().unwrap() {
            assert!(sets.destroy(&name).unwrap(), "{name}");
        }
        assert_eq!(run("ipset save").unwrap(), "");
    });
}

/// A set that a rule asks can be replaced, and not removed.
fn asked(sets: &Sets, place: Place) {
    for iptables in ["iptables-legacy", "iptables-nft"] {
        let rule = "OUTPUT -m set --match-set PORTOLAN-Port-V4 dst,dst -j DROP";
        run(&format!("{iptables} -A {rule}")).unwrap();
        sets.replace("PORTOLAN-Port-V4", Kind::Port, Family::V4, &[Entry::Port(place)].into()).unwrap();
        let refused = sets.destroy("PORTOLAN-Port-V4").unwrap_err();
        assert!(refused.to_string().ends_with("a rule asks the set"), "{refused}");
        run(&format!("{iptables} -D {rule}")).unwrap();
    }
}

/// More than a message takes, and than a set has by default.
fn many(sets: &Sets) {
    let address = |n: u32| Entry::Address(std::net::Ipv4Addr::from(0x0a00_0000 + n).into());
    let all: BTreeSet<_> = (0..100_000).map(address).collect();
    sets.create("PORTOLAN-MANY", Kind::Address, Family::V4).unwrap();
    sets.add("PORTOLAN-MANY", &all).unwrap();
    assert_eq!(sets.read("PORTOLAN-MANY").unwrap().unwrap().entries, all);
}

/// In an older kernel too: `ipvs_netlink.rs`.
#[test]
fn here() {
    with_rights("ipset::here", sets);
}
