//! Watches: what each must have seen. The revisions of the model's history rise, so all agree on their order.

use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::client::{Client, Seen, collection, seen};
use crate::plain::{Event, Plain, View};
use crate::script::{From, Key, Kind, LAST, Watch};

/// How long a watcher may wait for what is on its way already.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open watch; a task of its own reads along.
pub struct Watcher {
    watch: Watch,
    /// How much of the history was over when it began to follow.
    begun: usize,
    /// What it is shown first.
    initial: Option<Vec<(Key, Seen)>>,
    reader: JoinHandle<Vec<Value>>,
}

impl Watcher {
    pub async fn open(client: &Client, plain: &Plain, watch: Watch) -> Self {
        let mut path = format!("{}?watch=true", collection(watch.kind, watch.namespace));
        path += &format!("&labelSelector={}", watch.selector.query());
        let now = plain.history.len();
        let everything = Some(plain.select(watch.kind, watch.namespace, watch.selector));
        let (begun, initial) = match &watch.from {
            From::Event(index) if now > 0 => {
                let at = index.index(now);
                path += &format!("&resourceVersion={}", plain.history[at].revision);
                (at + 1, None)
            }
            From::Initial => {
                path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
                (now, everything)
            }
            From::Everything | From::Event(_) => {
                path += "&resourceVersion=0";
                (now, everything)
            }
        };
        let request = Client::request("GET", &path).body(Body::empty()).unwrap();
        let response = client.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        // The last object that this watcher will be shown.
        let tiers = crate::script::TIERS.map(Some).into_iter().chain([None]);
        let last = LAST.into_iter().zip(tiers).filter(|(_, tier)| watch.selector.matches(*tier)).last();
        let last = (watch.namespace.unwrap_or(crate::script::NAMESPACES[1]), last.expect("one of them matches").0);
        let reader = tokio::spawn(read(response.into_body(), last));
        Self { watch, begun, initial, reader }
    }

    /// Whether it saw what it must have seen, no more and no less.
    pub async fn check(self, plain: &Plain) -> Result<(), String> {
        let Self { watch, begun, initial, reader } = self;
        let events = tokio::time::timeout(PATIENCE, reader).await;
        let events = events.map_err(|_| format!("{watch:?}: the last object did not come"))?.unwrap();
        let mut events = events.iter().filter(|event| !is_ordinary_bookmark(event)).peekable();
        if let Some(initial) = initial {
            for (key, object) in &initial {
                let event = events.next().ok_or_else(|| format!("{watch:?}: {key:?} is missing at the beginning"))?;
                same(&watch, "ADDED", event, *key, &object.view)?;
                let revision = revision(event);
                if revision != object.revision {
                    return Err(format!("{watch:?}: {key:?} at {revision}, not at {}", object.revision));
                }
            }
            if matches!(watch.from, From::Initial) {
                let event = events.next().map(|event| &event["type"]);
                if event.is_none_or(|kind| kind != "BOOKMARK") {
                    return Err(format!("{watch:?}: the end of the beginning is not marked but {event:?}"));
                }
            }
        }
        for event in plain.history.iter().skip(begun) {
            let Some((kind, view)) = shown(&watch, event) else { continue };
            let found = events.next().ok_or_else(|| format!("{watch:?}: ends before {event:?}"))?;
            same(&watch, kind, found, event.key, view)?;
            let revision = revision(found);
            if revision != event.revision {
                return Err(format!("{watch:?}: revision {revision} for {event:?}"));
            }
        }
        match events.next() {
            None => Ok(()),
            Some(more) => Err(format!("{watch:?}: sees what never was: {more}")),
        }
    }
}

/// What this watch is shown of a change.
fn shown<'a>(watch: &Watch, event: &'a Event) -> Option<(&'static str, &'a View)> {
    let here = event.key.kind == watch.kind && watch.namespace.is_none_or(|namespace| event.key.namespace == namespace);
    let matches = |view: &&View| here && watch.selector.matches(view.tier.as_deref());
    match (event.before.as_ref().filter(matches), event.after.as_ref().filter(matches)) {
        (None, None) => None,
        (None, Some(after)) => Some(("ADDED", after)),
        (Some(_), Some(after)) => Some(("MODIFIED", after)),
        (Some(before), None) => Some(("DELETED", before)),
    }
}

fn same(watch: &Watch, kind: &str, found: &Value, key: Key, view: &View) -> Result<(), String> {
    let object = seen(kind_name(watch.kind), &found["object"]);
    let fits = found["type"] == kind && object.is_some_and(|(at, seen)| at == key && seen.view == *view);
    if fits { Ok(()) } else { Err(format!("{watch:?}: {found}\nexpected {kind} of {key:?}: {view:?}")) }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Pod => "Pod",
        Kind::Service => "Service",
        Kind::Lease => "Lease",
    }
}

fn revision(event: &Value) -> u64 {
    event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// A bookmark that only says how far the stream has come.
fn is_ordinary_bookmark(event: &Value) -> bool {
    event["type"] == "BOOKMARK" && event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] != "true"
}

/// Reads events up to the one that is the last of all.
async fn read(mut body: Body, last: (&str, &str)) -> Vec<Value> {
    let mut buffer = BytesMut::new();
    let mut events = Vec::new();
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let event: Value = serde_json::from_slice(&buffer.split_to(end + 1)).unwrap();
            let metadata = &event["object"]["metadata"];
            let done = (&metadata["namespace"], &metadata["name"]) == (&Value::from(last.0), &Value::from(last.1));
            events.push(event);
            if done {
                return events;
            }
        }
        match body.frame().await {
            Some(frame) => buffer.extend_from_slice(&frame.unwrap().into_data().unwrap()),
            None => return events,
        }
    }
}
