//! What runs on this machine without the API's doing, and is to be found by it: mirror Pods for manifests in a folder
//! and for processes that register themselves.
//!
//! ```text
//! folder ─▶ files ─▶ manifest ─┐ Wanted             ┌─▶ keeper (one per name): create, delete, status
//! socket ─▶ protocol ──────────┴▶ board ─▶ steward ─┤      ▲ mirror: what is the next step?
//!            Pods of this node (a watch) ─────────▶─┘      └ prober (verdicts), leaving (nodes know)
//! ```
//!
//! A workload's process is not ours: systemd, docker or somebody's shell runs it, and the agent neither starts nor ends
//! it. It says to everybody where it is and whether it works, and takes that back in order. An agent that ends takes
//! nothing back: its successor finds the Pods and goes on, with what the probes said last.
//!
//! Only such requests are made as a node may make: it reads the Pods that are bound to it, creates and deletes mirror
//! Pods of its own, which its Node owns, and writes their status.

mod board;
mod exec;
mod files;
mod folder;
mod keeper;
mod life;
mod manifest;
mod mirror;
mod order;
pub mod protocol;
mod socket;
mod standing;
mod steward;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

pub use exec::Machine;
pub use files::documents;
pub use manifest::POD_IP;
pub use socket::{Peer, SocketConfig};

use crate::client::Client;
use crate::events::Recorder;
use crate::probes::Prober;
use crate::state::OwnNode;
use order::Shared;
use steward::Sources;

/// A process tries to reach the agent four times a second.
const RECONNECT: Duration = Duration::from_secs(10);
/// Looks into the folder, and words from the socket, that wait.
const SCANS: usize = 4;
const ASKS: usize = 64;

/// Which workloads an agent stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadsConfig {
    /// A folder of manifests.
    pub pod_dir: Option<PathBuf>,
    /// Where processes register themselves; `None`: nowhere.
    pub socket: Option<SocketConfig>,
    /// For how long an agent that ends takes all Pods back in order before it does; `None`: they stay.
    pub leave_within: Option<Duration>,
    /// How long after the agent's start the Pods of processes are kept that have not come back to it.
    pub reconnect: Duration,
}

impl Default for WorkloadsConfig {
    fn default() -> Self {
        Self { pod_dir: None, socket: None, leave_within: None, reconnect: RECONNECT }
    }
}

/// Why an agent cannot stand for workloads.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadsError {
    #[error("listening on {}", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("starting the prober")]
    Prober(#[source] io::Error),
}

/// What of this machine is needed, ready to be run.
#[derive(Debug)]
pub struct Workloads {
    config: WorkloadsConfig,
    listener: Option<std::os::unix::net::UnixListener>,
    prober: Prober,
}

impl Workloads {
    /// Makes the socket. One that is not needed and cannot be made is done without, and the log says so.
    ///
    /// # Errors
    /// When a needed one cannot be made, or there is no thread for probes.
    pub fn open(config: WorkloadsConfig) -> Result<Self, WorkloadsError> {
        let listener = match &config.socket {
            None => None,
            Some(socket) => match socket::bind(socket) {
                Ok(listener) => Some(listener),
                Err(source) if socket.needed => {
                    return Err(WorkloadsError::Socket { path: socket.path.clone(), source });
                }
                Err(error) => {
                    info!("processes cannot register on {}: {error}", socket.path.display());
                    None
                }
            },
        };
        Ok(Self { config, listener, prober: Prober::start().map_err(WorkloadsError::Prober)? })
    }

    /// Runs them as some of `tasks`. The end of the channel that is given back says that all Pods have gone, where they
    /// were to.
    pub fn start(
        self,
        tasks: &mut JoinSet<()>,
        client: Client,
        node: &str,
        events: Recorder,
        own: watch::Receiver<OwnNode>,
    ) -> Leave {
        let (scanned, scans) = mpsc::channel(SCANS);
        let (asked, asks) = mpsc::channel(ASKS);
        let (ask, ending) = watch::channel(false);
        let (over, left) = watch::channel(());
        let (has_folder, reconnect) = (self.config.pod_dir.is_some(), self.config.reconnect);
        if let Some(dir) = self.config.pod_dir {
            tasks.spawn(folder::watch(dir, node.to_owned(), scanned));
        }
        if let Some(listener) = self.listener {
            tasks.spawn(socket::serve(listener, node.to_owned(), asked));
        }
        let shared = Shared { client, node: node.to_owned(), prober: self.prober, events };
        let sources = Sources { scans, asks, own, ending };
        tasks.spawn(async move {
            steward::run(Arc::new(shared), has_folder, reconnect, sources).await;
            drop(over);
            // The agent goes on until it is told to end.
            std::future::pending::<()>().await;
        });
        Leave { ask, left, within: self.config.leave_within }
    }
}

/// By which an agent that ends takes its Pods back.
#[derive(Debug)]
pub struct Leave {
    ask: watch::Sender<bool>,
    left: watch::Receiver<()>,
    within: Option<Duration>,
}

impl Leave {
    /// Returns when that is done or not to be done; at the end of its time in any case.
    pub async fn leave(mut self) {
        let Some(within) = self.within else { return };
        self.ask.send_replace(true);
        if tokio::time::timeout(within, self.left.changed()).await.is_err() {
            warn!("not every Pod of this node has been taken back within {} s", within.as_secs());
        }
    }
}
