//! When to list, when to watch, when to wait: the decisions of a reflector, without I/O, clock or chance.
//!
//! ```text
//!            ┌────────── expired, garbled, backwards ──────────┐
//!            ▼                                                 │
//!   start ─▶ List ── listed(rev) ──▶ Watch from rev ── event ──┤
//!            ▲ │                        ▲ │                    │
//!            └─┘ failed                 └─┘ closed, broken ────┘ (position kept)
//! ```
//!
//! What ends a watch says whether its position can still be trusted. A connection that broke, or was closed, has
//! delivered whole events up to some revision, and the next watch goes on from there. An event that could not be
//! read, or one that goes backwards, has not: only a list helps.
//!
//! Every end without progress counts as a failure and doubles the wait; an event, or a watch that lived for
//! [`LIVED`], is progress. So a server that accepts watches and closes them at once is not hammered, and one that
//! restarts is found again within half a second.

#[cfg(test)]
mod tests;

use std::time::Duration;

use model::Revision;

/// The shortest and the longest wait after a failure.
pub const MIN_WAIT: Duration = Duration::from_millis(200);
/// A server that was started anew has its nodes back within this.
pub const MAX_WAIT: Duration = Duration::from_secs(2);
/// A watch that was open this long is no failure, even if nothing came. client-go warns of shorter ones.
pub const LIVED: Duration = Duration::from_secs(1);

/// What the shell is to do next: wait, then act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub wait: Duration,
    pub action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    List,
    /// Watch for what happened strictly after `from`.
    Watch {
        from: Revision,
    },
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The list is whole, and shows this revision.
    Listed(Revision),
    /// The list failed; nothing of it may be used.
    ListFailed,
    /// The watch ended, or could not be opened; every event before the end was whole.
    Closed { lived: Duration },
    /// As `Closed`, but by a fault: wait before trying again.
    Broken { lived: Duration },
    /// The server no longer knows what happened after the position.
    Expired,
    /// An event could not be read; what it said is unknown.
    Garbled,
}

/// Whether an event may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Apply,
    /// Its revision is before one already seen: stop watching, and list.
    Backwards,
}

/// One reflector's state. [`Machine::next`] says what to do, [`Machine::end`] takes how it went.
#[derive(Debug)]
pub struct Machine {
    /// Everything up to here was seen; `None` when only a list can tell.
    position: Option<Revision>,
    /// Ends without progress, one after the other.
    failures: u32,
    /// Whether an event came since the last end.
    progress: bool,
    /// Whether the next step is to wait for those failures.
    pause: bool,
}

impl Machine {
    pub fn new() -> Self {
        Self { position: None, failures: 0, progress: false, pause: false }
    }

    /// The next step; `chance` is a random number, which spreads the agents of a fleet over time.
    pub fn next(&self, chance: u64) -> Step {
        let wait = if self.pause { wait(self.failures, chance) } else { Duration::ZERO };
        let action = match self.position {
            None => Action::List,
            Some(from) => Action::Watch { from },
        };
        Step { wait, action }
    }

    /// An event or bookmark of this revision has come.
    pub fn event(&mut self, revision: Revision) -> Verdict {
        match self.position {
            Some(position) if revision >= position => {
                self.position = Some(revision);
                self.failures = 0;
                self.progress = true;
                Verdict::Apply
            }
            _ => {
                self.position = None;
                Verdict::Backwards
            }
        }
    }

    /// A watch goes on from here, which is no further than the position.
    pub fn rewind(&mut self, position: Revision) {
        self.position = Some(position);
    }

    /// The action of the last step is over.
    pub fn end(&mut self, end: End) {
        match end {
            // Not progress by itself: a list that is expired as soon as it is there must not be asked for again at once.
            End::Listed(revision) => {
                self.position = Some(revision);
                self.pause = false;
            }
            End::ListFailed => self.fail(),
            End::Closed { lived } if self.progress || lived >= LIVED => {
                self.failures = 0;
                self.pause = false;
            }
            End::Closed { .. } => self.fail(),
            End::Broken { lived } => {
                if lived >= LIVED {
                    self.failures = 0;
                }
                self.fail();
            }
            End::Expired => {
                self.position = None;
                let first = self.failures == 0;
                self.fail();
                self.pause = !first;
            }
            End::Garbled => {
                self.position = None;
                self.fail();
            }
        }
        self.progress = false;
    }

    fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.pause = true;
    }
}

/// Between half of `0.4 s × 2^(failures - 1)` and the whole of it, within [`MIN_WAIT`] and [`MAX_WAIT`].
fn wait(failures: u32, chance: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = (MIN_WAIT * 2).saturating_mul(1 << doublings).min(MAX_WAIT);
    let half = whole / 2;
    half + half.mul_f64((chance % 1024) as f64 / 1024.0)
}
