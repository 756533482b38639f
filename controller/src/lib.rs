//! What comes of time, and of what others do: decided in pure functions of what the store holds and a moment, carried out
//! by thin loops through the store's writer.
//!
//! A node that falls silent says nothing, so no request brings about what follows; the same goes for a token that
//! expires. That is all there is here: whatever *can* be done in the transaction that brings it about is done there
//! (`store`). What a look finds is in the stored objects or in memory that a restart may lose, so a look that fails, or
//! never came, is made up for by the next.
//!
//! [`Pulse`] takes the beats; [`lifecycle`] is the pure machine that judges them; [`run`] is the loop. [`edges`] does
//! the same for edge nodes, and says which of them holds which load balancer; [`balancers`] sees to it that Services have
//! one, and hear what has become of it: what an edge node does for a Service comes after the request.

pub mod balancers;
pub mod edges;
mod events;
mod follow;
pub mod lifecycle;
mod metrics;
mod nodes;
mod pace;
mod pulse;
#[cfg(test)]
mod tests;
mod tokens;
mod writes;

use std::sync::Arc;

use jiff::Timestamp;
use store::Store;
use tokio::time::Instant;

pub use lifecycle::Times;
pub use metrics::Metrics;
pub use nodes::SILENT;
pub use pulse::Pulse;

use lifecycle::{Passed, SOON};
use nodes::Nodes;
use pace::Pace;
use tokens::Tokens;

/// Looks at nodes and tokens for as long as it is polled: where all is well, when the first node would have been silent for
/// long, or something was written. `clock` is the wall clock, which is written into objects and ends tokens; silence is
/// counted by tokio's monotonic one.
pub async fn run(store: Store, pulse: Arc<Pulse>, metrics: Arc<Metrics>, times: Times, clock: fn() -> Timestamp) {
    let mut nodes = Nodes::new(store.clone(), clock, times);
    let mut tokens = Tokens::new();
    let mut pace = Pace::new(&store, SOON);
    let mut looked = Instant::now();
    let mut due = looked;
    loop {
        pace.next(Some(due)).await;
        let now = Instant::now();
        let passed = Passed { elapsed: now - looked, late: now.saturating_duration_since(due) };
        looked = now;
        let (census, decisions) = nodes.look(passed, pulse.take(now)).await;
        metrics.note(census, &decisions);
        tokens.look(&store, clock()).await;
        due = looked + nodes.rest();
    }
}
