//! Entering new namespaces, with or without root.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::LabError;

const OWN: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWIPC);

/// Moves this process into new mount, network and IPC namespaces, and its next child into a new PID namespace. Says
/// whether that took a user namespace of its own.
///
/// Root does without one, unless it is a root that may not make the others (in a container).
pub(super) fn enter() -> Result<bool, LabError> {
    if fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(LabError::Threads);
    }
    let root = geteuid().is_root();
    if root {
        match unshare(OWN) {
            Ok(()) => return Ok(false),
            Err(Errno::EPERM) => {}
            Err(e) => return Err(LabError::Namespaces(e.into())),
        }
    }
    let refused = |e: io::Error| if root { LabError::Namespaces(e) } else { LabError::UserNamespaces(e) };
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| refused(e.into()))?;
    map_root(uid, gid).map_err(refused)?;
    unshare(OWN).map_err(|e| refused(e.into()))?;
    Ok(true)
}

/// Makes this user the root of the user namespace just entered. Allocates nothing but two short strings.
fn map_root(uid: Uid, gid: Gid) -> io::Result<()> {
    // Without this an ordinary user may not write the group map (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// For tests of the network: new user and network namespaces between fork and exec.
#[cfg(test)]
pub(crate) fn enter_test_namespaces() -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let (uid, gid) = (geteuid(), getegid());
    move || {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
        map_root(uid, gid)
    }
}
