//! Who has beaten since the last look, and when: in memory alone, at the price of a lock and a name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Names that are kept between two looks at most; whoever calls has checked that they are of Nodes.
const NAMES_MOST: usize = 65_536;

/// The beats of all nodes.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The last beat of each.
    heard: Mutex<HashMap<Box<str>, Instant>>,
    total: AtomicU64,
}

impl Pulse {
    /// A node has beaten.
    pub fn beat(&self, node: &str) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = heard.get_mut(node) {
            *last = now;
        } else if heard.len() < NAMES_MOST {
            heard.insert(node.into(), now);
        }
    }

    /// Who has beaten since this was asked last, and how long ago.
    pub(crate) fn take(&self, now: Instant) -> Vec<(Box<str>, Duration)> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        heard.into_iter().map(|(node, last)| (node, now.saturating_duration_since(last))).collect()
    }

    /// Beats since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
