//! The kernel, as the core loop sees it.

use dataplane::Plan;
use dataplane::nftables::{Dirty, ProgramError, Report, Table};

/// Makes a kernel do what a plan says. Blocking, but short: tens of microseconds for a change, a quarter of a
/// second for 10,000 Services from nothing.
pub trait Program {
    type Error: std::error::Error + Send + Sync + 'static;

    /// Programs `plan`, of which only `dirty` may differ from what was programmed last, at once or not at all.
    ///
    /// # Errors
    /// When the kernel refused. It then still has what it had before, or nothing that can be relied on: the next
    /// attempt says [`Dirty::All`].
    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error>;

    /// Whether trying again is of no use: the process lacks a right, or the kernel a part.
    fn hopeless(error: &Self::Error) -> bool;
}

impl Program for Table {
    type Error = ProgramError;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, ProgramError> {
        Table::program(self, plan, dirty)
    }

    fn hopeless(error: &ProgramError) -> bool {
        matches!(error, ProgramError::NotPermitted(_) | ProgramError::Unsupported(_))
    }
}
