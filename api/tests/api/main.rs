//! The real router on a fresh store, without a socket: one module for each part of the API.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking, too")]

mod access;
mod app;
mod apply;
mod bodies;
mod create;
mod delete;
mod discovery;
mod events;
mod field_validation;
mod get_and_list;
mod heartbeat;
mod lifecycle;
mod matrix;
mod openapi;
mod paging;
mod patch;
mod programmed;
mod protobuf;
mod questions;
mod reviews;
mod rim;
mod schema;
mod table;
mod transport;
mod update;
mod watch;
