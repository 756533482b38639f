use model::Resource;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::event;

/// A row of a random log: which of a few objects, and what happened.
fn rows() -> impl Strategy<Value = Vec<(bool, u8, bool, usize)>> {
    prop::collection::vec((any::<bool>(), 0..6u8, prop::bool::weighted(0.2), 0..40usize), 0..120)
}

/// The log that these make: an object is added, modified and deleted as it can be.
fn log(rows: &[(bool, u8, bool, usize)]) -> Vec<Replayed> {
    let mut alive = std::collections::BTreeSet::new();
    let row = |(i, (node, name, deletes, padding)): (usize, &(bool, u8, bool, usize))| {
        let resource = if *node { Resource::Nodes } else { Resource::Namespaces };
        let kind = match (alive.contains(&(*node, *name)), deletes) {
            (false, _) => EventKind::Added,
            (true, false) => EventKind::Modified,
            (true, true) => EventKind::Deleted,
        };
        if kind == EventKind::Deleted {
            alive.remove(&(*node, *name))
        } else {
            alive.insert((*node, *name))
        };
        let value = json!({"metadata": {"name": format!("n{name}"), "resourceVersion": (i + 1).to_string(),
            "annotations": {"p": "x".repeat(*padding)}}});
        let (frame, bytes) = frame(kind, value.to_string().as_bytes());
        let object = Arc::new(Object::decode(resource, bytes).unwrap());
        Replayed { needed: Needed::default(), kind, object, frame }
    };
    rows.iter().enumerate().map(row).collect()
}

/// From the oldest to the newest, with every row.
fn forwards(log: &[Replayed], compacted: Revision, history: &History) -> Loaded {
    let mut loaded = Loaded { published: Published::starting_at(compacted), compacted, superseded: VecDeque::new() };
    for Replayed { kind, object, frame, .. } in log.iter().cloned() {
        let shelf = loaded.published.shelf(object.resource);
        let previous = shelf.get(&object.key.namespace, &object.key.name).cloned();
        if let Some(previous) = &previous {
            loaded.superseded.push_back((object.revision, previous.revision));
        }
        if kind == EventKind::Deleted {
            loaded.superseded.push_back((object.revision, object.revision));
        }
        if object.revision > compacted {
            loaded.published.apply(Arc::new(Event::new(kind, object, previous, frame)));
        } else {
            loaded.published.settle(kind, object);
        }
    }
    loaded.published.trim(history.max_events, history.max_bytes);
    loaded
}

/// As a load does it.
fn backwards(log: &[Replayed], compacted: Revision, history: &History) -> Loaded {
    let (mut rows, mut replay) = (Backwards::new(compacted, history), Replay::starting_at(compacted));
    for row in log.iter().rev() {
        let key = &row.object.key;
        let line = Line {
            revision: row.object.revision,
            resource: row.object.resource,
            namespace: &key.namespace,
            name: &key.name,
            kind: row.kind,
            len: row.object.bytes.len(),
        };
        let needed = rows.take(line);
        if needed.any() {
            replay.take(Replayed { needed, ..row.clone() });
        }
    }
    let published = replay.finish(|resource| rows.floor(resource));
    Loaded { published, compacted, superseded: rows.superseded().into() }
}

/// Everything that can be seen of it.
fn seen(loaded: &Loaded) -> String {
    let mut text = format!("{} {:?}\n", loaded.published.revision, loaded.superseded);
    for resource in [Resource::Nodes, Resource::Namespaces] {
        let ring = loaded.published.ring(resource);
        let objects: Vec<_> = loaded.published.shelf(resource).all().map(|o| (o.key.clone(), o.revision)).collect();
        let previous = |e: &Arc<Event>| e.previous.as_ref().map(|p| p.revision);
        let events: Vec<_> = ring.after(0).map(|e| (e.revision, e.kind, previous(e))).collect();
        let (floor, last) = (ring.floor(), loaded.published.last_change(resource));
        text += &format!("{resource}: {objects:?}\n  after {floor}, last {last}: {events:?}\n");
    }
    text
}

proptest! {
    #[test]
    fn backwards_is_as_forwards(rows in rows(), compacted in 0..40u64, events in 0..30usize, bytes in 0..40_000usize) {
        let log = log(&rows);
        let history = History { max_events: events, max_bytes: bytes, ..History::default() };
        prop_assert_eq!(seen(&backwards(&log, compacted, &history)), seen(&forwards(&log, compacted, &history)));
    }
}

#[test]
fn a_row_costs_what_its_event_will() {
    for row in log(&[(true, 1, false, 3), (true, 1, false, 30), (true, 1, true, 7)]) {
        let len = row.object.bytes.len();
        let event = Event::new(row.kind, row.object, None, row.frame);
        assert_eq!(event::cost(event.kind, len), event.cost());
    }
}
