//! Where probes are made: whose network they come from, and inside of what a command runs.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;

use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::net::unix::pipe;

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
    // Of the exit another thread may have told before the poll set tells of what was written before it: the pipe itself is
    // asked, not the poll set.
    if open && let Ok(pipe) = reader.into_nonblocking_fd() {
        let mut pipe = File::from(pipe);
        while output.len() < MAX_OUTPUT_BYTES {
            match pipe.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => keep(&mut output, chunk.get(..bytes).unwrap_or_default()),
            }
        }
    }
    (exit, output)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The command has ended before anybody looked at what it wrote.
    #[tokio::test]
    async fn what_was_written_is_read_though_the_end_is_known_first() {
        for _ in 0..100 {
            let (reader, mut writer) = io::pipe().unwrap();
            let reader = pipe::Receiver::from_owned_fd(reader.into()).unwrap();
            let exit = async move { writer.write_all(b"no file").map(|()| writer).unwrap() };
            // What the command started holds the pipe open.
            let (_held, output) = gather(reader, exit).await;
            assert_eq!(output, b"no file");
        }
    }
}
