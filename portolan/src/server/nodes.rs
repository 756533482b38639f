//! The controllers beside the API: it takes the nodes' beats and everybody's Leases, they judge silence.

use std::sync::Arc;
use std::time::Duration;

use controller::{Metrics, Pulse, Times, balancers, edges};
use jiff::Timestamp;
use store::Store;
use tokio::task::JoinHandle;

/// What the API and the controller share.
pub struct Beats {
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    edges: Arc<edges::Figures>,
    interval: Duration,
}

impl api::Heartbeats for Beats {
    fn beat(&self, node: &str) -> Duration {
        self.pulse.beat(node);
        self.interval
    }

    fn metrics(&self) -> String {
        self.metrics.text(self.pulse.total()) + &self.edges.text()
    }
}

/// Starts the controllers on the runtime of the caller. The task ends only by a panic.
pub fn start(store: Store, times: Times, options: balancers::Options) -> (Arc<Beats>, JoinHandle<()>) {
    let (pulse, metrics) = (Arc::new(Pulse::default()), Arc::new(Metrics::default()));
    let figures = Arc::new(edges::Figures::default());
    let beats = Beats {
        pulse: Arc::clone(&pulse),
        metrics: Arc::clone(&metrics),
        edges: Arc::clone(&figures),
        interval: times.beat_interval(),
    };
    let edges = edges::run(store.clone(), figures, edges::Times::default(), Timestamp::now);
    let balancers = balancers::run(store.clone(), options, Timestamp::now);
    let nodes = controller::run(store, pulse, metrics, times, Timestamp::now);
    (Arc::new(beats), tokio::spawn(async move { _ = tokio::join!(nodes, edges, balancers) }))
}
