//! Until when an edge may answer for its addresses: a decision over times since boot, which count what the machine slept.
//!
//! The controller takes the Lease of an edge that has not renewed it for [`lease::DURATION`], and then gives its addresses to
//! others. It counts from when it saw a renewal; the edge counts from when it *sent* it, which is earlier, and stops a little
//! before, after [`lease::FENCE`]. So with clocks that merely run at about the same speed there are never two that
//! answer by right.
//!
//! A server that is gone gives nothing to anybody. An edge that hears nothing at all for so long that another would have
//! announced itself by then may answer again ([`Standing::Alone`]), carefully: its neighbours' caches run out, and
//! the server's outage would become that of every address.
//!
//! [`lease::DURATION`]: model::balancing::lease::DURATION
//! [`lease::FENCE`]: model::balancing::lease::FENCE

use std::time::Duration;

use model::balancing::lease::FENCE;

/// Time since the machine booted, with what it was suspended (`CLOCK_BOOTTIME`).
pub type Boot = Duration;

/// After the Lease has ended: until an edge that hears of nobody answers again.
pub const ALONE_AFTER: Duration = Duration::from_secs(6);

/// What an edge may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its Lease holds.
    Leased,
    /// It has given its Lease back, and answers until somebody else does.
    Leaving,
    /// Its Lease has ended, and whether somebody else has the addresses the server knows.
    Lapsed,
    /// Its Lease has ended, and there is no server.
    Alone,
}

/// What is known of the Lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// When the last renewal that succeeded was sent.
    sent: Option<Boot>,
    /// The server has answered since, and refused.
    refused: bool,
    /// The edge has said goodbye.
    left: bool,
}

impl Fence {
    /// A renewal that was sent at `sent` has succeeded.
    pub fn renewed(&mut self, sent: Boot) {
        self.sent = self.sent.max(Some(sent));
        self.refused = false;
    }

    /// The server has answered, and does not take the renewal: from now on nothing counts that was held.
    pub fn lost(&mut self) {
        self.sent = None;
        self.refused = true;
    }

    /// The Lease is given back.
    pub fn leave(&mut self) {
        self.left = true;
    }

    pub fn standing(&self, now: Boot) -> Standing {
        let Some(sent) = self.sent else { return Standing::Lapsed };
        let age = now.saturating_sub(sent);
        if age < FENCE {
            if self.left { Standing::Leaving } else { Standing::Leased }
        } else if !self.refused && !self.left && age >= FENCE + ALONE_AFTER {
            Standing::Alone
        } else {
            Standing::Lapsed
        }
    }

    /// When the standing will be another if nothing happens.
    pub fn changes_at(&self, now: Boot) -> Option<Boot> {
        let sent = self.sent?;
        [sent + FENCE, sent + FENCE + ALONE_AFTER].into_iter().find(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use model::balancing::lease::DURATION;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_counts_from_the_sending() {
        let mut fence = Fence::default();
        assert_eq!(fence.standing(MS), Standing::Lapsed, "nothing was ever renewed");
        fence.renewed(1000 * MS);
        assert_eq!(fence.standing(2799 * MS), Standing::Leased);
        assert_eq!(fence.changes_at(1900 * MS), Some(2800 * MS));
        assert_eq!(fence.standing(2800 * MS), Standing::Lapsed);
        // The controller cannot have judged before: it has seen the renewal at 1000 at the earliest.
        assert!(FENCE < DURATION);
        fence.renewed(500 * MS);
        assert_eq!(fence.standing(2799 * MS), Standing::Leased, "of two, the later counts");
    }

    #[test]
    fn without_a_server_it_is_alone_in_the_end() {
        let mut fence = Fence::default();
        fence.renewed(MS);
        let alone = MS + FENCE + ALONE_AFTER;
        assert_eq!(fence.standing(alone - MS), Standing::Lapsed);
        assert_eq!(fence.changes_at(alone - MS), Some(alone));
        assert_eq!((fence.standing(alone), fence.changes_at(alone)), (Standing::Alone, None));
        fence.renewed(alone);
        assert_eq!(fence.standing(alone), Standing::Leased);
    }

    #[test]
    fn a_server_that_says_no_ends_it_at_once() {
        let mut fence = Fence::default();
        fence.renewed(MS);
        fence.lost();
        assert_eq!(fence.standing(2 * MS), Standing::Lapsed);
        assert_eq!(fence.standing(100_000 * MS), Standing::Lapsed, "it is not alone");
    }

    #[test]
    fn who_leaves_answers_for_a_little_while() {
        let mut fence = Fence::default();
        fence.renewed(1000 * MS);
        fence.leave();
        assert_eq!(fence.standing(2799 * MS), Standing::Leaving);
        assert_eq!(fence.standing(2800 * MS), Standing::Lapsed);
        assert_eq!(fence.standing(100_000 * MS), Standing::Lapsed);
    }
}
