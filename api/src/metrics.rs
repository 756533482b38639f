//! `/metrics` in Prometheus' text format: what the API counted, and what the store says of itself.
//!
//! `portolan_resource_revision{resource}` is the revision of the newest change of each resource: a tool that compares
//! it with an agent's `portolan_agent_programmed_revision` knows whether the agent has seen everything.

mod shares;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use model::Resource;
use text::{Kind, Page};

use crate::app::App;
use crate::rim::Label;
use crate::serve::Connections;

/// Upper bounds of the request durations, in seconds.
const BOUNDS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// What the API counts.
pub struct Metrics {
    /// By verb and resource: both come from the table of routes, so the map is small for ever. One short lock for each
    /// request costs some 20 ns.
    requests: Mutex<BTreeMap<(&'static str, &'static str), Requests>>,
    watchers: [AtomicI64; Resource::ALL.len()],
}

#[derive(Clone, Default)]
struct Requests {
    codes: BTreeMap<u16, u64>,
    buckets: [u64; BOUNDS.len()],
    seconds: f64,
    count: u64,
}

impl Metrics {
    pub fn new() -> Self {
        Self { requests: Mutex::default(), watchers: [const { AtomicI64::new(0) }; Resource::ALL.len()] }
    }

    /// A request was answered (a watch: begun).
    pub fn request(&self, label: Label, code: StatusCode, took: Duration) {
        let seconds = took.as_secs_f64();
        // A panic while counting leaves counts, which are as good as before.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = requests.entry((label.verb, label.resource)).or_default();
        *entry.codes.entry(code.as_u16()).or_default() += 1;
        entry.count += 1;
        entry.seconds += seconds;
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            entry.buckets[bucket] += 1;
        }
    }

    /// A watch begins; it ends when the guard is dropped.
    pub fn watcher(self: &Arc<Self>, resource: Resource) -> WatchGuard {
        self.watchers[resource.stored() as usize].fetch_add(1, Ordering::Relaxed);
        WatchGuard { metrics: self.clone(), resource }
    }

    fn write(&self, page: &mut Page) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        page.family("portolan_api_requests_total", Kind::Counter, "Requests answered, by verb, resource and code.");
        for ((verb, resource), entry) in &requests {
            for (code, count) in &entry.codes {
                page.sample("", &[("verb", verb), ("resource", resource), ("code", &code.to_string())], *count as f64);
            }
        }
        page.family("portolan_api_request_seconds", Kind::Histogram, "Time until the answer began.");
        for ((verb, resource), entry) in &requests {
            let mut sum = 0;
            let cumulative: Vec<u64> = entry
                .buckets
                .iter()
                .map(|n| {
                    sum += n;
                    sum
                })
                .collect();
            page.histogram(&[("verb", verb), ("resource", resource)], &BOUNDS, &cumulative, entry.count, entry.seconds);
        }
        page.family("portolan_api_watchers", Kind::Gauge, "Watches that are open.");
        for resource in Resource::all_stored() {
            let open = self.watchers[resource as usize].load(Ordering::Relaxed);
            page.sample("", &[("resource", resource.info().plural)], open as f64);
        }
    }
}

/// Counts a watch for as long as it lives.
pub struct WatchGuard {
    metrics: Arc<Metrics>,
    resource: Resource,
}

impl WatchGuard {
    /// How many watches of this resource are open, this one included.
    pub fn count(&self) -> usize {
        usize::try_from(self.metrics.watchers[self.resource as usize].load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.metrics.watchers[self.resource.stored() as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`; `connections` where the server has sockets.
pub fn get(app: &App, connections: Option<&Connections>) -> Response {
    let mut page = Page::default();
    app.metrics.write(&mut page);
    shares::write(&mut page, &app.fair, connections);
    if let Some(audit) = &app.audit {
        shares::write_audit(&mut page, audit);
    }
    write_store(&mut page, app);
    let mut text = page.finish();
    text.extend(app.heartbeats.iter().map(|heartbeats| heartbeats.metrics()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn write_store(page: &mut Page, app: &App) {
    let store = app.store.metrics();
    page.family("portolan_resource_revision", Kind::Gauge, "Revision of the newest change of each resource.");
    for resource in Resource::all_stored() {
        page.sample("", &[("resource", resource.info().plural)], app.store.last_change(resource) as f64);
    }
    page.family("portolan_objects", Kind::Gauge, "Objects of each resource.");
    for (resource, count) in &store.objects {
        page.sample("", &[("resource", resource.info().plural)], *count as f64);
    }
    for (name, help, value) in [
        ("portolan_revision", "Revision of the newest change of all.", store.revision),
        ("portolan_compacted_revision", "The oldest revision that the file can replay from.", store.compacted),
        ("portolan_history_events", "Events held in memory for watches.", store.history_events),
        ("portolan_history_bytes", "Estimated memory of those events.", store.history_bytes),
        ("portolan_database_bytes", "Size of the database.", store.database_bytes),
        ("portolan_wal_bytes", "Size of the write-ahead log.", store.wal_bytes),
        ("portolan_superseded_rows", "Rows in the file that are history.", store.superseded_rows),
        ("portolan_writer_queue_length", "Requests that wait for the writer.", store.queue_length),
    ] {
        page.family(name, Kind::Gauge, help);
        page.sample("", &[], value as f64);
    }
    for (name, help, value) in [
        ("portolan_writer_rows_total", "Rows written.", store.rows_written),
        ("portolan_writer_requests_total", "Requests that the writer took.", store.requests),
        ("portolan_writer_refused_total", "Requests that it refused.", store.refused),
        ("portolan_writer_failed_commits_total", "Commits that the database did not take.", store.failed_commits),
    ] {
        page.family(name, Kind::Counter, help);
        page.sample("", &[], value as f64);
    }
    for (name, help, histogram) in [
        ("portolan_writer_group_size", "Requests that one commit carries.", &store.group_size),
        ("portolan_writer_commit_seconds", "Time of a commit, until it is on the disk.", &store.commit_seconds),
        ("portolan_writer_prepare_seconds", "The writer's own work for a group.", &store.prepare_seconds),
    ] {
        page.family(name, Kind::Histogram, help);
        page.histogram(&[], histogram.bounds, &histogram.counts, histogram.count, histogram.sum);
    }
}
