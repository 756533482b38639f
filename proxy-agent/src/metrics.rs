//! What the agent counts, in Prometheus' words.
//!
//! The names that begin with `kubeproxy_` are kube-proxy's (research F.3), so that dashboards and alerts made for it
//! show this agent too; only those are here whose meaning is the same, and of those about one dataplane only its own.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dataplane::Repairs;
use dataplane::iptables::RuleCount;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use prometheus_client::registry::Registry;

use crate::mode::Mode;
use crate::objects::WATCHED;
use crate::state::{Revisions, Work};

/// What [`Metrics::text`] is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Label = [(&'static str, &'static str); 1];
type CodeLabel = [(&'static str, String); 1];

/// Every metric of the agent.
pub struct Metrics {
    registry: Registry,
    programmed_revision: Family<Label, Gauge<u64, AtomicU64>>,
    services: Gauge<u64, AtomicU64>,
    repairs: Family<Label, Counter>,
    refused_services: Gauge<u64, AtomicU64>,
    program_seconds: Histogram,
    full_seconds: Histogram,
    partial_seconds: Histogram,
    network_seconds: Histogram,
    last_success: Gauge<f64, AtomicU64>,
    last_queued: Gauge<f64, AtomicU64>,
    failures: Counter,
    /// Of these, those where only what had changed was to be programmed.
    partial_failures: Counter,
    rules: Family<Label, Gauge<u64, AtomicU64>>,
    last_rules: Family<Label, Gauge<u64, AtomicU64>>,
    service_changes: Counter,
    endpoint_changes: Counter,
    service_changes_pending: Gauge<u64, AtomicU64>,
    endpoint_changes_pending: Gauge<u64, AtomicU64>,
    without_local: Family<Label, Gauge<u64, AtomicU64>>,
    dropped_events: Counter,
    removed_flows: Counter,
    healthz: Family<CodeLabel, Counter>,
    livez: Family<CodeLabel, Counter>,
    resident_bytes: Gauge<u64, AtomicU64>,
    dataplane: Family<Label, Gauge<u64, AtomicU64>>,
    dns: dns::Metrics,
}

impl Metrics {
    pub fn new(mode: Mode) -> Self {
        // 20 µs to 10 s: one element by netlink takes 10 µs, a kernel under load anything.
        let program = || Histogram::new(exponential_buckets(0.000_02, 2.0, 20));
        let mut metrics = Self {
            registry: Registry::default(),
            programmed_revision: Family::default(),
            services: Gauge::default(),
            repairs: Family::default(),
            refused_services: Gauge::default(),
            program_seconds: program(),
            full_seconds: program(),
            partial_seconds: program(),
            network_seconds: Histogram::new(network_buckets()),
            last_success: Gauge::default(),
            last_queued: Gauge::default(),
            failures: Counter::default(),
            partial_failures: Counter::default(),
            rules: Family::default(),
            last_rules: Family::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            endpoint_changes_pending: Gauge::default(),
            without_local: Family::default(),
            dropped_events: Counter::default(),
            removed_flows: Counter::default(),
            healthz: Family::default(),
            livez: Family::default(),
            resident_bytes: Gauge::default(),
            dataplane: Family::default(),
            dns: dns::Metrics::new(),
        };
        metrics.register();
        metrics.register_failures(mode);
        metrics.dataplane.get_or_create(&[("dataplane", mode.name())]).set(1);
        // Both are there from the beginning, so that a rate over them has a beginning.
        metrics.repaired(Repairs::default());
        metrics.without_local((0, 0));
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "portolan_agent_programmed_revision",
            "Newest revision of a resource that is in the kernel, and in the names",
            self.programmed_revision.clone(),
        );
        r.register(
            "portolan_agent_dataplane",
            "Which part of the kernel carries the Services: 1 for the one that does",
            self.dataplane.clone(),
        );
        r.register("portolan_agent_services", "Services that are programmed", self.services.clone());
        r.register(
            "portolan_agent_repairs",
            "Times that what another process did to the tables was undone, by elements or by a whole load",
            self.repairs.clone(),
        );
        r.register("process_resident_memory_bytes", "Resident memory size in bytes", self.resident_bytes.clone());
        r.register(
            "portolan_agent_refused_services",
            "Services that are not programmed because the kernel refuses them",
            self.refused_services.clone(),
        );
        r.register(
            "portolan_agent_dropped_events",
            "Events that were not written: too many, or the server did not take them",
            self.dropped_events.clone(),
        );
        r.register(
            "portolan_agent_conntrack_removed",
            "Flows that were removed because they were never translated, or of UDP their endpoint no longer serves",
            self.removed_flows.clone(),
        );
        // With CoreDNS' names.
        self.dns.register(r);
        let sync = r.sub_registry_with_prefix("kubeproxy");
        sync.register("sync_proxy_rules_duration_seconds", "Time to compile and program", self.program_seconds.clone());
        sync.register(
            "sync_full_proxy_rules_duration_seconds",
            "Time to compile and program everything",
            self.full_seconds.clone(),
        );
        sync.register(
            "sync_partial_proxy_rules_duration_seconds",
            "Time to compile and program what changed",
            self.partial_seconds.clone(),
        );
        sync.register(
            "network_programming_duration_seconds",
            "Time from the change of a Pod or Service to the kernel",
            self.network_seconds.clone(),
        );
        sync.register(
            "sync_proxy_rules_last_timestamp_seconds",
            "When the kernel was last programmed",
            self.last_success.clone(),
        );
        sync.register(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "When something to program was last learnt",
            self.last_queued.clone(),
        );
        sync.register(
            "sync_proxy_rules_service_changes_pending",
            "Changes of Services that the kernel does not have yet",
            self.service_changes_pending.clone(),
        );
        sync.register(
            "sync_proxy_rules_endpoint_changes_pending",
            "Changes of EndpointSlices that the kernel does not have yet",
            self.endpoint_changes_pending.clone(),
        );
        // A gauge, whose name ends as a counter's does: it is kube-proxy's.
        sync.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Services with a policy Local that have endpoints, but none on this node",
            self.without_local.clone(),
        );
        sync.register("sync_proxy_rules_service_changes", "Changes of Services", self.service_changes.clone());
        sync.register("sync_proxy_rules_endpoint_changes", "Changes of EndpointSlices", self.endpoint_changes.clone());
        sync.register("proxy_healthz", "Answers of /healthz by code", self.healthz.clone());
        sync.register("proxy_livez", "Answers of /livez by code", self.livez.clone());
    }

    /// Where kube-proxy counts what the kernel refuses, by its modes; it does not for IPVS as such.
    fn register_failures(&mut self, mode: Mode) {
        let sync = self.registry.sub_registry_with_prefix("kubeproxy");
        match mode {
            Mode::Nftables => {
                let what = "Times that the kernel refused";
                sync.register("sync_proxy_rules_nftables_sync_failures", what, self.failures.clone());
                // Stays 0: nothing is ever left over to be cleaned up, since tables are replaced as a whole.
                let what = "Times that what is left over could not be removed";
                sync.register("sync_proxy_rules_nftables_cleanup_failures", what, Counter::<u64>::default());
            }
            Mode::Iptables | Mode::Ipvs => {
                let what = "Times that rules were refused";
                sync.register("sync_proxy_rules_iptables_restore_failures", what, self.failures.clone());
                let what = "Times that rules were refused of which only those that had changed were written";
                sync.register(
                    "sync_proxy_rules_iptables_partial_restore_failures",
                    what,
                    self.partial_failures.clone(),
                );
                // A gauge, whose name ends as a counter's does: it is kube-proxy's.
                sync.register("sync_proxy_rules_iptables_total", "Rules that there are", self.rules.clone());
                sync.register(
                    "sync_proxy_rules_iptables_last",
                    "Rules that were written last",
                    self.last_rules.clone(),
                );
            }
        }
    }

    /// Everything up to `revisions` is in the kernel.
    pub fn programmed(&self, revisions: &Revisions) {
        for (resource, revision) in WATCHED.iter().zip(revisions) {
            if let Some(revision) = revision {
                self.programmed_revision.get_or_create(&[("resource", resource.info().plural)]).set(*revision);
            }
        }
    }

    /// No revision of any resource is in the kernel.
    pub fn unknown(&self) {
        self.programmed_revision.clear();
    }

    /// The kernel took a plan with `services` in it, for the changes in `work`.
    pub fn took(&self, work: &Work, full: bool, services: usize, duration: Duration, now: Timestamp) {
        let seconds = duration.as_secs_f64();
        self.program_seconds.observe(seconds);
        if full { &self.full_seconds } else { &self.partial_seconds }.observe(seconds);
        self.last_success.set(now.as_duration().as_secs_f64());
        self.services.set(services as u64);
        for trigger in &work.triggers {
            // Two machines' clocks differ; a change from the future is one of just now.
            self.network_seconds.observe(now.duration_since(*trigger).as_secs_f64().max(0.0));
        }
    }

    /// What there is of rules.
    pub fn rules(&self, counts: &BTreeMap<&'static str, RuleCount>) {
        for (table, RuleCount { total, last }) in counts {
            self.rules.get_or_create(&[("table", table)]).set(*total as u64);
            self.last_rules.get_or_create(&[("table", table)]).set(*last as u64);
        }
    }

    /// So many Services are left out because the kernel refuses them.
    pub fn refused_services(&self, count: usize) {
        self.refused_services.set(count as u64);
    }

    /// What others had done to the tables was undone.
    pub fn repaired(&self, repairs: Repairs) {
        for (kind, count) in [("elements", repairs.elements), ("table", repairs.tables)] {
            self.repairs.get_or_create(&[("kind", kind)]).inc_by(count);
        }
    }

    /// The kernel refused a plan, or what of it had changed.
    pub fn refused(&self, full: bool) {
        self.failures.inc();
        if !full {
            self.partial_failures.inc();
        }
    }

    /// Something to program was learnt.
    pub fn queued(&self, now: Timestamp) {
        self.last_queued.set(now.as_duration().as_secs_f64());
    }

    /// So many changes of Services and of EndpointSlices are not in the kernel.
    pub fn pending(&self, services: u64, endpoints: u64) {
        self.service_changes_pending.set(services);
        self.endpoint_changes_pending.set(endpoints);
    }

    /// Services with internalTrafficPolicy Local, and with externalTrafficPolicy Local, without endpoints here.
    pub fn without_local(&self, (internal, external): (usize, usize)) {
        for (policy, count) in [("internal", internal), ("external", external)] {
            self.without_local.get_or_create(&[("traffic_policy", policy)]).set(count as u64);
        }
    }

    /// For who answers DNS.
    pub fn dns(&self) -> dns::Metrics {
        self.dns.clone()
    }

    /// Counts Events that are not written.
    pub fn removed_flows(&self) -> Counter {
        self.removed_flows.clone()
    }

    pub fn dropped_events(&self) -> Counter {
        self.dropped_events.clone()
    }

    pub fn changed(&self, work: &Work) {
        self.service_changes.inc_by(work.service_changes);
        self.endpoint_changes.inc_by(work.endpoint_changes);
    }

    pub fn answered_healthz(&self, code: u16) {
        self.healthz.get_or_create(&[("code", code.to_string())]).inc();
    }

    pub fn answered_livez(&self, code: u16) {
        self.livez.get_or_create(&[("code", code.to_string())]).inc();
    }

    /// All of it, as [`CONTENT_TYPE`].
    pub fn text(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident_bytes.set(bytes);
        }
        let mut text = String::new();
        // Writing to a String fails only where a metric's own encoder does; these have none of their own.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// kube-proxy's: every quarter of a second to one, every second to a minute, and so on to five minutes; before them the
/// milliseconds in which it happens here.
fn network_buckets() -> impl Iterator<Item = f64> {
    let short = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1];
    let kube_proxys = linear_buckets(0.25, 0.25, 2)
        .chain(linear_buckets(1.0, 1.0, 59))
        .chain(linear_buckets(60.0, 5.0, 12))
        .chain(linear_buckets(120.0, 30.0, 7));
    short.into_iter().chain(kube_proxys)
}

/// `VmRSS` of this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_others_scrape() {
        let metrics = Metrics::new(Mode::Nftables);
        metrics.programmed(&[Some(7), Some(9), None, Some(3), Some(4)]);
        let work = Work {
            dirty: None,
            revisions: Revisions::default(),
            triggers: vec![Timestamp::UNIX_EPOCH],
            service_changes: 2,
            endpoint_changes: 3,
        };
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_millis(12);
        metrics.changed(&work);
        metrics.took(&work, true, 5, Duration::from_micros(30), now);
        metrics.refused(true);
        metrics.queued(now);
        metrics.pending(4, 6);
        metrics.refused_services(3);
        metrics.without_local((1, 2));
        metrics.dropped_events().inc();
        metrics.removed_flows().inc_by(4);
        metrics.repaired(Repairs { elements: 2, tables: 0 });
        metrics.answered_healthz(200);
        let text = metrics.text();
        for line in [
            r#"portolan_agent_programmed_revision{resource="services"} 7"#,
            r#"portolan_agent_programmed_revision{resource="endpointslices"} 9"#,
            r#"portolan_agent_programmed_revision{resource="servicecidrs"} 3"#,
            r#"portolan_agent_programmed_revision{resource="namespaces"} 4"#,
            "portolan_agent_services 5",
            r#"portolan_agent_repairs_total{kind="elements"} 2"#,
            r#"portolan_agent_repairs_total{kind="table"} 0"#,
            "kubeproxy_sync_proxy_rules_duration_seconds_count 1",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count 1",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count 0",
            "kubeproxy_network_programming_duration_seconds_sum 0.012",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0.012",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total 1",
            "kubeproxy_sync_proxy_rules_service_changes_total 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 3",
            r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 0.012",
            "kubeproxy_sync_proxy_rules_service_changes_pending 4",
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 6",
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"} 1"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"} 2"#,
            "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total 0",
            "portolan_agent_dropped_events_total 1",
            "portolan_agent_conntrack_removed_total 4",
            "portolan_agent_refused_services 3",
            r#"portolan_agent_dataplane{dataplane="nftables"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{le="0.25"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{le="59.0"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{le="115.0"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{le="300.0"} 1"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains(r#"resource="nodes""#), "a resource that was never read has no revision");
    }

    #[test]
    fn what_is_refused_is_counted_by_the_dataplanes_own_name() {
        let lines = |mode| {
            let metrics = Metrics::new(mode);
            metrics.refused(true);
            metrics.refused(false);
            metrics.rules(&[("nat", RuleCount { total: 9, last: 2 })].into());
            let text = metrics.text();
            let counted = r#"kubeproxy_sync_proxy_rules_iptables_total{table="nat"} 9"#;
            assert_eq!(text.contains(counted), mode != Mode::Nftables, "{text}");
            let of = |line: &&str| line.contains("failures_total ");
            text.lines().filter(of).map(str::to_owned).collect::<Vec<_>>()
        };
        let nftables = ["nftables_sync_failures_total 2", "nftables_cleanup_failures_total 0"];
        assert_eq!(lines(Mode::Nftables), nftables.map(|line| format!("kubeproxy_sync_proxy_rules_{line}")));
        let iptables = ["iptables_restore_failures_total 2", "iptables_partial_restore_failures_total 1"];
        for mode in [Mode::Iptables, Mode::Ipvs] {
            assert_eq!(lines(mode), iptables.map(|line| format!("kubeproxy_sync_proxy_rules_{line}")));
        }
    }
}
