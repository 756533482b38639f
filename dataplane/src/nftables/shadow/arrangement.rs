//! Where a pool's endpoints stand: drawn by chance, or in an order.

use super::laid::{Laid, Order};
use super::slots::Slots;
use crate::nftables::changes::Changes;
use crate::plan::Endpoint;
use crate::spread;

#[derive(Clone)]
pub enum Arrangement {
    Chance(Slots),
    Laid(Laid),
}

impl Default for Arrangement {
    fn default() -> Self {
        Self::Chance(Slots::default())
    }
}

impl Arrangement {
    /// Goes from the endpoints `old` to `new`, which stand in this order; none: by chance.
    pub fn update(
        &mut self,
        number: u32,
        order: Option<Order>,
        old: &[Endpoint],
        new: &[Endpoint],
        changes: &mut Changes,
    ) {
        let Some(order) = order else {
            if let Self::Laid(laid) = self {
                laid.clear(number, old, changes);
                *self = Self::default();
                return self.update(number, None, &[], new, changes);
            }
            if let Self::Chance(slots) = self {
                slots.update(number, old, new, changes);
            }
            return;
        };
        let slots = match order {
            Order::Turns { .. } => spread::turns(&new.iter().map(|e| e.share).collect::<Vec<_>>()),
            Order::Hash => spread::table(new),
        };
        match self {
            Self::Laid(laid) => laid.update(number, order, (old, new), &slots, changes),
            Self::Chance(chance) => {
                chance.clear(number, old, changes);
                let mut laid = Laid::new(order);
                laid.update(number, order, (&[], new), &slots, changes);
                *self = Self::Laid(laid);
            }
        }
    }

    /// Gives up every slot.
    pub fn clear(&mut self, number: u32, old: &[Endpoint], changes: &mut Changes) {
        match self {
            Self::Chance(slots) => slots.clear(number, old, changes),
            Self::Laid(laid) => laid.clear(number, old, changes),
        }
    }
}
