//! The probes of this node's pods: readiness, liveness and startup, by HTTP, TCP, gRPC and commands.
//!
//! ```text
//! watch, quiet, forget ─▶ orders ─▶ driver (a thread) ─▶ machine: what is due? ─▶ http, tcp, grpc, exec
//!                                      │                    ▲                           │
//!                        News, Events ◀┘                    └───────── outcome ─────────┘
//! ```
//!
//! What is probed when, and what a result means, is decided by [`machine`], without clock or socket, by kubelet's rules.
//! One thread with a runtime of its own does all probes of a node: they wait for the network, hardly for the processor,
//! and nothing that the agent does for long keeps them from being made in time. What is known is told as a state, not
//! as a sequence: who is slow to listen hears the newest.

mod driver;
mod grpc;
mod http;
mod machine;
mod orders;
mod outcome;
pub mod place;
pub mod spec;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

pub use place::{Place, Ran, Running};
pub use spec::{Action, Kind, NamedPort, Probe, Probes};

use crate::events::{About, Recorder};
use orders::{Id, Order, Orders};

/// What is kept of an answer's body or of a command's output; kubelet's bound.
pub const MAX_OUTPUT_BYTES: usize = 10 * 1024;

/// A container that runs and is to be probed.
#[derive(Clone, Debug)]
pub struct Target {
    /// Of the pod.
    pub uid: Arc<str>,
    pub container: Arc<str>,
    /// Tells this start of the container from every other one. A watch with another number begins anew.
    pub run: u32,
    /// When the container was started.
    pub since: Instant,
    pub probes: Probes,
    /// Where the container is reached: the pod's first address.
    pub ip: IpAddr,
    /// The container's ports that have names.
    pub ports: Vec<NamedPort>,
    pub place: Arc<dyn Place>,
    /// What was known of this very run before, e.g. by an agent that ended: it holds until probes say otherwise.
    pub before: Before,
    /// What somebody does about a container that fails its liveness or startup probe.
    pub on_failure: OnFailure,
    /// Whom Events are about, and who writes them.
    pub about: About,
    pub events: Recorder,
    /// Who is told. What does not fit is told later.
    pub news: mpsc::Sender<News>,
}

/// What is known of a run from an earlier life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// It had passed its startup probe.
    pub started: bool,
    pub ready: bool,
}

/// What becomes of a container that failed its liveness or startup probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is restarted, so it is not probed any more until it is watched with another `run`.
    Restart,
    /// Nobody ends it: it is probed on, and may recover.
    Report,
}

/// How a container fares. It comes when that changes; the newest counts, whatever came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub uid: Arc<str>,
    pub container: Arc<str>,
    pub run: u32,
    pub verdict: Verdict,
}

/// How a container fares, as far as probes tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It has passed its startup probe, or has none.
    pub started: bool,
    /// It is started, and its readiness probe says so, or it has none.
    pub ready: bool,
    /// The probe by which it is to be restarted: liveness or startup.
    pub failed: Option<Kind>,
    /// What made it not ready, in the words of its Event, kept until it is ready again; empty while no probe failed.
    pub why: String,
}

/// Probes all containers of a node. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct Prober {
    orders: Arc<Orders>,
}

impl Prober {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread, or no poll set.
    pub fn start() -> io::Result<Self> {
        let (orders, taken) = Orders::new();
        driver::start(taken)?;
        Ok(Self { orders })
    }

    /// Probes a container from now on, in place of what was known of it by this uid and name. Its first news comes at
    /// once and says what holds before the first probe; a container without probes is ready.
    pub fn watch(&self, target: Target) {
        let id = Id { uid: Arc::clone(&target.uid), container: Arc::clone(&target.container) };
        self.orders.put(id, Order::Watch(Box::new(target)));
    }

    /// The pod is about to end: its containers' liveness does not matter any more, their readiness does.
    pub fn quiet(&self, uid: &str, container: &str) {
        self.orders.quiet(Id { uid: uid.into(), container: container.into() });
    }

    /// Probes a container no more. News that is on its way may still come.
    pub fn forget(&self, uid: &str, container: &str) {
        self.orders.put(Id { uid: uid.into(), container: container.into() }, Order::Forget);
    }
}
