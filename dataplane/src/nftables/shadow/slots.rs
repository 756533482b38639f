//! The slots of a pool: which endpoint is drawn with which number.
//!
//! Slots are 0 to n-1; an endpoint has as many as its share. What is new takes the places of what goes, else the next
//! slots; where endpoints only go, the last slots move into the holes. So a change touches a handful of elements,
//! whatever the size of the pool.
//!
//! An endpoint's id is a hash of its address and port, so that it is the same whenever the table is written anew: that is
//! what a sticky client remembers. It is unique in its pool, where two endpoints with one hash make way for each other.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use super::hash;
use crate::nftables::changes::Changes;
use crate::nftables::element::Element;
use crate::plan::{Endpoint, Family};

/// The slots in order.
#[derive(Clone, Default)]
pub struct Slots(Vec<Slot>);

#[derive(Clone, Copy)]
struct Slot {
    /// The endpoint's number in the kernel.
    id: u32,
    /// Its index in the plan's list.
    endpoint: u32,
}

impl Slots {
    /// Goes from the endpoints `old`, which the slots point into, to `new`. Both are sorted.
    pub fn update(&mut self, pool: u32, old: &[Endpoint], new: &[Endpoint], changes: &mut Changes) {
        let Some(first) = new.first().or(old.first()) else { return };
        let family = Family::of(first.address);
        let (moved, added) = compare(old, new);
        let before = self.0.clone();

        // How many slots each new endpoint still lacks, and the id of those that have one already.
        let mut lacks: Vec<u16> = new.iter().map(|e| e.share).collect();
        let mut ids: Vec<Option<u32>> = vec![None; new.len()];
        let mut gone: BTreeMap<u32, u32> = BTreeMap::new();
        let mut holes = Vec::new();
        for (at, slot) in self.0.iter_mut().enumerate() {
            let Some(endpoint) = moved.get(slot.endpoint as usize).copied().flatten() else {
                gone.insert(slot.endpoint, slot.id);
                holes.push(at);
                continue;
            };
            let index = endpoint as usize;
            ids[index] = Some(slot.id);
            slot.endpoint = endpoint;
            if lacks[index] > 0 {
                lacks[index] -= 1;
            } else {
                holes.push(at);
            }
        }
        for (endpoint, id) in &gone {
            let gone = old.get(*endpoint as usize);
            gone.into_iter().for_each(|e| changes.remove(element(pool, *id, e)));
        }
        let mut taken = Taken::default();
        for index in added {
            let Some(endpoint) = new.get(index as usize) else { continue };
            let id = taken.choose(endpoint, &ids);
            ids[index as usize] = Some(id);
            changes.add(element(pool, id, endpoint));
        }

        let mut holes = holes.into_iter();
        for (endpoint, (lack, id)) in (0..).zip(lacks.into_iter().zip(ids)) {
            let Some(id) = id else { continue };
            for _ in 0..lack {
                let slot = Slot { id, endpoint };
                match holes.next() {
                    Some(hole) => self.0[hole] = slot,
                    None => self.0.push(slot),
                }
            }
        }
        // From the end, so that what is moved into a hole is never a hole itself.
        for hole in holes.rev() {
            self.0.swap_remove(hole);
        }
        self.0.shrink_to_fit();

        for at in 0..before.len().max(self.0.len()) {
            let (was, is) = (before.get(at).map(|s| s.id), self.0.get(at).map(|s| s.id));
            if was != is {
                let slot = u32::try_from(at).unwrap_or(u32::MAX);
                was.into_iter().for_each(|id| changes.remove(Element::Draw { family, pool, slot, id }));
                is.into_iter().for_each(|id| changes.add(Element::Draw { family, pool, slot, id }));
            }
        }
    }

    /// Gives up every slot.
    pub fn clear(&mut self, pool: u32, old: &[Endpoint], changes: &mut Changes) {
        self.update(pool, old, &[], changes);
    }
}

pub(super) fn element(pool: u32, id: u32, endpoint: &Endpoint) -> Element {
    Element::Endpoint { pool, id, address: endpoint.address, port: endpoint.port }
}

/// The ids of a pool that are taken; made when the first is asked for.
#[derive(Default)]
pub(super) struct Taken(Option<HashSet<u32>>);

impl Taken {
    pub fn choose(&mut self, endpoint: &Endpoint, ids: &[Option<u32>]) -> u32 {
        let taken = self.0.get_or_insert_with(|| ids.iter().copied().flatten().collect());
        let mut id = hash::endpoint(endpoint.socket());
        while !taken.insert(id) {
            id = id.wrapping_add(1);
        }
        id
    }
}

/// For each old endpoint its index in `new`, if it is there; and the indices in `new` of those that are not in `old`.
pub(super) fn compare(old: &[Endpoint], new: &[Endpoint]) -> (Vec<Option<u32>>, Vec<u32>) {
    let mut moved = vec![None; old.len()];
    let mut added = Vec::new();
    let (mut o, mut n) = (0, 0);
    let index = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
    while o < old.len() || n < new.len() {
        // Whether an endpoint is local, and its share, do not make it another.
        let order = match (old.get(o), new.get(n)) {
            (Some(a), Some(b)) => (a.address, a.port).cmp(&(b.address, b.port)),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => o += 1,
            Ordering::Greater => {
                added.push(index(n));
                n += 1;
            }
            Ordering::Equal => {
                moved[o] = Some(index(n));
                o += 1;
                n += 1;
            }
        }
    }
    (moved, added)
}
