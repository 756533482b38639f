//! The slots of a pool whose order is not left to chance: turns, and tables for hashes ([`crate::spread`]).
//!
//! The order as a whole follows from the endpoints; what is written is the slots that lead elsewhere than before. Ids of
//! endpoints are as in [`super::slots`].

use super::slots::{Taken, compare, element};
use crate::nftables::changes::Changes;
use crate::nftables::element::Element;
use crate::plan::{Endpoint, Family};

/// Where the slots stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In `turns`, under this action.
    Turns { action: u32 },
    /// In `draws`.
    Hash,
}

#[derive(Clone)]
pub struct Laid {
    order: Order,
    /// Beside the endpoints of the plan.
    ids: Vec<u32>,
    /// The id in each slot.
    slots: Vec<u32>,
}

impl Laid {
    pub fn new(order: Order) -> Self {
        Self { order, ids: Vec::new(), slots: Vec::new() }
    }

    /// Goes from the endpoints `old` to `new`, both sorted, of which `slots` has the indices.
    pub fn update(
        &mut self,
        pool: u32,
        order: Order,
        (old, new): (&[Endpoint], &[Endpoint]),
        slots: &[u32],
        changes: &mut Changes,
    ) {
        let Some(first) = new.first().or(old.first()) else { return };
        let family = Family::of(first.address);
        let (moved, added) = compare(old, new);
        let mut ids: Vec<Option<u32>> = vec![None; new.len()];
        for ((endpoint, id), moved) in old.iter().zip(&self.ids).zip(moved) {
            match moved.and_then(|index| ids.get_mut(index as usize)) {
                Some(place) => *place = Some(*id),
                None => changes.remove(element(pool, *id, endpoint)),
            }
        }
        let mut taken = Taken::default();
        for index in added {
            let Some(endpoint) = new.get(index as usize) else { continue };
            let id = taken.choose(endpoint, &ids);
            ids[index as usize] = Some(id);
            changes.add(element(pool, id, endpoint));
        }
        self.ids = ids.into_iter().map(Option::unwrap_or_default).collect();

        let slots: Vec<u32> = slots.iter().filter_map(|i| self.ids.get(*i as usize)).copied().collect();
        let before = std::mem::replace(&mut self.slots, slots);
        let was_in = std::mem::replace(&mut self.order, order);
        for at in 0..before.len().max(self.slots.len()) {
            let (was, is) = (before.get(at).copied(), self.slots.get(at).copied());
            if was != is || was_in != order {
                let slot = u32::try_from(at).unwrap_or(u32::MAX);
                was.into_iter().for_each(|id| changes.remove(was_in.element(family, pool, slot, id)));
                is.into_iter().for_each(|id| changes.add(order.element(family, pool, slot, id)));
            }
        }
    }

    /// Gives up every slot.
    pub fn clear(&mut self, pool: u32, old: &[Endpoint], changes: &mut Changes) {
        self.update(pool, self.order, (old, &[]), &[], changes);
    }
}

impl Order {
    fn element(self, family: Family, pool: u32, slot: u32, id: u32) -> Element {
        match self {
            Self::Turns { action } => Element::Turn { family, action, slot, pool, id },
            Self::Hash => Element::Draw { family, pool, slot, id },
        }
    }
}
