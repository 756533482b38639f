//! What a programmer writes to: the kernel, or a test's memory.

use crate::nftables::Repairs;
use crate::nftables::apply::ProgramError;
use crate::nftables::changes::Changes;
use crate::nftables::netlink::NetlinkError;
use crate::nftables::shadow::Chains;

/// What holds the two tables.
pub trait Target {
    /// The chains for session affinity of tables that are there and may be filled; `None` when there are none.
    ///
    /// # Errors
    /// When they cannot be read.
    fn adoptable(&mut self) -> Result<Option<Chains>, NetlinkError>;

    /// Gives tables that are adoptable these elements and no others. Returns the bytes sent.
    ///
    /// # Errors
    /// Nothing was changed.
    fn refill(&mut self, changes: &Changes, localhost: bool) -> Result<usize, ProgramError>;

    /// Makes new tables with these elements. Returns the bytes sent.
    ///
    /// # Errors
    /// Nothing was changed.
    fn replace(&mut self, changes: &Changes, localhost: bool) -> Result<usize, ProgramError>;

    /// Changes elements. Returns the bytes sent; `None` when nobody knows what the tables hold.
    ///
    /// # Errors
    /// Nothing was changed, but for a batch that was torn.
    fn change(&mut self, changes: &Changes) -> Result<Option<usize>, ProgramError>;

    /// What of others' doing was undone since the last call.
    fn take_repairs(&mut self) -> Repairs;
}
