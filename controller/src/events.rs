//! Events of what the controller decides.

use jiff::Timestamp;
use model::{Object, Resource};
use serde_json::json;
use store::Write;

use crate::writes::{self, time};

/// What an Event says.
pub(crate) struct Note {
    pub(crate) reason: &'static str,
    pub(crate) text: String,
    /// Whether somebody should do something about it.
    pub(crate) warns: bool,
}

/// An Event about an object, in its namespace, or in `default`. `component`: which part of the server says it. `number`
/// tells it from others of the same moment.
pub(crate) fn about(object: &Object, note: &Note, component: &str, now: Timestamp, number: u32) -> Write {
    let (key, info) = (&object.key, object.resource.info());
    let namespace = if key.namespace.is_empty() { "default" } else { &*key.namespace };
    // As client-go names Events: the object and the moment.
    let name = format!("{}.{:016x}", key.name, now.as_nanosecond() + i128::from(number));
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": {
            "apiVersion": info.api_version(),
            "kind": info.kind,
            "name": &*key.name,
            "namespace": &*key.namespace,
            "uid": object.meta().uid(),
        },
        "reason": note.reason,
        "message": note.text,
        "type": if note.warns { "Warning" } else { "Normal" },
        "source": { "component": component },
        "reportingComponent": component,
        "reportingInstance": "",
        "firstTimestamp": time(now),
        "lastTimestamp": time(now),
        "count": 1,
    });
    writes::create(Resource::Events, namespace, &name, event)
}
