//! Where probes are made: whose network they come from, and inside of what a command runs.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::net::TcpSocket;

/// What a command of an `exec` probe left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// 0: success. 128 + the signal when one ended it.
    pub code: i32,
    /// What it wrote to both of its outputs, up to [`super::MAX_OUTPUT_BYTES`].
    pub output: Vec<u8>,
}

/// A command that runs. Whoever drops this has the command, and what it started, killed.
pub type Running = Pin<Box<dyn Future<Output = io::Result<Ran>> + Send>>;

/// Where the probes of a container are made. Called on the prober's own thread, within its runtime; must not block.
pub trait Place: fmt::Debug + Send + Sync {
    /// A TCP socket in the network that the node's own connections come from.
    ///
    /// # Errors
    /// When there is none: too many open files, no such family.
    fn socket(&self, ipv6: bool) -> io::Result<TcpSocket> {
        if ipv6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() }
    }

    /// Runs a command beside the container's process, with what it sees. The error, at once or later, is that it could
    /// not be run; such a probe counts neither as success nor as failure.
    fn exec(&self, command: &[String]) -> Running;
}
