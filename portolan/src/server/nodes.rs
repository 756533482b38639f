//! The controllers beside the API: it takes the nodes' beats and everybody's Leases, they judge silence.

use std::sync::Arc;
use std::time::Duration;

use controller::{Metrics, Pulse, Times, balancers, edges};
use jiff::Timestamp;
use store::Store;
use tokio::task::JoinHandle;

use crate::cli::{Controller, ControllerArgs};

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

/// Does the work if it is wanted, and else nothing for ever.
async fn only<T>(wanted: bool, work: impl Future<Output = T>) -> T {
    if wanted { work.await } else { std::future::pending().await }
}

/// Starts the controllers on the runtime of the caller. The task ends only by a panic.
pub fn start(
    store: Store,
    times: Times,
    options: balancers::Options,
    chosen: &ControllerArgs,
) -> (Arc<Beats>, JoinHandle<()>) {
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
    let (judges, balances) = (chosen.runs(Controller::NodeLifecycle), chosen.runs(Controller::ServiceLb));
    let balancing = async move { tokio::join!(edges, balancers) };
    let all = async move { tokio::join!(only(judges, nodes), only(balances, balancing)) };
    (Arc::new(beats), tokio::spawn(async move { _ = all.await }))
}
