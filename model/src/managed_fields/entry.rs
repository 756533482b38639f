//! `metadata.managedFields` on the wire: entries read, ordered, bounded, and written.
//!
//! Source: apimachinery `managedfields/internal` (`managedfields.go`, `capmanagers.go`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::set::FieldSet;

/// How many managers of operation Update an object has at most; older ones become one.
const UPDATERS_MAX: usize = 10;

/// The name of the entry into which the oldest ones are merged.
const ANCIENT: &str = "ancient-changes";

/// The one format of field sets that there is.
const FIELDS_TYPE: &str = "FieldsV1";

/// How a manager wrote. The order is the order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    /// The path that was written to; empty for the object itself.
    pub(super) subresource: String,
    /// In whole seconds. Of the last change by this manager.
    pub(super) time: Option<Timestamp>,
    pub(super) fields: FieldSet,
}

impl Entry {
    /// Whether two entries are one manager's: what it applied before in another version is replaced.
    pub(super) fn same_manager(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// `"kubectl" with subresource "status" using v1`, as messages name a manager.
    pub(super) fn title(&self) -> String {
        let mut title = serde_json::Value::from(self.manager.as_str()).to_string();
        if !self.subresource.is_empty() {
            title.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == Operation::Update {
            title.push_str(&format!(" using {}", self.api_version));
        }
        title
    }

    /// The order in which messages name managers.
    pub(super) fn title_order(&self) -> (&str, Operation, &str, &str) {
        (&self.manager, self.operation, &self.api_version, &self.subresource)
    }
}

/// The field names and their order are those of the wire.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: &'a str,
    fields_type: &'static str,
    fields_v1: &'a FieldSet,
    manager: &'a str,
    operation: Operation,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    fields_type: Option<String>,
    #[serde(default)]
    fields_v1: Option<FieldSet>,
    #[serde(default)]
    manager: Option<String>,
    operation: Operation,
    #[serde(default)]
    subresource: Option<String>,
    #[serde(default)]
    time: Option<String>,
}

impl TryFrom<Read> for Entry {
    type Error = &'static str;

    fn try_from(read: Read) -> Result<Self, Self::Error> {
        let manager = read.manager.unwrap_or_default();
        let time = read.time.map(|time| time.parse().map(whole_seconds)).transpose();
        let time = time.map_err(|_: jiff::Error| "the time is none")?;
        match (read.fields_type.as_deref(), read.api_version.unwrap_or_default()) {
            (_, version) if version.is_empty() => Err("apiVersion must not be empty"),
            (Some(FIELDS_TYPE), _) if super::manager_problem(&manager).is_some() => {
                Err("the manager has no valid name")
            }
            (Some(FIELDS_TYPE), api_version) => Ok(Self {
                manager,
                operation: read.operation,
                api_version,
                subresource: read.subresource.unwrap_or_default(),
                time,
                fields: read.fields_v1.unwrap_or_default(),
            }),
            _ => Err("fieldsType must be FieldsV1"),
        }
    }
}

/// Reads a list of entries; None if one of them is none. Of two entries of one manager the later counts.
pub(super) fn decode(text: &str) -> Option<Vec<Entry>> {
    let read: Vec<Read> = serde_json::from_str(text).ok()?;
    let mut entries: Vec<Entry> = Vec::with_capacity(read.len());
    for entry in read {
        let entry = Entry::try_from(entry).ok()?;
        entries.retain(|earlier| !earlier.same_manager(&entry));
        entries.push(entry);
    }
    Some(entries)
}

/// Orders, bounds and writes entries; None if there are none.
pub(super) fn encode(mut entries: Vec<Entry>) -> Option<Box<RawValue>> {
    bound(&mut entries);
    entries.retain(|entry| !entry.fields.is_empty());
    if entries.is_empty() {
        return None;
    }
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
    let written: Vec<Written<'_>> = entries
        .iter()
        .map(|entry| Written {
            api_version: &entry.api_version,
            fields_type: FIELDS_TYPE,
            fields_v1: &entry.fields,
            manager: &entry.manager,
            operation: entry.operation,
            subresource: &entry.subresource,
            time: entry.time.map(|time| time.to_string()),
        })
        .collect();
    // Strings alone: there is no way to fail.
    serde_json::value::to_raw_value(&written).ok()
}

fn order(entry: &Entry) -> (Operation, i64, &str, &str, &str) {
    (entry.operation, seconds(entry), &entry.manager, &entry.api_version, &entry.subresource)
}

fn seconds(entry: &Entry) -> i64 {
    entry.time.map_or(0, Timestamp::as_second)
}

/// Time is told in whole seconds.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Merges the oldest updaters of each version into one, until there are no more than may be.
fn bound(entries: &mut Vec<Entry>) {
    let count = entries.iter().filter(|entry| entry.operation == Operation::Update).count();
    let mut surplus = count.saturating_sub(UPDATERS_MAX);
    if surplus == 0 {
        return;
    }
    let mut updaters: Vec<Entry> = entries.extract_if(.., |entry| entry.operation == Operation::Update).collect();
    updaters.sort_by(|a, b| (seconds(a), a.title_order()).cmp(&(seconds(b), b.title_order())));
    let mut at = 0;
    while surplus > 0 && at < updaters.len() {
        let first = updaters.iter().position(|first| first.api_version == updaters[at].api_version).unwrap_or(at);
        if first == at {
            at += 1;
            continue;
        }
        let merged = updaters.remove(at);
        let ancient = updaters
            .iter()
            .position(|e| e.manager == ANCIENT && e.subresource.is_empty() && e.api_version == merged.api_version);
        if let Some(target) = updaters.get_mut(ancient.unwrap_or(first)) {
            target.manager = ANCIENT.to_owned();
            target.subresource = String::new();
            target.time = merged.time;
            target.fields.unite(&merged.fields);
        }
        surplus -= 1;
    }
    entries.append(&mut updaters);
}
