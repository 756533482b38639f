//! The store through its public interface, over a real SQLite file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, their helpers too"
)]

mod binding;
mod durability;
mod endpoints;
mod held;
mod history;
mod load;
mod own;
mod owners;
mod past;
mod pools;
mod random;
mod repair;
mod services;
mod support;
mod writes;
