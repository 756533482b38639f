//! From a cluster's state to what one node's kernel does with a packet.
//!
//! [`compile()`] decides (pure): a [`Plan`] says in Services' own words where each address and port leads on
//! this node. [`route()`] reads a plan as the kernel should and is the oracle: every spelling of a plan is
//! tested against it, packet by packet. [`nftables`] renders a plan into elements of a constant set of maps, and writes
//! the difference to what it wrote before; [`iptables`] renders it into chains of rules. What spells a plan in rules of iptables
//! shares [`xtables`].
//!
//! No policy is decided in a spelling: whatever depends on traffic policies, readiness or locality is in the plan.

pub mod compile;
pub mod conntrack;
pub mod detour;
pub mod explain;
pub mod ipset;
pub mod iptables;
pub mod ipvs;
pub mod local;
pub mod nftables;
pub mod plan;
pub mod program;
pub mod route;
pub mod spread;
pub mod xtables;

// Shared with the tests that reach a kernel, which see this crate from outside.
#[cfg(test)]
extern crate self as dataplane;
#[cfg(test)]
mod agreement;
#[cfg(test)]
#[path = "../tests/kernel/flow_table.rs"]
mod flow_table;
#[cfg(test)]
#[path = "../tests/kernel/cluster.rs"]
mod testing;

pub use compile::{DNS_PORT, answerable, compile, compile_node, compile_service};
pub use model::service::scheduler::Scheduler;
pub use plan::{
    Action, At, EdgeNeighbor, Endpoint, Family, Frontend, FrontendKind, HealthCheck, Limits, Local, Method, NodePlan,
    NodePortAddresses, Plan, Pool, PoolKey, ServicePlan, Serving,
};
pub use program::{Dirty, Refused, Repairs, Report};
pub use route::{Candidate, Origin, Packet, Source, Verdict, route};
