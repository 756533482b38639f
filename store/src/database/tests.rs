use serde_json::json;

use super::load::Loaded;
use super::*;
use crate::config::History;
use crate::event::SUFFIX;
use model::Object;

fn event(kind: EventKind, revision: Revision, name: &str, padding: usize) -> Arc<Event> {
    let value = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name,
        "resourceVersion": revision.to_string(), "annotations": { "p": "x".repeat(padding) } } });
    let mut frame = kind.prefix().to_vec();
    serde_json::to_writer(&mut frame, &value).unwrap();
    let end = frame.len();
    frame.extend_from_slice(SUFFIX);
    let frame = bytes::Bytes::from(frame);
    let object = Object::decode(Resource::Namespaces, frame.slice(kind.prefix().len()..end)).unwrap();
    Arc::new(Event::new(kind, Arc::new(object), None, frame))
}

async fn load(database: &mut Database) -> Loaded {
    database.load(&History::default()).await.unwrap()
}

#[tokio::test]
async fn groups_of_every_size_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portolan.db");
    let mut database = Database::open(&path).await.unwrap();
    let mut revision = 0;
    for size in [1, 2, 3, 5, 64, 100, 1023, 1024, 1025, 2500] {
        let events: Vec<_> = (0..size)
            .map(|_| {
                revision += 1;
                event(EventKind::Added, revision, &format!("n{revision}"), 1)
            })
            .collect();
        database.append(&events).await.unwrap();
    }
    let loaded = load(&mut database).await;
    assert_eq!(loaded.published.revision, revision);
    assert_eq!(loaded.published.shelf(Resource::Namespaces).len() as u64, revision);
    assert!(loaded.superseded.is_empty());
    database.close().await.unwrap();
    let mut database = Database::open(&path).await.unwrap();
    assert_eq!(load(&mut database).await.published.revision, revision);
}

#[tokio::test]
async fn rows_come_back_as_they_were_whatever_is_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = Database::open(&directory.path().join("portolan.db")).await.unwrap();
    let names = ["plain", "a\"b", "ü/ö", "two\nlines", "[1,2]", "\u{1}", "☃", "{}"];
    let events: Vec<_> = (1..=600)
        .map(|n| event(EventKind::Added, n, &format!("{}{n}", names[n as usize % names.len()]), n as usize % 7 * 1000))
        .collect();
    database.append(&events).await.unwrap();
    let loaded = load(&mut database).await;
    let shelf = loaded.published.shelf(Resource::Namespaces);
    assert_eq!(shelf.len(), events.len());
    for event in events {
        let stored = shelf.get("", &event.object.key.name).unwrap();
        assert_eq!((stored.revision, &stored.bytes), (event.revision, &event.object.bytes));
    }
}

#[tokio::test]
async fn a_full_disk_takes_nothing_of_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = Database::open(&directory.path().join("portolan.db")).await.unwrap();
    database.append(&[event(EventKind::Added, 1, "a", 1)]).await.unwrap();
    // SQLite's own way of being full.
    sqlx::query("PRAGMA max_page_count = 20").execute(&mut database.connection).await.unwrap();
    let events: Vec<_> = (2..2000).map(|n| event(EventKind::Added, n, &format!("n{n}"), 500)).collect();
    let error = database.append(&events).await.unwrap_err();
    assert_eq!(sqlite_code(&error), Some(SQLITE_FULL));
    let error = database.append(&events[..900]).await.unwrap_err();
    assert_eq!(sqlite_code(&error), Some(SQLITE_FULL));
    assert_eq!(load(&mut database).await.published.revision, 1);
    database.rewind(1).await.unwrap();
    database.append(&events).await.unwrap();
    assert_eq!(load(&mut database).await.published.revision, 1999);
}

#[tokio::test]
async fn compaction_keeps_the_newest_and_the_states_before_what_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portolan.db");
    let mut database = Database::open(&path).await.unwrap();
    let events = [
        event(EventKind::Added, 1, "a", 1),
        event(EventKind::Added, 2, "b", 1),
        event(EventKind::Modified, 3, "a", 2),
        event(EventKind::Deleted, 4, "b", 1),
        event(EventKind::Modified, 5, "a", 3),
    ];
    database.append(&events).await.unwrap();
    let loaded = load(&mut database).await;
    assert_eq!(loaded.superseded, [(3, 1), (4, 2), (4, 4), (5, 3)]);
    database.compact(4, &[1, 2, 4]).await.unwrap();
    let loaded = load(&mut database).await;
    assert_eq!((loaded.compacted, loaded.published.revision), (4, 5));
    assert_eq!(loaded.superseded, [(5, 3)]);
    let ring = loaded.published.ring(Resource::Namespaces);
    assert_eq!((ring.floor(), ring.len()), (4, 1));
    let event = ring.after(4).next().unwrap();
    assert_eq!(event.previous.as_ref().unwrap().revision, 3);
    // Everything deleted: the revision does not go back.
    database.append(&[self::event(EventKind::Deleted, 6, "a", 3)]).await.unwrap();
    database.compact(6, &[3, 5, 6]).await.unwrap();
    assert_eq!(load(&mut database).await.published.revision, 6);
}
