//! The socket by which `lab status`, `wait`, `stop`, `start`, `cut`, `heal`, `exec` and `down` speak to the supervisor: one line of JSON asks, one
//! line answers. Whoever can open the socket's file (its user, and root) may do all of it.
//!
//! To enter the lab's namespaces a caller needs no path and no process number: their descriptors come with the answer.

mod client;
mod descriptors;
mod server;

use std::path::{Path, PathBuf};

use proxy_agent::Dataplane;
use serde::{Deserialize, Serialize};

use crate::Status;

pub use client::{Answered, ask};
pub use server::{Cluster, bind, serve};

/// The longest request and the longest answer.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Status,
    /// Answered when every agent has programmed what the server had acknowledged at the time of asking.
    Wait {
        milliseconds: u64,
    },
    /// The namespaces of a node, of an edge node, of `client` or of a pod.
    Enter {
        name: String,
    },
    /// Ends `server`, the agent of a node, or an edge node, and keeps it so; answered when it has ended.
    Stop {
        name: String,
    },
    /// Lets it run again, the agent of a node perhaps with another dataplane.
    Start {
        name: String,
        dataplane: Option<Dataplane>,
    },
    /// Pulls the cable of a node or edge node.
    Cut {
        name: String,
    },
    /// Plugs it in again.
    Heal {
        name: String,
    },
    Down,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Status(Box<Status>),
    Done,
    /// These namespaces' descriptors come with the answer, in this order, which is that in which to enter them.
    Namespaces(Vec<Namespace>),
    Failed {
        reason: String,
    },
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    User,
    Network,
    Ipc,
    /// Entered by children only.
    Pid,
    Mount,
}

pub fn socket_path(dir: &Path) -> PathBuf {
    dir.join("lab.sock")
}

#[cfg(test)]
mod tests;
