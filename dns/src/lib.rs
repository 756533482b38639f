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
pub mod answer;
pub mod forward;
pub mod message;
pub mod names;
pub mod respond;

pub use access::Access;
pub use answer::{Answer, Reply, answer};
pub use forward::{Flags, Forwarded, Forwarder, Upstream, UpstreamError};
pub use names::{Names, PodRecords, SharedNames, Zone};
