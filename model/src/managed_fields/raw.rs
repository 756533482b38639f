//! The short way for the write that comes most often: a manager changes again what it owns already.
//!
//! A kubelet writes the status of its Pods all day, and each time the fields are the ones that are its own since the first
//! time. Then nothing changes in `managedFields` but one `time`. So the stored text is read once, without making a tree of
//! it, and compared with the few fields that were written; the new text is the old one with another time in it.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Change;
use super::compare::Comparison;
use super::entry::{Entry, Operation};
use super::set::FieldSet;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline<'a> {
    api_version: &'a str,
    #[serde(borrow)]
    fields_v1: &'a RawValue,
    manager: &'a str,
    operation: Operation,
    #[serde(default)]
    subresource: &'a str,
    #[serde(default)]
    time: Option<&'a str>,
}

/// The stored text after a write of what `author` owns already; None if more changes than the author's time.
pub(super) fn renew(stored: &str, author: &Entry, comparison: &Comparison) -> Option<Change> {
    if !comparison.removed.is_empty() || !comparison.added.is_empty() {
        return None;
    }
    let written = &comparison.modified;
    // A name with an escape cannot be borrowed from the text; then the long way is taken.
    let entries: Vec<Outline<'_>> = serde_json::from_str(stored).ok()?;
    let mut own = None;
    for entry in &entries {
        if entry.api_version != author.api_version {
            return None;
        }
        let owned = owned(entry.fields_v1, written)?;
        let is_author = entry.manager == author.manager
            && entry.operation == author.operation
            && entry.subresource == author.subresource;
        match (is_author, owned) {
            (true, Owned::All) => own = Some(entry),
            (false, Owned::Nothing) => {}
            _ => return None,
        }
    }
    let (old, new) = (own?.time?, author.time?.to_string());
    if old == new {
        return Some(Change::None);
    }
    // Entries are ordered by time: the text stays in order if the author's is the last one and becomes no older.
    let last = entries.last().and_then(|entry| entry.time)?;
    if !std::ptr::eq(last, old) || old.len() != new.len() || old > new.as_str() {
        return None;
    }
    let at = stored.rfind(old)?;
    let text = format!("{}{new}{}", &stored[..at], &stored[at + old.len()..]);
    Some(Change::Replaced(Some(RawValue::from_string(text).ok()?)))
}

/// A key of FieldsV1, out of the text itself where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Step<'a>(#[serde(borrow)] Cow<'a, str>);

/// How much of a set of fields another one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owned {
    Nothing,
    Some,
    All,
}

impl Owned {
    fn and(self, other: Owned) -> Owned {
        if self == other { self } else { Owned::Some }
    }
}

fn owned(fields: &RawValue, wanted: &FieldSet) -> Option<Owned> {
    let mut deserializer = serde_json::Deserializer::from_str(fields.get());
    Look { member: false, below: wanted }.deserialize(&mut deserializer).ok()
}

/// Looks for what is wanted of one node and of what is below it.
struct Look<'s> {
    member: bool,
    below: &'s FieldSet,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Owned;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Owned, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Owned;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of FieldsV1")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Owned, A::Error> {
        let (mut empty, mut member) = (true, false);
        let mut found: Option<Owned> = None;
        let mut seen = 0;
        while let Some(Step(step)) = map.next_key::<Step<'de>>()? {
            if step == "." {
                map.next_value::<IgnoredAny>()?;
                member = true;
                continue;
            }
            empty = false;
            match self.below.get(&step) {
                Some((member, below)) => {
                    seen += 1;
                    let owned = map.next_value_seed(Look { member, below })?;
                    found = Some(found.map_or(owned, |before| before.and(owned)));
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if seen < self.below.len() {
            found = Some(found.map_or(Owned::Nothing, |before| before.and(Owned::Nothing)));
        }
        if self.member {
            let owned = if member || empty { Owned::All } else { Owned::Nothing };
            found = Some(found.map_or(owned, |before| before.and(owned)));
        }
        Ok(found.unwrap_or(Owned::Nothing))
    }
}
