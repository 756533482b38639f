//! The asking side.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use proxy_agent::workloads::protocol::short;

use super::{Answer, MAX_LINE, Request, descriptors, socket_path};
use crate::LabError;

/// An answer and what came with it.
#[derive(Debug)]
pub struct Answered {
    pub answer: Answer,
    pub descriptors: Vec<OwnedFd>,
    /// The supervisor's process, as this process counts.
    pub supervisor: i32,
}

/// Asks the supervisor of `dir`, and waits for the answer for `limit`.
///
/// # Errors
/// When no lab runs there or it does not answer; a refusal is [`LabError::Refused`].
pub fn ask(dir: &Path, request: &Request, limit: Duration) -> Result<Answered, LabError> {
    let socket = connect(dir)?;
    let answered =
        converse(&socket, request, limit).map_err(|source| LabError::Silent { dir: dir.to_owned(), source })?;
    match answered.answer {
        Answer::Failed { reason } => Err(LabError::Refused { reason }),
        _ => Ok(answered),
    }
}

fn connect(dir: &Path) -> Result<UnixStream, LabError> {
    let connected = short(&socket_path(dir)).and_then(|(_dir, path)| UnixStream::connect(path));
    connected.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
            LabError::NotRunning { dir: dir.to_owned() }
        }
        _ => LabError::Silent { dir: dir.to_owned(), source },
    })
}

fn converse(mut socket: &UnixStream, request: &Request, limit: Duration) -> io::Result<Answered> {
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    let supervisor = getsockopt(&socket, sockopt::PeerCredentials)?.pid();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    socket.write_all(&line)?;

    let (mut text, mut descriptors) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (count, more) = descriptors::receive(socket, &mut buffer)?;
        descriptors.extend(more);
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if text.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
        if text.ends_with(b"\n") {
            return Ok(Answered { answer: serde_json::from_slice(&text)?, descriptors, supervisor });
        }
    }
}
