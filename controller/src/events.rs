//! Events of what the controller decides.

use jiff::Timestamp;
use model::{Object, Resource};
use serde_json::json;
use store::Write;

use crate::writes::{self, COMPONENT, time};

/// An Event about an object, in its namespace, or in `default`.
pub(crate) fn about(object: &Object, reason: &str, note: &str, warns: bool, now: Timestamp) -> Write {
    let (key, info) = (&object.key, object.resource.info());
    let namespace = if key.namespace.is_empty() { "default" } else { &*key.namespace };
    // As client-go names Events: the object and the moment.
    let name = format!("{}.{:016x}", key.name, now.as_nanosecond());
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
        "reason": reason,
        "message": note,
        "type": if warns { "Warning" } else { "Normal" },
        "source": { "component": COMPONENT },
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
        "firstTimestamp": time(now),
        "lastTimestamp": time(now),
        "count": 1,
    });
    writes::create(Resource::Events, namespace, &name, event)
}
