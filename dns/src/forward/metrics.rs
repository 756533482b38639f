//! What forwarding counts, under the names of CoreDNS' `cache`, `forward` and `proxy`, so that dashboards made for it show this.
//!
//! Labels that are the same for all that a server says (`server`, `zones`, `view`) are left to whoever registers.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Forwarded;
use super::cache::Cache;
use super::exchange::Unanswered;

/// CoreDNS' buckets for times, from a quarter of a millisecond to eight seconds.
const SECONDS: [f64; 16] =
    [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192];

/// `success` or `denial`: CoreDNS' two caches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Class {
    pub r#type: &'static str,
}

/// One upstream, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Asked {
    pub proxy_name: &'static str,
    pub to: String,
    /// Empty where none came.
    pub rcode: &'static str,
}

/// Counters of one forwarder; clones count together.
#[derive(Clone, Debug)]
pub struct ForwardMetrics {
    /// Questions answered from what is remembered, failures included.
    pub hits: Family<Class, Counter>,
    pub misses: Counter,
    pub entries: Family<Class, Gauge<u64, AtomicU64>>,
    pub served_stale: Counter,
    pub evictions: Counter,
    /// Questions that were not asked because too many were.
    pub rejected: Counter,
    pub upstream_seconds: Family<Asked, Histogram, fn() -> Histogram>,
}

impl Default for ForwardMetrics {
    fn default() -> Self {
        Self {
            hits: Family::default(),
            misses: Counter::default(),
            entries: Family::default(),
            served_stale: Counter::default(),
            evictions: Counter::default(),
            rejected: Counter::default(),
            upstream_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        }
    }
}

impl ForwardMetrics {
    /// Registers everything; `registry` has no prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("coredns_cache_hits", "Names of others answered from the cache", self.hits.clone());
        registry.register("coredns_cache_misses", "Names of others not in the cache", self.misses.clone());
        registry.register("coredns_cache_entries", "Answers in the cache", self.entries.clone());
        let stale = self.served_stale.clone();
        registry.register("coredns_cache_served_stale", "Answers past their TTL, while no upstream answers", stale);
        registry.register("coredns_cache_evictions", "Answers forgotten for want of room", self.evictions.clone());
        let rejected = self.rejected.clone();
        registry.register("coredns_forward_max_concurrent_rejects", "Questions not asked: too many open", rejected);
        registry.register_with_unit(
            "coredns_proxy_request_duration",
            "Time that an upstream took to answer",
            Unit::Seconds,
            self.upstream_seconds.clone(),
        );
    }

    pub(super) fn hit(&self, kept: &Forwarded) {
        self.hits.get_or_create(&class(kept.code == ResponseCode::NoError && !kept.answers.is_empty())).inc();
    }

    pub(super) fn cached(&self, cache: &mut Cache) {
        self.evictions.inc_by(cache.take_evictions());
        let (success, denial) = cache.sizes();
        self.entries.get_or_create(&class(true)).set(success as u64);
        self.entries.get_or_create(&class(false)).set(denial as u64);
    }

    pub(super) fn asked(&self, server: SocketAddr, said: &Result<Forwarded, Unanswered>, took: Duration) {
        let rcode = said.as_ref().map_or("", |said| spelled(said.code));
        let asked = Asked { proxy_name: "forward", to: server.to_string(), rcode };
        self.upstream_seconds.get_or_create(&asked).observe(took.as_secs_f64());
    }
}

fn class(success: bool) -> Class {
    Class { r#type: if success { "success" } else { "denial" } }
}

/// As CoreDNS writes codes; the rare ones together, so that nobody's answers make labels without end.
fn spelled(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        _ => "OTHER",
    }
}
