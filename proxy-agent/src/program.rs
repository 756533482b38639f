//! The kernel, as the core loop sees it.
//!
//! [`Program`] is what a dataplane does for the agent; which one it is decides [`crate::kernel`].

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use dataplane::Plan;
use dataplane::conntrack::Cleaner;
use dataplane::detour::Detours;
use dataplane::iptables::RuleCount;
use dataplane::nftables::inspect::Inspector;
use dataplane::nftables::{self, Owner, Ownership, ProgramError, Table};
use dataplane::{Dirty, Report};
use serde_json::Value;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::mode::Mode;
use crate::questions::Answer;
use crate::routes::{Desk, ROUTE};

/// Makes a kernel do what a plan says. Blocking, but short: tens of microseconds for a change, a quarter of a
/// second for 10,000 Services from nothing.
pub trait Program {
    type Error: std::error::Error + Send + Sync + 'static;

    /// Programs `plan`, of which only `dirty` may differ from what was programmed last, at once or not at all; but for
    /// Services that the kernel refuses for themselves, which the report names. They are tried again when they are named
    /// in `dirty`.
    ///
    /// # Errors
    /// When the kernel refused. It then still has what it had before, or nothing that can be relied on: the next
    /// attempt says [`Dirty::All`].
    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error>;

    /// Completes when somebody else may have changed what was programmed; never where nobody can. May be dropped and
    /// called again without missing anything.
    fn disturbed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Revisions are another database's from now on: the next plan may have any.
    fn begin_epoch(&mut self) {}

    /// Undoes what somebody else changed; `plan` is the one that was programmed last.
    ///
    /// # Errors
    /// As [`Program::program`].
    fn repair(&mut self, _plan: &Plan) -> Result<Report, Self::Error> {
        Ok(Report::default())
    }

    /// Whether trying again is of no use: the process lacks a right, or the kernel a part.
    fn hopeless(error: &Self::Error) -> bool;

    /// Which part of the kernel it is.
    fn mode(&self) -> Mode {
        Mode::Nftables
    }

    /// Conntrack of the same network namespace, if that has one to be kept clean.
    fn conntrack(&self) -> Option<Cleaner> {
        None
    }

    /// The routes by edge nodes of the same network namespace, if it has any.
    fn detours(&self) -> Option<Detours> {
        None
    }

    /// How many rules each table has, where the dataplane has rules that are counted (iptables).
    fn count_rules(&self) -> BTreeMap<&'static str, RuleCount> {
        BTreeMap::new()
    }

    /// Answers a question about what it has, `plan` being what it was told last; `None` when it does not know questions
    /// of this kind. Must not change anything. The core loop waits; what takes longer is answered later.
    fn answer(&mut self, plan: &Plan, kind: &str, question: &Value) -> Option<Answer> {
        let _ = (plan, kind, question);
        None
    }
}

/// The tables of nftables, and a place in the runtime that wakes us when others change them.
pub struct Nftables {
    table: Table,
    /// The table's socket under a number of its own.
    changes: AsyncFd<OwnedFd>,
    routes: Desk,
}

impl Nftables {
    /// To be called inside of a Tokio runtime with I/O.
    ///
    /// # Errors
    /// When the kernel has not what the tables need, the process lacks the right, or the runtime cannot watch their socket.
    pub fn open(ownership: Ownership) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        nftables::usable()?;
        let table = Table::open_with(Owner::Agent, ownership)?;
        let socket = table.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is open, and the same, until it is dropped, and nothing here exchanges it.
        let changes = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { table, changes, routes: Desk::new(Inspector::open()?) })
    }
}

impl Nftables {
    /// See [`Table::take_over_localnet`].
    ///
    /// # Errors
    /// As there.
    pub fn take_over_localnet(&mut self) -> Result<(), ProgramError> {
        self.table.take_over_localnet()
    }
}

impl Program for Nftables {
    type Error = ProgramError;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        self.table.program(plan, dirty)
    }

    async fn disturbed(&mut self) {
        match self.changes.readable().await {
            // Whatever comes from now on wakes us again; what is there is read by `repair`.
            Ok(mut guard) => guard.clear_ready(),
            // The runtime ends, and everything with it.
            Err(_) => std::future::pending().await,
        }
    }

    fn repair(&mut self, plan: &Plan) -> Result<Report, ProgramError> {
        self.table.repair(plan)
    }

    fn begin_epoch(&mut self) {
        self.table.begin_epoch();
    }

    fn conntrack(&self) -> Option<Cleaner> {
        open_cleaner()
    }

    fn detours(&self) -> Option<Detours> {
        open_detours()
    }

    fn answer(&mut self, plan: &Plan, kind: &str, question: &Value) -> Option<Answer> {
        (kind == ROUTE).then(|| self.routes.answer(plan, question))
    }

    fn hopeless(error: &ProgramError) -> bool {
        matches!(error, ProgramError::NotPermitted(_) | ProgramError::Unsupported(_))
    }
}

/// What removes stale flows in this network namespace.
pub fn open_cleaner() -> Option<Cleaner> {
    Cleaner::open().map_err(|error| warn!(%error, "connections that lead to nobody cannot be removed")).ok()
}

/// The routes by edge nodes in this network namespace.
pub fn open_detours() -> Option<Detours> {
    let open = Detours::open();
    open.map_err(|error| warn!(%error, "answers to clients of edge nodes do not go back through them")).ok()
}
