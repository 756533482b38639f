//! The plan as two nftables tables, `ip portolan` and `ip6 portolan`, written by raw netlink.
//!
//! The number of chains and rules is constant ([`layout`]); Services and endpoints are elements of data maps
//! ([`set`], [`element`]). [`shadow`] knows what was written and says what is to be written ([`changes`]);
//! [`message`] encodes it; [`netlink`] sends it as one batch, which the kernel takes whole or not at all, both
//! families together. `programmer` goes from plan to plan, and does without single Services that the kernel refuses. Where
//! others may change the tables, `watch` hears of it and `guard` undoes it.
//!
//! Beside the way of a change, [`read`] reads what a kernel has, [`verify`] says whether its chains and rules are those of
//! the layout, [`walk`] executes the rules, and [`inspect`] does so over what the kernel has.
//!
//! Rejected: the `nft` program (16 ms per change where this takes some 10 µs), libnftables (GPL, and C), a chain
//! per Service (quadratic in the kernel), reading back (quadratic too), verdict maps with an element per Service
//! (every change makes the kernel check the whole table).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::plan::Plan;
use crate::program::{Dirty, Refused, Repairs, Report};
use programmer::Programmer;

pub mod balancer;
pub mod changes;
pub mod element;
pub mod expr;
pub mod inspect;
pub mod jenkins;
pub mod layout;
mod localnet;
pub mod message;
pub mod netlink;
pub mod read;
pub mod render;
pub mod set;
pub mod shadow;
pub mod verify;
pub mod walk;
pub mod word;

mod apply;
mod emptied;
mod guard;
mod programmer;
pub(crate) mod split;
#[cfg(test)]
mod tests;
mod timeout;
#[cfg(test)]
mod trace;
mod watch;

pub use apply::{ProgramError, cleanup, cleanup_of, localnet_was_off, remove_tables, usable};
pub use emptied::remove_emptied;
pub use layout::Owner;
pub use message::Ownership;

/// The node's tables, and the socket that owns them.
pub struct Table {
    programmer: Programmer<apply::Kernel>,
}

/// The kernel cannot be reached. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("opening a netfilter netlink socket (the kernel needs CONFIG_NF_TABLES)")]
pub struct OpenError(#[source] pub io::Error);

impl Table {
    /// Opens a netlink socket in the calling thread's network namespace; the table stays bound to that namespace
    /// wherever it is used from. Changes nothing yet.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, OpenError> {
        Self::open_with(Owner::Agent, Ownership::Owned)
    }

    /// As [`Table::open`] for the tables of `owner`; they are held as firmly as `ownership` says, or less on a kernel that cannot.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn open_with(owner: Owner, ownership: Ownership) -> Result<Self, OpenError> {
        Ok(Self { programmer: Programmer::new(apply::Kernel::open(owner, ownership).map_err(OpenError)?) })
    }

    /// Makes the kernel do what `plan` says, in one atomic batch.
    ///
    /// The first call, and the first after an error, fills both tables anew whatever is in them; the others write the
    /// difference to the call before, and look for it only where `dirty` says. Tables that have the very sets, chains and
    /// rules that would be made (an agent that was here before left them) are kept and only their elements written, so
    /// that sticky clients stay with their endpoints; others are replaced, which forgets them.
    ///
    /// If the kernel refuses the batch for what may lie in single Services, the others are programmed without them; the
    /// report names them, and they keep what they had, until they are dirty again.
    ///
    /// # Errors
    /// See [`ProgramError`]. The kernel then has what it had.
    pub fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        self.programmer.program(plan, dirty)
    }

    /// Revisions count anew: the next plan may have any, because it comes from another database than the last one.
    pub fn begin_epoch(&mut self) {
        self.programmer.begin_epoch();
    }

    /// Undoes what others have done to the tables since they were written: element by element where that is possible,
    /// else by writing `plan` anew. To be called when the descriptor ([`AsFd`]) can be read, which only happens where
    /// the tables are not owned. `plan` is the one that was programmed last.
    ///
    /// # Errors
    /// As [`Table::program`].
    pub fn repair(&mut self, plan: &Plan) -> Result<Report, ProgramError> {
        if self.programmer.target.mend() == guard::Mended::Lost {
            self.forget();
            return self.program(plan, &Dirty::All);
        }
        Ok(self.programmer.report(Report::default()))
    }

    /// Notes in the tables that `route_localnet` was off before another dataplane set it, which goes and leaves it as it is: whoever
    /// takes the tables away puts it back. To be called after a plan was programmed.
    ///
    /// # Errors
    /// As [`Table::program`].
    pub fn take_over_localnet(&mut self) -> Result<(), ProgramError> {
        self.programmer.target.take_over_localnet()
    }

    /// Forgets what was written, so that the next plan replaces both tables.
    pub fn forget(&mut self) {
        self.programmer.forget();
    }
}

/// Can be read when somebody else has changed nftables, where the tables are not owned; see [`Table::repair`].
impl AsFd for Table {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.programmer.target.as_fd()
    }
}
