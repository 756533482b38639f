//! The proxy over real sockets: requests through a listener to backends that the tests play.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

#[path = "l7/support.rs"]
mod support;

#[path = "l7/plain.rs"]
mod plain;

#[path = "l7/http2.rs"]
mod http2;

#[path = "l7/relays.rs"]
mod relays;

#[path = "l7/tls.rs"]
mod tls;

#[path = "l7/rolling.rs"]
mod rolling;
