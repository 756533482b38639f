//! What the proxy counts, in Prometheus' words: by instance and port, so that there are no more of them than listeners.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::routes::Route;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Label {
    instance: String,
    port: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    instance: String,
    port: u16,
    code: &'static str,
}

/// The first digits of codes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Of all listeners.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<CodeLabel, Counter>,
    own: Family<Label, Counter>,
    connections: Family<Label, Gauge<u64, AtomicU64>>,
    handshakes: Family<Label, Counter>,
    retries: Family<Label, Counter>,
    backend_connections: Family<Label, Counter>,
    unknown: Counter,
}

/// Of one listener.
#[derive(Clone, Debug)]
pub struct Counts {
    requests: [Counter; CLASSES.len()],
    /// Answers that no backend gave.
    pub own: Counter,
    pub connections: Gauge<u64, AtomicU64>,
    pub failed_handshakes: Counter,
    pub retries: Counter,
    pub backend_connections: Counter,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let edge = registry.sub_registry_with_prefix("portolan_edge_proxy");
        edge.register("requests", "Requests answered, by the class of the code", self.requests.clone());
        edge.register("own_answers", "Answers of the edge itself: no backend, no answer of one", self.own.clone());
        edge.register("connections", "Connections of clients that are open", self.connections.clone());
        edge.register("failed_handshakes", "TLS handshakes that did not end well", self.handshakes.clone());
        edge.register("retries", "Requests that went to a second backend or connection", self.retries.clone());
        edge.register("backend_connections", "Connections made to backends", self.backend_connections.clone());
        edge.register("unknown", "Connections to no listener, which were closed", self.unknown.clone());
    }

    /// A connection that belongs to no listener.
    pub fn unknown(&self) {
        self.unknown.inc();
    }

    pub fn of(&self, route: &Route) -> Counts {
        let label = Label { instance: route.instance.to_string(), port: route.listener.port };
        let code = |code| CodeLabel { instance: label.instance.clone(), port: label.port, code };
        Counts {
            requests: CLASSES.map(|class| self.requests.get_or_create(&code(class)).clone()),
            own: self.own.get_or_create(&label).clone(),
            connections: self.connections.get_or_create(&label).clone(),
            failed_handshakes: self.handshakes.get_or_create(&label).clone(),
            retries: self.retries.get_or_create(&label).clone(),
            backend_connections: self.backend_connections.get_or_create(&label).clone(),
        }
    }

    /// Forgets a listener that has gone, unless another of the same instance and port (its other address) is there.
    pub fn forget(&self, route: &Route) {
        let label = Label { instance: route.instance.to_string(), port: route.listener.port };
        for code in CLASSES {
            self.requests.remove(&CodeLabel { instance: label.instance.clone(), port: label.port, code });
        }
        self.own.remove(&label);
        self.connections.remove(&label);
        self.handshakes.remove(&label);
        self.retries.remove(&label);
        self.backend_connections.remove(&label);
    }
}

impl Counts {
    pub fn answered(&self, status: http::StatusCode) {
        if let Some(counter) = self.requests.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }
}
