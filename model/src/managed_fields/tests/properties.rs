//! Laws that hold for any sequence of writes.

use proptest::prelude::*;
use serde_json::json;

use super::super::compare::compare;
use super::super::content::content;
use super::super::entry::Operation;
use super::super::merge::{remove, with_named_fields};
use super::super::parts::Parts;
use super::super::set::FieldSet;
use super::*;
use crate::schema::settle_nulls;
use crate::schema::tests::any_document;

fn steps() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["f:a", "f:b", "k:{\"x\":1}", "v:\"s\""]).prop_map(str::to_owned)
}

fn sets() -> impl Strategy<Value = FieldSet> {
    prop::collection::vec(prop::collection::vec(steps(), 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::default();
        paths.iter().for_each(|path| set.insert(path));
        set
    })
}

/// A small Pod: few names, so that managers meet.
fn config() -> impl Strategy<Value = Value> {
    let label = prop::option::of(prop::sample::select(vec!["1", "2"]));
    let items = prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), prop::option::of(0..3_u8), 0..3);
    let atomic = prop::option::of(prop::collection::vec(0..3_u8, 0..3));
    let set = prop::collection::btree_set(prop::sample::select(vec!["x/a", "x/b", "x/c"]), 0..3);
    (label, items, atomic, set).prop_map(|(label, items, atomic, set)| {
        let mut config = json!({ "metadata": {}, "spec": {} });
        if let Some(label) = label {
            config["metadata"]["labels"] = json!({ "l": label });
        }
        if !set.is_empty() {
            config["metadata"]["finalizers"] = json!(set);
        }
        if let Some(atomic) = atomic {
            config["spec"]["tolerations"] = atomic.iter().map(|n| json!({ "key": n.to_string() })).collect();
        }
        let containers: Vec<Value> = items
            .iter()
            .map(|(name, image)| match image {
                Some(image) => json!({ "name": name, "image": image.to_string() }),
                None => json!({ "name": name }),
            })
            .collect();
        if !containers.is_empty() {
            config["spec"]["containers"] = containers.into();
        }
        config
    })
}

#[derive(Clone, Debug)]
enum Write {
    Apply(u8, Value, bool),
    Update(u8, Value),
}

fn writes() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (0..3_u8, config(), any::<bool>()).prop_map(|(manager, config, force)| Write::Apply(manager, config, force)),
        1 => (0..3_u8, config()).prop_map(|(manager, object)| Write::Update(manager, object)),
    ]
}

/// What a manager applied is in the object.
fn holds(parts: Parts, object: &Value, config: &Value) -> bool {
    match (parts, object, config) {
        (Parts::Struct(_) | Parts::Map(_), Value::Object(object), Value::Object(config)) => {
            config.iter().all(|(name, value)| match object.get(name) {
                Some(has) => holds(parts.field(name), has, value),
                None => value.as_object().is_some_and(Map::is_empty),
            })
        }
        (Parts::Set | Parts::Items(..), Value::Array(items), Value::Array(config)) => config.iter().all(|wanted| {
            items.iter().any(|item| parts.step_to(item) == parts.step_to(wanted) && holds(parts.item(), item, wanted))
        }),
        (_, object, config) => object == config,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sets_are_sets(a in sets(), b in sets()) {
        let union = |a: &FieldSet, b: &FieldSet| { let mut set = a.clone(); set.unite(b); set };
        let text = serde_json::to_string(&a).unwrap();
        prop_assert_eq!(&serde_json::from_str::<FieldSet>(&text).unwrap(), &a);
        prop_assert_eq!(union(&a, &b), union(&b, &a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(union(&a.clone().difference(&b), &a.intersection(&b)), a.clone());
        prop_assert!(a.clone().difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(union(&a, &b).difference(&b), a.clone().difference(&b));
        let branches = a.clone().without_branches(&b);
        prop_assert!(branches.clone().difference(&a).is_empty() && branches.intersection(&b).is_empty());
        let names = |set: &FieldSet| set.members().into_iter().map(|(path, _)| path).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(names(&union(&a, &b)), &names(&a) | &names(&b));
        prop_assert_eq!(names(&a.intersection(&b)), &names(&a) & &names(&b));
        prop_assert_eq!(names(&a.clone().difference(&b)), &names(&a) - &names(&b));
    }

    /// The fields of a random document of any kind survive the wire, and are found again as additions.
    #[test]
    fn content_round_trips((resource, mut document) in any_document()) {
        settle_nulls(resource, &mut document);
        let parts = Parts::root(resource);
        let set = content(parts, &document);
        let text = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(&serde_json::from_str::<FieldSet>(&text).unwrap(), &set);
        prop_assert!(compare(parts, &document, &document).is_empty());
        if document.is_object() {
            // Taking everything out leaves nothing, and nothing can be found in it.
            let left = remove(parts, document.clone(), &with_named_fields(parts, &set));
            prop_assert!(left.is_none_or(|left| content(parts, &left).intersection(&set).is_empty()));
        }
    }

    #[test]
    fn managers_and_objects_agree(steps in prop::collection::vec(writes(), 1..8)) {
        let mut lab = Lab::pods();
        let parts = Parts::root(Resource::Pods);
        for step in steps {
            let (live, entries) = (lab.live.clone(), lab.entries());
            match step {
                Write::Update(manager, object) => {
                    let (short, long) = both_ways(&mut lab, manager, &object);
                    prop_assert_eq!(short, long);
                    lab.update(&format!("m{manager}"), object.clone());
                    prop_assert_eq!(lab.live.as_ref(), Some(&object));
                    let updaters: Vec<Entry> = lab.entries().into_iter().filter(|e| e.operation == Operation::Update).collect();
                    for (at, one) in updaters.iter().enumerate() {
                        for other in &updaters[at + 1..] {
                            prop_assert!(one.fields.intersection(&other.fields).is_empty());
                        }
                    }
                }
                Write::Apply(manager, config, force) => {
                    let name = format!("m{manager}");
                    if lab.try_apply(&name, config.clone(), force).is_err() {
                        prop_assert!(!force);
                        prop_assert_eq!((&lab.live, lab.entries()), (&live, entries));
                        continue;
                    }
                    let after = lab.live.clone().unwrap();
                    prop_assert!(holds(parts, &after, &config), "{} lacks {}", after, config);
                    // Idempotent.
                    let stored = lab.stored.clone();
                    lab.apply(&name, config);
                    prop_assert_eq!((lab.live.as_ref(), &lab.stored), (Some(&after), &stored));
                    // What another owns is still there; a map that became empty may have gone.
                    let was = live.map(|live| content(parts, &live)).unwrap_or_default();
                    let is = exists(parts, &after);
                    for entry in entries.iter().filter(|e| !(e.manager == name && e.operation == Operation::Apply)) {
                        let lost = entry.fields.intersection(&was).difference(&is);
                        prop_assert!(!lost_with_its_items(&lost, &entry.fields), "{:?} of {}", lost, entry.manager);
                    }
                }
            }
            let is = exists(parts, lab.live.as_ref().unwrap());
            for entry in lab.entries() {
                prop_assert!(entry.fields.clone().difference(&is).is_empty(), "{:?}", entry);
            }
        }
    }
}

/// Whether a field is lost whose manager owned also every item of a list that it stood in. Who owns an item can take it
/// away with what others wrote into it.
fn lost_with_its_items(lost: &FieldSet, owned: &FieldSet) -> bool {
    lost.steps().any(|(step, member, below)| {
        let through = element::field_name(step).is_some() || owned.has(step);
        member || (through && owned.below(step).is_some_and(|owned| lost_with_its_items(below, owned)))
    })
}

/// Every path that leads to something; those that are always there included.
fn exists(parts: Parts, value: &Value) -> FieldSet {
    let mut set = compare(parts, &json!({}), value).parted().0;
    set.unite(&with_named_fields(parts, &content(parts, value)));
    set
}

/// What an update leaves of `managedFields`, found by the way that is taken and by the long one.
fn both_ways(lab: &mut Lab, manager: u8, object: &Value) -> (Option<Vec<Entry>>, Option<Vec<Entry>>) {
    let author =
        Author::new(Resource::Pods, format!("m{manager}"), Subresource::None, Timestamp::from_second(99).unwrap());
    let mut object = object.clone();
    let tracking = Tracking::begin(Resource::Pods, author, &mut object);
    let read = |text: Option<&str>| text.and_then(entry::decode);
    let stored = lab.stored.as_deref();
    let short = match tracking.finish(lab.live.as_ref(), &object, stored) {
        Change::None => read(stored),
        Change::Replaced(text) => read(text.as_deref().map(RawValue::get)),
    };
    let untracked = lab.live.is_some() && stored.is_none();
    let comparison = tracking.compare(lab.live.as_ref(), &object);
    if untracked || comparison.is_empty() {
        return (short, read(stored));
    }
    let long = tracking.settle(read(stored).unwrap_or_default(), comparison);
    (short, read(long.as_deref().map(RawValue::get)))
}
