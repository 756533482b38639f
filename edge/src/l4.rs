//! Layer 4: this machine's kernel does what the active listeners say.
//!
//! [`compile()`](compile::compile) makes a plan of them (pure); [`L4`] programs it with the dataplane that agents use too,
//! in tables of their own (`portolan-edge`). A change is the difference to what was there, and touches no connection but
//! those of backends that have gone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use dataplane::nftables::{self, Owner, Ownership, ProgramError, Table};
use dataplane::{Dirty, Report};
use dataplane::{Plan, ServicePlan};
use model::Key;

pub mod compile;
mod drain;
mod sweeper;

pub use compile::{Input, Relays};
use sweeper::Sweeper;

/// The kernel cannot be reached. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Table(#[from] nftables::OpenError),
    #[error("starting to watch over connections")]
    Conntrack(#[source] io::Error),
}

/// The kernel's part of an edge node.
pub struct L4 {
    table: Table,
    /// What was programmed last.
    plan: Plan,
    sweeper: Sweeper,
}

impl L4 {
    /// Opens the tables of the calling thread's network namespace, and changes nothing yet. Who is there already (a former
    /// process) goes on forwarding until the first [`L4::program`].
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, OpenError> {
        let table = Table::open_with(Owner::Edge, Ownership::Owned)?;
        let sweeper = Sweeper::start().map_err(OpenError::Conntrack)?;
        Ok(Self { table, plan: Plan::default(), sweeper })
    }

    /// Makes the kernel do what the listeners say, in one atomic batch. Connections that are there go on as they were; those
    /// to backends that have gone are ended behind it, at once or when they have drained. Blocks for some microseconds per
    /// element that changes.
    ///
    /// # Errors
    /// See [`ProgramError`]; the kernel then has what it had.
    pub fn program(&mut self, input: &Input<'_>) -> Result<Report, ProgramError> {
        let mut plan = compile::compile(input);
        plan.revision = self.plan.revision + 1;
        keep(&self.plan.services, &mut plan.services);
        let report = self.table.program(&plan, &Dirty::All)?;
        self.plan = plan;
        let addresses = self.plan.services.values().flat_map(|service| &service.addresses).copied().collect();
        self.sweeper.programmed(input, addresses);
        Ok(report)
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
