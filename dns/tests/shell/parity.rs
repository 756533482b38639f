//! The fast way and the slow way to an answer say the same. A query takes the slow way when its OPT has an option, even one that
//! nobody knows.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use dns::Names;
use dns::access::Access;
use dns::message::Transport;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use crate::{fixture, oracle};

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(fixture::names)
}

fn ask(name: &str, kind: RecordType, size: u16, dnssec_ok: bool, slow: bool, transport: Transport) -> Message {
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
    if slow {
        edns.options_mut().insert(EdnsOption::Unknown(65001, vec![1]));
    }
    query.set_edns(edns);
    oracle::check(names(), &Access::default(), transport, &query.to_vec().unwrap()).unwrap()
}

proptest! {
    #[test]
    fn both_ways_say_the_same(
        service in "(web|db|big|only4|empty|outside|inside|loop-a|none|[a-z]{1,3})",
        rest in prop::sample::select(&[
            ".default.svc.cluster.local.", ".kube-system.svc.cluster.local.", ".svc.cluster.local.", ".cluster.local.",
            ".default.svc.cluster.local.example.", ".", ".x.default.svc.cluster.local.",
        ][..]),
        upper in any::<u64>(),
        kind in prop::sample::select(&[RecordType::A, RecordType::AAAA][..]),
        size in 0..2000_u16,
        dnssec_ok in any::<bool>(),
        tcp in any::<bool>(),
    ) {
        let name: String = format!("{service}{rest}").chars().enumerate()
            .map(|(index, c)| if upper >> (index % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let fast = ask(&name, kind, size, dnssec_ok, false, transport);
        let slow = ask(&name, kind, size, dnssec_ok, true, transport);
        prop_assert_eq!(fast.metadata, slow.metadata);
        prop_assert_eq!(&fast.queries, &slow.queries);
        prop_assert_eq!(&fast.edns, &slow.edns);
        prop_assert_eq!(fast.answers.len(), slow.answers.len());
        prop_assert_eq!(&fast.authorities, &slow.authorities);
        let set = |message: &Message| -> BTreeSet<String> {
            message.answers.iter().map(|r| format!("{} {} {:?}", r.name.to_ascii(), r.ttl, r.data)).collect()
        };
        // What was cut off begins anywhere.
        if !fast.truncation {
            prop_assert_eq!(set(&fast), set(&slow));
        } else {
            prop_assert_eq!(set(&fast).len(), set(&slow).len());
        }
    }
}

/// Every address of a headless Service comes first about as often as any other.
#[test]
fn answers_are_spread() {
    let mut spin = dns::respond::Spin::new(42);
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii("db.default.svc.cluster.local.").unwrap(), RecordType::A));
    for options in [false, true] {
        let mut query = query.clone();
        if options {
            let mut edns = Edns::new();
            edns.options_mut().insert(EdnsOption::Unknown(65001, vec![1]));
            query.set_edns(edns);
        }
        let bytes = query.to_vec().unwrap();
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..3000 {
            let mut out = Vec::new();
            let access = Access::default();
            let asker =
                dns::respond::Asker { transport: Transport::Udp, client: [127, 0, 0, 1].into(), access: &access };
            dns::respond::respond(names(), asker, &bytes, &mut spin, &mut out);
            *first.entry(Message::from_vec(&out).unwrap().answers[0].data.to_string()).or_insert(0) += 1;
        }
        assert!(first.len() == 3 && first.values().all(|count| (900..1100).contains(count)), "{first:?}");
    }
}
