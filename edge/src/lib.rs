//! An edge node: it holds the addresses of load-balancer instances, and sends what comes to them to their backends.
//!
//! What an instance shall do stands in its `LoadBalancer` object; who its backends are follows from Services, slices and
//! Nodes (`model::balancing`) and from what the health checks find. Both together are [`Active`] listeners, the one input
//! of the two ways that packets go: through the kernel by a `dataplane` plan, or through the proxy of this process.

mod active;
pub mod announce;
mod config;
pub mod health;
mod holder;
pub mod l4;
pub mod l7;
pub mod lease;
mod metrics;
mod network;
mod relay;
mod run;
mod secret;
mod status;
mod watch;
mod world;

use std::net::IpAddr;
use std::sync::Arc;

use model::balancing::Backend;
use model::types::Listener;

pub use config::{Config, DEFAULT_METRICS_ADDRESS, EdgeError};
pub use run::{cleanup, run};
pub use secret::Secret;

/// A listener at one address, with who can serve it now.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// The name of the LoadBalancer.
    pub instance: Arc<str>,
    pub address: IpAddr,
    pub listener: Arc<Listener>,
    /// Those that pass their health check, or all where none does; sorted, none twice. Empty: nobody serves it.
    pub backends: Arc<[Backend]>,
}
