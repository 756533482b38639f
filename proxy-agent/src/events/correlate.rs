//! Whether a note is written, and as which Event: decisions without I/O or clock.
//!
//! The numbers are client-go's: 25 Events about one object at once, then one in five minutes. A note that was written
//! before counts up, as long as it is remembered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::Key;

use super::{Kind, Note};

/// Events about one object that may be written at once, and the seconds that bring back one.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Notes and objects that are remembered; the longest silent ones go first.
const MAX_REMEMBERED: usize = 1024;

/// How a note is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// Of the Event object.
    pub name: String,
    /// More than 1: the object should be there.
    pub count: u32,
    pub first: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Write(Occurrence),
    /// There was too much about this object lately.
    Silent,
}

/// What was said lately.
#[derive(Debug, Default)]
pub struct Correlator {
    written: BTreeMap<Note, (Occurrence, Timestamp)>,
    /// How much may still be said about each object, as of a time.
    rations: BTreeMap<(Kind, Key), (f64, Timestamp)>,
}

impl Correlator {
    pub fn judge(&mut self, note: &Note, now: Timestamp) -> Verdict {
        let object = (note.about.kind, note.about.key.clone());
        let (left, since) = self.rations.get(&object).copied().unwrap_or((BURST, now));
        let left = (left + now.duration_since(since).as_secs_f64().max(0.0) / REFILL_SECONDS).min(BURST);
        let silent = left < 1.0;
        self.rations.insert(object, (if silent { left } else { left - 1.0 }, now));
        trim(&mut self.rations, |(_, time)| *time);
        if silent {
            return Verdict::Silent;
        }
        let occurrence = match self.written.get(note) {
            Some((before, _)) => Occurrence { count: before.count.saturating_add(1), ..before.clone() },
            None => Occurrence {
                // client-go takes the time for the hash, too: no two Events of an object begin in the same nanosecond.
                name: format!("{}.{:x}", note.about.key.name, now.as_nanosecond()),
                count: 1,
                first: now,
            },
        };
        self.written.insert(note.clone(), (occurrence.clone(), now));
        trim(&mut self.written, |(_, time)| *time);
        Verdict::Write(occurrence)
    }

    /// The note was not written after all.
    pub fn forget(&mut self, note: &Note) {
        self.written.remove(note);
    }
}

/// Removes the oldest entry when there are too many.
fn trim<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, time: impl Fn(&V) -> Timestamp) {
    if map.len() > MAX_REMEMBERED
        && let Some(oldest) = map.iter().min_by_key(|(_, value)| time(value)).map(|(key, _)| key.clone())
    {
        map.remove(&oldest);
    }
}
