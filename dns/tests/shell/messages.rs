//! What each message deserves, row by row.

use dns::access::Access;
use dns::message::Transport::{Tcp, Udp};
use dns::message::{Transport, limit};
use dns::respond::{Asker, Outcome, Spin, respond};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::fixture;
use crate::oracle::check;

const WEB: &str = "web.default.svc.cluster.local";

/// A query as bytes, built by hand so that it can be wrong.
#[derive(Clone)]
struct Raw {
    id: u16,
    flags: u16,
    counts: [u16; 4],
    body: Vec<u8>,
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

fn ask(name: &str, kind: u16) -> Raw {
    ask_class(name, kind, 1)
}

fn ask_class(name: &str, kind: u16, class: u16) -> Raw {
    let body = [wire(name), kind.to_be_bytes().to_vec(), class.to_be_bytes().to_vec()].concat();
    Raw { id: 0x1234, flags: 0x0100, counts: [1, 0, 0, 0], body }
}

impl Raw {
    fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    fn counts(mut self, counts: [u16; 4]) -> Self {
        self.counts = counts;
        self
    }

    fn and(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self
    }

    fn opt(mut self, size: u16, version: u8, flags: u8, options: &[u8]) -> Self {
        self.counts[3] += 1;
        let [high, low] = size.to_be_bytes();
        let [length_high, length_low] = (options.len() as u16).to_be_bytes();
        self.and(&[0, 0, 41, high, low, 0, version, flags, 0, length_high, length_low]).and(options)
    }

    fn bytes(&self) -> Vec<u8> {
        let words = [self.id, self.flags, self.counts[0], self.counts[1], self.counts[2], self.counts[3]];
        words.into_iter().flat_map(u16::to_be_bytes).chain(self.body.iter().copied()).collect()
    }

    fn say(&self, transport: Transport) -> Option<Message> {
        check(&fixture::names(), &Access::default(), transport, &self.bytes())
    }
}

/// Code, answers, and whether the question and an OPT came back.
fn said(raw: &Raw) -> (ResponseCode, usize, bool, bool) {
    let answer = raw.say(Udp).expect("an answer");
    // BADVERS and BADSIG have one number, and are read as the latter.
    let code = answer.response_code;
    let code = if u16::from(code) == 16 { ResponseCode::BADVERS } else { code };
    (code, answer.answers.len(), !answer.queries.is_empty(), answer.edns.is_some())
}

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const IN: u16 = 1;
const CH: u16 = 3;

#[test]
fn no_answer() {
    let query = ask(WEB, A).bytes();
    let names = fixture::names();
    for length in 0..12 {
        assert!(check(&names, &Access::default(), Udp, &query[..length]).is_none(), "{length} octets");
    }
    assert!(ask(WEB, A).flags(0x8100).say(Udp).is_none(), "an answer is not answered");
    assert!(ask(WEB, A).flags(0x8180).counts([0; 4]).say(Tcp).is_none());
}

#[test]
fn codes() {
    use ResponseCode::{BADVERS, FormErr, NXDomain, NoError, NotImp, Refused};
    let long = format!("{}.{WEB}", ["a"; 115].join("."));
    let pointer = |target: u8| [&[3, b'w', b'e', b'b', 0xc0, target][..], &[0, 1, 0, 1]].concat();
    let raw = |body: &[u8]| Raw { id: 7, flags: 0x0100, counts: [1, 0, 0, 0], body: body.to_vec() };
    let rows = [
        ("a plain question", ask(WEB, A), (NoError, 1, true, false)),
        ("with EDNS", ask(WEB, A).opt(1232, 0, 0, &[]), (NoError, 1, true, true)),
        ("not there", ask("no.default.svc.cluster.local", A), (NXDomain, 0, true, false)),
        ("another type", ask("only4.default.svc.cluster.local", AAAA), (NoError, 0, true, false)),
        ("header alone", ask(WEB, A).counts([0; 4]).and(&[]), (FormErr, 0, false, false)),
        ("no question", raw(&[]).counts([0; 4]), (FormErr, 0, false, false)),
        ("two questions", ask(WEB, A).counts([2, 0, 0, 0]).and(&ask(WEB, A).body), (FormErr, 0, false, false)),
        ("question missing", raw(&[]), (FormErr, 0, false, false)),
        ("question cut off", raw(&ask(WEB, A).body[..20]), (FormErr, 0, false, false)),
        ("no class", raw(&[0, 0, 1]), (FormErr, 0, false, false)),
        ("garbage", raw(&[0xff; 100]), (FormErr, 0, false, false)),
        ("a label of 64", raw(&[&[64], &[b'a'; 64][..], &[0, 0, 1, 0, 1]].concat()), (FormErr, 0, false, false)),
        ("a name of more than 255", ask(&long, A), (FormErr, 0, false, false)),
        ("a pointer to itself", raw(&pointer(16)), (FormErr, 0, false, false)),
        ("a pointer in a circle", raw(&pointer(12)), (FormErr, 0, false, false)),
        ("a pointer ahead", raw(&pointer(40)), (FormErr, 0, false, false)),
        ("octets behind", ask(WEB, A).and(&[0]), (FormErr, 0, true, false)),
        ("fewer records than counted", ask(WEB, A).counts([1, 0, 0, 1]), (FormErr, 0, true, false)),
        ("65535 records", ask(WEB, A).counts([1, 0xffff, 0xffff, 0xffff]), (FormErr, 0, true, false)),
        ("two OPTs", ask(WEB, A).opt(1232, 0, 0, &[]).opt(1232, 0, 0, &[]), (FormErr, 0, true, true)),
        ("OPT as an answer", ask(WEB, A).opt(1232, 0, 0, &[]).counts([1, 1, 0, 0]), (FormErr, 0, true, false)),
        ("an option cut off", ask(WEB, A).opt(1232, 0, 0, &[0, 10, 0, 9, 1]), (FormErr, 0, true, false)),
        ("an unknown option", ask(WEB, A).opt(1232, 0, 0, &[0xfd, 0xe9, 0, 1, 7]), (NoError, 1, true, true)),
        ("a cookie", ask(WEB, A).opt(1232, 0, 0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]), (NoError, 1, true, true)),
        ("EDNS of version 1", ask(WEB, A).opt(1232, 1, 0, &[]), (BADVERS, 0, true, true)),
        ("IQUERY", ask(WEB, A).flags(0x0900), (NotImp, 0, false, false)),
        ("STATUS", ask(WEB, A).flags(0x1000), (NotImp, 0, false, false)),
        ("NOTIFY", ask("cluster.local", 6).flags(0x2000), (NotImp, 0, false, false)),
        ("UPDATE", ask("cluster.local", 6).flags(0x2800), (NotImp, 0, false, false)),
        ("an unknown opcode", ask(WEB, A).flags(0x7800), (NotImp, 0, false, false)),
        ("version.bind", ask_class("version.bind", TXT, CH), (Refused, 0, true, false)),
        ("class CH", ask_class(WEB, A, CH), (Refused, 0, true, false)),
        ("class HS", ask_class(WEB, A, 4), (Refused, 0, true, false)),
        ("class NONE", ask_class(WEB, A, 254), (Refused, 0, true, false)),
        ("class ANY", ask_class(WEB, A, 255), (Refused, 0, true, false)),
        (
            "the class is looked at before the version",
            ask_class(WEB, A, CH).opt(512, 1, 0, &[]),
            (Refused, 0, true, true),
        ),
        ("AXFR", ask("cluster.local", 252), (Refused, 0, true, false)),
        ("IXFR", ask("cluster.local", 251), (Refused, 0, true, false)),
        ("AXFR of others", ask("example.com", 252), (Refused, 0, true, false)),
        ("ANY", ask(WEB, 255), (NoError, 1, true, false)),
        ("ANY of many", ask("big.default.svc.cluster.local", 255), (NoError, 1, true, false)),
        ("ANY of an alias", ask("outside.default.svc.cluster.local", 255), (NoError, 1, true, false)),
        ("ANY of nothing", ask("no.default.svc.cluster.local", 255), (NXDomain, 0, true, false)),
        ("MAILB", ask(WEB, 253), (NotImp, 0, true, false)),
        ("TSIG", ask(WEB, 250), (NotImp, 0, true, false)),
        ("OPT as a type", ask(WEB, 41), (NotImp, 0, true, false)),
        ("type 0", ask(WEB, 0), (NotImp, 0, true, false)),
        ("an unknown type", ask(WEB, 65280), (NoError, 0, true, false)),
        ("others, not wanted", ask("example.com", A).flags(0), (Refused, 0, true, false)),
    ];
    for (what, raw, expected) in rows {
        assert_eq!(said(&raw), expected, "{what}");
    }
    assert_eq!(ask_class(WEB, A, IN).bytes(), ask(WEB, A).bytes());
}

#[test]
fn any_is_a_line_that_names_the_rfc() {
    let answer = ask(WEB, 255).say(Udp).unwrap();
    assert_eq!(answer.answers[0].data.to_string(), "RFC8482 ");
    let alias = ask("outside.default.svc.cluster.local", 255).say(Udp).unwrap();
    assert_eq!(alias.answers[0].record_type(), RecordType::CNAME);
}

#[test]
fn header_bits() {
    for (flags, expected) in [
        // RD and CD come back; AD, Z, AA, TC, RA and a code in the query do not.
        (0x0000, 0x8480),
        (0x0100, 0x8580),
        (0x0110, 0x8590),
        (0x0120, 0x8580),
        (0x0140, 0x8580),
        (0x068f, 0x8480),
    ] {
        for raw in [ask(WEB, A), ask(WEB, A).opt(1232, 0, 0, &[0, 12, 0, 0])] {
            let mut out = Vec::new();
            let access = Access::default();
            let asker = Asker { transport: Udp, client: [127, 0, 0, 1].into(), access: &access };
            respond(&fixture::names(), asker, &raw.flags(flags).bytes(), &mut Spin::new(1), &mut out);
            assert_eq!(u16::from_be_bytes([out[2], out[3]]), expected, "{flags:04x}");
        }
    }
}

#[test]
fn case_is_kept() {
    for raw in [ask("wEb.DEFAULT.svc.Cluster.LOCAL", A), ask("nO.default.SVC.cluster.local", A)] {
        let answer = raw.say(Udp).unwrap();
        let name = answer.queries[0].name().to_ascii();
        assert!(name.chars().any(char::is_uppercase), "{name}");
        assert!(answer.answers.iter().all(|record| record.name.to_ascii() == name));
    }
}

#[test]
fn dnssec_ok_comes_back() {
    for (flags, expected) in [(0x80, true), (0, false)] {
        for kind in [A, TXT] {
            let answer = ask(WEB, kind).opt(4096, 0, flags, &[]).say(Udp).unwrap();
            let edns = answer.edns.unwrap();
            assert_eq!((edns.flags().dnssec_ok, edns.max_payload(), edns.version()), (expected, 1232, 0));
        }
    }
}

#[test]
fn sizes() {
    let big = "big.default.svc.cluster.local";
    let rows = [
        // Question 47, header and all; 16 for an A, 28 for an AAAA, 11 for OPT.
        (A, None, (512 - 47) / 16, true),
        (AAAA, None, (512 - 47) / 28, true),
        (A, Some(0), (512 - 47 - 11) / 16, true),
        (A, Some(512), (512 - 47 - 11) / 16, true),
        (A, Some(1000), (1000 - 47 - 11) / 16, true),
        (A, Some(1232), (1232 - 47 - 11) / 16, true),
        (A, Some(65535), (1232 - 47 - 11) / 16, true),
        (AAAA, Some(65535), (1232 - 47 - 11) / 28, true),
    ];
    for (kind, size, count, truncated) in rows {
        for options in [&[][..], &[0, 12, 0, 0]] {
            let raw = match size {
                Some(size) => ask(big, kind).opt(size, 0, 0, options),
                None => ask(big, kind),
            };
            let answer = raw.say(Udp).unwrap();
            assert_eq!((answer.answers.len(), answer.truncation), (count, truncated), "{kind} {size:?}");
            let all = raw.say(Tcp).unwrap();
            assert_eq!((all.answers.len(), all.truncation), (fixture::BIG, false));
        }
    }
    assert_eq!(limit(Udp, None), 512);
}

/// Records that nobody asked for are left out in silence.
#[test]
fn additional_records_make_room() {
    let raw = ask("_http._tcp.db.default.svc.cluster.local", 33);
    let answer = raw.clone().opt(1232, 0, 0, &[]).say(Udp).unwrap();
    assert_eq!((answer.answers.len(), answer.additionals.len(), answer.truncation), (3, 6, false));
    let answer = raw.say(Udp).unwrap();
    assert_eq!((answer.answers.len(), answer.truncation), (3, false));
    let many = ask("_http._tcp.big.default.svc.cluster.local", 33).opt(1232, 0, 0, &[]).say(Udp).unwrap();
    assert!(many.truncation && many.additionals.is_empty() && many.answers.len() > 10);
}

#[test]
fn strangers_have_the_clusters_names_and_no_others() {
    let names = fixture::names();
    let access = Access::default();
    let code = |client: [u8; 4], name: &str| {
        let asker = Asker { transport: Udp, client: client.into(), access: &access };
        let mut out = Vec::new();
        match respond(&names, asker, &ask(name, A).bytes(), &mut Spin::new(1), &mut out) {
            Outcome::Ask(_) => None,
            Outcome::Said(facts) => Some((facts.code, Message::from_vec(&out).unwrap().answers.len())),
            Outcome::Silence => panic!("no answer"),
        }
    };
    assert_eq!(code([8, 8, 8, 8], WEB), Some((ResponseCode::NoError, 1)));
    assert_eq!(code([8, 8, 8, 8], "example.com"), Some((ResponseCode::Refused, 0)));
    assert_eq!(code([10, 1, 1, 1], "example.com"), None);
    // An alias is the cluster's name; where it leads is not.
    assert_eq!(code([8, 8, 8, 8], "outside.default.svc.cluster.local"), Some((ResponseCode::NoError, 1)));
    assert_eq!(code([10, 1, 1, 1], "outside.default.svc.cluster.local"), None);
}

#[test]
fn aliases_in_a_circle_end() {
    let answer = ask("loop-a.default.svc.cluster.local", A).say(Udp).unwrap();
    assert!(answer.answers.len() <= 16, "{answer}");
}
