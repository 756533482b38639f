//! The thin end: batches into the kernel, and its refusals into sentences.

use std::io;

use model::Revision;
use nix::libc;

use super::changes::Changes;
use super::expr::family_number;
use super::layout::TABLE;
use super::message::{GET_TABLE, NAME, Ownership, TABLE_HANDLE, add_changes, add_table, remove_table};
use super::netlink::batch::Batch;
use super::netlink::socket::Socket;
use super::netlink::{NetlinkError, attribute};
use super::shadow::Exhausted;
use crate::plan::Family;

/// A plan was not programmed; the kernel has what it had.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The plan is older than the one in the kernel, which stays. The caller has nothing to do.
    #[error("the plan of revision {plan} is older than revision {programmed}, which is programmed")]
    Stale { plan: Revision, programmed: Revision },
    /// The process lacks the right. Trying again does not help.
    #[error("not permitted to change nftables: run as root, or with CAP_NET_ADMIN in this network namespace")]
    NotPermitted(#[source] NetlinkError),
    /// Trying again helps once the other process has ended.
    #[error("the table `{TABLE}` belongs to another running process: is there another portolan agent on this node?")]
    Owned(#[source] NetlinkError),
    /// Trying again does not help.
    #[error(
        "the kernel lacks a part of nf_tables that is needed: use Linux 5.13 or newer with nf_tables and its nat, masq, \
         reject, fib, numgen, ct and hash set support"
    )]
    Unsupported(#[source] NetlinkError),
    /// The plan is larger than the tables can number.
    #[error("the plan is too large for the tables")]
    TooLarge(#[from] Exhausted),
    /// Anything else; trying again may help.
    #[error("changing nftables")]
    Kernel(#[source] NetlinkError),
}

/// The socket, and what is known of the tables that it made.
pub(super) struct Kernel {
    socket: Socket,
    ownership: Ownership,
    handles: [Option<u64>; 2],
}

impl Kernel {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open()?, ownership: Ownership::Owned, handles: [None; 2] })
    }

    /// Replaces both tables by new ones with these elements. Returns the bytes sent.
    pub fn replace(&mut self, changes: &Changes) -> Result<usize, ProgramError> {
        let sent = match self.try_replace(changes) {
            Err(NetlinkError::Refused { source, .. }) if self.ownership == Ownership::Owned && not_known(&source) => {
                // A kernel before 6.9. Anything else that it does not know fails again, and is reported then.
                self.ownership = Ownership::Open;
                self.try_replace(changes)
            }
            outcome => outcome,
        }
        .map_err(explain)?;
        for family in Family::ALL {
            self.handles[family as usize] = self.current(family)?;
        }
        Ok(sent)
    }

    fn try_replace(&self, changes: &Changes) -> Result<usize, NetlinkError> {
        let mut batch = Batch::default();
        for family in Family::ALL {
            remove_table(&mut batch, family);
            add_table(&mut batch, family, self.ownership);
        }
        add_changes(&mut batch, changes);
        self.socket.commit(&batch)
    }

    /// Changes elements. Returns the bytes sent.
    pub fn change(&self, changes: &Changes) -> Result<usize, ProgramError> {
        let mut batch = Batch::default();
        add_changes(&mut batch, changes);
        self.socket.commit(&batch).map_err(explain)
    }

    /// The handle of the table that the kernel has now; handles are never used twice.
    pub fn current(&self, family: Family) -> Result<Option<u64>, ProgramError> {
        current(&self.socket, family).map_err(explain)
    }

    /// The handle of the table that was made from here.
    pub fn written(&self, family: Family) -> Option<u64> {
        self.handles[family as usize]
    }
}

fn current(socket: &Socket, family: Family) -> Result<Option<u64>, NetlinkError> {
    let what = "looking for the table";
    let table = socket.get(family_number(family), GET_TABLE, what, |w| w.text(NAME, TABLE))?;
    let handle = table.as_deref().and_then(|t| attribute(t, TABLE_HANDLE)).and_then(|h| h.first_chunk::<8>());
    Ok(handle.map(|h| u64::from_be_bytes(*h)))
}

/// Removes both tables, whoever made them, in the calling thread's network namespace. Returns whether there was one.
///
/// # Errors
/// When the kernel refuses: without the right, or because a running agent owns them.
pub fn cleanup() -> Result<bool, ProgramError> {
    let open = |source| ProgramError::Kernel(NetlinkError::Send { bytes: 0, source });
    let socket = Socket::open().map_err(open)?;
    let mut batch = Batch::default();
    for family in Family::ALL {
        if current(&socket, family).map_err(explain)?.is_some() {
            remove_table(&mut batch, family);
        }
    }
    if batch.is_empty() {
        return Ok(false);
    }
    socket.commit(&batch).map_err(explain)?;
    Ok(true)
}

fn not_known(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL))
}

/// What a refusal means. A message that fails for lack of rights is the frame itself; one about a table that
/// exists is about whose it is.
fn explain(error: NetlinkError) -> ProgramError {
    let NetlinkError::Refused { what, source, .. } = &error else { return ProgramError::Kernel(error) };
    let about_table = what.contains(TABLE);
    match source.raw_os_error() {
        Some(libc::EPERM) if about_table => ProgramError::Owned(error),
        Some(libc::EPERM) => ProgramError::NotPermitted(error),
        // An expression, a set type or a chain type that the kernel does not have.
        Some(libc::ENOENT) if what.starts_with("adding a rule") || what.starts_with("adding chain") => {
            ProgramError::Unsupported(error)
        }
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => ProgramError::Unsupported(error),
        _ => ProgramError::Kernel(error),
    }
}
