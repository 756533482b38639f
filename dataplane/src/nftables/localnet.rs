//! `net.ipv4.conf.all.route_localnet`, which node ports on 127.0.0.0/8 need (see [`super::layout`]).
//!
//! What is set here is written down in the table itself, as a chain without rules whose name says so: the setting belongs to
//! the network namespace as the table does, and whoever takes the table away, even another process, knows what to put back.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::layout::Chain;

const PATH: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";
/// The chain in `ip portolan` that stands there when the setting was 0 before.
pub(super) const MARK: &str = "route-localnet-was-off";

/// The setting of one network namespace.
#[derive(Debug)]
pub(super) struct Localnet {
    /// Opened in the namespace, and bound to it. `None`: it cannot be written here.
    file: Option<File>,
}

impl Localnet {
    /// That of the calling thread's network namespace.
    pub fn open() -> Self {
        let file = OpenOptions::new().read(true).write(true).open(PATH);
        Self { file: file.inspect_err(|error| tracing::debug!(%error, "{PATH} cannot be opened")).ok() }
    }

    /// Whether the kernel has it on; `None` when that cannot be known.
    pub fn get(&mut self) -> Option<bool> {
        let file = self.file.as_mut()?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).ok()?;
        Some(text.trim() != "0")
    }

    /// # Errors
    /// When the process may not.
    pub fn set(&mut self, on: bool) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else { return Err(io::ErrorKind::PermissionDenied.into()) };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(if on { b"1" } else { b"0" })
    }
}

/// The chain that says that the setting was made here.
pub(super) fn mark() -> Chain {
    Chain {
        name: Cow::Borrowed(MARK),
        hook: None,
        comment: "portolan agent --cleanup sets net.ipv4.conf.all.route_localnet back to 0",
        rules: Vec::new(),
    }
}
