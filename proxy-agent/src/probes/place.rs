//! Where probes are made: whose network they come from, and inside of what a command runs.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::MAX_OUTPUT_BYTES;

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

/// This machine as the agent sees it: for pods that are ordinary processes. Commands run as the agent's user, in a process
/// group of their own and with its environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl Place for Host {
    fn exec(&self, command: &[String]) -> Running {
        let started = start(command);
        Box::pin(async move {
            let (child, reader) = started?;
            let mut group = Group { child };
            let (exit, output) = gather(reader, group.child.wait()).await;
            let exit = exit?;
            let code = exit.code().unwrap_or_else(|| 128 + exit.signal().unwrap_or_default());
            Ok(Ran { code, output })
        })
    }
}

fn start(command: &[String]) -> io::Result<(Child, pipe::Receiver)> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    Ok((command.spawn()?, pipe::Receiver::from_owned_fd(reader.into())?))
}

/// A child that leads its group.
struct Group {
    child: Child,
}

impl Drop for Group {
    /// Kills whoever is left of it in the middle of its run. A child that was waited for has no number any more.
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Reads what a command writes until it ends, and keeps [`MAX_OUTPUT_BYTES`] of it. What it started may go on and hold the
/// pipe open; it is not waited for.
pub async fn gather<T>(mut reader: pipe::Receiver, exit: impl Future<Output = T>) -> (T, Vec<u8>) {
    let (mut output, mut open) = (Vec::new(), true);
    let mut chunk = [0; 4096];
    let keep = |output: &mut Vec<u8>, bytes: &[u8]| {
        let room = MAX_OUTPUT_BYTES.saturating_sub(output.len()).min(bytes.len());
        output.extend_from_slice(bytes.get(..room).unwrap_or_default());
    };
    tokio::pin!(exit);
    let exit = loop {
        tokio::select! {
            biased;
            read = reader.read(&mut chunk), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(bytes) => keep(&mut output, chunk.get(..bytes).unwrap_or_default()),
            },
            exit = &mut exit => break exit,
        }
    };
    while open && output.len() < MAX_OUTPUT_BYTES {
        match reader.try_read(&mut chunk) {
            Ok(0) | Err(_) => open = false,
            Ok(bytes) => keep(&mut output, chunk.get(..bytes).unwrap_or_default()),
        }
    }
    (exit, output)
}
