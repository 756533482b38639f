//! Server-side apply: a manager says what it wants of an object, and owns what it says.
//!
//! The configuration is merged into the object; what the manager said last time and says no longer goes, if nobody else
//! owns it; and if that changes a field of another manager, it is a conflict, unless the manager insists. Source:
//! structured-merge-diff `merge/update.go` (`Apply`, `prune`) and apimachinery `managedfields/internal`
//! (`lastappliedmanager.go`, `lastappliedupdater.go`).

use serde_json::{Map, Value};

use super::author::{not_written, untracked};
use super::compare::compare;
use super::config;
use super::content::content;
use super::entry::{Entry, Operation, decode, encode};
use super::merge::{merge, remove, with_named_fields};
use super::parts::Parts;
use super::set::FieldSet;
use super::update::before_first_apply;
use super::{Applied, ApplyError, Author, Conflict, Conflicts};
use crate::resource::Resource;

/// kubectl's name when it applies; what it wrote before by itself, on the client's side, is its own too.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What all annotations together may have, in bytes.
const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

/// Applies a configuration to an object without `managedFields`, or to nothing; `stored` are the object's `managedFields`.
///
/// The result is not admitted yet: defaults are missing, and it may be wrong.
///
/// # Errors
/// See [`ApplyError`].
pub fn apply(
    resource: Resource,
    author: &Author,
    config: &Value,
    live: Option<&Value>,
    stored: Option<&str>,
    force: bool,
) -> Result<Applied, ApplyError> {
    config::check(resource, config)?;
    let mut wanted = config.clone();
    crate::schema::settle_nulls(resource, &mut wanted);
    let ignored = not_written(resource, author.subresource);
    if let Value::Object(object) = &mut wanted {
        object.retain(|name, _| !ignored.has(&super::element::field(name)));
    }

    let before = managers(resource, author, live, stored);
    let nothing = Value::Object(Map::new());
    let case = Case { parts: Parts::root(resource), live: live.unwrap_or(&nothing), wanted: &wanted, ignored, author };
    let (mut value, entries) = match case.run(before.clone(), force) {
        Err(conflicts) if may_take_over(resource, author, case.live, &conflicts) => case.run(before.clone(), true),
        outcome => outcome,
    }
    .map_err(|found| ApplyError::Conflicts(Conflicts(found.into_iter().map(|(conflict, _)| conflict).collect())))?;

    let unmoved = entries.len() == before.len()
        && entries.iter().all(|now| before.iter().any(|was| now.same_manager(was) && now.fields == was.fields));
    if author.manager == KUBECTL {
        keep_last_applied(&mut value, config);
    }
    Ok(Applied { value, managed: encode(entries), unmoved: unmoved && stored.is_some() })
}

/// Who owns what before the apply.
fn managers(resource: Resource, author: &Author, live: Option<&Value>, stored: Option<&str>) -> Vec<Entry> {
    let mut entries = stored.and_then(decode).unwrap_or_default();
    if entries.is_empty() {
        entries.extend(live.and_then(|live| before_first_apply(resource, author, live)));
    }
    entries.retain(|entry| entry.api_version == author.api_version);
    entries
}

/// A conflict, and the field as a set.
type Found = (Conflict, FieldSet);

struct Case<'a> {
    parts: Parts,
    live: &'a Value,
    wanted: &'a Value,
    ignored: FieldSet,
    author: &'a Author,
}

impl Case<'_> {
    /// The new object and who owns what of it; or the conflicts, in the order of managers and fields.
    fn run(&self, mut entries: Vec<Entry>, force: bool) -> Result<(Value, Vec<Entry>), Vec<Found>> {
        let merged = merge(self.parts, self.live.clone(), self.wanted);
        let mut mine = self.author.entry(Operation::Apply);
        mine.fields = content(self.parts, self.wanted).without_branches(&self.ignored).difference(untracked());
        let last = entries.iter().position(|entry| entry.same_manager(&mine)).map(|at| entries.remove(at));
        let value = match last {
            // What is applied is there in the end, also where taking something out left nothing around it.
            Some(last) => merge(self.parts, self.prune(merged, &last.fields, &mine, &entries), self.wanted),
            None => merged,
        };

        let (written, removed) = compare(self.parts, self.live, &value).without(&self.ignored).parted();
        if !force {
            entries.sort_by(|a, b| a.title_order().cmp(&b.title_order()));
            let conflicts: Vec<Found> = entries.iter().flat_map(|entry| conflicts(entry, &written)).collect();
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        for entry in &mut entries {
            entry.fields.subtract(&written);
            entry.fields.subtract(&removed);
        }
        entries.push(mine);
        entries.retain(|entry| !entry.fields.is_empty());
        Ok((value, entries))
    }

    /// Takes out what the manager applied last and applies no longer, unless somebody owns it.
    fn prune(&self, merged: Value, last: &FieldSet, mine: &Entry, others: &[Entry]) -> Value {
        let named = |set: &FieldSet| with_named_fields(self.parts, set);
        let has = |value: &Value| named(&content(self.parts, value));
        let without =
            |fields: &FieldSet| remove(self.parts, merged.clone(), fields).unwrap_or_else(|| Value::Object(Map::new()));
        let last = named(last);
        let everything = has(&merged);
        // What somebody owns comes back, the manager itself with what it applies now included.
        let mut stays = has(&without(&last));
        stays.unite(&named(&mine.fields));
        stays.unite(untracked());
        for other in others {
            stays.unite(&named(&other.fields));
        }
        let owned = without(&everything.clone().difference(&stays));
        // And so does what went with its list or map only, without being the manager's.
        let gone = everything.difference(&has(&owned)).intersection(&last);
        without(&gone)
    }
}

fn conflicts(entry: &Entry, written: &FieldSet) -> Vec<Found> {
    let title = entry.title();
    let theirs = entry.fields.intersection(written);
    let found = |(path, field)| (Conflict { manager: title.clone(), path }, field);
    theirs.members().into_iter().map(found).collect()
}

/// Whether every conflict is about a field that this very kubectl applied before on the client's side: the annotation says
/// so, and the field still has that value.
fn may_take_over(resource: Resource, author: &Author, live: &Value, conflicts: &[Found]) -> bool {
    if author.manager != KUBECTL {
        return false;
    }
    let annotation = live.pointer("/metadata/annotations").and_then(|annotations| annotations.get(LAST_APPLIED));
    let Some(last) = annotation.and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok())
    else {
        return false;
    };
    if config::check(resource, &last).is_err() {
        return false;
    }
    let parts = Parts::root(resource);
    let difference = compare(parts, &last, live);
    let mut own = content(parts, &last);
    for differs in [&difference.modified, &difference.added, &difference.removed] {
        own.subtract(differs);
    }
    conflicts.iter().all(|(_, field)| field.clone().difference(&own).is_empty())
}

/// Keeps kubectl's annotation true where there is one, so that kubectl can go back to applying on the client's side.
fn keep_last_applied(value: &mut Value, config: &Value) {
    let Some(annotations) = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    if annotations.get(LAST_APPLIED).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(own) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        own.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.to_owned(), format!("{config}\n").into());
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > ANNOTATIONS_MAX_BYTES {
        annotations.remove(LAST_APPLIED);
    }
}
