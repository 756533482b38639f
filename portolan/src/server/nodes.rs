//! The controller beside the API: one takes the nodes' beats, the other judges their silence.

use std::sync::Arc;
use std::time::Duration;

use controller::{Metrics, Pulse, Times};
use jiff::Timestamp;
use store::Store;
use tokio::task::JoinHandle;

/// What the API and the controller share.
pub struct Beats {
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    interval: Duration,
}

impl api::Heartbeats for Beats {
    fn beat(&self, node: &str) -> Duration {
        self.pulse.beat(node);
        self.interval
    }

    fn metrics(&self) -> String {
        self.metrics.text(self.pulse.total())
    }
}

/// Starts the controller on the runtime of the caller. The task ends only by a panic.
pub fn start(store: Store, times: Times) -> (Arc<Beats>, JoinHandle<()>) {
    let (pulse, metrics) = (Arc::new(Pulse::default()), Arc::new(Metrics::default()));
    let beats = Beats { pulse: Arc::clone(&pulse), metrics: Arc::clone(&metrics), interval: times.beat_interval() };
    (Arc::new(beats), tokio::spawn(controller::run(store, pulse, metrics, times, Timestamp::now)))
}
