//! Bytes in and out. What a kernel makes of them, and what `ipset` sees then, is tested in `tests/kernel/ipset.rs`.

use expect_test::expect;
use model::types::Protocol;

use super::*;
use crate::ipvs::state::Place;
use crate::nftables::netlink::tests::hex;

fn place(address: &str) -> Place {
    Place::new(address.parse().unwrap(), Protocol::Tcp, 80)
}

/// One of each kind and family.
fn samples() -> Vec<Entry> {
    vec![
        Entry::Address("10.96.0.1".parse().unwrap()),
        Entry::Address("fd00::1".parse().unwrap()),
        Entry::Net("10.244.0.0/16".parse().unwrap()),
        Entry::Net("fd00:244::/32".parse().unwrap()),
        Entry::Port(place("10.96.0.1")),
        Entry::Port(Place { protocol: Protocol::Sctp, ..place("fd00::1") }),
        Entry::PortAddress(place("10.244.1.2"), "10.244.1.2".parse().unwrap()),
        Entry::PortNet(place("203.0.113.1"), "192.0.2.0/24".parse().unwrap()),
        Entry::PortNet(place("2001:db8::1"), "2001:db8:1::/64".parse().unwrap()),
    ]
}

fn written(body: impl FnOnce(&mut Writer)) -> String {
    let mut w = Writer::default();
    body(&mut w);
    hex(&w.bytes)
}

#[test]
#[cfg(target_endian = "little")]
fn a_set_is_made() {
    expect![[r#"
        05000100 06000000 09000200 53455256
        00000000 11000300 68617368 3a69702c
        706f7274 00000000 05000400 05000000
        05000500 02000000 0c000780 08001340
        00100000
    "#]]
    .assert_eq(&written(|w| message::create(w, "SERV", Kind::Port, Family::V4)));
}

#[test]
#[cfg(target_endian = "little")]
fn entries_are_added() {
    let entries = [samples()[4], samples()[8]];
    expect![[r#"
        05000100 06000000 09000200 53455256
        00000000 08000940 00000000 70000880
        20000780 0c000180 08000140 0a600001
        06000440 00500000 05000700 06000000
        4c000780 18000180 14000240 20010db8
        00000000 00000000 00000001 06000440
        00500000 05000700 06000000 18001480
        14000240 20010db8 00010000 00000000
        00000000 05001500 40000000
    "#]]
    .assert_eq(&written(|w| message::entries(w, "SERV", entries.iter())));
}

#[test]
fn what_is_written_can_be_read() {
    for entry in samples() {
        let mut w = Writer::default();
        message::entries(&mut w, "SERV", [entry].iter());
        assert_eq!(message::listed(&w.bytes).entries, [entry]);
        assert_eq!(message::name(&w.bytes).unwrap(), "SERV");
    }
    let mut w = Writer::default();
    message::create(&mut w, "SERV", Kind::Net, Family::V6);
    let expected = Listed { kind: Some("hash:net".into()), family: Some(Family::V6), entries: vec![] };
    assert_eq!(message::listed(&w.bytes), expected);
}

#[test]
fn malformed_answers_are_nothing() {
    let mut w = Writer::default();
    message::entries(&mut w, "SERV", samples().iter());
    for length in 0..w.bytes.len() {
        assert!(message::listed(&w.bytes[..length]).entries.len() <= samples().len());
    }
}

#[test]
fn refusals_have_words() {
    let refused = |number| {
        let source = io::Error::from_raw_os_error(number);
        message::explained(NetlinkError::Refused { what: "it".into(), detail: String::new(), source }).to_string()
    };
    assert_eq!(refused(4352), "the kernel refused it: the set is full");
    assert_eq!(refused(libc::ENOENT), "the kernel refused it");
}
