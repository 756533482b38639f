//! Streams on a real store: bookmarks in paused time, bursts, and watchers that fall behind.

use serde_json::{Value, json};
use store::{Config, History, Store, Verb, Write};

use super::*;
use crate::metrics::Metrics;
use crate::options::ListOptions;
use crate::query::Query;

struct Fixture {
    store: Store,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new(history: History) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { history, ..Config::new(directory.path().join("portolan.db")) };
        Self { store: Store::open(config).await.unwrap(), _directory: directory }
    }

    async fn node(&self, name: &str, padding: usize) {
        let object = json!({"kind": "Node", "apiVersion": "v1",
                            "metadata": {"name": name, "annotations": {"padding": "x".repeat(padding)}}});
        let verb = Verb::Create { object };
        let write = Write {
            resource: Resource::Nodes,
            namespace: String::new(),
            name: name.to_owned(),
            verb,
            manager: "test".to_owned(),
            dry_run: false,
        };
        self.store.write(write).await.unwrap();
    }

    /// A watch of nodes from now on.
    fn watch(&self, query: &str, lasts: Duration, draining: Option<Draining>) -> Stream {
        let revision = self.store.revision();
        let watch = self.store.watch(Resource::Nodes, None, revision).unwrap();
        let options = ListOptions::read(Resource::Nodes, &Query::parse(Some(query))).unwrap();
        Stream::new(
            watch,
            Vec::new(),
            revision,
            Settings {
                resource: Resource::Nodes,
                format: Format::Json,
                render: Render::Plain,
                bookmarks: options.bookmarks,
                mark_initial_end: false,
                deadline: Instant::now() + lasts,
                clock: Timestamp::now,
                draining,
                version: Version::HTTP_11,
                guard: Arc::new(Metrics::new()).watcher(Resource::Nodes),
                selectors: options.selectors,
                condition: None,
            },
        )
    }
}

fn events(frame: &[u8]) -> Vec<Value> {
    frame.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

#[tokio::test]
async fn bookmarks_come_every_minute_and_at_the_end() {
    let fixture = Fixture::new(History::default()).await;
    tokio::time::pause();
    let begun = Instant::now();
    let mut stream = fixture.watch("allowWatchBookmarks=true", Duration::from_secs(150), None);
    let mut times = Vec::new();
    while let Some(frame) = stream.next().await {
        assert_eq!(events(&frame)[0]["type"], "BOOKMARK");
        times.push(begun.elapsed().as_secs());
    }
    assert_eq!(times, [60, 120, 150]);
}

#[tokio::test]
async fn without_bookmarks_an_idle_watch_says_nothing() {
    let fixture = Fixture::new(History::default()).await;
    tokio::time::pause();
    let begun = Instant::now();
    let mut stream = fixture.watch("", Duration::from_secs(150), None);
    assert_eq!(stream.next().await, None);
    assert_eq!(begun.elapsed().as_secs(), 150);
}

#[tokio::test]
async fn an_idle_watcher_is_small() {
    let fixture = Fixture::new(History::default()).await;
    let mut stream = fixture.watch("allowWatchBookmarks=true", Duration::from_secs(600), None);
    let own = size_of_val(&stream);
    let waiting = size_of_val(&stream.next());
    assert!(own + waiting < 2 * 1024, "{own} and {waiting} bytes");
}

#[tokio::test]
async fn draining_ends_a_watch() {
    let fixture = Fixture::new(History::default()).await;
    let (switch, draining) = Draining::pair();
    let mut stream = fixture.watch("", Duration::from_secs(600), Some(draining));
    switch.send_replace(true);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_burst_is_joined_into_bounded_frames() {
    let fixture = Fixture::new(History::default()).await;
    let mut stream = fixture.watch("", Duration::from_secs(600), None);
    const PADDING: usize = 10_000;
    for i in 0..40 {
        fixture.node(&format!("n{i:02}"), PADDING).await;
    }
    let (mut names, mut frames) = (Vec::new(), 0);
    while names.len() < 40 {
        let frame = stream.next().await.unwrap();
        assert!(frame.len() < FRAME + 2 * PADDING, "{}", frame.len());
        names.extend(events(&frame).iter().map(|e| e["object"]["metadata"]["name"].as_str().unwrap().to_owned()));
        frames += 1;
    }
    assert!(frames <= 7, "{frames} frames");
    assert_eq!(names, (0..40).map(|i| format!("n{i:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lone_event_is_the_bytes_that_every_watcher_gets() {
    let fixture = Fixture::new(History::default()).await;
    let mut first = fixture.watch("", Duration::from_secs(600), None);
    let mut second = fixture.watch("", Duration::from_secs(600), None);
    fixture.node("n", 0).await;
    let (a, b) = (first.next().await.unwrap(), second.next().await.unwrap());
    assert_eq!(a.as_ptr(), b.as_ptr());
}

#[tokio::test]
async fn a_watcher_that_fell_behind_is_told_and_cut_off() {
    let fixture = Fixture::new(History { max_events: 8, ..History::default() }).await;
    let mut stream = fixture.watch("allowWatchBookmarks=true", Duration::from_secs(600), None);
    for i in 0..32 {
        fixture.node(&format!("n{i}"), 0).await;
    }
    let event = events(&stream.next().await.unwrap()).remove(0);
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert_eq!(stream.next().await, None);
}

#[test]
fn edges_of_a_selection() {
    use EventKind::{Added, Deleted, Modified};
    for (kind, before, now, expected) in [
        (Added, false, false, None),
        (Added, false, true, Some(Seen::As(Added))),
        (Modified, false, false, None),
        (Modified, false, true, Some(Seen::As(Added))),
        (Modified, true, false, Some(Seen::Left)),
        (Modified, true, true, Some(Seen::As(Modified))),
        (Deleted, false, false, None),
        // Its last write made it match, and was its end: nobody who watches has heard of it.
        (Deleted, false, true, None),
        (Deleted, true, false, Some(Seen::Left)),
        (Deleted, true, true, Some(Seen::As(Deleted))),
    ] {
        assert_eq!(seen(kind, before, now), expected, "{kind:?} {before} {now}");
    }
}

#[test]
fn the_more_watch_the_longer_each_rests() {
    let rests = |version| [0, 1, 11, 12, 19, 20, 1_000, 5_000, 20_000].map(|n| rest(n, cost(version)).as_millis());
    assert_eq!(rests(Version::HTTP_11), [0, 0, 0, 0, 0, 1, 50, 250, 700]);
    assert_eq!(rests(Version::HTTP_2), [0, 0, 1, 1, 2, 2, 130, 650, 700]);
}

#[tokio::test]
async fn one_of_many_watchers_gathers_what_comes_while_it_rests() {
    let fixture = Fixture::new(History::default()).await;
    let metrics = Arc::new(Metrics::new());
    let _others: Vec<WatchGuard> = (0..20_000).map(|_| metrics.watcher(Resource::Nodes)).collect();
    let mut stream = fixture.watch("", Duration::from_secs(600), None);
    stream.guard = metrics.watcher(Resource::Nodes);
    // The first is not kept back.
    fixture.node("a", 0).await;
    let begun = Instant::now();
    assert_eq!(events(&stream.next().await.unwrap()).len(), 1);
    assert!(begun.elapsed() < REST_LONGEST);
    for name in ["b", "c", "d"] {
        fixture.node(name, 0).await;
    }
    assert_eq!(events(&stream.next().await.unwrap()).len(), 3);
    assert!(begun.elapsed() >= REST_LONGEST);
}

#[tokio::test]
async fn nothing_is_sent_for_events_that_do_not_match() {
    let fixture = Fixture::new(History::default()).await;
    let mut stream = fixture.watch("fieldSelector=metadata.name%3Dlast", Duration::from_secs(600), None);
    fixture.node("first", 0).await;
    fixture.node("last", 0).await;
    let events = events(&stream.next().await.unwrap());
    assert_eq!((events.len(), &events[0]["object"]["metadata"]["name"]), (1, &json!("last")));
}
