//! The store: one writer, one change log, every read from memory.
//!
//! **The way of a write.** [`Store::write`] puts a request into a bounded queue. One thread takes whatever waits
//! there (at most [`GROUP_LIMIT`] requests), runs each through the pure rules of `model` and `allocator` on state of
//! its own, derives EndpointSlices and Endpoints once for every Service that the group touched, appends all of it to
//! the log with one multi-row `INSERT` (`synchronous=FULL`), publishes to the readers, and only then answers.
//!
//! **The log is the store.** A row is one object at one revision. The newest row of a key is the object, the older ones
//! are the history that watches resume from; those are deleted in idle moments. Memory is the index, SQLite the truth.
//!
//! What is deliberately absent: reads of SQLite after the start; retries of a patch (it is applied where no one else
//! writes); a second place where an index or an allocation is kept in step (one function moves them all, `state.rs`).

mod config;
mod database;
mod engine;
mod error;
mod event;
mod metrics;
mod past;
mod published;
mod request;
mod ring;
mod shelf;
mod store;
mod watch;
mod writer;

pub use allocator::SubnetError;
pub use config::{Api, BalancerLimits, Config, Environment, History, PodRange};
pub use error::{Existing, Expired, Lagged, OpenError, Refusal};
pub use event::{Event, EventKind};
pub use metrics::{Histogram, Metrics};
pub use past::Page;
pub use request::{Binding, DeleteOptions, Guard, Outcome, Preconditions, Propagation, Verb, Write, Written};
pub use shelf::Place;
pub use store::Store;
pub use watch::Watch;

/// Requests that one commit carries at most.
pub const GROUP_LIMIT: usize = 256;

/// Requests that may wait for the writer; one more is refused with [`Refusal::Busy`].
pub const QUEUE_LIMIT: usize = 4096;
