//! Rules as text and back, and shadows.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use model::types::Protocol;
use proptest::prelude::*;

use super::read;
use super::shadow::{Content, Shadow};
use super::*;
use crate::plan::Family;

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

fn ranges(family: Family) -> impl Strategy<Value = IpNet> {
    (any::<u128>(), 1..=32u8).prop_map(move |(bits, prefix)| {
        let address = match family {
            Family::V4 => IpAddr::from(<[u8; 4]>::try_from(&bits.to_be_bytes()[..4]).unwrap()),
            Family::V6 => IpAddr::from((bits | 1 << 127).to_be_bytes()),
        };
        let prefix = if family == Family::V4 { prefix } else { prefix * 4 };
        IpNet::new(address, prefix).unwrap().trunc()
    })
}

fn marks() -> impl Strategy<Value = Mark> {
    (any::<u32>(), prop_oneof![Just(u32::MAX), any::<u32>()])
        .prop_map(|(value, mask)| Mark { value: value & mask, mask })
}

/// Every match at most once, those about the transport behind their protocol.
fn arbitrary_rule(family: Family) -> impl Strategy<Value = Rule> {
    let one_of = (0..12u8, ranges(family), marks(), any::<bool>(), any::<u16>(), 1..100u32);
    (protocols(), prop::option::of(ranges(family)), prop::option::of(ranges(family)), one_of, 0..14u8).prop_map(
        move |(protocol, source, destination, (kind, range, mark, not, port, number), target)| {
            let mut matches = Vec::new();
            matches.extend(source.map(|range| Match::Source { range, not }));
            matches.extend(destination.map(|range| Match::Destination { range, not: false }));
            matches.push(Match::Protocol(protocol));
            let list = || Cow::Borrowed("PORTOLAN-SEP-ABCDEFGHIJKLMNO");
            matches.push(match kind {
                0 => Match::DestinationPort(port..=port),
                1 => Match::DestinationPort(port..=port.saturating_add(15)),
                2 => Match::SourcePort(port),
                3 => Match::SourceLocal { not },
                4 => Match::State { states: States { new: true, dnat: not, ..States::default() }, not },
                5 => Match::AskedFor(range),
                6 => Match::Mark { mark, not },
                7 => Match::ConnectionMark { mark, not },
                8 => Match::Chance { of: text::CERTAIN, share: mark.value % text::CERTAIN },
                9 => Match::Turn { every: number + 1, packet: number },
                10 => Match::Remembered { list: list(), seconds: number },
                _ => Match::InSet { set: list(), by: vec![Direction::Destination, Direction::Source], not },
            });
            let target = match target {
                0 => Target::Jump("PORTOLAN-A".into()),
                1 => Target::Goto("PORTOLAN-A".into()),
                2 => Target::Return,
                3 => Target::Accept,
                4 => Target::Drop,
                5 => Target::RejectTcp,
                6 => Target::RejectPort,
                7 => Target::Dnat((range.addr(), port).into()),
                8 => Target::Masquerade,
                9 => Target::SetMark(mark),
                10 => Target::SetConnectionMark(mark),
                11 => Target::RestoreMark { mask: mark.mask },
                12 => Target::Untrack,
                _ => Target::Nothing,
            };
            Rule { matches, target, comment: if not { "default/web:http".into() } else { "".into() } }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(rule in arbitrary_rule(Family::V4)) {
        prop_assert_eq!(read::rule(&text::line(&rule, Family::V4), Family::V4).unwrap(), rule);
    }

    #[test]
    fn and_in_the_other_family(rule in arbitrary_rule(Family::V6)) {
        prop_assert_eq!(read::rule(&text::line(&rule, Family::V6), Family::V6).unwrap(), rule);
    }
}

#[test]
fn lines_are_as_iptables_save_prints_them() {
    let line = |matches: Vec<Match>, target| text::line(&Rule::new(matches, target), Family::V4);
    let ranges = vec![
        Match::Protocol(Protocol::Tcp),
        Match::DestinationPort(80..=80),
        Match::to("10.96.0.1".parse().unwrap()),
        Match::Source { range: "10.0.0.0/8".parse().unwrap(), not: true },
    ];
    assert_eq!(
        line(ranges, Target::Goto("PORTOLAN-A".into())),
        "! -s 10.0.0.0/8 -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -g PORTOLAN-A"
    );
    let third = vec![Match::Protocol(Protocol::Udp), Match::Chance { of: 3, share: 1 }];
    assert_eq!(
        line(third, Target::Dnat("10.0.0.1:80".parse().unwrap())),
        "-p udp -m statistic --mode random --probability 0.33333333349 -j DNAT --to-destination 10.0.0.1:80"
    );
    assert_eq!(line(vec![], Target::Accept), "-j ACCEPT");
    let everybody = Match::Source { range: "0.0.0.0/0".parse().unwrap(), not: false };
    assert_eq!(line(vec![everybody], Target::Accept), "-j ACCEPT");
}

#[test]
fn what_others_wrote_is_not_ours() {
    let text = "# by iptables-save\n*nat\n:PREROUTING ACCEPT [0:0]\n:PORTOLAN-A - [0:0]\n:DOCKER - [0:0]\n\
        -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A PREROUTING -m comment --comment \"x -j PORTOLAN-\" -j DOCKER\n\
        -A PREROUTING -j PORTOLAN-A\n-A DOCKER -i docker0 -j RETURN\n-A PORTOLAN-A -m limit --limit 3/hour -j RETURN\nCOMMIT\n";
    let found = read::saved(text);
    let nat = &found[&Table::Nat];
    assert_eq!(nat.jumps, [("PREROUTING".to_owned(), "-j PORTOLAN-A".to_owned())]);
    assert_eq!(nat.others, 3);
    assert_eq!(nat.chains["PORTOLAN-A"], "-m limit --limit 3/hour -j RETURN\n");
    let error = read::rules(Family::V4, &found, &mut Ruleset::default()).unwrap_err();
    assert!(error.to_string().contains("3/hour"));
}

fn content(chains: &[(&'static str, &[Target])]) -> Content {
    let chain = |(name, targets): &(&'static str, &[Target])| {
        Chain::new(*name, targets.iter().map(|target| Rule::new([], target.clone())).collect())
    };
    let jump = Rule::new([], Target::Jump("PORTOLAN-A".into()));
    Content { chains: chains.iter().map(chain).collect(), jumps: vec![(Hook::Prerouting, jump)] }
}

#[test]
fn only_what_changed_is_written() {
    const NAT: (Family, Table) = (Family::V4, Table::Nat);
    let mut shadow = Shadow::default();
    let mut go = |content: Content| {
        let mut changes = Changes::default();
        changes.whole(NAT.0, NAT.1, &content, &shadow);
        changes.reduce(&shadow);
        let texts: Vec<_> = changes.batches(&shadow).into_iter().map(|batch| batch.text).collect();
        shadow.apply(changes);
        texts.join("")
    };
    let to_b = [Target::Jump("PORTOLAN-B".into())];
    assert_eq!(
        go(content(&[("PORTOLAN-A", &to_b), ("PORTOLAN-B", &[Target::Accept])])),
        "*nat\n:PORTOLAN-A - [0:0]\n:PORTOLAN-B - [0:0]\n-I PREROUTING -j PORTOLAN-A\n-A PORTOLAN-A -j PORTOLAN-B\n-A PORTOLAN-B -j ACCEPT\nCOMMIT\n"
    );
    assert_eq!(go(content(&[("PORTOLAN-A", &to_b), ("PORTOLAN-B", &[Target::Accept])])), "");
    assert_eq!(
        go(content(&[("PORTOLAN-A", &to_b), ("PORTOLAN-B", &[Target::Return])])),
        "*nat\n:PORTOLAN-B - [0:0]\n-A PORTOLAN-B -j RETURN\nCOMMIT\n"
    );
    assert_eq!(
        go(content(&[("PORTOLAN-A", &[Target::Accept])])),
        "*nat\n:PORTOLAN-A - [0:0]\n:PORTOLAN-B - [0:0]\n-A PORTOLAN-A -j ACCEPT\n-X PORTOLAN-B\nCOMMIT\n"
    );
    let removal = shadow.removal();
    assert_eq!(
        removal.batches(&shadow)[0].text,
        "*nat\n:PORTOLAN-A - [0:0]\n-D PREROUTING -j PORTOLAN-A\n-X PORTOLAN-A\nCOMMIT\n"
    );
    shadow.apply(removal);
    assert_eq!(shadow, Shadow::default());
}

#[test]
fn what_others_did_is_mended() {
    let mut shadow = Shadow::default();
    let mut changes = Changes::default();
    let wanted = content(&[("PORTOLAN-A", &[Target::Jump("PORTOLAN-B".into())]), ("PORTOLAN-B", &[Target::Accept])]);
    changes.whole(Family::V4, Table::Nat, &wanted, &shadow);
    shadow.apply(changes);
    let mut found = Shadow::default();
    let text = "*nat\n:PORTOLAN-A - [0:0]\n:PORTOLAN-C - [0:0]\n-A PREROUTING -j PORTOLAN-A\n-A PREROUTING -j PORTOLAN-C\nCOMMIT\n";
    found.find(Family::V4, &read::saved(text));
    let changes = shadow.mend(&found);
    assert_eq!(
        changes.batches(&found)[0].text,
        "*nat\n:PORTOLAN-A - [0:0]\n:PORTOLAN-B - [0:0]\n:PORTOLAN-C - [0:0]\n-D PREROUTING -j PORTOLAN-A\n-D PREROUTING -j PORTOLAN-C\n-I PREROUTING -j PORTOLAN-A\n-A PORTOLAN-A -j PORTOLAN-B\n-A PORTOLAN-B -j ACCEPT\n-X PORTOLAN-C\nCOMMIT\n"
    );
    found.apply(changes);
    assert_eq!(found, shadow);
    assert!(shadow.mend(&found).is_empty());
}

/// A chain that draws, a jump that comes back, and a goto that does not.
#[test]
fn packets_find_their_way() {
    use crate::route::{Origin, Packet, Verdict};
    let text = "*nat\n:PORTOLAN-A - [0:0]\n:PORTOLAN-B - [0:0]\n:PORTOLAN-C - [0:0]\n:PORTOLAN-D - [0:0]\n:PORTOLAN-P - [0:0]\n\
        -A PREROUTING -j PORTOLAN-A\n-A POSTROUTING -j PORTOLAN-P\n\
        -A PORTOLAN-A -j PORTOLAN-D\n-A PORTOLAN-A -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -g PORTOLAN-B\n\
        -A PORTOLAN-A -d 10.96.0.2/32 -j MARK --set-xmark 0x2000/0x2000\n-A PORTOLAN-A -d 10.96.0.3/32 -g PORTOLAN-C\n-A PORTOLAN-A -j MARK --set-xmark 0x8000/0x8000\n\
        -A PORTOLAN-B -p tcp -m statistic --mode random --probability 0.25000000000 -j DNAT --to-destination 10.0.0.1:80\n\
        -A PORTOLAN-B -j MARK --set-xmark 0x4000/0x4000\n-A PORTOLAN-B -p tcp -j DNAT --to-destination 10.0.0.2:80\n\
        -A PORTOLAN-D -s 192.0.2.0/24 -j ACCEPT\n-A PORTOLAN-D -j RETURN\n-A PORTOLAN-D -j ACCEPT\n\
        -A PORTOLAN-P -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully\nCOMMIT\n\
        *filter\n:PORTOLAN-F - [0:0]\n-A FORWARD -m mark ! --mark 0x0/0xa000 -m conntrack --ctstate NEW -j PORTOLAN-F\n\
        -A PORTOLAN-F -m mark --mark 0x2000/0x2000 -j REJECT --reject-with icmp-port-unreachable\n-A PORTOLAN-F -j DROP\nCOMMIT\n";
    let mut ruleset = Ruleset::default();
    read::rules(Family::V4, &read::saved(text), &mut ruleset).unwrap();
    let way = |client: &str, to: &str| {
        let (destination, port) = (to.parse().unwrap(), 80);
        let client = client.parse().unwrap();
        let packet =
            Packet { client, origin: Origin::Outside, destination, protocol: Protocol::Tcp, port, here: false };
        walk::Walker::new(&ruleset, &walk::Nothing).walk(&packet).unwrap()
    };
    let balanced = way("198.51.100.1", "10.96.0.1");
    let Verdict::Endpoints { candidates, .. } = balanced.verdict else { panic!("{balanced:?}") };
    let seen: Vec<_> = candidates.iter().map(|c| format!("{} {:?}", c.endpoint, c.source)).collect();
    assert_eq!(seen, ["10.0.0.1:80 Kept", "10.0.0.2:80 Masqueraded"]);
    assert_eq!(balanced.probabilities, [0.25, 0.75]);
    assert_eq!(balanced.chains, ["PORTOLAN-A", "PORTOLAN-D", "PORTOLAN-B", "PORTOLAN-P"]);
    assert_eq!(way("198.51.100.1", "10.96.0.2").verdict, Verdict::Reject, "of both marks, what is asked first counts");
    assert_eq!(way("198.51.100.1", "10.96.0.3").verdict, Verdict::NotOurs);
    assert_eq!(way("198.51.100.1", "10.96.0.4").verdict, Verdict::Drop);
    assert_eq!(way("192.0.2.7", "10.96.0.1").verdict, Verdict::NotOurs);
}
