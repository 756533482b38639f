//! Events in two forms: core/v1, which is what is stored, and events.k8s.io/v1, which says the same in other names.
//!
//! Both group versions show the same objects, as in Kubernetes; a recorder of either writes what readers of the other see.
//! Seven fields have other names (`pkg/apis/events/v1/conversion.go`), everything below them is alike, so a conversion
//! renames and nothing is lost in either direction. `metadata.managedFields` stays as it is stored.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::object::Object;
use crate::resource::Resource;

/// (core/v1, events.k8s.io/v1)
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Makes of an object as clients of `resource` write it the form that it is stored in.
pub fn to_stored(resource: Resource, value: &mut Value) {
    if resource == Resource::EventsV1 {
        rename(value, Resource::Events, |(core, new)| (new, core));
    }
}

/// Makes of an object in its stored form what clients of `resource` read.
pub fn to_shown(resource: Resource, value: &mut Value) {
    if resource == Resource::EventsV1 {
        rename(value, Resource::EventsV1, |names| names);
    }
}

/// The object as clients of `resource` read it; the very same where that is how it is stored.
pub fn shown(resource: Resource, object: &Arc<Object>) -> Cow<'_, Arc<Object>> {
    if resource.info().stored_as.is_none() {
        return Cow::Borrowed(object);
    }
    // A stored object reads back always; were one not to, its stored form is the lesser evil.
    let Ok(mut value) = object.value() else { return Cow::Borrowed(object) };
    to_shown(resource, &mut value);
    let bytes = Bytes::from(value.to_string());
    let view = object.view.clone();
    let (key, revision) = (object.key.clone(), object.revision);
    Cow::Owned(Arc::new(Object::new(resource, key, revision, bytes, view)))
}

fn rename(
    value: &mut Value,
    into: Resource,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Value::Object(event) = value else { return };
    if event.contains_key("apiVersion") {
        event.insert("apiVersion".to_owned(), into.info().api_version().into());
    }
    for (from, to) in NAMES.into_iter().map(direction) {
        if let Some(field) = event.remove(from) {
            event.insert(to.to_owned(), field);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    fn core() -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": "e", "namespace": "n", "resourceVersion": "7" },
            "involvedObject": { "kind": "Pod", "name": "p", "namespace": "n" },
            "related": { "kind": "Node", "name": "x" },
            "message": "started",
            "reason": "Started",
            "action": "Start",
            "type": "Normal",
            "reportingComponent": "example.com/a",
            "reportingInstance": "a-1",
            "source": { "component": "a", "host": "h" },
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:00:01Z",
            "count": 2,
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" },
        })
    }

    #[test]
    fn every_field_has_its_name_in_either_form() {
        let mut event = core();
        assert_eq!(schema::check(Resource::Events, &event), schema::Checked::default());
        to_shown(Resource::EventsV1, &mut event);
        assert_eq!(schema::check(Resource::EventsV1, &event), schema::Checked::default());
        // Both kinds have so many fields, and the event above has every one.
        for resource in [Resource::Events, Resource::EventsV1] {
            assert_eq!(schema::root(resource).fields.len(), event.as_object().unwrap().len(), "{resource}");
        }
        expect_test::expect![[r#"
            {
              "action": "Start",
              "apiVersion": "events.k8s.io/v1",
              "deprecatedCount": 2,
              "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z",
              "deprecatedLastTimestamp": "2026-01-01T00:00:01Z",
              "deprecatedSource": {
                "component": "a",
                "host": "h"
              },
              "eventTime": "2026-01-01T00:00:00.000000Z",
              "kind": "Event",
              "metadata": {
                "name": "e",
                "namespace": "n",
                "resourceVersion": "7"
              },
              "note": "started",
              "reason": "Started",
              "regarding": {
                "kind": "Pod",
                "name": "p",
                "namespace": "n"
              },
              "related": {
                "kind": "Node",
                "name": "x"
              },
              "reportingController": "example.com/a",
              "reportingInstance": "a-1",
              "series": {
                "count": 2,
                "lastObservedTime": "2026-01-01T00:00:01.000000Z"
              },
              "type": "Normal"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&event).unwrap());
        to_stored(Resource::EventsV1, &mut event);
        assert_eq!(event, core());
    }

    #[test]
    fn only_the_other_form_is_made_anew() {
        let stored = Arc::new(Object::decode(Resource::Events, Bytes::from(core().to_string())).unwrap());
        assert!(matches!(shown(Resource::Events, &stored), Cow::Borrowed(_)));
        let other = shown(Resource::EventsV1, &stored);
        assert_eq!((other.resource, &other.key, other.revision), (Resource::EventsV1, &stored.key, 7));
        assert!(other.value().unwrap()["note"].is_string());
    }
}
