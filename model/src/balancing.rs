//! Load balancing as pure rules: who the backends of a listener are, and how edge nodes say that they live.

pub mod lease;

mod backends;

pub use backends::{Backend, EXCLUDE_LABELS, TO_BE_DELETED, backends, relayed};
