//! A network namespace, kept alive by a file descriptor: nothing is mounted under `/run/netns`, so nothing is left
//! there when the lab is killed.
//!
//! Namespaces belong to threads. Whatever must happen inside one happens on a short-lived thread that enters it and
//! ends; the runtime's own threads never move. A socket stays in the namespace it was made in, so making it there is
//! all that the short-lived thread has to do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, setns, unshare};
use tokio::net::TcpSocket;

/// An open network namespace. Dropping the last descriptor, with no process inside, ends the namespace.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
}

impl Netns {
    /// A new, empty namespace.
    pub fn create() -> io::Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::current()
        })
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Ok(Self { fd: File::open("/proc/thread-self/ns/net")?.into() })
    }

    /// Runs `work` inside, on a thread of its own, and waits for it: `work` must be short.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_thread(|| {
            setns(&self.fd, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// An unconnected IPv4 TCP socket of this namespace.
    pub fn tcp_socket(&self) -> io::Result<TcpSocket> {
        self.run(TcpSocket::new_v4)
    }

    /// A channel for changing links, addresses and routes of this namespace. Call it inside a runtime: a task of it
    /// drives the channel until the handle is dropped.
    pub fn rtnetlink(&self) -> io::Result<rtnetlink::Handle> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _unasked) = self.run(|| {
            let _context = runtime.enter();
            rtnetlink::new_connection()
        })?;
        tokio::spawn(connection);
        Ok(handle)
    }

    /// Writes kernel settings, each a path below `/proc/sys/net` and its value.
    pub fn sysctl(&self, settings: &[(&'static str, &'static str)]) -> Result<(), SysctlError> {
        let mut failed = None;
        let outcome = self.run(|| {
            for (key, value) in settings {
                std::fs::write(format!("/proc/sys/net/{key}"), value).inspect_err(|_| failed = Some(*key))?;
            }
            Ok(())
        });
        outcome.map_err(|source| SysctlError { key: failed.unwrap_or("(entering the namespace)"), source })
    }

    /// Its inode, by which a process's namespace can be compared with it.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(nix::sys::stat::fstat(&self.fd)?.st_ino)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A kernel setting could not be written.
#[derive(Debug, thiserror::Error)]
#[error("setting net/{key} (the kernel needs IPv4 and IPv6, and /proc must be writable)")]
pub struct SysctlError {
    key: &'static str,
    #[source]
    source: io::Error,
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread inside a network namespace panicked")))
    })
}
