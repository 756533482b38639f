//! Facts that more than one Service can state: who has a frontend, how many use an address.
//!
//! In a steady state only external IPs collide. But a node port that moves from one Service to another is claimed
//! by both for a moment if the two changes are seen in that order, and what is removed for the one must not take away
//! what was written for the other. So changes are gathered and compared at the end of a batch.

use std::collections::{BTreeMap, hash_map};
use std::net::IpAddr;
use std::sync::Arc;

use model::Key;

use super::{Place, Table};
use crate::nftables::changes::Changes;
use crate::nftables::element::Element;
use crate::nftables::set::Set;

/// The words of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    pub everybody: u32,
    /// For clients on this node, where that differs.
    pub inside: Option<u32>,
    pub masquerade: bool,
}

/// A Service that wants a frontend.
pub struct Claim {
    pub owner: Arc<Key>,
    pub words: Words,
}

/// Who has which frontend: of several, the Service whose key is lowest, as in `route`.
#[derive(Default)]
pub struct Claims {
    /// Sorted by owner. Nearly always one; a vector of one costs less than keeping two shapes apart.
    all: Table<Place, Vec<Claim>>,
    /// The winner before this batch, of every frontend that the batch touched.
    before: BTreeMap<Place, Option<Words>>,
}

impl Claims {
    pub fn claim(&mut self, place: Place, claim: Claim) {
        let claims = self.all.entry(place).or_default();
        self.before.entry(place).or_insert_with(|| claims.first().map(|c| c.words));
        let at = claims.partition_point(|c| c.owner < claim.owner);
        claims.reserve_exact(1);
        claims.insert(at, claim);
    }

    pub fn release(&mut self, place: Place, owner: &Arc<Key>) {
        let hash_map::Entry::Occupied(mut entry) = self.all.entry(place) else { return };
        self.before.entry(place).or_insert_with(|| entry.get().first().map(|c| c.words));
        entry.get_mut().retain(|c| c.owner != *owner);
        if entry.get().is_empty() {
            entry.remove();
        }
    }

    /// Ends a batch: writes down what is different from its beginning.
    pub fn settle(&mut self, changes: &mut Changes) {
        for (place, before) in std::mem::take(&mut self.before) {
            let after = self.all.get(&place).and_then(|c| c.first()).map(|c| c.words);
            let (at, protocol, port) = place;
            let masqueraded = |words: Option<Words>| words.is_some_and(|w| w.masquerade);
            match (masqueraded(before), masqueraded(after)) {
                (true, false) => changes.remove(Element::Masqueraded { at, protocol, port }),
                (false, true) => changes.add(Element::Masqueraded { at, protocol, port }),
                _ => {}
            }
            let mut one = |inside: bool, old: Option<u32>, new: Option<u32>| {
                let element = |word| Element::Frontend { at, inside, protocol, port, word };
                if old != new {
                    old.into_iter().for_each(|w| changes.remove(element(w)));
                    new.into_iter().for_each(|w| changes.add(element(w)));
                }
            };
            one(false, before.map(|w| w.everybody), after.map(|w| w.everybody));
            one(true, before.and_then(|w| w.inside), after.and_then(|w| w.inside));
        }
    }
}

/// How many Services or endpoints use an address of a set.
pub struct Counts {
    set: Set,
    uses: Table<IpAddr, u32>,
    /// The uses before this batch, of every address that the batch touched.
    before: BTreeMap<IpAddr, u32>,
}

impl Counts {
    pub fn new(set: Set) -> Self {
        Self { set, uses: Table::new(), before: BTreeMap::new() }
    }

    pub fn add_one(&mut self, address: IpAddr) {
        let uses = self.uses.entry(address).or_default();
        self.before.entry(address).or_insert(*uses);
        *uses += 1;
    }

    pub fn drop_one(&mut self, address: IpAddr) {
        let hash_map::Entry::Occupied(mut entry) = self.uses.entry(address) else { return };
        self.before.entry(address).or_insert(*entry.get());
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }

    /// Ends a batch: writes down what is different from its beginning.
    pub fn settle(&mut self, changes: &mut Changes) {
        for (address, before) in std::mem::take(&mut self.before) {
            let element = Element::Address { set: self.set, address };
            match (before > 0, self.uses.contains_key(&address)) {
                (true, false) => changes.remove(element),
                (false, true) => changes.add(element),
                _ => {}
            }
        }
    }
}
