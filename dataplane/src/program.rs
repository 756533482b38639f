//! What every spelling of a plan is told and tells: where a plan may differ from the one before, and what was done.

use std::collections::BTreeSet;

use model::Key;

/// Which Services may differ from what was programmed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// Any of them.
    All,
    /// Only these. The node's own part is always looked at.
    Services(BTreeSet<Key>),
}

/// How often what was programmed was put back into the state that somebody else took them out of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Element by element.
    pub elements: u64,
    /// By writing everything anew.
    pub tables: u64,
}

/// A Service that the kernel does not take, and why in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub service: Key,
    pub error: String,
}

/// What programming a plan did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Elements of maps and sets; in rules, chains that were written.
    pub elements_added: usize,
    pub elements_removed: usize,
    /// Sent to the kernel; 0 when there was nothing to change.
    pub bytes: usize,
    /// All elements were written, in place of whatever there was.
    pub full: bool,
    /// What an agent before had left was found and kept.
    pub adopted: bool,
    /// What others had done and was undone, on the way or before.
    pub repairs: Repairs,
    /// Every Service that is not programmed as it should be because the kernel refused it, now or earlier. Sorted.
    pub refused: Vec<Refused>,
}
