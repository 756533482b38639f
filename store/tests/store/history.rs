//! Watches: exactly the history, from any revision that is kept, also after a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Resource, Revision};
use serde_json::{Value, json};
use store::{Event, EventKind, Watch};

use super::support::{Home, config_map_like, namespace, text};

async fn drain(watch: &mut Watch) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    loop {
        let more = watch.ready().unwrap();
        if more.is_empty() {
            return events;
        }
        events.extend(more);
    }
}

fn summary(events: &[Arc<Event>]) -> Vec<(EventKind, String, Revision)> {
    events.iter().map(|event| (event.kind, event.object.key.name.to_string(), event.revision)).collect()
}

async fn some_history(home: &Home) -> Revision {
    let from = home.store.revision();
    home.create(Resource::Leases, config_map_like("a")).await.unwrap();
    home.create(Resource::Leases, config_map_like("b")).await.unwrap();
    home.merge(Resource::Leases, "default", "a", json!({ "spec": { "holderIdentity": "z" } })).await.unwrap();
    home.delete(Resource::Leases, "default", "b").await.unwrap();
    from
}

#[tokio::test]
async fn a_watch_sees_every_change_once_and_in_order() {
    let home = Home::new().await;
    let from = some_history(&home).await;
    let mut watch = home.store.watch(Resource::Leases, None, from).unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!(
        summary(&events),
        [
            (EventKind::Added, "a".to_owned(), from + 1),
            (EventKind::Added, "b".to_owned(), from + 2),
            (EventKind::Modified, "a".to_owned(), from + 3),
            (EventKind::Deleted, "b".to_owned(), from + 4),
        ]
    );
    for event in &events {
        let line = event.frame();
        assert!(line.ends_with(b"}\n"));
        let frame: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(frame["type"], event.kind.as_str());
        assert_eq!(frame["object"]["metadata"]["resourceVersion"], event.revision.to_string());
        // One allocation: the object is a slice of the line.
        assert!(line.as_ptr_range().contains(&event.object.bytes.as_ptr()));
    }
    assert_eq!(events[2].previous.as_ref().unwrap().revision, from + 1);
    assert_eq!(events[3].previous.as_ref().unwrap().revision, from + 2);
    // From the middle on.
    let mut later = home.store.watch(Resource::Leases, None, from + 2).unwrap();
    assert_eq!(drain(&mut later).await.len(), 2);
}

#[tokio::test]
async fn a_watch_waits_and_is_woken() {
    let home = Home::new().await;
    let mut watch = home.store.watch(Resource::Leases, Some("default"), home.store.revision()).unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
    assert!(waiting.is_err());
    home.create(Resource::Namespaces, namespace("other")).await.unwrap();
    // Other resources move its bookmark, not its events.
    assert_eq!(watch.progress(), home.store.revision());
    let mut elsewhere = config_map_like("x");
    elsewhere["metadata"]["namespace"] = json!("other");
    home.create(Resource::Leases, elsewhere).await.unwrap();
    let (events, written) = tokio::join!(watch.next(), home.create(Resource::Leases, config_map_like("a")));
    let revision = written.unwrap().object.revision;
    assert_eq!(summary(&events.unwrap()), [(EventKind::Added, "a".to_owned(), revision)]);
    assert_eq!(watch.progress(), revision);
}

#[tokio::test]
async fn a_slow_watcher_finds_out_and_holds_up_no_one() {
    let home = Home::with(|config| config.history.max_events = 5).await;
    let mut slow = home.store.watch(Resource::Leases, None, home.store.revision()).unwrap();
    let from = home.store.revision();
    for n in 0..8 {
        home.create(Resource::Leases, config_map_like(&format!("l{n}"))).await.unwrap();
    }
    assert_eq!(slow.ready().unwrap_err().seen, from);
    let expired = home.store.watch(Resource::Leases, None, from).unwrap_err();
    assert_eq!((expired.oldest, expired.requested), (from + 3, from));
    assert_eq!(expired.to_string(), format!("too old resource version: {from} ({})", from + 3));
    let mut recent = home.store.watch(Resource::Leases, None, from + 3).unwrap();
    assert_eq!(drain(&mut recent).await.len(), 5);
}

#[tokio::test]
async fn history_is_bounded_in_bytes_over_all_resources() {
    let home = Home::with(|config| config.history.max_bytes = 64 << 10).await;
    for n in 0..100 {
        home.create(Resource::Leases, config_map_like(&format!("l{n}"))).await.unwrap();
    }
    let metrics = home.store.metrics();
    assert!(metrics.history_bytes <= 64 << 10, "{}", metrics.history_bytes);
    assert!(metrics.history_events > 10);
    // The oldest went first: the namespaces of the start.
    assert!(home.store.watch(Resource::Namespaces, None, 0).is_err());
}

#[tokio::test]
async fn a_watch_resumes_after_a_restart() {
    let mut home = Home::new().await;
    let from = some_history(&home).await;
    let mut watch = home.store.watch(Resource::Leases, None, from).unwrap();
    let before: Vec<(Value, Option<String>)> = frames(&drain(&mut watch).await);
    home.reopen().await;
    let mut watch = home.store.watch(Resource::Leases, None, from).unwrap();
    assert_eq!(frames(&drain(&mut watch).await), before);
}

fn frames(events: &[Arc<Event>]) -> Vec<(Value, Option<String>)> {
    let frame = |event: &Arc<Event>| serde_json::from_slice(event.frame()).unwrap();
    events.iter().map(|event| (frame(event), event.previous.as_ref().map(|object| text(object)))).collect()
}

#[tokio::test]
async fn old_changes_are_compacted_and_the_rest_survives() {
    let mut home = Home::with(|config| config.history.max_age = Duration::from_secs(60)).await;
    let from = some_history(&home).await;
    let dump = home.dump();
    assert_eq!(home.store.metrics().superseded_rows, 0, "not measured yet");
    // The writer looks at the clock when it has nothing to do.
    home.tick(61);
    let compacted = async {
        while home.store.metrics().compacted < from + 4 || home.store.metrics().superseded_rows > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            home.tick(61);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), compacted).await.expect("compaction");
    assert!(home.store.watch(Resource::Leases, None, from).is_err());
    assert_eq!(home.dump(), dump);
    let revision = home.store.revision();
    home.reopen().await;
    assert_eq!(home.dump(), dump);
    // A deleted object's row is gone, its revision is not given again.
    assert_eq!(home.store.revision(), revision);
    assert!(home.store.watch(Resource::Leases, None, from).is_err());
    assert!(home.store.watch(Resource::Leases, None, revision).is_ok());
    let created = home.create(Resource::Leases, config_map_like("c")).await.unwrap();
    assert_eq!(created.object.revision, revision + 1);
}

#[tokio::test]
async fn too_many_superseded_rows_are_compacted_under_load() {
    let home = Home::with(|config| config.history.max_rows = 50).await;
    home.create(Resource::Leases, config_map_like("a")).await.unwrap();
    for n in 0..300 {
        let patch = json!({ "spec": { "holderIdentity": n.to_string() } });
        home.merge(Resource::Leases, "default", "a", patch).await.unwrap();
    }
    assert!(home.store.metrics().compacted > 200, "{}", home.store.metrics().compacted);
    // Memory still has what the file has not.
    let mut watch = home.store.watch(Resource::Leases, None, 0).unwrap();
    assert_eq!(drain(&mut watch).await.len(), 301);
}

/// Without an idle moment, too.
#[tokio::test]
async fn events_are_forgotten_under_load() {
    let home = Home::new().await;
    for i in 0..150 {
        let event = json!({ "apiVersion": "v1", "kind": "Event",
            "metadata": { "name": format!("e{i}"), "namespace": "default" },
            "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" }, "reason": "R", "message": "m" });
        home.create(Resource::Events, event).await.unwrap();
    }
    home.tick(60);
    let busy = async {
        let began = Instant::now();
        let mut hour = Some(3600);
        for i in 0.. {
            let lease = json!({ "spec": { "holderIdentity": format!("h{i}") } });
            home.merge(Resource::Leases, "default", "busy", lease).await.unwrap();
            // The hour is over while nobody has rested, and once the writer has looked at the clock: it does every second.
            if began.elapsed() > Duration::from_secs(3)
                && let Some(hour) = hour.take()
            {
                home.tick(hour);
            }
            if home.names(Resource::Events, "default").is_empty() {
                break;
            }
        }
    };
    home.create(Resource::Leases, crate::support::config_map_like("busy")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), busy).await.expect("they go");
}

#[tokio::test]
async fn events_are_forgotten_after_an_hour() {
    let home = Home::new().await;
    let event = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "namespace": "default" },
            "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" }, "reason": "R", "message": "m" })
    };
    home.create(Resource::Events, event("old")).await.unwrap();
    home.tick(600);
    // The writer has looked at the clock once it has been idle.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    home.create(Resource::Events, event("new")).await.unwrap();
    home.tick(3600);
    let gone = async {
        while home.names(Resource::Events, "default") != ["new"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the old Event goes, the new one stays");
}
