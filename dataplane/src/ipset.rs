//! Sets of addresses, ports and ranges that rules ask (`-m set --match-set`), by messages of our own: there is no `ipset`
//! process, whose version would have to fit the kernel's.
//!
//! The kernel knows sets by name, of both families in one space of names, in each network namespace; loads the module of a
//! type when a set of it is made; and destroys no set that a rule asks. One set goes over to other contents at once by way
//! of a second one that takes its place ([`Sets::replace`]): the kernel swaps names, and rules follow.

mod message;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;

use nix::libc;

use message::{Command, Listed};

use crate::ipvs::sets::{Entry, Kind};
use crate::nftables::netlink::batch::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use crate::nftables::netlink::socket::{Request, Socket};
use crate::nftables::netlink::{NetlinkError, Writer};
use crate::plan::Family;

/// How many entries a set takes: the kernel's own default, 65,536, is too few for a large cluster. Memory is taken as
/// entries come.
pub const MAX_ENTRIES: u32 = 1 << 20;
/// Entries that are written with one message, which has at most 64 KiB.
const PER_MESSAGE: usize = 256;
/// The longest name that the kernel takes.
pub const MAX_NAME: usize = 31;
/// What the second set is called while a set is replaced: nobody's but ours, and the same each time, so that what a process
/// that died has left is found.
const SPARE: &str = "PORTOLAN-SPARE";

/// A set as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// As in `ipset list`, e.g. `hash:ip,port`.
    pub kind: String,
    pub family: Option<Family>,
    pub entries: BTreeSet<Entry>,
}

/// The sets of the network namespace in which this was opened.
pub struct Sets(Socket);

impl Sets {
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Socket::open().map(Self)
    }

    /// The names of all sets, also those of others. None when the kernel has no sets.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn names(&self) -> Result<BTreeSet<String>, NetlinkError> {
        let mut names = BTreeSet::new();
        let take = |message: &[u8]| names.extend(message::name(message));
        match self.ask(Command::List, NLM_F_DUMP, "listing sets", message::all_names, take) {
            // Without the module nobody answers to the messages at all.
            Err(error) if matches!(error.refusal(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(names),
            outcome => outcome.map(|()| names),
        }
    }

    /// What is in a set. `None`: there is none of this name. An entry that is not of a kind that is made here is left out.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn read(&self, name: &str) -> Result<Option<Contents>, NetlinkError> {
        let mut contents: Option<Contents> = None;
        let take = |message: &[u8]| {
            let Listed { kind, family, entries } = message::listed(message);
            let contents = contents.get_or_insert_with(|| Contents {
                kind: kind.unwrap_or_default(),
                family,
                entries: BTreeSet::new(),
            });
            contents.entries.extend(entries);
        };
        let what = format!("reading the set {name}");
        match self.ask(Command::List, NLM_F_DUMP, &what, |w| message::named(w, name), take) {
            Err(error) if error.refusal() == Some(libc::ENOENT) => Ok(None),
            outcome => outcome.map(|()| contents),
        }
    }

    /// Makes an empty set. `false`: there is one of this name, whatever is in it.
    ///
    /// # Errors
    /// When the kernel refuses: with `ENOENT` or an explanation, because it has not the type.
    pub fn create(&self, name: &str, kind: Kind, family: Family) -> Result<bool, NetlinkError> {
        let what = format!("making the set {name} of type {}", kind.name());
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        self.unless(libc::EEXIST, Command::Create, flags, &what, |w| message::create(w, name, kind, family))
    }

    /// Takes a set away. `false`: there was none.
    ///
    /// # Errors
    /// When the kernel refuses: because a rule asks the set.
    pub fn destroy(&self, name: &str) -> Result<bool, NetlinkError> {
        let what = format!("removing the set {name}");
        // Without this flag it is no error that there is none.
        let flags = NLM_F_EXCL | NLM_F_ACK;
        self.unless(libc::ENOENT, Command::Destroy, flags, &what, |w| message::named(w, name))
    }

    /// Empties a set.
    ///
    /// # Errors
    /// When the kernel refuses: because there is none.
    pub fn flush(&self, name: &str) -> Result<(), NetlinkError> {
        let what = format!("emptying the set {name}");
        self.ask(Command::Flush, NLM_F_ACK, &what, |w| message::named(w, name), |_| {})
    }

    /// Puts entries into a set; those that are there stay.
    ///
    /// # Errors
    /// When the kernel refuses; some entries may have been added.
    pub fn add<'a>(&self, name: &str, entries: impl IntoIterator<Item = &'a Entry>) -> Result<(), NetlinkError> {
        self.change(Command::Add, &format!("adding entries to the set {name}"), name, entries)
    }

    /// Takes entries out of a set; it is no error if they are not in it.
    ///
    /// # Errors
    /// When the kernel refuses; some entries may have been removed.
    pub fn remove<'a>(&self, name: &str, entries: impl IntoIterator<Item = &'a Entry>) -> Result<(), NetlinkError> {
        self.change(Command::Remove, &format!("removing entries from the set {name}"), name, entries)
    }

    /// Makes exactly these entries the contents of the set, which is made if there is none. No packet sees anything between
    /// what was there and what is there then.
    ///
    /// # Errors
    /// When the kernel refuses. What was in the set is in it then.
    pub fn replace(
        &self,
        name: &str,
        kind: Kind,
        family: Family,
        entries: &BTreeSet<Entry>,
    ) -> Result<(), NetlinkError> {
        self.destroy(SPARE)?;
        self.create(name, kind, family)?;
        self.create(SPARE, kind, family)?;
        let what = format!("replacing the set {name}");
        let swapped = self
            .add(SPARE, entries)
            .and_then(|()| self.ask(Command::Swap, NLM_F_ACK, &what, |w| message::swap(w, SPARE, name), |_| {}));
        let removed = self.destroy(SPARE);
        swapped.and(removed).map(|_| ())
    }

    fn change<'a>(
        &self,
        command: Command,
        what: &str,
        name: &str,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<(), NetlinkError> {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let some = entries.by_ref().take(PER_MESSAGE);
            self.ask(command, NLM_F_ACK, what, |w| message::entries(w, name, some), |_| {})?;
        }
        Ok(())
    }

    /// `false` when the kernel says `already`.
    fn unless(
        &self,
        already: i32,
        command: Command,
        flags: u16,
        what: &str,
        body: impl FnOnce(&mut Writer),
    ) -> Result<bool, NetlinkError> {
        match self.ask(command, flags, what, body, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.refusal() == Some(already) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask(
        &self,
        command: Command,
        flags: u16,
        what: &str,
        body: impl FnOnce(&mut Writer),
        each: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        let request = Request { kind: command.kind(), flags, family: 0, what };
        // What changes while it is read are sets of others.
        self.0.exchange(request, body, each).map(|_| ()).map_err(message::explained)
    }
}
