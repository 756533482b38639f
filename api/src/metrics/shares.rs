//! What the fair share has given, and to whom it could not: seats of requests under Kubernetes' names (the kind of seats is
//! the priority level), everything else that is shared under ours.

use std::sync::atomic::{AtomicU64, Ordering};

use super::text::{Kind, Page};
use crate::audit::Audit;
use crate::fair::{Fair, Gate, WAIT_BOUNDS};
use crate::serve::Connections;

/// What the audit log has written, and what it could not.
pub fn write_audit(page: &mut Page, audit: &Audit) {
    let counts = audit.counts();
    page.family("apiserver_audit_event_total", Kind::Counter, "Events that were written to the audit log.");
    page.sample("", &[], read(&counts.written));
    page.family("apiserver_audit_error_total", Kind::Counter, "Events that were lost, for want of room or of a disk.");
    page.sample("", &[("plugin", "log")], read(&counts.failed) + read(&counts.dropped));
}

pub fn write(page: &mut Page, fair: &Fair, connections: Option<&Connections>) {
    let classes: Vec<&Gate> = fair.classes().collect();
    gauge(page, &classes, "apiserver_flowcontrol_nominal_limit_seats", "Seats that there are.", |gate| {
        gate.seats.into()
    });
    gauge(page, &classes, "apiserver_flowcontrol_current_executing_seats", "Seats that are taken.", |gate| {
        gate.load().0.into()
    });
    gauge(page, &classes, "apiserver_flowcontrol_current_inqueue_requests", "Requests that wait for a seat.", |gate| {
        gate.load().1 as f64
    });
    let dispatched = "apiserver_flowcontrol_dispatched_requests_total";
    page.family(dispatched, Kind::Counter, "Requests that got a seat.");
    for gate in &classes {
        page.sample("", &[level(gate)], read(&gate.counts.dispatched));
    }
    let rejected = "apiserver_flowcontrol_rejected_requests_total";
    page.family(rejected, Kind::Counter, "Requests that got none: answered 429, or given up by the client.");
    for gate in &classes {
        let counts = &gate.counts;
        for (reason, count) in
            [("queue-full", &counts.full), ("time-out", &counts.timed_out), ("cancelled", &counts.cancelled)]
        {
            page.sample("", &[level(gate), ("reason", reason)], read(count));
        }
    }
    let waited = "apiserver_flowcontrol_request_wait_duration_seconds";
    page.family(waited, Kind::Histogram, "How long requests that got a seat waited for it.");
    for gate in &classes {
        let mut sum = 0;
        let mut add = |count: &AtomicU64| {
            sum += count.load(Ordering::Relaxed);
            sum
        };
        let cumulative: Vec<u64> = gate.counts.waits.iter().map(&mut add).collect();
        let count = gate.counts.dispatched.load(Ordering::Relaxed);
        let seconds = read(&gate.counts.waited_microseconds) / 1e6;
        page.histogram(&[level(gate), ("execute", "true")], &WAIT_BOUNDS, &cumulative, count, seconds);
    }

    let rest: Vec<&Gate> = fair.rest().chain(connections.into_iter().flat_map(Connections::gates)).collect();
    page.family("portolan_api_shared_limit", Kind::Gauge, "How much there is of what users share; bodies in KiB.");
    for gate in &rest {
        page.sample("", &[("of", gate.name)], gate.seats.into());
    }
    page.family("portolan_api_shared_taken", Kind::Gauge, "How much of it is taken.");
    for gate in &rest {
        page.sample("", &[("of", gate.name)], gate.load().0.into());
    }
    page.family(
        "portolan_api_shared_refused_total",
        Kind::Counter,
        "How often somebody wanted more of it than there was.",
    );
    for gate in &rest {
        page.sample("", &[("of", gate.name)], read(&gate.counts.full) + read(&gate.counts.timed_out));
    }
    if let Some(connections) = connections {
        let name = "portolan_api_unauthenticated_connections";
        page.family(name, Kind::Gauge, "Connections that nobody has shown a name on.");
        page.sample("", &[], connections.strangers() as f64);
    }
}

fn gauge(page: &mut Page, gates: &[&Gate], name: &'static str, help: &str, value: impl Fn(&Gate) -> f64) {
    page.family(name, Kind::Gauge, help);
    for gate in gates {
        page.sample("", &[level(gate)], value(gate));
    }
}

fn level(gate: &Gate) -> (&'static str, &'static str) {
    ("priority_level", gate.name)
}

fn read(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}
