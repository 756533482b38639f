//! Thousands of real messages with something wrong in them, the same ones in every run.

use dns::access::Access;
use dns::message::Transport;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use crate::{fixture, oracle};

const ROUNDS: usize = 20_000;
const NAMES: [&str; 10] = [
    "web.default.svc.cluster.local.",
    "BIG.default.svc.cluster.local.",
    "_http._tcp.db.default.svc.cluster.local.",
    "db-1.db.default.svc.cluster.local.",
    "10-244-0-1.db.default.svc.cluster.local.",
    "1-2-3-4.default.pod.cluster.local.",
    "1.0.96.10.in-addr.arpa.",
    "outside.default.svc.cluster.local.",
    "example.com.",
    ".",
];
const KINDS: [RecordType; 8] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::ANY,
    RecordType::PTR,
    RecordType::AXFR,
    RecordType::TXT,
    RecordType::SOA,
];

/// A generator (xorshift) that is the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize) % bound.max(1)
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for name in NAMES {
        for kind in KINDS {
            let mut query = Message::new(0x5151, MessageType::Query, OpCode::Query);
            query.metadata.recursion_desired = true;
            query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
            seeds.push(query.to_vec().unwrap());
            let mut edns = Edns::new();
            edns.set_max_payload(1400).set_dnssec_ok(true);
            query.set_edns(edns);
            seeds.push(query.to_vec().unwrap());
        }
    }
    seeds
}

fn mutate(dice: &mut Dice, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len());
    match dice.below(8) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.below(256) as u8,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, dice.below(256) as u8),
        4 => bytes[at] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff][dice.below(8)],
        5 => {
            let other = &seeds[dice.below(seeds.len())];
            bytes.extend_from_slice(&other[dice.below(other.len())..]);
        }
        6 => {
            let count = 4 + dice.below(8);
            if let Some(count) = bytes.get_mut(count) {
                *count = dice.below(4) as u8;
            }
        }
        _ => {
            let end = at + dice.below(bytes.len() - at + 1);
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
    }
}

#[test]
fn whatever_comes_is_answered_as_it_deserves() {
    let (names, access, seeds) = (fixture::names(), Access::default(), seeds());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut codes = std::collections::BTreeMap::new();
    for round in 0..ROUNDS {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..dice.below(5) {
            if !bytes.is_empty() {
                mutate(&mut dice, &seeds, &mut bytes);
            }
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = std::panic::catch_unwind(|| oracle::check(&names, &access, transport, &bytes))
                .unwrap_or_else(|_| panic!("round {round}, {transport:?}: {bytes:02x?}"));
            *codes.entry(answer.map(|answer| answer.response_code.to_string())).or_insert(0) += 1;
        }
    }
    // The mutations reach every kind of answer.
    assert!(codes.len() >= 8, "{codes:?}");
}

/// Writes what the fuzzer begins with, where it says so.
#[test]
fn seeds_of_the_fuzzer() {
    let Some(dir) = std::env::var_os("PORTOLAN_FUZZ_CORPUS").map(std::path::PathBuf::from) else { return };
    for (number, seed) in seeds().iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number}")), seed).unwrap();
    }
}
