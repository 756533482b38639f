//! Whose turn it is: the schedulers of requests, as pure rules.
//!
//! An [`Order`] is made once from the weights. A choice gets everything that changes as arguments: a number that counts the
//! choices, a hash of the client, how busy each backend is, and who is out of the question. Nothing is drawn by chance, so
//! proportions are exact over any run of turns, also when several threads share the counter.
//!
//! The hash of clients is rendezvous hashing: each backend has a score from both hashes, and the highest wins. As with Maglev, a
//! backend that is lost moves its own clients alone; other than there this is exact, and there is no table that a change of
//! 200 backends would have to fill. What it costs, one logarithm per backend and request, a connection to a backend costs ten
//! times over.

use model::types::Scheduler;

/// The longest ring: weights whose sum is larger are divided down.
const RING_MOST: u64 = 1 << 14;

/// The backends in the order of their turns. They are numbers here: places in the list that the order was made from.
#[derive(Debug)]
pub struct Order {
    scheduler: Scheduler,
    /// Weight 0 gets nothing, with every scheduler.
    weights: Box<[u16]>,
    /// `rr`: each with a weight once. `wrr`: as often as its weight says, as evenly spread as can be.
    ring: Box<[u16]>,
}

/// What a choice depends on beside the order.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Counts the choices.
    pub turn: u64,
    /// Of the client's address.
    pub client: u64,
}

impl Order {
    pub fn new(scheduler: Scheduler, weights: &[u16]) -> Self {
        let ring = match scheduler {
            Scheduler::Wrr => spread(weights),
            Scheduler::Rr | Scheduler::Wlc | Scheduler::Sch => {
                spread(&weights.iter().map(|w| u16::from(*w > 0)).collect::<Vec<_>>())
            }
        };
        Self { scheduler, weights: weights.into(), ring }
    }

    /// Whether there is nobody that could be chosen.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether this one is given anything at all.
    pub fn admits(&self, backend: usize) -> bool {
        self.weights.get(backend).is_some_and(|w| *w > 0)
    }

    /// The backend for a request; None: nobody is `usable`. `load` counts what a backend is busy with, `id` is the hash of
    /// who it is.
    pub fn choose(
        &self,
        asked: Asked,
        load: impl Fn(usize) -> u32,
        id: impl Fn(usize) -> u64,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let start = usize::try_from(asked.turn % self.ring.len().max(1) as u64).unwrap_or(0);
        let (before, from) = self.ring.split_at_checked(start)?;
        let mut turns = from.iter().chain(before).map(|b| usize::from(*b)).filter(|b| usable(*b));
        let weight = |b: usize| self.weights.get(b).copied().unwrap_or(0);
        match self.scheduler {
            Scheduler::Rr | Scheduler::Wrr => turns.next(),
            // The first of the least busy, counted from whose turn it is, so that idle ones take turns.
            Scheduler::Wlc => turns.min_by(|a, b| {
                let busy = |x: usize, y: usize| (u64::from(load(x)) + 1) * u64::from(weight(y));
                busy(*a, *b).cmp(&busy(*b, *a))
            }),
            Scheduler::Sch => turns.max_by(|a, b| {
                let score = |x: usize| score(asked.client, id(x), weight(x));
                score(*a).total_cmp(&score(*b)).then(id(*a).cmp(&id(*b)))
            }),
        }
    }
}

/// Each number as often as its weight says, its turns evenly spread: the k-th of n with weight w stands at (k + ½) / w.
fn spread(weights: &[u16]) -> Box<[u16]> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
    let sum: u64 = weights.iter().map(|w| u64::from(*w) / divisor).sum();
    let shrink = sum.div_ceil(RING_MOST).max(1);
    let mut turns = Vec::new();
    for (place, weight) in weights.iter().enumerate() {
        let Ok(place) = u16::try_from(place) else { break };
        if *weight == 0 {
            continue;
        }
        let times = (u64::from(*weight) / divisor / shrink).max(1);
        // As fractions of 2^40, which is exact enough for a ring of 2^14.
        turns.extend((0..times).map(|k| ((((2 * k + 1) << 40) / (2 * times)), place)));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, place)| place).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Weighted rendezvous: the probability to be the highest is in proportion to the weight.
fn score(client: u64, backend: u64, weight: u16) -> f64 {
    // 53 bits fit a float's mantissa; in (0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let uniform = ((mix(client ^ backend) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -uniform.ln()
}

/// Spreads every bit over all: the finisher of SplitMix64.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// FNV-1a with a finisher. The same in every process and on every machine: another edge node that takes over finds the same
/// backend for the same client, and the same one by its cookie.
pub fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let folded = bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mix(folded)
}

#[cfg(test)]
mod tests;
