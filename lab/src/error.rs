//! What can go wrong with a lab. Every message is a sentence for the person who typed the command; where there is
//! something to do about it, the message says what.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A caller prints the message and those of its sources, and exits 1.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("no lab runs in {}; start one with `portolan lab up --dir {}`", dir.display(), dir.display())]
    NotRunning { dir: PathBuf },
    #[error(
        "a lab already runs in {}{}; stop it with `portolan lab down --dir {}`, or choose another --dir and --listen",
        dir.display(), pid.map(|p| format!(" (process {p})")).unwrap_or_default(), dir.display()
    )]
    Running { dir: PathBuf, pid: Option<i32> },
    #[error("{} is not empty and no lab's; choose another --dir", dir.display())]
    Foreign { dir: PathBuf },
    #[error("the lab in {} is just coming up; try again in a moment", dir.display())]
    Starting { dir: PathBuf },
    #[error("a lab has 1 to {max} nodes, not {asked}", max = crate::MAX_NODES)]
    Nodes { asked: usize },
    #[error("a lab has at most {max} edge nodes, not {asked}", max = crate::MAX_EDGES)]
    Edges { asked: usize },
    #[error("cannot use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{listen} is in use; stop what listens there (another lab?), or choose another address with --listen")]
    PortInUse { listen: SocketAddr },
    #[error("cannot listen on {listen}")]
    Listen {
        listen: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the lab can only be started by a process with one thread")]
    Threads,
    #[error(
        "this system does not let an ordinary user make namespaces: run as root, or allow it, as root, with \
         `sysctl -w kernel.unprivileged_userns_clone=1` (Debian), `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` \
         (Ubuntu), or a larger user.max_user_namespaces"
    )]
    UserNamespaces(#[source] io::Error),
    #[error(
        "this system refuses new mount, network and process namespaces, even to root: in a container, give it \
         CAP_SYS_ADMIN and CAP_NET_ADMIN"
    )]
    Namespaces(#[source] io::Error),
    #[error("cannot start {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The supervisor gave up; its reason.
    #[error("the lab did not come up: {reason}")]
    Failed { reason: String },
    #[error("the lab died while coming up; {} may say why", log.display())]
    Died { log: PathBuf },
    #[error("the lab ended by itself; {} may say why", logs.display())]
    Ended { logs: PathBuf },
    #[error("the lab in {} does not answer", dir.display())]
    Silent {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What the running lab answered to a request.
    #[error("{reason}")]
    Refused { reason: String },
    #[error("the lab's process {pid} does not end")]
    Stuck { pid: i32 },
    #[error("cannot enter the lab's namespaces; run this as the user who started the lab, or as root")]
    Enter(#[source] io::Error),
    #[error("no command was given to run")]
    NoCommand,
}

impl LabError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
