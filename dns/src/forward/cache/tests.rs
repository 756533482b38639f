use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{LowerName, Name, RecordType};

use super::*;
use crate::forward::Flags;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn question(text: &str) -> Question {
    Question { name: LowerName::from(name(text)), kind: RecordType::A, flags: Flags::default() }
}

fn address(text: &str, ttl: u32) -> Forwarded {
    let record = Record::from_rdata(name(text), ttl, RData::A(A(Ipv4Addr::LOCALHOST)));
    Forwarded { answers: vec![record], ..Forwarded::bare(ResponseCode::NoError) }
}

fn denial(ttl: u32, minimum: u32) -> Forwarded {
    let soa = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, minimum);
    let record = Record::from_rdata(name("example."), ttl, RData::SOA(soa));
    Forwarded { authorities: vec![record], ..Forwarded::bare(ResponseCode::NXDomain) }
}

fn ttl(found: Found) -> Option<u32> {
    match found {
        Found::Fresh(said) => said.answers.iter().chain(&said.authorities).map(|record| record.ttl).min(),
        _ => None,
    }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn what_is_kept_and_for_how_long() {
    let start = Instant::now();
    let (a, ok) = (question("a.example."), ResponseCode::NoError);
    // (said, TTL as answered, the last second it is known, TTL then)
    let table = [
        (address("a.example.", 60), 60, Some(59)),
        (address("a.example.", 1), 1, Some(0)),
        (address("a.example.", 0), 0, None),
        (address("a.example.", 86_400), 3_600, Some(3_599)),
        (address("a.example.", u32::MAX), 0, None),
        (denial(60, 30), 30, Some(29)),
        (denial(30, 60), 30, Some(29)),
        (denial(86_400, 86_400), 300, Some(299)),
        (denial(60, 0), 0, None),
        (Forwarded { code: ok, ..denial(60, 30) }, 30, Some(29)),
    ];
    for (said, answered, last) in table {
        let mut cache = Cache::new();
        let kept = cache.keep(&a, said.clone(), start);
        assert_eq!(ttl(Found::Fresh(kept)), Some(answered), "{said:?}");
        let Some(last) = last else {
            assert_eq!(cache.find(&a, start), Found::Nothing, "{said:?}");
            continue;
        };
        assert_eq!(ttl(cache.find(&a, after(start, last))), Some(answered - u32::try_from(last).unwrap()), "{said:?}");
        assert_eq!(cache.find(&a, after(start, last + 1)), Found::Nothing, "{said:?}");
    }
}

#[test]
fn a_denial_without_soa_is_not_kept() {
    let (mut cache, now, a) = (Cache::new(), Instant::now(), question("a.example."));
    cache.keep(&a, Forwarded::bare(ResponseCode::NXDomain), now);
    assert_eq!(cache.find(&a, now), Found::Nothing);
}

#[test]
fn other_kinds_flags_and_names_are_other_questions() {
    let (mut cache, now, a) = (Cache::new(), Instant::now(), question("a.example."));
    cache.keep(&a, address("a.example.", 60), now);
    assert!(matches!(cache.find(&question("A.Example."), now), Found::Fresh(_)));
    assert_eq!(cache.find(&question("b.example."), now), Found::Nothing);
    assert_eq!(cache.find(&Question { kind: RecordType::AAAA, ..a.clone() }, now), Found::Nothing);
    let flags = Flags { dnssec_ok: true, ..Flags::default() };
    assert_eq!(cache.find(&Question { flags, ..a }, now), Found::Nothing);
}

#[test]
fn failures_are_kept_for_five_seconds() {
    let (mut cache, now, a) = (Cache::new(), Instant::now(), question("a.example."));
    cache.fail(&a, Forwarded::bare(ResponseCode::ServFail), now);
    assert_eq!(cache.find(&a, after(now, 4)), Found::Failed(ResponseCode::ServFail));
    assert_eq!(cache.find(&a, after(now, 5)), Found::Nothing);
    cache.keep(&a, Forwarded::bare(ResponseCode::Refused), now);
    assert_eq!(cache.find(&a, after(now, 4)), Found::Failed(ResponseCode::Refused));
}

#[test]
fn what_has_run_out_is_served_for_an_hour_while_asking_fails() {
    let (mut cache, start, a) = (Cache::new(), Instant::now(), question("a.example."));
    cache.keep(&a, address("a.example.", 60), start);
    assert_eq!(cache.find(&a, after(start, 61)), Found::Nothing);
    let failed = Forwarded::bare(ResponseCode::ServFail);
    let Found::Stale(said) = cache.fail(&a, failed.clone(), after(start, 61)) else { panic!("not served") };
    assert_eq!((said.code, said.answers[0].ttl), (ResponseCode::NoError, 30));
    assert!(matches!(cache.find(&a, after(start, 65)), Found::Stale(_)));
    // Five seconds later it is asked again.
    assert_eq!(cache.find(&a, after(start, 66)), Found::Nothing);
    assert_eq!(cache.fail(&a, failed, after(start, 3_660)), Found::Failed(ResponseCode::ServFail));
}

#[test]
fn the_number_and_the_bytes_are_bounded_and_what_is_used_stays() {
    let now = Instant::now();
    let mut cache = Cache::with_room(4, usize::MAX);
    for i in 0..4 {
        cache.keep(&question(&format!("n{i}.example.")), address("n.example.", 60), now);
    }
    cache.find(&question("n0.example."), now);
    for i in 4..7 {
        cache.keep(&question(&format!("n{i}.example.")), address("n.example.", 60), now);
    }
    assert_eq!((cache.sizes(), cache.clock.len(), cache.take_evictions()), ((4, 0), 4, 3));
    assert!(matches!(cache.find(&question("n0.example."), now), Found::Fresh(_)));
    assert_eq!(cache.find(&question("n1.example."), now), Found::Nothing);

    let mut cache = Cache::with_room(usize::MAX, 100_000);
    for i in 0..10_000 {
        cache.keep(&question(&format!("n{i}.example.")), address("n.example.", 60), now);
        assert!(cache.bytes <= 100_000);
    }
    assert!(cache.entries.len() > 50 && cache.entries.len() == cache.clock.len());
    let counted: usize = cache.entries.values().map(|entry| entry.bytes).sum();
    assert_eq!(cache.bytes, counted);
}
