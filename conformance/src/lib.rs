//! Clients that nobody here wrote, against the binary that we ship.
//!
//! The crate imports nothing of Portolan: it starts `portolan server` as a process and lets kubectl in three versions,
//! the Python client, the Node client and kube-rs talk to it over TLS. It is a crate of its own because kube-rs brings a
//! second HTTP client and a copy of every Kubernetes type, which `cargo test -p portolan` need not wait for.
//!
//! [`kinds`] reads `kinds.json`, the objects that every client goes through; the scripts in `clients/` read the same
//! file. [`transcript`] runs files of kubectl command lines in every version and compares what they print. [`churn`]
//! changes objects until it is told to stop, and keeps the sum that informers are compared with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is the harness of tests, which fail by panicking"
)]

pub mod churn;
pub mod follow;
pub mod kinds;
pub mod kubectl;
pub mod script;
pub mod server;
pub mod transcript;

use std::path::{Path, PathBuf};

/// The folder of this crate.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `scripts/install-deps test` put into `target/tools`.
pub fn tool(name: &str) -> PathBuf {
    let path = home().join("../target/tools").join(name);
    assert!(path.exists(), "{} is missing: run scripts/install-deps test (make test does)", path.display());
    path
}

/// A number from the environment, for the tests that `make soak` lets run longer.
pub fn seconds(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number of seconds")),
        Err(_) => default,
    }
}
