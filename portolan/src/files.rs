//! How many files this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A connection is a descriptor, and the usual soft limit of 1,024 is a hundred agents. Returns how many files may be open:
/// what cannot be had is done without.
pub fn allow(connections: u32) -> u64 {
    const WANTED: u64 = 65_536;
    let wanted = WANTED.max(u64::from(connections) + 1_024);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    if soft < hard.min(wanted) && setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard).is_ok() {
        return hard.min(wanted);
    }
    soft
}
