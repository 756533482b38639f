//! The proxy for what packets alone cannot do: TLS, requests, PROXY headers.
//!
//! The kernel translates connections for an instance's address to this process ([`accept`]), which asks it where they wanted to
//! go and so finds the listener. A connection belongs to one thread ([`worker`]) from there on, and with it its requests
//! ([`exchange`]) and the connections to backends that they use ([`link`], [`idle`]). What is to be done changes as a whole
//! ([`proxy`], [`listening`]) and for the next request; nobody who is not concerned is disturbed.
//!
//! hyper speaks HTTP on both sides. Rejected: a pool of hyper-util's, which puts a task, two channels and a lock of all threads
//! between a request and its backend; and a framework for proxies, which was measured at half of hyper's rate.
//!
//! Who may ask at all is decided in the kernel, for these connections as for all.

mod accept;
pub(crate) mod activity;
pub(crate) mod backend;
mod body;
pub(crate) mod clock;
mod connection;
pub(crate) mod exchange;
mod headers;
mod idle;
mod link;
pub(crate) mod listening;
mod metrics;
mod order;
mod proxy;
mod routes;
mod shared;
mod sticky;
mod table;
mod tls;
mod tunnel;
mod worker;

pub use proxy::{Options, Proxy, StartError};
pub use routes::{Place, Problem, Routes, references};
pub use tls::Material;
