//! The thin end: batches into the kernel, and its refusals into sentences.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use model::Revision;
use nix::libc;

use super::Repairs;
use super::balancer::{Made, parse_stay};
use super::changes::Changes;
use super::expr::family_number;
use super::guard::{self, Guard, Mended};
use super::layout::{Owner, edge_chains};
use super::localnet::{self, Localnet};
use super::message::{
    CHAIN_NAME, GET_CHAIN, GET_TABLE, NAME, Ownership, add_chain, add_changes, add_table, adopt_table, probe_ownership,
    remove_table,
};
use super::netlink::NetlinkError;
use super::netlink::batch::Batch;
use super::netlink::socket::Socket;
use super::programmer::Target;
use super::read::{self, Entry, Value};
use super::set::Set;
use super::shadow::{Chains, Exhausted};
use super::verify;
use crate::detour::Detours;
use crate::local::LocalRoutes;
use crate::plan::Family;

/// How often elements are changed anew because somebody else was faster.
const MAX_OVERTAKEN: usize = 16;

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
    #[error("the tables belong to another running process: does Portolan run twice on this machine?")]
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

impl ProgramError {
    /// Whether somebody else was faster. Nothing was changed.
    pub(super) fn overtaken(&self) -> bool {
        matches!(self, Self::Kernel(error) if guard::overtaken(error))
    }

    /// Whether one Service may be to blame, so that the others could do without it.
    pub(super) fn may_lie_in_a_service(&self) -> bool {
        match self {
            Self::TooLarge(_) => true,
            // Memory and speed are the machine's.
            Self::Kernel(error) => error.refusal().is_some_and(|number| {
                !matches!(number, libc::ENOMEM | libc::ENOBUFS | libc::EINTR | libc::EAGAIN | libc::ERESTART)
            }),
            Self::Stale { .. } | Self::NotPermitted(_) | Self::Owned(_) | Self::Unsupported(_) => false,
        }
    }
}

/// The socket, and what is known of the tables that it made.
pub(super) struct Kernel {
    socket: Socket,
    guard: Guard,
    ownership: Ownership,
    repairs: Repairs,
    localnet: Localnet,
    /// An agent, this one or one before it, set it, and it was off before.
    localnet_set: bool,
    /// The generation in which tables to be adopted were looked for.
    found_in: Option<u32>,
}

impl Kernel {
    pub fn open(owner: Owner, ownership: Ownership) -> io::Result<Self> {
        let socket = Socket::open_for(owner)?;
        let guard = Guard::open(&socket)?;
        let localnet = Localnet::open();
        Ok(Self {
            socket,
            guard,
            ownership,
            repairs: Repairs::default(),
            localnet,
            localnet_set: false,
            found_in: None,
        })
    }

    /// After a load: what node ports on loopback addresses need.
    fn settle(&mut self, localhost: bool) {
        // Without the right to set it, node ports answer everywhere but on loopback addresses, which is no reason to do
        // without the others.
        if self.localnet_set
            && let Err(error) = self.localnet.set(localhost)
        {
            tracing::warn!(%error, "route_localnet cannot be set; node ports do not answer on 127.0.0.1");
        }
        self.localnet_set &= localhost;
    }

    /// Whether `route_localnet` is an agent's business here: it was off when the first one came, and is wanted on.
    fn localnet_is_set(&mut self, localhost: bool) -> Result<bool, NetlinkError> {
        self.localnet_set |= localnet_is_ours(&self.socket)?;
        self.localnet_set |= localhost && self.localnet.get() == Some(false);
        Ok(self.localnet_set)
    }

    /// `route_localnet` was off before, though an agent never found it so: another dataplane had set it.
    pub fn take_over_localnet(&mut self) -> Result<(), ProgramError> {
        if std::mem::replace(&mut self.localnet_set, true) {
            return Ok(());
        }
        let mut batch = Batch::of(self.socket.owner());
        add_chain(&mut batch, Family::V4, &localnet::mark());
        for _ in 0..MAX_OVERTAKEN {
            // Who loses the tables writes them anew, and the note with them.
            if self.guard.commit(&self.socket, &mut batch).map_err(explain)?.is_some() || self.mend() == Mended::Lost {
                break;
            }
        }
        Ok(())
    }

    /// Prepares both tables with `prepare`, and fills them. `mark`: with the note about `route_localnet`. `found_in`: the
    /// generation that `prepare` counts on, if it does on any.
    fn load(
        &mut self,
        prepare: impl Fn(&mut Batch, Family, Ownership),
        changes: &Changes,
        mark: bool,
        found_in: Option<u32>,
    ) -> Result<usize, NetlinkError> {
        let mut batch = Batch::of(self.socket.owner());
        for family in Family::ALL {
            prepare(&mut batch, family, self.ownership);
        }
        if mark {
            add_chain(&mut batch, Family::V4, &localnet::mark());
        }
        add_changes(&mut batch, changes);
        let sent = match self.ownership {
            Ownership::Owned => {
                self.guard.rest();
                batch.generation = found_in;
                self.socket.commit(&batch)?
            }
            Ownership::Open => self.guard.load(&self.socket, &mut batch, found_in)?,
        };
        Ok(sent.bytes)
    }

    /// Undoes what others did to the tables; to be called when there is something to read.
    pub fn mend(&mut self) -> Mended {
        let mended = self.guard.mend(&self.socket);
        match mended {
            Mended::Intact => {}
            Mended::Elements => self.repairs.elements += 1,
            Mended::Lost => self.repairs.tables += 1,
        }
        mended
    }
}

impl Target for Kernel {
    fn adoptable(&mut self) -> Result<Option<Chains>, NetlinkError> {
        self.found_in = Some(guard::generation(&self.socket)?);
        let mut chains = Chains::default();
        for family in Family::ALL {
            if !exists(&self.socket, family)? || !verify::same_layout(&self.socket, family)? {
                return Ok(None);
            }
            let chain = |entry: &Entry<'_>| match entry.value {
                Value::Goto(chain) => {
                    let action = u32::from_ne_bytes(*entry.key.first_chunk::<4>()?);
                    Made::parse(chain).map(|made| ((family, made), action))
                }
                _ => None,
            };
            chains.actions.extend(read::dump(&self.socket, family, Set::Balancers, chain)?);
            for chain in read::chains(&self.socket, family)? {
                chains.stays.extend(parse_stay(&chain.name).map(|seconds| (family, seconds)));
                chains.edges |= edge_chains().iter().any(|edge| edge.name == chain.name);
            }
        }
        Ok(Some(chains))
    }

    fn refill(&mut self, changes: &Changes, localhost: bool) -> Result<usize, ProgramError> {
        let marked = self.localnet_is_set(localhost).map_err(explain)?;
        let sent = match self.load(adopt_table, changes, marked && localhost, self.found_in) {
            // A kernel before 6.9; or the table is one that nobody was to own, and is replaced by one that is owned.
            Err(error) if self.ownership == Ownership::Owned && not_known(&error) && !knows_ownership(&self.socket) => {
                self.ownership = Ownership::Open;
                self.load(adopt_table, changes, marked && localhost, self.found_in)
            }
            outcome => outcome,
        }
        .map_err(explain)?;
        self.settle(localhost);
        Ok(sent)
    }

    fn replace(&mut self, changes: &Changes, localhost: bool) -> Result<usize, ProgramError> {
        let marked = self.localnet_is_set(localhost).map_err(explain)?;
        let sent = match self.load(remake, changes, marked && localhost, None) {
            Err(error) if self.ownership == Ownership::Owned && not_known(&error) => {
                // A kernel before 6.9.
                self.ownership = Ownership::Open;
                self.load(remake, changes, marked && localhost, None)
            }
            outcome => outcome,
        }
        .map_err(explain)?;
        self.settle(localhost);
        Ok(sent)
    }

    fn change(&mut self, changes: &Changes) -> Result<Option<usize>, ProgramError> {
        let mut batch = Batch::of(self.socket.owner());
        add_changes(&mut batch, changes);
        for _ in 0..MAX_OVERTAKEN {
            match self.guard.commit(&self.socket, &mut batch).map_err(explain)? {
                Some(sent) => return Ok(Some(sent.bytes)),
                None if self.mend() == Mended::Lost => return Ok(None),
                None => {}
            }
        }
        Ok(None)
    }

    fn take_repairs(&mut self) -> Repairs {
        std::mem::take(&mut self.repairs)
    }
}

/// Removes a table, if there is one, and makes it anew.
fn remake(batch: &mut Batch, family: Family, ownership: Ownership) {
    remove_table(batch, family);
    add_table(batch, family, ownership);
}

fn exists(socket: &Socket, family: Family) -> Result<bool, NetlinkError> {
    let what = "looking for the table";
    let table = socket.get(family_number(family), GET_TABLE, what, |w| w.text(NAME, socket.owner().table()))?;
    Ok(table.is_some())
}

/// Whether the table says that `route_localnet` was off before an agent set it.
fn localnet_is_ours(socket: &Socket) -> Result<bool, NetlinkError> {
    let found = socket.get(family_number(Family::V4), GET_CHAIN, "looking for a chain", |w| {
        w.text(NAME, socket.owner().table());
        w.text(CHAIN_NAME, localnet::MARK);
    })?;
    Ok(found.is_some())
}

/// Removes both tables of `owner`, whoever made them, in the calling thread's network namespace. With an agent's it puts back
/// what they say was set, and removes the routes that made addresses the machine's own or led by edge nodes. Returns whether there was anything.
///
/// # Errors
/// When the kernel refuses: without the right, or because a running agent owns them.
pub fn cleanup_of(owner: Owner) -> Result<bool, ProgramError> {
    let tables = remove_tables(owner, true)?;
    Ok(owner == Owner::Agent && remove_routes()? || tables)
}

/// Removes both tables of `owner` as [`cleanup_of`] does, and no routes: those belong to a node whatever carries its Services.
/// `put_back`: what the tables say was set is set back.
///
/// # Errors
/// As [`cleanup_of`].
pub fn remove_tables(owner: Owner, put_back: bool) -> Result<bool, ProgramError> {
    let socket = Socket::open_for(owner).map_err(unopened)?;
    let mut batch = Batch::of(owner);
    for family in Family::ALL {
        if exists(&socket, family).map_err(explain)? {
            remove_table(&mut batch, family);
        }
    }
    if batch.is_empty() {
        return Ok(false);
    }
    let marked = localnet_is_ours(&socket).map_err(explain)?;
    socket.commit(&batch).map_err(explain)?;
    if marked
        && put_back
        && let Err(error) = Localnet::open().set(false)
    {
        tracing::warn!(%error, "route_localnet cannot be set back to 0");
    }
    Ok(true)
}

/// Whether an agent's tables are there and say that `route_localnet` was off before they were.
///
/// # Errors
/// When the kernel does not answer.
pub fn localnet_was_off() -> Result<bool, ProgramError> {
    localnet_is_ours(&Socket::open().map_err(unopened)?).map_err(explain)
}

/// Whether this kernel can have an agent's tables, and the process may make them. It is tried, and nothing done.
///
/// # Errors
/// Why not.
pub fn usable() -> Result<(), ProgramError> {
    let socket = Socket::open().map_err(unopened)?;
    for family in Family::ALL {
        // What is there was made here.
        if !exists(&socket, family).map_err(explain)? {
            let mut batch = Batch::default();
            batch.trial = true;
            add_table(&mut batch, family, Ownership::Open);
            socket.commit(&batch).map_err(explain)?;
        }
    }
    Ok(())
}

fn unopened(source: io::Error) -> ProgramError {
    ProgramError::Kernel(NetlinkError::Send { bytes: 0, source })
}

/// As [`cleanup_of`] an agent.
///
/// # Errors
/// As [`cleanup_of`].
pub fn cleanup() -> Result<bool, ProgramError> {
    cleanup_of(Owner::Agent)
}

fn remove_routes() -> Result<bool, ProgramError> {
    let routes = LocalRoutes::open().map_err(unopened)?;
    let removed = routes.retain(&BTreeSet::new()).map_err(explain)?;
    let detours = Detours::open().map_err(unopened)?;
    Ok(detours.clear().map_err(explain)? || removed)
}

/// Whether the kernel knows owned tables: it makes one and removes it in the same batch, so that nobody ever sees it.
fn knows_ownership(socket: &Socket) -> bool {
    let mut batch = Batch::default();
    probe_ownership(&mut batch);
    socket.commit(&batch).is_ok()
}

/// Whether the kernel refuses the flags of an owned table.
fn not_known(error: &NetlinkError) -> bool {
    let NetlinkError::Refused { what, source, .. } = error else { return false };
    (what.starts_with("adding table") || what.starts_with("adopting table"))
        && matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL))
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.guard.as_fd()
    }
}

/// What a refusal means. A message that fails for lack of rights is the frame itself; one about a table that
/// exists is about whose it is.
fn explain(error: NetlinkError) -> ProgramError {
    let NetlinkError::Refused { what, source, .. } = &error else { return ProgramError::Kernel(error) };
    let about_table = what.contains(Owner::Agent.table()) || what.contains(Owner::Edge.table());
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
