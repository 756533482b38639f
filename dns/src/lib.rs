//! The cluster's DNS: what every Service, endpoint and address of a cluster is called, and the server that says so.
//!
//! ```text
//! snapshot ─▶ Names (an index, kept up to date) ─▶ answer(&Names, question) ─▶ Answer        pure
//!
//! UDP, TCP ─▶ parse ─▶ a Service's own name? ─▶ its addresses, from the index              the shell
//!                   └▶ answer ─▶ Known: written   Elsewhere: forwarded to the host's resolvers, cached
//! ```
//!
//! The names are those of Kubernetes' DNS specification 1.1.0 (shared with CoreDNS' `kubernetes` plugin, whose answers
//! decide where the specification leaves something open). hickory's `proto` reads and writes messages, its `resolver`
//! asks other servers; what is answered, and how packets come and go, is here.

pub mod access;
mod ahead;
pub mod answer;
mod door;
pub mod forward;
pub mod limit;
mod log;
pub mod message;
pub mod metrics;
pub mod names;
pub mod respond;
pub mod server;
mod sockets;
mod tcp;
mod udp;

pub use access::Access;
pub use answer::{Answer, Reply, answer};
pub use forward::{Flags, Forwarded, Forwarder, Upstream, UpstreamError};
pub use limit::Rates;
pub use metrics::Metrics;
pub use names::{Names, PodRecords, SharedNames, Zone};
pub use server::{Options, Server, StartError};
pub use sockets::ListenError;
