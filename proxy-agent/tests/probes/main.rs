//! Every type of probe and every field of it, against real servers that misbehave on command. What a probe came to is what
//! its Event says and what becomes of its container.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod server;
mod table;
mod timing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Key;
use prometheus_client::metrics::counter::Counter;
use proxy_agent::events::{About, Note, Recorder};
use proxy_agent::probes::{Before, NamedPort, News, OnFailure, Prober, Probes, Target, Verdict};
use proxy_agent::workloads::Machine;
use serde_json::Value;
use tokio::sync::mpsc;

/// A prober, and what it told so far.
struct Bench {
    prober: Prober,
    events: Recorder,
    notes: mpsc::Receiver<Note>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    /// By container: the newest verdict, and every Event.
    verdicts: BTreeMap<String, Verdict>,
    said: BTreeMap<String, Vec<(String, String)>>,
}

impl Bench {
    fn new() -> Self {
        let (events, notes) = Recorder::new(Counter::default());
        Self {
            prober: Prober::start().unwrap(),
            events,
            notes,
            news: mpsc::channel(256),
            verdicts: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// Probes a container of this name; `probes` has the fields of a container.
    fn watch(&self, name: &str, ip: &str, port: u16, probes: &Value, on_failure: OnFailure) -> Instant {
        let since = Instant::now();
        let probe = |field: &str| probes.get(field).map(|probe| serde_json::from_value(probe.clone()).unwrap());
        self.prober.watch(Target {
            uid: "u-1".into(),
            container: name.into(),
            run: 0,
            since,
            probes: Probes {
                startup: probe("startupProbe"),
                liveness: probe("livenessProbe"),
                readiness: probe("readinessProbe"),
            },
            ip: ip.parse().unwrap(),
            ports: vec![NamedPort { name: "web".into(), number: port }],
            place: Arc::new(Machine { peer: None }),
            before: Before::default(),
            on_failure,
            about: About::container(Key::new("default", "web-0"), "u-1", "containers", name),
            events: self.events.clone(),
            news: self.news.0.clone(),
        });
        since
    }

    /// Listens until `done`, for at most so many seconds.
    async fn listen(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) {
        let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while !done(self) {
            tokio::select! {
                Some(news) = self.news.1.recv() => {
                    self.verdicts.insert(news.container.to_string(), news.verdict);
                }
                Some(note) = self.notes.recv() => {
                    let name = note.about.field_path.trim_start_matches("spec.containers{").trim_end_matches('}');
                    let said = (format!("{:?}", note.reason), note.message);
                    self.said.entry(name.to_owned()).or_default().push(said);
                }
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    fn is_ready(&self, name: &str) -> bool {
        self.verdicts.get(name).is_some_and(|verdict| verdict.ready)
    }
}
