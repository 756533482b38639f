//! Layer 4: this machine's kernel does what the active listeners say.
//!
//! [`compile()`](compile::compile) makes a plan of them (pure); [`L4`] programs it with the dataplane that agents use too,
//! in tables of their own (`portolan-edge`). A change is the difference to what was there, and touches no connection but
//! those of backends that have gone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use dataplane::conntrack::{Cleaner, Report as Swept};
use dataplane::nftables::netlink::NetlinkError;
use dataplane::nftables::{self, Dirty, Owner, Ownership, ProgramError, Report, Table};
use dataplane::{Plan, ServicePlan};
use model::Key;

pub mod compile;
mod drain;

pub use compile::{Input, Relays};
use drain::Drain;

/// The kernel cannot be reached. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Table(#[from] nftables::OpenError),
    #[error("opening conntrack")]
    Conntrack(#[source] io::Error),
}

/// The kernel's part of an edge node.
pub struct L4 {
    table: Table,
    /// What was programmed last.
    plan: Plan,
    cleaner: Cleaner,
    drain: Drain,
    /// Nobody has looked yet for connections that a former process left behind.
    first: bool,
}

impl L4 {
    /// Opens the tables of the calling thread's network namespace, and changes nothing yet. Who is there already (a former
    /// process) goes on forwarding until the first [`L4::program`].
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, OpenError> {
        let table = Table::open_with(Owner::Edge, Ownership::Owned)?;
        let cleaner = Cleaner::open().map_err(OpenError::Conntrack)?;
        Ok(Self { table, plan: Plan::default(), cleaner, drain: Drain::default(), first: true })
    }

    /// Makes the kernel do what the listeners say, in one atomic batch. Connections that are there go on as they were, until
    /// [`L4::sweep`] is called, which is due when [`L4::sweep_at`] says. Blocks for some microseconds per element that
    /// changes.
    ///
    /// # Errors
    /// See [`ProgramError`]; the kernel then has what it had.
    pub fn program(&mut self, input: &Input<'_>, now: Instant) -> Result<Report, ProgramError> {
        let mut plan = compile::compile(input);
        plan.revision = self.plan.revision + 1;
        keep(&self.plan.services, &mut plan.services);
        let report = self.table.program(&plan, &Dirty::All)?;
        self.plan = plan;
        self.drain.update(input, now);
        Ok(report)
    }

    /// When connections to backends that have gone are to be ended, if any are: `now` or earlier means at once.
    pub fn sweep_at(&self, now: Instant) -> Option<Instant> {
        if self.first { Some(now) } else { self.drain.due_at(now) }
    }

    /// Ends the connections that are due. Blocks for about a microsecond per connection of the machine.
    ///
    /// # Errors
    /// When the kernel refuses; [`L4::sweep_at`] then says that it is due once more. Wait a little.
    pub fn sweep(&mut self, now: Instant) -> Result<Swept, NetlinkError> {
        let addresses = self.plan.services.values().flat_map(|service| &service.addresses).copied().collect();
        if self.first {
            let strays = self.cleaner.strays(&self.drain.lasting(&addresses))?;
            self.drain.found(&strays, now);
            self.first = false;
        }
        if self.drain.due_at(now).is_none_or(|due| due > now) {
            return Ok(Swept::default());
        }
        let lasting = self.drain.sweep(&addresses, now);
        self.cleaner.end(&lasting).inspect_err(|_| self.drain.again())
    }

    /// Undoes what others have done to the tables; to be called when the descriptor can be read.
    ///
    /// # Errors
    /// As [`L4::program`].
    pub fn repair(&mut self) -> Result<Report, ProgramError> {
        self.table.repair(&self.plan)
    }

    /// What the kernel was told last.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// Can be read when somebody else has changed nftables, where the tables are not owned; see [`L4::repair`].
impl AsFd for L4 {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }
}

/// Removes what an edge node leaves in the kernel. Returns whether there was anything.
///
/// # Errors
/// When the kernel refuses: without the right, or because a running edge node owns it.
pub fn cleanup() -> Result<bool, ProgramError> {
    nftables::cleanup_of(Owner::Edge)
}

/// Takes the old ones where they are the same, so that whoever compares them need not look inside.
fn keep(old: &BTreeMap<Key, Arc<ServicePlan>>, new: &mut BTreeMap<Key, Arc<ServicePlan>>) {
    for (key, plan) in new {
        if let Some(same) = old.get(key).filter(|old| *old == plan) {
            *plan = Arc::clone(same);
        }
    }
}
