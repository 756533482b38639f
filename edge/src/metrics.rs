//! What an edge node counts, and whether it is well: `/metrics` and `/healthz`.
//!
//! The server being away does not make an edge unwell: its kernel forwards as before. A kernel that refuses what is known
//! to be true does.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use proxy_agent::http::text;
use serde_json::json;
use tokio::sync::watch;

use crate::holder::Facts;
use crate::lease::fence::Standing;
use crate::lease::{Lease, boot};

/// How long a known change may stay out of the kernel before the edge says so.
const STALLED: Duration = Duration::from_secs(60);
/// Of OpenMetrics.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    pub instances: Gauge,
    pub listeners: Gauge,
    pub backends: Gauge,
    pub healthy: Gauge,
    pub programmed: Counter,
    pub failed: Counter,
    pub refused: Gauge,
    health: Mutex<Health>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// The kernel was programmed once.
    began: bool,
    /// Since when it does not have what it should.
    pending: Option<Instant>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut whole = Registry::default();
        let registry = whole.sub_registry_with_prefix("portolan_edge");
        let metrics = Self {
            instances: Gauge::default(),
            listeners: Gauge::default(),
            backends: Gauge::default(),
            healthy: Gauge::default(),
            programmed: Counter::default(),
            failed: Counter::default(),
            refused: Gauge::default(),
            health: Mutex::default(),
            registry: Mutex::default(),
        };
        registry.register("instances", "Instances that this edge node holds", metrics.instances.clone());
        registry.register("listeners", "Listeners of these instances", metrics.listeners.clone());
        registry.register("backends", "Backends of these listeners", metrics.backends.clone());
        registry.register("healthy_backends", "Of them, those that pass their check", metrics.healthy.clone());
        registry.register("programmings", "Times that the kernel took a change", metrics.programmed.clone());
        registry.register("failed_programmings", "Times that it did not", metrics.failed.clone());
        registry.register("refused_instances", "Instances that the kernel does not take", metrics.refused.clone());
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = whole;
        metrics
    }
}

impl Metrics {
    /// Lets others count in the same place.
    pub fn register(&self, others: impl FnOnce(&mut Registry)) {
        others(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The kernel has what it should, or not.
    pub fn took(&self, taken: bool) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if taken {
            self.programmed.inc();
            *health = Health { began: true, pending: None };
        } else {
            self.failed.inc();
            health.pending.get_or_insert_with(Instant::now);
        }
    }

    fn healthy(&self) -> bool {
        let health = *self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.began && health.pending.is_none_or(|since| since.elapsed() < STALLED)
    }
}

/// What is answered from.
pub struct Site {
    pub metrics: Arc<Metrics>,
    pub lease: watch::Receiver<Lease>,
    pub facts: watch::Receiver<Facts>,
}

impl Site {
    pub fn answer(&self, method: &Method, path: &str) -> Response<Full<bytes::Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".into());
        }
        match path {
            "/metrics" => text(StatusCode::OK, CONTENT_TYPE, self.text()),
            "/healthz" | "/livez" | "/readyz" => {
                let healthy = self.metrics.healthy();
                let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let facts = self.facts.borrow();
                let body = json!({
                    "healthy": healthy,
                    "lease": standing(self.lease.borrow().fence.standing(boot())),
                    "addresses": facts.addresses,
                });
                text(code, "application/json", body.to_string())
            }
            _ => text(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.metrics.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = encode(&mut out, &registry);
        drop(registry);
        let own = self.own();
        match out.rfind("# EOF") {
            Some(end) => out.insert_str(end, &own),
            None => out.push_str(&own),
        }
        out
    }

    /// What another thread counts, as it stands now.
    fn own(&self) -> String {
        let (lease, facts) = (self.lease.borrow().clone(), self.facts.borrow().clone());
        let held = lease.fence.standing(boot()) == Standing::Leased;
        let answering = facts.addresses.values().filter(|answers| **answers).count();
        let mut out = String::new();
        for (name, kind, help, value) in [
            ("lease_held", "gauge", "Whether the edge node's Lease holds", u64::from(held)),
            ("lease_renewals_total", "counter", "Renewals that succeeded", lease.renewed),
            ("lease_failures_total", "counter", "Renewals that did not", lease.failed),
            ("addresses", "gauge", "Addresses that the edge node is to hold", facts.addresses.len() as u64),
            ("answering_addresses", "gauge", "Of them, those that it answers for", answering as u64),
            ("kept_addresses", "gauge", "Of them, those that it answers for without a Lease", facts.kept as u64),
            ("address_conflicts_total", "counter", "Times that others claimed one of them", facts.conflicts),
            ("address_answers_total", "counter", "Questions that were answered", facts.answered),
            ("address_announcements_total", "counter", "Announcements and probes that were sent", facts.announced),
        ] {
            let family = name.strip_suffix("_total").unwrap_or(name);
            let _ = writeln!(out, "# HELP portolan_edge_{family} {help}.\n# TYPE portolan_edge_{family} {kind}");
            let _ = writeln!(out, "portolan_edge_{name} {value}");
        }
        out
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Leased => "held",
        Standing::Leaving => "given back",
        Standing::Lapsed => "not held",
        Standing::Alone => "not held, since the server is away",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_has_what_all_threads_count() {
        let metrics = Arc::new(Metrics::default());
        let addresses = [("192.0.2.1".parse().unwrap(), true), ("192.0.2.2".parse().unwrap(), false)].into();
        let (_lease, lease) = watch::channel(Lease { renewed: 7, ..Lease::default() });
        let (_facts, facts) = watch::channel(Facts { addresses, conflicts: 1, ..Facts::default() });
        let site = Site { metrics: Arc::clone(&metrics), lease, facts };
        assert_eq!(site.answer(&Method::GET, "/healthz").status(), StatusCode::SERVICE_UNAVAILABLE);
        metrics.took(true);
        metrics.instances.set(3);
        assert_eq!(site.answer(&Method::GET, "/healthz").status(), StatusCode::OK);
        let page = site.text();
        for line in [
            "portolan_edge_instances 3",
            "portolan_edge_programmings_total 1",
            "portolan_edge_lease_renewals_total 7",
            "portolan_edge_addresses 2",
            "portolan_edge_answering_addresses 1",
            "portolan_edge_address_conflicts_total 1",
        ] {
            assert!(page.lines().any(|had| had == line), "{line} is not in {page}");
        }
        assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1, "{page}");
        // What fails for a moment is no reason to say so.
        metrics.took(false);
        assert_eq!(site.answer(&Method::GET, "/healthz").status(), StatusCode::OK);
        assert_eq!(site.answer(&Method::POST, "/metrics").status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(site.answer(&Method::GET, "/").status(), StatusCode::NOT_FOUND);
    }
}
