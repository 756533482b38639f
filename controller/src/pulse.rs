//! Who has beaten since the last look: in memory alone, at the price of a lock and a name.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Names that are kept between two looks at most; whoever calls has checked that they are of Nodes.
const NAMES_MOST: usize = 65_536;

/// The beats of all nodes.
#[derive(Debug, Default)]
pub struct Pulse {
    heard: Mutex<HashSet<Box<str>>>,
    total: AtomicU64,
}

impl Pulse {
    /// A node has beaten.
    pub fn beat(&self, node: &str) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < NAMES_MOST && !heard.contains(node) {
            heard.insert(node.into());
        }
    }

    /// Who has beaten since this was asked last.
    pub(crate) fn take(&self) -> HashSet<Box<str>> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Beats since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
