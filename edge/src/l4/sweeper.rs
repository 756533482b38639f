//! Ends the connections of backends that have gone, on a thread of its own: reading a machine's connections takes a
//! microsecond each, which nobody else shall wait for.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dataplane::conntrack::Cleaner;
use dataplane::nftables::netlink::NetlinkError;
use tracing::{debug, warn};

use super::compile::Input;
use super::drain::Drain;

/// Between two sweeps, so that a backend that comes and goes does not keep a processor busy; and before one that failed is
/// tried again.
const REST: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

/// The thread ends with this.
pub struct Sweeper(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    drain: Drain,
    /// Those of the load balancers here; `None` before the kernel was programmed once.
    addresses: Option<BTreeSet<IpAddr>>,
    /// What a former process left behind was looked at.
    looked: bool,
    ended: bool,
}

impl Sweeper {
    /// In the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no conntrack, or there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let cleaner = Cleaner::open()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("l4-sweep".into()).spawn(move || theirs.run(&cleaner))?;
        Ok(Self(shared))
    }

    /// The kernel does what these listeners say.
    pub fn programmed(&self, input: &Input<'_>, addresses: BTreeSet<IpAddr>) {
        let mut state = self.0.lock();
        state.drain.update(input, Instant::now());
        state.addresses = Some(addresses);
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, cleaner: &Cleaner) {
        while self.wait() {
            let rest = match self.sweep(cleaner) {
                Ok(()) => REST,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    warn!(error, "connections to backends that have gone may go on; trying again");
                    self.lock().drain.again();
                    RETRY
                }
            };
            std::thread::sleep(rest);
        }
    }

    /// Until something is due. `false`: it is the end.
    fn wait(&self) -> bool {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let due = match &state.addresses {
                _ if state.ended => return false,
                None => None,
                Some(_) if !state.looked => Some(now),
                Some(_) => state.drain.due_at(now),
            };
            state = match due.map(|due| due.saturating_duration_since(now)) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return true,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn sweep(&self, cleaner: &Cleaner) -> Result<(), NetlinkError> {
        let (mut lasting, looked) = {
            let mut state = self.lock();
            let addresses = state.addresses.clone().unwrap_or_default();
            let looked = state.looked;
            let now = Instant::now();
            (if looked { state.drain.sweep(&addresses, now) } else { state.drain.lasting(&addresses) }, looked)
        };
        if !looked {
            let strays = cleaner.strays(&lasting)?;
            let mut state = self.lock();
            let now = Instant::now();
            state.drain.found(&strays, now);
            state.looked = true;
            if state.drain.due_at(now).is_none_or(|due| due > now) {
                return Ok(());
            }
            let addresses = state.addresses.clone().unwrap_or_default();
            lasting = state.drain.sweep(&addresses, now);
        }
        let report = cleaner.end(&lasting)?;
        debug!(?report, "connections to backends that have gone were ended");
        Ok(())
    }
}
