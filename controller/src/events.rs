//! Events of what the controller decides.

use jiff::Timestamp;
use model::{Object, Resource};
use serde_json::json;
use store::{Verb, Write};

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

/// An Event whose name is what it says of an object, so that it is there once.
pub(crate) fn once(object: &Object, note: &Note, component: &str, now: Timestamp) -> Write {
    let mut write = about(object, note, component, now, 0);
    let said = format!("{} {} {}", object.meta().uid(), note.reason, note.text);
    let name = format!("{}.{:016x}", object.key.name, fnv(said.as_bytes()));
    if let Verb::Create { object } = &mut write.verb {
        object["metadata"]["name"] = name.as_str().into();
    }
    write.name = name;
    write
}

/// FNV-1a: the same on every machine and in every version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
