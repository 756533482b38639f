//! The counters of one thread for one socket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::respond::{Facts, Origin};

/// The types that CoreDNS counts by name; all others are `other`.
pub(super) const TYPES: [RecordType; 18] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::HTTPS,
    RecordType::CNAME,
    RecordType::DNSKEY,
    RecordType::DS,
    RecordType::MX,
    RecordType::NSEC3,
    RecordType::NSEC,
    RecordType::NS,
    RecordType::RRSIG,
    RecordType::SOA,
    RecordType::TXT,
    RecordType::IXFR,
    RecordType::AXFR,
    RecordType::ANY,
];
pub(super) const CODES: [(ResponseCode, &str); 7] = [
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::ServFail, "SERVFAIL"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::NotImp, "NOTIMP"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::BADVERS, "BADVERS"),
];

/// A code as CoreDNS spells it; the rare ones together.
pub(crate) fn spelled(code: ResponseCode) -> &'static str {
    CODES.iter().find(|(known, _)| *known == code).map_or("other", |(_, spelled)| spelled)
}

pub(super) const ORIGINS: [Origin; 3] = [Origin::Zone, Origin::Elsewhere, Origin::Refused];
/// Microseconds; CoreDNS' buckets, from a quarter of a millisecond to eight seconds.
pub(super) const MICROS: [u64; 16] = {
    let mut bounds = [250; 16];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * 2;
        index += 1;
    }
    bounds
};
/// CoreDNS' buckets.
pub(super) const BYTES: [u64; 14] =
    [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];

#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(super) of: [OfOrigin; ORIGINS.len()],
}

/// One more of each than there are names: the last is for all others.
#[derive(Debug, Default)]
pub(super) struct OfOrigin {
    pub(super) types: [Count; TYPES.len() + 1],
    pub(super) codes: [Count; CODES.len() + 1],
    pub(super) dnssec_ok: Count,
    pub(super) nanos: Histogram<{ MICROS.len() + 1 }>,
    pub(super) query_bytes: Histogram<{ BYTES.len() + 1 }>,
    pub(super) answer_bytes: Histogram<{ BYTES.len() + 1 }>,
}

/// Written by one thread alone, read by others.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    fn add(&self, number: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    pub(super) buckets: [Count; N],
    pub(super) sum: Count,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Count::default()), sum: Count::default() }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&self, bounds: &[u64], value: u64, sum: u64) {
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        self.sum.add(sum);
    }
}

impl Block {
    /// Counts one answer. Only ever called by the one thread that the block was made for.
    pub(crate) fn count(&self, facts: &Facts, query_bytes: usize, answer_bytes: usize, took: Duration) {
        let Some(of) = self.of.get(facts.origin as usize) else { return };
        let kind = TYPES.iter().position(|kind| *kind == facts.kind).unwrap_or(TYPES.len());
        let code = CODES.iter().position(|(code, _)| *code == facts.code).unwrap_or(CODES.len());
        if let (Some(kind), Some(code)) = (of.types.get(kind), of.codes.get(code)) {
            kind.add(1);
            code.add(1);
        }
        if facts.dnssec_ok {
            of.dnssec_ok.add(1);
        }
        of.nanos.add(&MICROS, took.as_nanos().div_ceil(1000) as u64, took.as_nanos() as u64);
        of.query_bytes.add(&BYTES, query_bytes as u64, query_bytes as u64);
        of.answer_bytes.add(&BYTES, answer_bytes as u64, answer_bytes as u64);
    }
}
