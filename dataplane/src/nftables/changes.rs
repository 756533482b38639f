//! What a batch does beyond the layout: chains made on demand, elements added and removed.

use std::collections::BTreeSet;

use super::element::Element;
use super::layout::Chain;
use super::set::{COUNT, Set};
use crate::plan::Family;

/// Grouped by set, because a message is about one set.
#[derive(Debug, Default)]
pub struct Changes {
    pub chains: Vec<(Family, Chain)>,
    /// Chains that nothing leads to any more.
    pub gone: Vec<(Family, String)>,
    /// Timeouts in seconds that elements name; there may be objects for them already.
    pub timeouts: BTreeSet<(Family, u32)>,
    groups: [[Group; 2]; COUNT],
}

/// What changes in one set. Removals come first: a key may be in both lists, with other data.
#[derive(Debug, Default)]
pub struct Group {
    pub removed: Vec<Element>,
    pub added: Vec<Element>,
}

impl Changes {
    pub fn add(&mut self, element: Element) {
        self.group(&element).added.push(element);
    }

    pub fn remove(&mut self, element: Element) {
        self.group(&element).removed.push(element);
    }

    fn group(&mut self, element: &Element) -> &mut Group {
        &mut self.groups[element.set() as usize][element.family() as usize]
    }

    /// Every group, in the order of [`Set`]: endpoints before the draws that lead to them, and those before the
    /// frontends. It only matters to a batch that is too large to be sent in one piece.
    pub fn groups(&self) -> impl Iterator<Item = (Set, Family, &Group)> {
        Set::all().flat_map(|set| Family::ALL.map(|family| (set, family, &self.groups[set as usize][family as usize])))
    }

    /// How many elements are added and removed.
    pub fn count(&self) -> (usize, usize) {
        self.groups().fold((0, 0), |(added, removed), (_, _, g)| (added + g.added.len(), removed + g.removed.len()))
    }

    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
            && self.gone.is_empty()
            && self.groups().all(|(_, _, g)| g.removed.is_empty() && g.added.is_empty())
    }
}
