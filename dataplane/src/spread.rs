//! In which order a pool's endpoints stand, where that is not left to chance. Pure, and the same on every machine.
//!
//! [`turns`] lays the shares of a pool out one after the other: who goes round once gives each endpoint exactly its share, and
//! at no time is one of them ahead of the others by more than it must. [`table`] is Maglev's lookup table (Eisenbud and
//! others, NSDI 2016): each endpoint goes through all slots in an order of its own and takes the first that is free, as often
//! as its share says; when one goes, the others still prefer what they had.
//!
//! Rejected for the table: the largest of the endpoints' hashes per slot (rendezvous). It moves nothing but the slots of who
//! has gone, where Maglev moves one or two in a hundred of the others'; but with it one endpoint of ten easily gets a tenth more than
//! another, with Maglev not one in a hundred.

use crate::nftables::shadow::hash;
use crate::plan::Endpoint;

/// Sizes of tables: primes, so that every step through them comes by every slot. Each but the last holds endpoints (shares,
/// where they weigh differently) up to a sixty-fourth of it, so that none has more than a sixty-fourth too much.
pub const TABLES: [u32; 3] = [1_021, 8_191, 65_521];
const SLOTS_EACH: u32 = 64;

/// The indices of endpoints with these shares, as many as the sum of the shares, each spread evenly.
pub fn turns(shares: &[u16]) -> Vec<u32> {
    let mut places: Vec<(u32, u32, u32)> = Vec::with_capacity(shares.iter().map(|s| usize::from(*s)).sum());
    for (index, share) in (0..).zip(shares) {
        let share = u32::from(*share);
        // The middle of each of the equal parts into which its share divides the round.
        places.extend((0..share).map(|part| (2 * part + 1, share, index)));
    }
    // Two fractions are compared by their cross products; who has more goes first.
    let at = |part: u32, other: u32| u64::from(part) * u64::from(other);
    places.sort_by(|a, b| at(a.0, b.1).cmp(&at(b.0, a.1)).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
    places.into_iter().map(|(_, _, index)| index).collect()
}

/// How large the table for these endpoints is.
pub fn table_size(endpoints: &[Endpoint]) -> u32 {
    let shares: u32 = endpoints.iter().map(|e| u32::from(e.share)).sum();
    let fits = |size: &&u32| shares.saturating_mul(SLOTS_EACH) <= **size;
    let [.., largest] = TABLES;
    TABLES.iter().find(fits).copied().unwrap_or(largest)
}

/// For each slot of the table the index of an endpoint. Empty without endpoints.
pub fn table(endpoints: &[Endpoint]) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    let Some(most) = endpoints.iter().map(|e| e.share).max().filter(|most| *most > 0) else { return Vec::new() };
    let size = table_size(endpoints);
    let mut walks: Vec<Walk> = endpoints.iter().map(|e| Walk::new(e, size)).collect();
    let mut table = vec![FREE; size as usize];
    let mut left = table.len();
    let mut round = 0u64;
    while left > 0 {
        round += 1;
        for (index, (walk, endpoint)) in (0..).zip(walks.iter_mut().zip(endpoints)) {
            // As many as its share of the rounds.
            let due = (round * u64::from(endpoint.share)).div_ceil(u64::from(most));
            if walk.taken >= due || left == 0 {
                continue;
            }
            walk.taken += 1;
            loop {
                let slot = walk.next(size);
                if let Some(free) = table.get_mut(slot as usize).filter(|slot| **slot == FREE) {
                    *free = index;
                    left -= 1;
                    break;
                }
            }
        }
    }
    table
}

/// An endpoint's way through the slots.
struct Walk {
    at: u32,
    step: u32,
    taken: u64,
}

impl Walk {
    fn new(endpoint: &Endpoint, size: u32) -> Self {
        let hash = hash::endpoint(endpoint.socket());
        let other = hash.wrapping_mul(0x9e37_79b1).rotate_left(15).wrapping_mul(0x85eb_ca77);
        Self { at: hash % size, step: 1 + other % (size - 1), taken: 0 }
    }

    fn next(&mut self, size: u32) -> u32 {
        let at = self.at;
        self.at = (self.at + self.step) % size;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(shares: &[u16]) -> Vec<Endpoint> {
        let endpoint = |(n, share): (u8, &u16)| Endpoint {
            address: [10, 0, n / 250, n % 250 + 1].into(),
            port: 80,
            local: false,
            share: *share,
        };
        (0..).zip(shares).map(endpoint).collect()
    }

    fn counts(order: &[u32], of: usize) -> Vec<usize> {
        let mut counts = vec![0; of];
        order.iter().for_each(|i| counts[*i as usize] += 1);
        counts
    }

    #[test]
    fn turns_are_even() {
        assert_eq!(turns(&[]), Vec::<u32>::new());
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turns(&[2, 1]), [0, 1, 0]);
        assert_eq!(turns(&[1, 4]), [1, 1, 0, 1, 1]);
        let shares = [5, 3, 2, 7, 1];
        let order = turns(&shares);
        assert_eq!(counts(&order, 5), [5, 3, 2, 7, 1]);
        // Nobody is ever ahead, or behind, by a whole turn and a bit.
        for length in 1..order.len() {
            for (count, share) in counts(&order[..length], 5).iter().zip(shares) {
                let due = f64::from(share) * length as f64 / order.len() as f64;
                assert!((*count as f64 - due).abs() < 1.5, "{order:?} up to {length}");
            }
        }
    }

    #[test]
    fn tables_are_even_and_follow_the_shares() {
        for shares in [&[1; 3][..], &[1; 10], &[1; 100], &[4, 2, 1], &[10, 1]] {
            let endpoints = endpoints(shares);
            let table = table(&endpoints);
            assert_eq!(table.len(), table_size(&endpoints) as usize);
            let total: u16 = shares.iter().sum();
            for (count, share) in counts(&table, shares.len()).into_iter().zip(shares) {
                let due = table.len() as f64 * f64::from(*share) / f64::from(total);
                assert!((count as f64 - due).abs() <= due * 0.02 + 1.0, "{shares:?}: {count} for {due}");
            }
        }
        assert!(table(&[]).is_empty());
    }

    /// What a lost endpoint had goes to the others, and hardly anything else moves.
    #[test]
    fn who_goes_takes_nobody_along() {
        for count in [3, 10, 15] {
            let all = endpoints(&vec![1; count]);
            let before = table(&all);
            for gone in 0..count {
                let mut rest = all.clone();
                rest.remove(gone);
                let after = table(&rest);
                let (mut stayed, mut moved) = (0, 0);
                for (was, is) in before.iter().zip(&after) {
                    let was = all[*was as usize].address;
                    if was == all[gone].address {
                        continue;
                    }
                    if was == rest[*is as usize].address { stayed += 1 } else { moved += 1 }
                }
                assert!(moved * 20 < stayed, "{count} less {gone}: {moved} of {stayed} moved");
            }
        }
    }
}
