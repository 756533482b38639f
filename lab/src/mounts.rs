//! A mount namespace in which some files of this machine read otherwise: a pod's `/etc/resolv.conf` and `/etc/hosts`.
//!
//! The lab's processes live in the machine's own file system, which it must not touch. So each pod and node gets a copy of
//! the lab's mount namespace, and in it files of a tmpfs are bound over those of the machine. Nothing is written to a disk,
//! and the namespace ends with the last process and descriptor.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// An open mount namespace. Dropping the last descriptor, with no process inside, ends the namespace.
#[derive(Debug)]
pub struct Mounts {
    fd: OwnedFd,
}

/// A text that a file has inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Absolute. A symbolic link is followed: what it leads to reads otherwise.
    pub path: &'static str,
    pub text: String,
}

impl Mounts {
    /// A copy of the caller's mount namespace with these files. A file that is not there cannot be covered; those are given
    /// back, with why. `staging` is any directory: what is in it is hidden for a moment, in the copy alone.
    pub fn create(staging: &Path, overlays: &[Overlay]) -> io::Result<(Self, Vec<(&'static str, io::Error)>)> {
        std::thread::scope(|scope| {
            let work = || -> io::Result<_> {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let missed = cover(staging, overlays)?;
                Ok((Self { fd: File::open("/proc/thread-self/ns/mnt")?.into() }, missed))
            };
            let thread = std::thread::Builder::new().name("mounts".into()).spawn_scoped(scope, work)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread inside a mount namespace panicked")))
        })
    }

    /// Takes the calling process there, and then into `directory`. Bare system calls: for use between fork and exec.
    pub fn enter(&self, directory: &CString) -> io::Result<()> {
        setns(&self.fd, CloneFlags::CLONE_NEWNS)?;
        nix::unistd::chdir(directory.as_c_str())?;
        Ok(())
    }
}

/// Binds each text over its file, in the mount namespace of this thread.
fn cover(staging: &Path, overlays: &[Overlay]) -> io::Result<Vec<(&'static str, io::Error)>> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), staging, Some("tmpfs"), flags, Some("size=1m,mode=755"))?;
    let mut missed = Vec::new();
    for (index, overlay) in overlays.iter().enumerate() {
        let source = staging.join(index.to_string());
        let bound = std::fs::write(&source, &overlay.text)
            .and_then(|()| Ok(mount(Some(&source), overlay.path, none, MsFlags::MS_BIND, none)?));
        if let Err(error) = bound {
            missed.push((overlay.path, error));
        }
    }
    // What is bound stays.
    umount2(staging, MntFlags::MNT_DETACH)?;
    Ok(missed)
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Mounts {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
