//! Facts that more than one Service can state: who has a frontend, how many use an address.
//!
//! In a steady state only external IPs collide. But a node port that moves from one Service to another is claimed
//! by both for a moment if the two changes are seen in that order, and what is removed for the one must not take away
//! what was written for the other. So changes are gathered and compared at the end of a batch.

use std::collections::{BTreeMap, hash_map};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::Key;
use model::types::Protocol;

use super::{Place, Table};
use crate::nftables::changes::Changes;
use crate::nftables::element::Element;
use crate::nftables::set::Set;
use crate::plan::{At, Family, Limits};

/// The words of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// `None`: this node itself answers, and the frontend leads nowhere.
    pub everybody: Option<u32>,
    /// For clients on this node, where that differs.
    pub inside: Option<u32>,
    pub masquerade: bool,
    /// See [`Guards`].
    pub guard: Option<u32>,
    pub limits: Limits,
}

/// A Service that wants a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub owner: Arc<Key>,
    pub words: Words,
}

/// Who has which frontend: of several, the Service whose key is lowest, as in `route`.
#[derive(Clone, Default)]
pub struct Claims {
    /// Sorted by owner. Nearly always one; a vector of one costs less than keeping two shapes apart.
    all: Table<Place, Vec<Claim>>,
    /// The winner before this batch, of every frontend that the batch touched.
    before: BTreeMap<Place, Option<Claim>>,
}

impl Claims {
    pub fn claim(&mut self, place: Place, claim: Claim) {
        let claims = self.all.entry(place).or_default();
        self.before.entry(place).or_insert_with(|| claims.first().cloned());
        let at = claims.partition_point(|c| c.owner < claim.owner);
        claims.reserve_exact(1);
        claims.insert(at, claim);
    }

    pub fn release(&mut self, place: Place, owner: &Arc<Key>) {
        let hash_map::Entry::Occupied(mut entry) = self.all.entry(place) else { return };
        self.before.entry(place).or_insert_with(|| entry.get().first().cloned());
        entry.get_mut().retain(|c| c.owner != *owner);
        if entry.get().is_empty() {
            entry.remove();
        }
    }

    /// Ends a batch: writes down what is different from its beginning.
    pub fn settle(&mut self, changes: &mut Changes) {
        for (place, before) in std::mem::take(&mut self.before) {
            let after = self.all.get(&place).and_then(|c| c.first());
            if before.as_ref() == after {
                continue;
            }
            let (at, protocol, port) = place;
            let masqueraded = |claim: Option<&Claim>| claim.is_some_and(|c| c.words.masquerade);
            match (masqueraded(before.as_ref()), masqueraded(after)) {
                (true, false) => changes.remove(Element::Masqueraded { at, protocol, port }),
                (false, true) => changes.add(Element::Masqueraded { at, protocol, port }),
                _ => {}
            }
            if let At::Address(address) = at {
                let guard = |claim: &Claim| claim.words.guard;
                let (old, new) = (before.as_ref().and_then(guard), after.and_then(guard));
                let element = |guard| Element::Guard { address, protocol, port, guard };
                if old != new {
                    old.into_iter().for_each(|g| changes.remove(element(g)));
                    new.into_iter().for_each(|g| changes.add(element(g)));
                }
            }
            if let At::Address(address) = at {
                limits(address, protocol, port, before.as_ref(), after, changes);
                let here = |claim: Option<&Claim>| claim.is_some_and(|c| c.words.everybody.is_none());
                let element = Element::Here { address, protocol, port };
                match (here(before.as_ref()), here(after)) {
                    (true, false) => changes.remove(element),
                    (false, true) => changes.add(element),
                    _ => {}
                }
            }
            // The owner is the element's comment, so another owner is another element.
            let mut one = |inside: bool, word: fn(&Words) -> Option<u32>| {
                let element = |claim: &Claim| {
                    let owner = Arc::clone(&claim.owner);
                    word(&claim.words).map(|word| Element::Frontend { at, inside, protocol, port, word, owner })
                };
                let (old, new) = (before.as_ref().and_then(element), after.and_then(element));
                if old != new {
                    old.into_iter().for_each(|e| changes.remove(e));
                    new.into_iter().for_each(|e| changes.add(e));
                }
            };
            one(false, |w| w.everybody);
            one(true, |w| w.inside);
        }
    }
}

/// What a frontend's connections are held to.
fn limits(
    address: IpAddr,
    protocol: Protocol,
    port: u16,
    before: Option<&Claim>,
    after: Option<&Claim>,
    changes: &mut Changes,
) {
    let of = |claim: Option<&Claim>| claim.map(|c| c.words.limits).unwrap_or_default();
    let (old, new) = (of(before), of(after));
    if old.connections_per_second != new.connections_per_second {
        let element = |per_second| Element::Limited { address, protocol, port, per_second };
        old.connections_per_second.into_iter().for_each(|n| changes.remove(element(n)));
        new.connections_per_second.into_iter().for_each(|n| changes.add(element(n)));
    }
    if old.established_seconds != new.established_seconds {
        let element = |seconds| Element::Timeout { address, protocol, port, seconds };
        old.established_seconds.into_iter().for_each(|s| changes.remove(element(s)));
        if let Some(seconds) = new.established_seconds {
            changes.timeouts.insert((Family::of(address), seconds));
            changes.add(element(seconds));
        }
    }
}

/// The lists of source ranges in use, each with a number: frontends with the same list share it, so a thousand Services
/// that admit one office have that office's ranges once.
#[derive(Clone, Default)]
pub struct Guards {
    in_use: Table<Arc<[IpNet]>, (u32, usize)>,
    free: Vec<u32>,
    last: u32,
    /// Numbers that this batch took or gave up, with how things were before.
    before: BTreeMap<u32, Option<Arc<[IpNet]>>>,
}

impl Guards {
    /// Takes part in a list. Returns its number.
    pub fn take(&mut self, ranges: &Arc<[IpNet]>) -> u32 {
        if let Some((number, users)) = self.in_use.get_mut(ranges) {
            *users += 1;
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.last += 1;
            self.last
        });
        self.before.entry(number).or_insert(None);
        self.in_use.insert(Arc::clone(ranges), (number, 1));
        number
    }

    /// Gives up one part in a list.
    pub fn release(&mut self, ranges: &Arc<[IpNet]>) {
        let Some((number, users)) = self.in_use.get_mut(ranges) else { return };
        *users -= 1;
        if *users == 0 {
            let number = *number;
            self.in_use.remove(ranges);
            self.before.entry(number).or_insert_with(|| Some(Arc::clone(ranges)));
        }
    }

    /// Ends a batch: writes down what is different from its beginning.
    pub fn settle(&mut self, changes: &mut Changes) {
        if self.before.is_empty() {
            return;
        }
        let mut now: BTreeMap<u32, &Arc<[IpNet]>> = self.in_use.iter().map(|(list, (n, _))| (*n, list)).collect();
        for (guard, before) in std::mem::take(&mut self.before) {
            let after = now.remove(&guard);
            if after.is_none() {
                self.free.push(guard);
            }
            if before.as_ref() != after {
                let element = |net: &IpNet| Element::Allowed { guard, net: *net };
                before.iter().flat_map(|list| list.iter()).for_each(|n| changes.remove(element(n)));
                after.into_iter().flat_map(|list| list.iter()).for_each(|n| changes.add(element(n)));
            }
        }
    }
}

/// How many Services or endpoints use an address of a set.
#[derive(Clone)]
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
