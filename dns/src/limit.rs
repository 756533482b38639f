//! How often one client may ask: a bounded table of token buckets, one for each client that asked lately.
//!
//! A client is an IPv4 address or an IPv6 /64, since whoever has one address of it has them all. The table is a cache of four
//! ways: where it is full, the client that asked least lately makes room and starts with a full bucket. Nothing is locked:
//! two threads that meet in one bucket lose a count, and that is no harm.
//!
//! Each bucket is one number, the time at which it will be full again (the generic cell rate algorithm). The burst is what
//! the rate allows in a second.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

const WAYS: usize = 4;
/// 8192 clients in 128 KiB.
const SETS: usize = 2048;
const SECOND_NANOS: u64 = 1_000_000_000;

/// Queries a second of one client. `None`: as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// All queries.
    pub all: Option<NonZeroU32>,
    /// Those that other servers are asked about.
    pub others: Option<NonZeroU32>,
}

impl Rates {
    /// So many queries of a client each second, and a tenth of that to other servers. 0: no bound.
    pub fn new(all: u32) -> Self {
        Self { all: NonZeroU32::new(all), others: NonZeroU32::new(all.div_ceil(10)) }
    }
}

impl Default for Rates {
    /// 20,000: a machine that resolves a name for each of its connections stays below it, a loop does not.
    fn default() -> Self {
        Self::new(20_000)
    }
}

/// Who asked how often.
#[derive(Debug)]
pub struct Limiter {
    state: RandomState,
    /// What one query takes from a bucket. 0: no bound.
    cost_nanos: u64,
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    client: AtomicU64,
    /// Nanoseconds since the server's start.
    full_at: AtomicU64,
}

impl Limiter {
    pub fn new(rate: Option<NonZeroU32>) -> Self {
        let (cost_nanos, slots) = match rate {
            Some(rate) => (SECOND_NANOS / u64::from(rate.get()), SETS * WAYS),
            None => (0, 0),
        };
        Self { state: RandomState::new(), cost_nanos, slots: (0..slots).map(|_| Slot::default()).collect() }
    }

    /// Whether this client may ask once more, `now_nanos` after the server's start.
    pub fn admit(&self, client: IpAddr, now_nanos: u64) -> bool {
        if self.slots.is_empty() {
            return true;
        }
        // 0 is who never asked.
        let client = self.state.hash_one(who(client)) | 1;
        let set = (client >> 32) as usize % SETS * WAYS;
        let Some(ways) = self.slots.get(set..set + WAYS) else {
            return true;
        };
        let slot = ways.iter().find(|slot| slot.client.load(Ordering::Relaxed) == client);
        let (slot, full_at) = match slot {
            Some(slot) => (slot, slot.full_at.load(Ordering::Relaxed)),
            None => {
                let Some(slot) = ways.iter().min_by_key(|slot| slot.full_at.load(Ordering::Relaxed)) else {
                    return true;
                };
                slot.client.store(client, Ordering::Relaxed);
                (slot, 0)
            }
        };
        let full_at = full_at.max(now_nanos) + self.cost_nanos;
        if full_at - now_nanos > SECOND_NANOS {
            return false;
        }
        slot.full_at.store(full_at, Ordering::Relaxed);
        true
    }
}

/// What is one client.
fn who(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        // No /64 of real addresses begins with 32 zero bits.
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = SECOND_NANOS;

    fn limiter(rate: u32) -> Limiter {
        Limiter::new(NonZeroU32::new(rate))
    }

    fn admitted(limiter: &Limiter, client: &str, times: usize, now: u64) -> usize {
        let client = client.parse().unwrap();
        (0..times).filter(|_| limiter.admit(client, now)).count()
    }

    #[test]
    fn a_client_has_a_second_of_its_rate_and_then_the_rate() {
        let limiter = limiter(100);
        assert_eq!(admitted(&limiter, "10.0.0.1", 1000, 0), 100);
        assert_eq!(admitted(&limiter, "10.0.0.1", 1000, SECOND / 2), 50);
        assert_eq!(admitted(&limiter, "10.0.0.1", 1000, 100 * SECOND), 100);
        assert_eq!(admitted(&limiter, "10.0.0.2", 1000, 0), 100, "another client has its own");
    }

    #[test]
    fn a_client_is_an_address_or_a_64() {
        let limiter = limiter(100);
        assert_eq!(admitted(&limiter, "2001:db8::1", 60, 0), 60);
        assert_eq!(admitted(&limiter, "2001:db8::ffff:2", 60, 0), 40);
        assert_eq!(admitted(&limiter, "2001:db8:0:1::1", 60, 0), 60);
        assert_eq!(admitted(&limiter, "10.0.0.3", 60, 0), 60);
        assert_eq!(admitted(&limiter, "::ffff:10.0.0.3", 60, 0), 40);
    }

    #[test]
    fn without_a_rate_nobody_is_turned_away_and_nothing_is_kept() {
        let limiter = Limiter::new(Rates::new(0).all);
        assert_eq!(admitted(&limiter, "10.0.0.1", 100_000, 0), 100_000);
        assert!(limiter.slots.is_empty());
    }

    /// The table does not grow with forged sources, and most that ask too much are still known among them.
    #[test]
    fn a_flood_of_sources_takes_no_memory() {
        let limiter = limiter(100);
        for source in 0..1_000_000_u32 {
            limiter.admit(IpAddr::V4(source.into()), 0);
        }
        assert_eq!(limiter.slots.len(), SETS * WAYS);
    }
}
