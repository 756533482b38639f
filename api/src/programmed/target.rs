//! Which revisions a node must have, told from the store's history of each resource.
//!
//! For a Service that is its own revision, and the last change of a slice of its own, deletions included. The history is
//! looked through from where the slowest node stands: where all have caught up, which is nearly always, there is nothing
//! to look through. What the history has forgotten, or what is too long, is answered on the safe side: with the newest
//! change of any slice, which every agent comes to without further traffic.

use model::{Object, Resource, Revision};
use store::{Event, Store};

use super::acknowledged::{FOLLOWED, Target};

/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Batches of the history that are looked through; each has some hundred changes of the Service's namespace.
const BATCHES_MOST: usize = 16;

impl Target {
    /// Everything up to `revision`.
    ///
    /// A resource whose last change is older than that never says a newer revision of itself; of one whose last change is
    /// newer an agent comes to that, and so beyond `revision`.
    pub fn up_to(store: &Store, revision: Revision) -> Self {
        Self(FOLLOWED.map(|resource| newest(store, resource).min(revision)))
    }

    /// This Service as it is, with the slices that it has now. `since` is the least revision of slices that any node has.
    pub fn of(store: &Store, service: &Object, since: Revision) -> Self {
        Self(FOLLOWED.map(|resource| match resource {
            Resource::Services => service.revision,
            Resource::EndpointSlices => slices_after(store, service, since),
            _ => 0,
        }))
    }
}

/// The revision of the last change of a resource. Those before the start of the history count as one change at it: what
/// was deleted by then has left no trace, and an agent from before has to list again.
fn newest(store: &Store, resource: Resource) -> Revision {
    let floor = store.watch(resource, None, 0).err().map_or(0, |expired| expired.oldest);
    store.last_change(resource).max(floor)
}

/// The last change after `since` of a slice that is, or was, the Service's; 0 when there was none.
fn slices_after(store: &Store, service: &Object, since: Revision) -> Revision {
    if store.last_change(Resource::EndpointSlices) <= since {
        return 0;
    }
    let Ok(mut watch) = store.watch(Resource::EndpointSlices, Some(&service.key.namespace), since) else {
        return newest(store, Resource::EndpointSlices);
    };
    let mut last = 0;
    for _ in 0..BATCHES_MOST {
        match watch.ready() {
            Ok(events) if events.is_empty() => return last,
            Ok(events) => {
                let own = events.iter().rev().find(|event| concerns(event, &service.key.name));
                last = own.map_or(last, |event| event.revision);
            }
            Err(_) => break,
        }
    }
    newest(store, Resource::EndpointSlices)
}

/// Whether the slice is of this Service, or was until this change.
fn concerns(event: &Event, service: &str) -> bool {
    let of = |slice: &Object| slice.labels().get(SERVICE_NAME).is_some_and(|name| name == service);
    of(&event.object) || event.previous.as_deref().is_some_and(of)
}
