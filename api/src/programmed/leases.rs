//! Until when each node's Lease in `kube-node-lease` holds.
//!
//! Brought up to date when somebody asks, by the changes since the last time: a thousand nodes renew a hundred Leases a
//! second, and nobody may be asking. As in Kubernetes a Lease holds for its duration after the time that its holder
//! wrote into it, so the nodes' clocks have to agree with the server's to some seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use model::{Object, Resource};
use serde::Deserialize;
use store::{EventKind, Store, Watch};

const NAMESPACE: &str = "kube-node-lease";

/// By the node's name.
#[derive(Debug, Default)]
pub struct Leases {
    until: BTreeMap<Box<str>, Timestamp>,
    /// Where the next look goes on; None: at the beginning.
    watch: Option<Watch>,
}

impl Leases {
    /// Takes in what has changed.
    pub fn refresh(&mut self, store: &Store) {
        if let Some(watch) = &mut self.watch {
            loop {
                match watch.ready() {
                    Ok(events) if events.is_empty() => return,
                    Ok(events) => events.iter().for_each(|event| match event.kind {
                        EventKind::Deleted => {
                            self.until.remove(&event.object.key.name);
                        }
                        EventKind::Added | EventKind::Modified => put(&mut self.until, &event.object),
                    }),
                    // The history has forgotten where we were.
                    Err(_) => break,
                }
            }
        }
        let (revision, leases) = store.list(Resource::Leases, Some(NAMESPACE));
        self.until.clear();
        leases.iter().for_each(|lease| put(&mut self.until, lease));
        self.watch = store.watch(Resource::Leases, Some(NAMESPACE), revision).ok();
    }

    /// Whether a node's Lease holds.
    pub fn holds(&self, node: &str, now: Timestamp) -> bool {
        self.until(node, now).is_some()
    }

    /// Until when a node's Lease holds, if it does.
    pub fn until(&self, node: &str, now: Timestamp) -> Option<Timestamp> {
        self.until.get(node).copied().filter(|until| now < *until)
    }

    /// The nodes whose Lease holds.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        self.until.iter().filter(move |(_, until)| now < **until).map(|(name, _)| &**name)
    }

    #[cfg(test)]
    pub fn of(list: &[(&str, Timestamp)]) -> Self {
        Self { until: list.iter().map(|(name, until)| ((*name).into(), *until)).collect(), watch: None }
    }
}

fn put(until: &mut BTreeMap<Box<str>, Timestamp>, lease: &Object) {
    let name = &lease.key.name;
    match end(&lease.bytes) {
        // A renewal costs no new name.
        Some(end) => match until.get_mut(name) {
            Some(known) => *known = end,
            None => {
                until.insert(name.clone(), end);
            }
        },
        None => {
            until.remove(name);
        }
    }
}

/// When a Lease ends; None for one that was never taken.
pub fn end(bytes: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Lease {
        spec: Option<Spec>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        renew_time: Option<String>,
        lease_duration_seconds: Option<u32>,
    }
    let spec = serde_json::from_slice::<Lease>(bytes).ok()?.spec?;
    let renewed: Timestamp = spec.renew_time?.parse().ok()?;
    renewed.checked_add(Duration::from_secs(spec.lease_duration_seconds?.into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_its_duration_after_it_was_renewed() {
        let end = |text: &str| end(text.as_bytes()).map(|end| end.to_string());
        let spec = r#"{"spec":{"renewTime":"2024-05-01T12:00:00.000000Z","leaseDurationSeconds":40}}"#;
        assert_eq!(end(spec).as_deref(), Some("2024-05-01T12:00:40Z"));
        for never in ["{}", r#"{"spec":{}}"#, r#"{"spec":{"leaseDurationSeconds":40}}"#] {
            assert_eq!(end(never), None, "{never}");
        }
    }

    #[test]
    fn it_holds_until_its_end_and_not_longer() {
        let end: Timestamp = "2024-05-01T12:00:40Z".parse().unwrap();
        let leases = Leases::of(&[("a", end)]);
        let second = Duration::from_secs(1);
        assert!(leases.holds("a", end - second) && !leases.holds("a", end) && !leases.holds("b", end - second));
        assert_eq!(leases.live(end - second).collect::<Vec<_>>(), ["a"]);
        assert_eq!(leases.live(end + second).count(), 0);
    }
}
