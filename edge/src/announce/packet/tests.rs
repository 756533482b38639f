use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const EDGE: Mac = Mac([0x02, 0x31, 0, 0, 0, 201]);
const CLIENT: Mac = Mac([0x02, 0x31, 0, 0, 0, 100]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn hear(packet: &Packet, from: Mac) -> Option<Heard> {
    if packet.v6 { read_ndp(&packet.bytes, from) } else { read_arp(&packet.bytes) }
}

#[test]
fn each_family_says_the_same() {
    for (address, asker) in [("172.31.255.130", "172.31.255.100"), ("fd00:31::1:5", "fd00:31::100")] {
        let (address, asker) = (ip(address), ip(asker));
        let question = Question { address, from: CLIENT, asker: Some(asker) };
        let answered = answer(EDGE, &question);
        assert_eq!(answered.to, CLIENT);
        let claim = Some(Claim { address, by: EDGE });
        assert_eq!(hear(&answered, EDGE), Some(Heard { question: None, claim }));
        let announced = announcement(EDGE, address);
        assert_eq!(announced.to.0[0] & 1, 1, "to a group");
        assert_eq!(hear(&announced, EDGE), Some(Heard { question: None, claim }));
        let probed = probe(EDGE, address);
        let question = Question { address, from: EDGE, asker: None };
        assert_eq!(hear(&probed, EDGE), Some(Heard { question: Some(question), claim: None }));
        // Who probes gets its answer, too.
        let answered = answer(EDGE, &question);
        assert_eq!(hear(&answered, EDGE), Some(Heard { question: None, claim }));
    }
}

/// As tcpdump shows them between two Linux machines.
#[test]
fn packets_of_others_are_understood() {
    let mut who_has = vec![0, 1, 8, 0, 6, 4, 0, 1];
    who_has.extend(CLIENT.0);
    who_has.extend([172, 31, 255, 100, 0, 0, 0, 0, 0, 0, 172, 31, 255, 130]);
    // Padding of a short frame.
    who_has.extend([0; 18]);
    let heard = read_arp(&who_has).unwrap();
    assert_eq!(
        heard.question,
        Some(Question { address: ip("172.31.255.130"), from: CLIENT, asker: Some(ip("172.31.255.100")) })
    );
    assert_eq!(heard.claim, Some(Claim { address: ip("172.31.255.100"), by: CLIENT }));

    let wire = "6000000000203afffe80000000000000021a2bfffe3c4d5eff0200000000000000000001ff010005\
                8700000000000000fd0000310000000000000000000100050101021a2b3c4d5e";
    let mut bytes: Vec<u8> =
        (0..wire.len()).step_by(2).map(|at| u8::from_str_radix(&wire[at..at + 2], 16).unwrap()).collect();
    // Computed by hand below, by another way than the code's.
    let mut sum: u64 = 0;
    let pseudo: Vec<u8> = bytes[8..40].iter().copied().chain([0, 0, 0, 32, 0, 0, 0, 58]).collect();
    for pair in pseudo.chunks(2).chain(bytes[40..].chunks(2)) {
        sum += u64::from(pair[0]) * 256 + u64::from(pair[1]);
    }
    let sum = u16::try_from(65_535 - sum % 65_535).unwrap();
    bytes[42..44].copy_from_slice(&sum.to_be_bytes());
    let asker = Mac([0x02, 0x1a, 0x2b, 0x3c, 0x4d, 0x5e]);
    let heard = read_ndp(&bytes, CLIENT).unwrap();
    let question = heard.question.unwrap();
    assert_eq!((question.address, question.from), (ip("fd00:31::1:5"), asker), "the option's, not the frame's");
    assert_eq!(question.asker, Some(ip("fe80::21a:2bff:fe3c:4d5e")));
}

#[test]
fn what_is_not_valid_says_nothing() {
    let arp = announcement(EDGE, ip("192.0.2.1")).bytes;
    for at in [0, 3, 4, 5, 7] {
        let mut wrong = arp.clone();
        wrong[at] ^= 0x40;
        assert_eq!(read_arp(&wrong), None, "octet {at}");
    }
    assert_eq!(read_arp(&arp[..27]), None);

    let asked = Question { address: ip("2001:db8::1"), from: CLIENT, asker: Some(ip("2001:db8::2")) };
    for good in [answer(EDGE, &asked), announcement(EDGE, ip("2001:db8::1")), probe(EDGE, ip("2001:db8::1"))] {
        let bytes = good.bytes;
        assert!(read_ndp(&bytes, EDGE).is_some());
        // The flow label and the traffic class say nothing, and no checksum is over them.
        for at in (0..bytes.len()).filter(|at| ![1, 2, 3].contains(at)) {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x80;
            assert_eq!(read_ndp(&wrong, EDGE), None, "octet {at}");
        }
        for length in 0..bytes.len() {
            assert_eq!(read_ndp(&bytes[..length], EDGE), None, "cut to {length}");
        }
    }
}

#[test]
fn the_groups_are_those_of_the_rfcs() {
    let address: Ipv6Addr = "4037::01:800:200e:8c6c".parse().unwrap();
    assert_eq!(ndp::solicited_node(address).to_string(), "ff02::1:ff0e:8c6c");
    assert_eq!(probe(EDGE, address.into()).to.to_string(), "33:33:ff:0e:8c:6c");
    assert_eq!(announcement(EDGE, address.into()).to.to_string(), "33:33:00:00:00:01");
    assert_eq!(announcement(EDGE, Ipv4Addr::LOCALHOST.into()).to.to_string(), "ff:ff:ff:ff:ff:ff");
}

proptest::proptest! {
    #[test]
    fn no_octets_make_it_fail(bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..120)) {
        let _ = read_arp(&bytes);
        let _ = read_ndp(&bytes, EDGE);
    }
}
