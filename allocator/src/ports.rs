//! Node ports.
//!
//! Kubernetes keys them by number alone (`portallocator`): two Services never share a number, not even on different
//! protocols; one Service may use a number for several protocols. So the pool counts holders of a number, a Service being one.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::band;
use crate::runs::Runs;

/// The node ports that are held, and the range that gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPool {
    first: u16,
    last: u16,
    holders: HashMap<u16, u32>,
    /// Offsets from `first` that are held.
    taken: Runs,
}

/// A port that is not given. The texts are Kubernetes'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRefusal {
    #[error("provided port is already allocated")]
    Taken,
    #[error("provided port is not in the valid range. The range of valid ports is {first}-{last}")]
    OutOfRange { first: u16, last: u16 },
    #[error("range is full")]
    Full,
}

impl PortPool {
    /// A pool of which nothing is held; None for an empty range.
    pub fn new(range: RangeInclusive<u16>) -> Option<Self> {
        let (first, last) = range.into_inner();
        (first <= last).then(|| Self { first, last, holders: HashMap::new(), taken: Runs::default() })
    }

    fn offset(&self, port: u16) -> Option<u64> {
        (self.first..=self.last).contains(&port).then(|| u64::from(port - self.first))
    }

    /// One more holder of `port`.
    pub fn hold(&mut self, port: u16) {
        let count = self.holders.entry(port).or_default();
        *count += 1;
        if *count == 1
            && let Some(offset) = self.offset(port)
        {
            self.taken.insert(offset);
        }
    }

    /// One holder less.
    pub fn release(&mut self, port: u16) {
        let Some(count) = self.holders.get_mut(&port) else { return };
        *count -= 1;
        if *count == 0 {
            self.holders.remove(&port);
            if let Some(offset) = self.offset(port) {
                self.taken.remove(offset);
            }
        }
    }

    pub fn is_held(&self, port: u16) -> bool {
        self.holders.contains_key(&port)
    }

    /// The first port of the range.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// Whether the range covers `port`.
    pub fn covers(&self, port: u16) -> bool {
        self.offset(port).is_some()
    }

    /// Whether `port` may be given to someone who asks for it.
    ///
    /// # Errors
    /// Out of range, or taken, in this order.
    pub fn check(&self, port: u16) -> Result<(), PortRefusal> {
        if !self.covers(port) {
            return Err(PortRefusal::OutOfRange { first: self.first, last: self.last });
        }
        if self.is_held(port) { Err(PortRefusal::Taken) } else { Ok(()) }
    }

    /// A free port; holding it is the caller's.
    ///
    /// # Errors
    /// When every port of the range is held.
    pub fn choose(&self, chance: u64) -> Result<u16, PortRefusal> {
        let last = u64::from(self.last - self.first);
        let band = band::static_band(last + 1, 32, 128);
        let offset = band::choose(&self.taken, band, last, chance).ok_or(PortRefusal::Full)?;
        // `offset` is at most `last - first`.
        Ok(self.first + offset as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_static_band_of_the_default_range_is_its_first_86_ports() {
        let mut pool = PortPool::new(30000..=32767).unwrap();
        for nth in 0..2768u64 {
            let port = pool.choose(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
            assert!(!pool.is_held(port));
            assert_eq!(port >= 30086, nth < 2768 - 86, "choice {nth} was {port}");
            pool.hold(port);
        }
        assert_eq!(pool.choose(1), Err(PortRefusal::Full));
    }

    #[test]
    fn a_number_has_one_holder_whatever_the_protocol() {
        let mut pool = PortPool::new(30000..=30009).unwrap();
        pool.hold(30001);
        assert_eq!(pool.check(30001), Err(PortRefusal::Taken));
        pool.release(30001);
        assert_eq!(pool.check(30001), Ok(()));
        assert_eq!(
            pool.check(80).unwrap_err().to_string(),
            "provided port is not in the valid range. The range of valid ports is 30000-30009"
        );
    }

    #[test]
    fn ports_outside_the_range_are_counted_too() {
        let mut pool = PortPool::new(30000..=30009).unwrap();
        pool.hold(80);
        assert!(pool.is_held(80));
        pool.release(80);
        assert_eq!(pool, PortPool::new(30000..=30009).unwrap());
        #[allow(clippy::reversed_empty_ranges, reason = "the point of the test")]
        let empty = PortPool::new(2..=1);
        assert!(empty.is_none());
    }
}
