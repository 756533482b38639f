//! The slots of a pool: which endpoint is drawn with which number.
//!
//! Slots are 0 to n-1. A new endpoint takes the place of one that goes, else the next slot; where endpoints only go,
//! the last ones move into the holes. So a change touches a handful of elements, whatever the size of the pool.

use std::cmp::Ordering;

use super::Exhausted;
use crate::nftables::changes::Changes;
use crate::nftables::element::Element;
use crate::plan::{Endpoint, Family};

/// The slots in order.
#[derive(Default)]
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
    pub fn update(
        &mut self,
        pool: u32,
        old: &[Endpoint],
        new: &[Endpoint],
        mut next_id: impl FnMut() -> Result<u32, Exhausted>,
        changes: &mut Changes,
    ) -> Result<(), Exhausted> {
        let Some(first) = new.first().or(old.first()) else { return Ok(()) };
        let family = Family::of(first.address);
        let (moved, added) = compare(old, new);
        let before = self.0.clone();

        let mut holes = Vec::new();
        for (at, slot) in self.0.iter_mut().enumerate() {
            match moved.get(slot.endpoint as usize).copied().flatten() {
                Some(endpoint) => slot.endpoint = endpoint,
                None => {
                    holes.push(at);
                    let gone = old.get(slot.endpoint as usize);
                    gone.into_iter().for_each(|e| changes.remove(element(slot.id, e)));
                }
            }
        }
        let mut holes = holes.into_iter();
        self.0.reserve_exact(added.len().saturating_sub(holes.len()));
        for endpoint in added {
            let slot = Slot { id: next_id()?, endpoint };
            let at = new.get(endpoint as usize);
            at.into_iter().for_each(|e| changes.add(element(slot.id, e)));
            match holes.next() {
                Some(hole) => self.0[hole] = slot,
                None => self.0.push(slot),
            }
        }
        // From the end, so that what is moved into a hole is never a hole itself.
        for hole in holes.rev() {
            self.0.swap_remove(hole);
        }

        for at in 0..before.len().max(self.0.len()) {
            let (was, is) = (before.get(at).map(|s| s.id), self.0.get(at).map(|s| s.id));
            if was != is {
                let slot = u32::try_from(at).unwrap_or(u32::MAX);
                was.into_iter().for_each(|id| changes.remove(Element::Draw { family, pool, slot, id }));
                is.into_iter().for_each(|id| changes.add(Element::Draw { family, pool, slot, id }));
            }
        }
        Ok(())
    }

    /// Gives up every slot.
    pub fn clear(&mut self, pool: u32, old: &[Endpoint], changes: &mut Changes) {
        // Nothing is added, so no id is asked for.
        let _ = self.update(pool, old, &[], || Err(Exhausted::EndpointIds), changes);
    }
}

fn element(id: u32, endpoint: &Endpoint) -> Element {
    Element::Endpoint { id, address: endpoint.address, port: endpoint.port }
}

/// For each old endpoint its index in `new`, if it is there; and the indices in `new` of those that are not in `old`.
fn compare(old: &[Endpoint], new: &[Endpoint]) -> (Vec<Option<u32>>, Vec<u32>) {
    let mut moved = vec![None; old.len()];
    let mut added = Vec::new();
    let (mut o, mut n) = (0, 0);
    let index = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
    while o < old.len() || n < new.len() {
        // Whether an endpoint is local does not make it another.
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
