//! Events that the server itself writes, about what only it can know: what was found wrong at the start, and what came of a
//! Service's wish for hints.

use model::{Object, Resource};
use serde_json::{Value, json};

use super::Engine;
use super::stamp::broken;
use crate::error::Refusal;

/// What an Event says.
pub(super) struct Report<'a> {
    pub(super) about: &'a Object,
    pub(super) reason: &'static str,
    pub(super) note: String,
    /// Whether somebody should do something about it.
    pub(super) warns: bool,
    /// Which part of the server says it.
    pub(super) component: &'static str,
}

impl Engine {
    /// Writes a core/v1 Event in the namespace of what it is about, or in `default`. With a `topic` there is one Event of
    /// the object and topic: the next is counted on it, if it says the same reason of the same object, or takes its place.
    pub(super) fn report(&mut self, report: &Report<'_>, topic: Option<&str>) -> Result<(), Refusal> {
        let key = &report.about.key;
        let namespace = if key.namespace.is_empty() { "default" } else { &*key.namespace };
        let home = self.state.get(Resource::Namespaces, "", namespace);
        if home.is_none_or(|namespace| namespace.meta().terminating()) {
            return Ok(());
        }
        let name = match topic {
            Some(topic) => format!("{}.{topic}", key.name),
            None => format!("{}.{:016x}", key.name, self.chance.next()),
        };
        let stored = self.state.get(Resource::Events, namespace, &name).cloned();
        let mut event = event(report, namespace, &name, &self.timestamp());
        match &stored {
            None => self.stamp_new(Resource::Events, &mut event),
            Some(stored) if stored.meta().terminating() => return Ok(()),
            Some(stored) => count_on(&stored.value().map_err(broken)?, &mut event),
        }
        self.put(Resource::Events, event, stored.as_ref())?;
        Ok(())
    }
}

fn event(report: &Report<'_>, namespace: &str, name: &str, now: &str) -> Value {
    let (about, info) = (report.about, report.about.resource.info());
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": {
            "apiVersion": info.api_version(),
            "kind": info.kind,
            "name": &*about.key.name,
            "namespace": &*about.key.namespace,
            "uid": about.meta().uid(),
        },
        "reason": report.reason,
        "message": report.note,
        "type": if report.warns { "Warning" } else { "Normal" },
        "source": { "component": report.component },
        "reportingComponent": report.component,
        "reportingInstance": "",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}

/// Makes `event` the newest state of the stored one.
fn count_on(stored: &Value, event: &mut Value) {
    event["metadata"] = stored["metadata"].clone();
    let same = |field: &str| stored[field] == event[field];
    if same("involvedObject") && same("reason") {
        let count = stored["count"].as_i64().unwrap_or(1);
        event["firstTimestamp"] = stored["firstTimestamp"].clone();
        event["count"] = count.saturating_add(1).into();
    }
}
