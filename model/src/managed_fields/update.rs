//! Who owns what after a create, update or patch: the writer owns what it added or changed, and nobody what is gone.
//!
//! Source: structured-merge-diff `merge/update.go` (`Update`) and apimachinery `managedfields/internal`
//! (`fieldmanager.go`, `managedfieldsupdater.go`, `skipnonapplied.go`).

use serde_json::Value;

use super::author::{allotted, not_written, subresource_name, untracked};
use super::compare::{Comparison, compare};
use super::element;
use super::entry::{Entry, Operation, decode, encode, whole_seconds};
use super::parts::Parts;
use super::set::FieldSet;
use super::{Author, Change, Claimed, raw};
use crate::admission::Subresource;
use crate::resource::Resource;

/// A write as its author sent it, noted before admission fills in the rest.
#[derive(Clone, Debug)]
pub struct Tracking {
    resource: Resource,
    author: Author,
    /// Fields that are not the author's though the write adds them.
    allotted: FieldSet,
    claimed: Claimed,
}

impl Tracking {
    /// Notes what the author sent, and takes `metadata.managedFields` out of it.
    pub fn begin(resource: Resource, author: Author, sent: &mut Value) -> Self {
        let claimed = Claimed::take(sent);
        let mut unsent = FieldSet::default();
        for path in allotted(resource) {
            let [above, field] = path;
            if sent.get(above).and_then(|above| above.get(field)).is_none_or(Value::is_null) {
                unsent.insert(&path.map(element::field));
            }
        }
        Self { resource, author, allotted: unsent, claimed }
    }

    /// Who owns what of `new`, the object as admission leaves it. `old` is the state that it replaces, if there is one, and
    /// `stored` that state's `managedFields`; neither object has any in it.
    ///
    /// An object that is there and has no `managedFields` is not tracked: nobody knows who wrote what is in it. It comes
    /// under management when somebody applies it.
    pub fn finish(&self, old: Option<&Value>, new: &Value, stored: Option<&str>) -> Change {
        // What a subresource's path carries is not its to change.
        let claimed = if self.author.subresource == Subresource::None { &self.claimed } else { &Claimed::Nothing };
        let comparison = self.compare(old, new);
        let mut entries = match claimed {
            Claimed::Nothing if comparison.is_empty() => return Change::None,
            Claimed::Nothing => {
                let Some(stored) = stored else {
                    if old.is_some() {
                        return Change::None;
                    }
                    return Change::of(self.settle(Vec::new(), comparison), None);
                };
                if let Some(renewed) = raw::renew(stored, &self.identity(), &comparison) {
                    return renewed;
                }
                // What is stored was written here, so it can be read; if not, nobody owns anything.
                decode(stored).unwrap_or_default()
            }
            Claimed::Reset => Vec::new(),
            Claimed::Given(entries) => entries.clone(),
        };
        if entries.is_empty() && old.is_some() {
            return Change::of(None, stored);
        }
        entries.retain(|entry| entry.api_version == self.author.api_version);
        Change::of(self.settle(entries, comparison), stored)
    }

    pub(super) fn compare(&self, old: Option<&Value>, new: &Value) -> Comparison {
        let nothing = Value::Object(serde_json::Map::new());
        let found = compare(Parts::root(self.resource), old.unwrap_or(&nothing), new);
        let found = found.without(&not_written(self.resource, self.author.subresource));
        let skipped = |set: FieldSet| set.difference(untracked()).without_branches(&self.allotted);
        Comparison { added: skipped(found.added), modified: skipped(found.modified), removed: found.removed }
    }

    /// The author's entry, with nothing in it yet.
    fn identity(&self) -> Entry {
        self.author.entry(Operation::Update)
    }

    /// Gives what was written to the author and takes it, and what is gone, from everybody else.
    pub(super) fn settle(
        &self,
        mut entries: Vec<Entry>,
        comparison: Comparison,
    ) -> Option<Box<serde_json::value::RawValue>> {
        let (written, removed) = comparison.parted();
        let mut mine = self.identity();
        for entry in &mut entries {
            entry.fields.subtract(&removed);
            if entry.same_manager(&mine) {
                entry.fields.unite(&written);
                if !written.is_empty() {
                    entry.time = mine.time;
                }
            } else {
                entry.fields.subtract(&written);
            }
        }
        if !written.is_empty() && !entries.iter().any(|entry| entry.same_manager(&mine)) {
            mine.fields = written;
            entries.push(mine);
        }
        encode(entries)
    }
}

/// Everything in an object as one entry: of those who wrote it before anybody took notes.
pub(super) fn before_first_apply(resource: Resource, author: &Author, live: &Value) -> Option<Entry> {
    let author = Author { manager: "before-first-apply".to_owned(), ..author.clone() };
    let tracking = Tracking { resource, author, allotted: FieldSet::default(), claimed: Claimed::Nothing };
    let fields = tracking.compare(None, live).parted().0;
    if fields.is_empty() { None } else { Some(Entry { fields, ..tracking.identity() }) }
}

impl Author {
    pub(super) fn entry(&self, operation: Operation) -> Entry {
        Entry {
            manager: if self.manager.is_empty() { "unknown".to_owned() } else { self.manager.clone() },
            operation,
            api_version: self.api_version.clone(),
            subresource: subresource_name(self.subresource).to_owned(),
            time: Some(whole_seconds(self.now)),
            fields: FieldSet::default(),
        }
    }
}
