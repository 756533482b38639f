//! The shell round the names: messages as bytes, and the sockets that they come by.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;
mod messages;
mod mutations;
mod oracle;
mod parity;
mod serve;
