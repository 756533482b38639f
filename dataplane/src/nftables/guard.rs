//! Keeps the tables as they were written, where others may change them: binds batches to the ruleset's generation,
//! and undoes what [`watch`](super::watch) hears of.
//!
//! While [`Guard::generation`] is known, it is the generation of our last commit or of a later one of which every message
//! was read. So a batch that is taken was made for exactly what the kernel had.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::libc;

use super::netlink::batch::{Batch, next_generation};
use super::netlink::socket::{Sent, Socket};
use super::netlink::{NetlinkError, attribute};
use super::watch::{Damage, Watch};

/// `NFT_MSG_GETGEN`.
const GET_GENERATION: u8 = 16;
/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;
/// How often a batch is made anew because somebody else was faster.
const MAX_OVERTAKEN: usize = 16;

/// Repairs are told this often at most: somebody may destroy the tables again and again.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What was done about others' changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// There was nothing to do.
    Intact,
    /// Elements that were changed are as they were.
    Elements,
    /// Nobody knows what the tables hold: they must be written anew.
    Lost,
}

pub struct Guard {
    watch: Watch,
    damage: Damage,
    /// `None` where nobody else can change the tables, and before they are written.
    generation: Option<u32>,
    told: Option<Instant>,
}

impl Guard {
    /// Guards what `socket` writes; not before [`Guard::load`].
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open(socket: &Socket) -> io::Result<Self> {
        Ok(Self {
            watch: Watch::open(socket.port()?, socket.owner())?,
            damage: Damage::default(),
            generation: None,
            told: None,
        })
    }

    /// There is nothing to guard: the tables are owned.
    pub fn rest(&mut self) {
        self.generation = None;
        self.damage = Damage::default();
        if let Err(error) = self.watch.leave() {
            tracing::warn!(%error, "leaving the group of nf_tables' messages failed");
        }
    }

    /// Commits a batch that replaces the tables, whatever they hold, and guards them from then on.
    ///
    /// First without hearing of it; if somebody else commits in between, which is rare, with. A batch that counts on what
    /// was found in a generation is tried once.
    ///
    /// # Errors
    /// As [`Socket::commit`]; `ERESTART` when others commit faster than the tables can be loaded.
    pub fn load(&mut self, socket: &Socket, batch: &mut Batch, found_in: Option<u32>) -> Result<Sent, NetlinkError> {
        self.rest();
        let mut deaf = true;
        let attempts = if found_in.is_some() { 1 } else { MAX_OVERTAKEN };
        for _ in 0..attempts {
            if !deaf {
                self.watch.join().map_err(NetlinkError::Receive)?;
            }
            batch.generation = Some(found_in.map_or_else(|| generation(socket), Ok)?);
            let sent = match socket.commit(batch) {
                Err(error) if overtaken(&error) => {
                    deaf = false;
                    continue;
                }
                outcome => outcome?,
            };
            let written = advance(batch.generation, sent);
            // What was heard up to here was done to tables that are no more.
            self.damage = Damage::after(written);
            if !deaf {
                self.generation = Some(written);
                return Ok(sent);
            }
            self.watch.join().map_err(NetlinkError::Receive)?;
            if generation(socket)? == written {
                self.generation = Some(written);
                return Ok(sent);
            }
            deaf = false;
        }
        self.rest();
        Err(NetlinkError::Refused {
            what: "the whole tables".into(),
            detail: "other processes change nftables all the time".into(),
            source: io::Error::from_raw_os_error(libc::ERESTART),
        })
    }

    /// Commits a batch that was made for what the tables hold. `None`: somebody else was faster, see [`Guard::mend`].
    ///
    /// # Errors
    /// As [`Socket::commit`].
    pub fn commit(&mut self, socket: &Socket, batch: &mut Batch) -> Result<Option<Sent>, NetlinkError> {
        batch.generation = self.generation;
        match socket.commit(batch) {
            Ok(sent) => {
                self.generation = self.generation.map(|_| advance(batch.generation, sent));
                Ok(Some(sent))
            }
            Err(error) if overtaken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Undoes what others have done since.
    pub fn mend(&mut self, socket: &Socket) -> Mended {
        if self.generation.is_none() {
            return Mended::Intact;
        }
        let mut mended = Mended::Intact;
        for _ in 0..MAX_OVERTAKEN {
            if let Err(error) = self.watch.read(&mut self.damage) {
                tracing::warn!(%error, "hearing of changes of nftables failed");
                return self.lose();
            }
            self.generation = self.damage.generation.take().or(self.generation);
            if self.damage.whole() {
                return self.lose();
            }
            if self.damage.is_empty() {
                return mended;
            }
            let (mut firm, mut volatile) = self.damage.undo();
            match self.commit(socket, &mut firm) {
                Ok(Some(_)) => {
                    self.tell("another process changed elements of Portolan's tables; they are as they were");
                    mended = Mended::Elements;
                    self.damage.clear();
                    // A refusal costs some clients their endpoint's memory, no more.
                    let _ = self.commit(socket, &mut volatile);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(error = %error, "undoing another process's change failed");
                    return self.lose();
                }
            }
        }
        self.lose()
    }

    fn lose(&mut self) -> Mended {
        self.tell("another process changed Portolan's tables; they are written anew");
        self.rest();
        Mended::Lost
    }

    fn tell(&mut self, what: &str) {
        let now = Instant::now();
        let process = self.damage.by.as_deref().unwrap_or("unknown");
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY) {
            tracing::debug!(process, elements = self.damage.elements(), "{what}");
            return;
        }
        tracing::warn!(process, elements = self.damage.elements(), "{what}");
        self.told = Some(now);
    }
}

impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// Whether the batch was refused because somebody else has committed since.
pub fn overtaken(error: &NetlinkError) -> bool {
    matches!(error, NetlinkError::Refused { source, .. } if source.raw_os_error() == Some(libc::ERESTART))
}

fn advance(before: Option<u32>, sent: Sent) -> u32 {
    (0..sent.frames).fold(before.unwrap_or_default(), |generation, _| next_generation(generation))
}

/// The ruleset's generation now.
pub fn generation(socket: &Socket) -> Result<u32, NetlinkError> {
    let answer = socket.get(0, GET_GENERATION, "asking for the ruleset's generation", |_| {})?;
    let number = answer.as_deref().and_then(|a| attribute(a, GENERATION)).and_then(|n| n.first_chunk::<4>());
    number.map(|n| u32::from_be_bytes(*n)).ok_or(NetlinkError::NoAnswer)
}
