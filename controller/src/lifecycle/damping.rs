//! Nodes that come and go: each return costs every node a change of its tables, and clients what was sent to the node when
//! it went. So a node that has fallen silent often has to be heard for a while before it is taken back.

use std::collections::VecDeque;
use std::time::Duration;

use super::Times;

/// So many falls within the window are forgiven: a node is back at once.
pub const FREE_FALLS: usize = 2;

/// Falls that are remembered: by then a node waits for as long as it ever has to.
const FALLS_MOST: usize = 16;

/// When a node fell silent.
#[derive(Debug, Default)]
pub struct Falls {
    /// Oldest first.
    at: VecDeque<Duration>,
    /// Whether it was told what follows from the last.
    told: bool,
}

impl Falls {
    pub fn add(&mut self, now: Duration, window: Duration) {
        while self.at.front().is_some_and(|at| now.saturating_sub(*at) >= window) || self.at.len() >= FALLS_MOST {
            self.at.pop_front();
        }
        self.at.push_back(now);
        self.told = false;
    }

    /// How many there were within the window.
    pub fn within(&self, now: Duration, window: Duration) -> usize {
        self.at.iter().filter(|at| now.saturating_sub(**at) < window).count()
    }

    /// True once after each fall.
    pub fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

/// For how long a node with so many falls must be heard without a gap.
pub fn hold(falls: usize, times: &Times) -> Duration {
    let Some(doublings) = falls.checked_sub(FREE_FALLS + 1) else { return Duration::ZERO };
    let factor = 1_u32 << doublings.min(FALLS_MOST);
    times.flap_hold.saturating_mul(factor).min(times.flap_window)
}
