//! What upstreams said, for as long as they allowed, and a while longer for the time in which they are away.
//!
//! Bounded twice, by number and by size: the oldest that was not asked for since it was last looked at goes first (a clock,
//! with one bit for each answer). Time comes in as an argument.
//!
//! | what | kept for |
//! |---|---|
//! | an answer | its smallest TTL, an hour at most; not at all with a TTL of 0 |
//! | NXDOMAIN, or no record of the kind | the SOA's TTL or minimum, 5 min at most; not at all without an SOA (RFC 2308, 5) |
//! | any other code, or nobody answered | 5 s (RFC 9520 asks for 1 s at least, 5 min at most) |
//! | what has run out, while nobody answers or all say SERVFAIL | an hour more, served with a TTL of 30 s (RFC 8767) |
//!
//! CoreDNS keeps denials for up to 30 min: a name that comes to exist is seen six times as soon here.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::BinEncodable;
use tokio::time::Instant;

use super::{Forwarded, Question};

const MOST: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;
const LONGEST: u32 = 3_600;
const LONGEST_DENIAL: u32 = 300;
const FAILED: Duration = Duration::from_secs(5);
const STALE: Duration = Duration::from_secs(3_600);
const STALE_TTL: u32 = 30;

/// What is remembered of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Fresh(Forwarded),
    /// It has run out, and asking again has just failed.
    Stale(Forwarded),
    Failed(ResponseCode),
}

/// Answers by question.
pub(super) struct Cache {
    entries: HashMap<Question, Entry>,
    /// Every question of `entries` once, the next one to be looked at first.
    clock: VecDeque<Question>,
    bytes: usize,
    denials: usize,
    evictions: u64,
    most: usize,
    most_bytes: usize,
}

struct Entry {
    answer: Option<Answer>,
    /// Asking again is useless until then.
    failed: Option<(ResponseCode, Instant)>,
    used: bool,
    bytes: usize,
}

struct Answer {
    said: Forwarded,
    stored: Instant,
    until: Instant,
}

impl Cache {
    pub fn new() -> Self {
        Self::with_room(MOST, MOST_BYTES)
    }

    fn with_room(most: usize, most_bytes: usize) -> Self {
        let (entries, clock) = (HashMap::new(), VecDeque::new());
        Self { entries, clock, bytes: 0, denials: 0, evictions: 0, most, most_bytes }
    }

    /// What is known now, with the TTLs that are left.
    pub fn find(&mut self, question: &Question, now: Instant) -> Found {
        let Some(entry) = self.entries.get_mut(question) else { return Found::Nothing };
        entry.used = true;
        entry.found(now)
    }

    /// Remembers what was said, and returns it as it is to be answered.
    pub fn keep(&mut self, question: &Question, mut said: Forwarded, now: Instant) -> Forwarded {
        let Some(seconds) = limit(&mut said, question) else {
            if is_answer(said.code) {
                self.forget(question);
            } else {
                self.put(question, None, Some((said.code, now + FAILED)));
            }
            return said;
        };
        let until = now + Duration::from_secs(seconds.into());
        self.put(question, Some(Answer { said: said.clone(), stored: now, until }), None);
        said
    }

    /// Remembers that nobody has answered, beside what was known before.
    pub fn fail(&mut self, question: &Question, said: Forwarded, now: Instant) -> Found {
        let failed = Some((said.code, now + FAILED));
        match self.entries.get_mut(question) {
            Some(entry) => entry.failed = failed,
            None => self.put(question, None, failed),
        }
        self.find(question, now)
    }

    /// Answers and denials; failures are among the denials.
    pub fn sizes(&self) -> (usize, usize) {
        (self.entries.len() - self.denials, self.denials)
    }

    /// Answers that went for want of room since this was last asked.
    pub fn take_evictions(&mut self) -> u64 {
        std::mem::take(&mut self.evictions)
    }

    fn put(&mut self, question: &Question, answer: Option<Answer>, failed: Option<(ResponseCode, Instant)>) {
        let bytes = size_of::<Entry>() + 2 * size_of::<Question>() + answer.as_ref().map_or(0, |a| weight(&a.said));
        let entry = Entry { answer, failed, used: false, bytes };
        self.bytes += entry.bytes;
        self.denials += usize::from(entry.denies());
        match self.entries.entry(question.clone()) {
            Slot::Occupied(mut slot) => {
                let former = slot.insert(entry);
                self.count_out(&former);
            }
            Slot::Vacant(slot) => {
                slot.insert(entry);
                self.clock.push_back(question.clone());
            }
        }
        self.make_room();
    }

    /// The question keeps its place in the clock: it will be asked again.
    fn forget(&mut self, question: &Question) {
        if self.entries.contains_key(question) {
            self.put(question, None, None);
        }
    }

    fn make_room(&mut self) {
        while self.entries.len() > self.most || self.bytes > self.most_bytes {
            let Some(question) = self.clock.pop_front() else { return };
            match self.entries.entry(question) {
                Slot::Occupied(mut slot) if slot.get().used => {
                    slot.get_mut().used = false;
                    self.clock.push_back(slot.key().clone());
                }
                Slot::Occupied(slot) => {
                    let former = slot.remove();
                    self.count_out(&former);
                    self.evictions += 1;
                }
                Slot::Vacant(_) => {}
            }
        }
    }

    fn count_out(&mut self, entry: &Entry) {
        self.bytes -= entry.bytes;
        self.denials -= usize::from(entry.denies());
    }
}

impl Entry {
    fn found(&self, now: Instant) -> Found {
        if let Some(answer) = self.answer.as_ref().filter(|answer| now < answer.until) {
            return Found::Fresh(answer.aged(now));
        }
        let Some((code, _)) = self.failed.filter(|(_, until)| now < *until) else { return Found::Nothing };
        match self.answer.as_ref().filter(|answer| now < answer.until + STALE) {
            Some(answer) => Found::Stale(with_ttls(&answer.said, |_| STALE_TTL)),
            None => Found::Failed(code),
        }
    }

    fn denies(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| answer.said.answers.is_empty())
    }
}

impl Answer {
    fn aged(&self, now: Instant) -> Forwarded {
        let age = u32::try_from(now.duration_since(self.stored).as_secs()).unwrap_or(u32::MAX);
        with_ttls(&self.said, |ttl| ttl.saturating_sub(age))
    }
}

fn with_ttls(said: &Forwarded, ttl: impl Fn(u32) -> u32) -> Forwarded {
    let mut said = said.clone();
    for record in records(&mut said) {
        record.ttl = ttl(record.ttl);
    }
    said
}

fn records(said: &mut Forwarded) -> impl Iterator<Item = &mut Record> {
    said.answers.iter_mut().chain(&mut said.authorities).chain(&mut said.additionals)
}

/// For how many seconds this may be kept, if at all. TTLs are cut to what is kept here, so that a client asks again when we do.
fn limit(said: &mut Forwarded, question: &Question) -> Option<u32> {
    // RFC 2181, 8: what would be negative is 0.
    for record in records(said).filter(|record| record.ttl > i32::MAX as u32) {
        record.ttl = 0;
    }
    if !is_answer(said.code) {
        return None;
    }
    let denied = !said.answers.iter().any(|r| r.record_type() == question.kind || question.kind.is_any());
    if denied {
        // RFC 2308, 5: the lower of both, and the SOA is passed on with it.
        let soa = said.authorities.iter_mut().find_map(|record| match &record.data {
            RData::SOA(soa) => Some((soa.minimum, &mut record.ttl)),
            _ => None,
        });
        let (minimum, ttl) = soa?;
        *ttl = minimum.min(*ttl);
    }
    let longest = if denied { LONGEST_DENIAL } else { LONGEST };
    for record in records(said) {
        record.ttl = record.ttl.min(longest);
    }
    records(said).map(|record| record.ttl).min().filter(|ttl| *ttl > 0)
}

/// Whether the name's owner has spoken.
fn is_answer(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Bytes of memory, roughly: what a record takes by itself, and its contents, which are about as large as on the wire.
fn weight(said: &Forwarded) -> usize {
    let all = said.answers.iter().chain(&said.authorities).chain(&said.additionals);
    all.map(|record| size_of::<Record>() + record.data.to_bytes().map_or(0, |bytes| bytes.len())).sum()
}

#[cfg(test)]
mod tests;
