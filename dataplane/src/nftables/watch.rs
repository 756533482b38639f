//! What others do to the tables, as the kernel tells it, and how it is undone.
//!
//! Only where the table is not owned: an owned one nobody else can change, and every message costs time, also those about
//! what is written from here. A second socket joins `NFNLGRP_NFTABLES`. The kernel drops what the table's own socket did
//! before it gets here (a filter on the port in the first message of a datagram: a datagram is about one commit), so
//! the agent is not woken by itself.
//!
//! **Element by element**: a message about elements has the form of the request that would cause it. So what was
//! added is removed and what was removed is added by the same bytes under the other verb, last things first, in one
//! batch. Nothing is read back and no element is looked for.
//!
//! **In order**: every commit of anybody moves the ruleset's generation on by one, and where the table is watched each
//! batch names the generation that it was made for (`netlink::batch`). If somebody has been faster the kernel
//! refuses the batch, his messages are there by then, and they are dealt with first. So it is never a question whether a
//! stranger's change came before or after one of ours.
//!
//! What is not about elements (a table, chain, rule or set) and what did not fit into the socket's buffer cannot be
//! undone so: [`Damage::whole()`] says that the tables must be written anew.
//!
//! While both tables are loaded whole the group is left: a million elements would make a million messages. That nobody
//! else committed meanwhile shows in the generation, too.
//!
//! Rejected: comparing a dump (quadratic in the kernel), and polling `NFT_MSG_GETTABLE` (it does not see elements).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::expr::family_number;
use super::layout::Owner;
use super::message::NAME;
use super::netlink::attribute;
use super::netlink::batch::{Batch, FAMILY_HEADER, NFTABLES};
use super::netlink::socket::Messages;
use super::set::{Kind, Set};
use crate::plan::Family;

#[cfg(test)]
mod tests;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Messages that wait for us. A commit of some 50,000 elements fits; what is larger is answered by a whole load anyway.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
/// More than the kernel puts into a datagram.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Elements to be undone, at most; beyond, a whole load is as fast.
const MAX_DEEDS: usize = 65_536;

// NFT_MSG_*
const NEW_ELEMENTS: u8 = 12;
const DELETE_ELEMENTS: u8 = 14;
const NEW_GENERATION: u8 = 15;
const NLM_F_CREATE: u16 = 0x400;
/// `NFTA_SET_ELEM_LIST_SET`.
const SET_NAME: u16 = 2;
// NFTA_GEN_*
const GENERATION: u16 = 1;
const PROCESS_NAME: u16 = 3;

/// A socket that hears of commits.
pub struct Watch {
    raw: Raw,
    /// The port of the socket that writes the tables.
    own_port: u32,
    owner: Owner,
    joined: bool,
}

impl Watch {
    /// Hears nothing yet. `own_port` is the port of the socket that writes the tables of `owner`, in the same network
    /// namespace.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open(own_port: u32, owner: Owner) -> io::Result<Self> {
        let mut raw = Raw::new(NETLINK_NETFILTER)?;
        raw.bind_auto()?;
        // Nobody but the kernel may send here.
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_non_blocking(true)?;
        if setsockopt(&raw, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&raw, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
        }
        // Without it we read our own messages and pass them by, which only costs time.
        if let Err(error) = pass_by(&raw, own_port) {
            tracing::debug!(%error, "no filter on the netlink socket that watches the tables");
        }
        Ok(Self { raw, own_port, owner, joined: false })
    }

    /// Hears of every commit from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&mut self) -> io::Result<()> {
        if !self.joined {
            self.raw.add_membership(GROUP)?;
            self.joined = true;
        }
        Ok(())
    }

    /// Hears nothing any more, and forgets what was not read.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.joined) {
            self.raw.drop_membership(GROUP)?;
            self.read(&mut Damage::default())?;
        }
        Ok(())
    }

    /// Adds to `damage` all that has been heard so far. Does not wait.
    ///
    /// # Errors
    /// When the socket is of no more use.
    pub fn read(&self, damage: &mut Damage) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
        loop {
            buffer.clear();
            match self.raw.recv(&mut buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(length) if length > DATAGRAM_BYTES => damage.lost(),
                Ok(_) => damage.hear(&buffer, self.own_port, self.owner),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => damage.lost(),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// Lets the kernel drop datagrams whose first message is about what `port` did.
fn pass_by(socket: &Raw, port: u32) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // A filter loads big-endian words, and a netlink header is in the host's order.
    let port = u32::from_be_bytes(port.to_ne_bytes());
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 12),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, port),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the option's value is a `sock_fprog` of that length; it points to the four instructions that it says,
    // and the kernel copies both before the call returns.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&filter).cast(),
            length,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What others did to the tables and has not been undone.
#[derive(Debug, Default)]
pub struct Damage {
    deeds: Vec<Deed>,
    /// Something other than elements changed.
    structure: bool,
    /// Not all of it was heard.
    lost: bool,
    /// The ruleset's newest generation, as far as it was heard of.
    pub generation: Option<u32>,
    /// The last process that touched the tables, if the kernel told.
    pub by: Option<String>,
    /// Whose deeds the last ones are: he names himself at the end of his commit.
    port: Option<u32>,
    /// What was committed up to this generation does not matter.
    forgiven: Option<u32>,
}

/// Elements that were added or removed by one message.
#[derive(Debug)]
struct Deed {
    family: u8,
    added: bool,
    /// In a set that the packet path writes to: it may have changed again, and nothing depends on it.
    volatile: bool,
    /// The message's attributes.
    body: Box<[u8]>,
}

impl Damage {
    /// Done after this generation; what is heard of earlier commits does not matter.
    pub fn after(generation: u32) -> Self {
        Self { forgiven: Some(generation), ..Self::default() }
    }

    /// Whether there is nothing to be undone.
    pub fn is_empty(&self) -> bool {
        self.deeds.is_empty() && !self.whole()
    }

    /// Whether undoing elements does not mend it, or nobody knows.
    pub fn whole(&self) -> bool {
        self.structure || self.lost
    }

    /// How many element messages are to be undone.
    pub fn elements(&self) -> usize {
        self.deeds.len()
    }

    /// What was heard is undone, or does not matter any more.
    pub fn clear(&mut self) {
        self.deeds.clear();
        self.structure = false;
        self.port = None;
        self.by = None;
    }

    /// Messages were lost: nobody knows what they said.
    fn lost(&mut self) {
        self.deeds.clear();
        self.lost = true;
    }

    fn hear(&mut self, datagram: &[u8], own_port: u32, owner: Owner) {
        for message in Messages(datagram) {
            let [subsystem, kind] = message.kind.to_be_bytes();
            if u16::from(subsystem) != NFTABLES || message.port == own_port {
                continue;
            }
            let (Some(family), Some(body)) = (message.body.first(), message.body.get(FAMILY_HEADER..)) else {
                continue;
            };
            if kind == NEW_GENERATION {
                let Some(generation) = attribute(body, GENERATION).and_then(number) else { continue };
                if self.forgiven.is_some_and(|forgiven| !later(generation, forgiven)) {
                    self.clear();
                    continue;
                }
                self.generation = Some(generation);
                if self.port.take() == Some(message.port) {
                    self.by = attribute(body, PROCESS_NAME).map(text);
                }
            } else if ours(*family, body, owner) {
                self.port = Some(message.port);
                self.note(*family, kind, body);
            }
        }
    }

    fn note(&mut self, family: u8, kind: u8, body: &[u8]) {
        let added = kind == NEW_ELEMENTS;
        if !(added || kind == DELETE_ELEMENTS) || self.deeds.len() == MAX_DEEDS {
            self.structure = true;
        } else if !self.whole() {
            let set = attribute(body, SET_NAME).map(text).unwrap_or_default();
            let volatile = Set::all().any(|s| s.name() == set && matches!(s.spec().kind, Kind::Dynamic { .. }));
            self.deeds.push(Deed { family, added, volatile, body: body.into() });
        }
    }

    /// What undoes the deeds, last things first: those that must be undone and, apart, those of volatile sets, whose
    /// failure is no matter.
    pub fn undo(&self) -> (Batch, Batch) {
        let (mut firm, mut volatile) = (Batch::default(), Batch::default());
        for deed in self.deeds.iter().rev() {
            let batch = if deed.volatile { &mut volatile } else { &mut firm };
            let (kind, flags, verb) =
                if deed.added { (DELETE_ELEMENTS, 0, "removing") } else { (NEW_ELEMENTS, NLM_F_CREATE, "adding") };
            let what = format!("{verb} what another process changed");
            batch.message(deed.family, kind, flags, what, |w| w.bytes.extend_from_slice(&deed.body));
        }
        (firm, volatile)
    }
}

/// Whether a message is about one of the two tables. Every kind of message names its table in the same attribute.
fn ours(family: u8, body: &[u8], owner: Owner) -> bool {
    let table = attribute(body, NAME).map(text);
    Family::ALL.iter().any(|f| family_number(*f) == family) && table.as_deref() == Some(owner.table())
}

/// Whether a generation comes after another. They wrap around.
fn later(generation: u32, other: u32) -> bool {
    (1..1 << 31).contains(&generation.wrapping_sub(other))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
}

/// A string as netlink has it. It comes from the kernel, but a process chooses its own name.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).chars().filter(|c| !c.is_control()).collect()
}
