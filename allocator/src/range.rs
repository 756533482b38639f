//! The addresses of one service range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::band;
use crate::runs::Runs;

/// One service range and what of it is taken.
///
/// The network's own address is never given, nor IPv4's broadcast address (Kubernetes' `ipallocator`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRange {
    net: IpNet,
    /// The first usable address; offsets count from it.
    first: u128,
    /// Offset of the last usable address.
    last: u64,
    /// Offsets below it are the static band.
    band: u64,
    taken: Runs,
}

/// A range that cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("the shortest prefix allowed for an IPv6 service range is /64")]
    TooLarge,
    #[error("it has no usable address")]
    Empty,
}

impl AddressRange {
    /// An empty range over `net`; host bits are ignored.
    ///
    /// # Errors
    /// When Kubernetes would refuse it: an IPv6 prefix shorter than /64, or no address left besides the reserved ones.
    pub fn new(net: IpNet) -> Result<Self, RangeError> {
        let net = net.trunc();
        let host_bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let reserved_at_end = u128::from(net.addr().is_ipv4());
        if host_bits > 64 {
            return Err(RangeError::TooLarge);
        }
        let all = 1u128 << host_bits;
        let usable = all.checked_sub(1 + reserved_at_end).filter(|n| *n > 0).ok_or(RangeError::Empty)?;
        // At most 2^64 - 1 are usable, so the last offset fits.
        let last = u64::try_from(usable - 1).map_err(|_| RangeError::TooLarge)?;
        let size = u64::try_from(all).unwrap_or(u64::MAX);
        let band = band::static_band(size, 16, 256).min(last);
        Ok(Self { net, first: number(net.addr()) + 1, last, band, taken: Runs::default() })
    }

    pub fn net(&self) -> IpNet {
        self.net
    }

    fn offset(&self, address: IpAddr) -> Option<u64> {
        if address.is_ipv4() != self.net.addr().is_ipv4() {
            return None;
        }
        let offset = number(address).checked_sub(self.first)?;
        u64::try_from(offset).ok().filter(|offset| *offset <= self.last)
    }

    /// Whether the range may give this address out.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.offset(address).is_some()
    }

    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.offset(address).is_some_and(|offset| self.taken.contains(offset))
    }

    /// Marks an address as taken; false if it was, or is not of this range.
    pub fn take(&mut self, address: IpAddr) -> bool {
        self.offset(address).is_some_and(|offset| self.taken.insert(offset))
    }

    /// Marks an address as free; false if it was, or is not of this range.
    pub fn release(&mut self, address: IpAddr) -> bool {
        self.offset(address).is_some_and(|offset| self.taken.remove(offset))
    }

    /// A free address; taking it is the caller's.
    pub fn choose(&self, chance: u64) -> Option<IpAddr> {
        let offset = band::choose(&self.taken, self.band, self.last, chance)?;
        Some(self.address(offset))
    }

    /// The address with this number, counted from 1; in a smaller range the last usable one.
    pub fn nth(&self, number: u64) -> IpAddr {
        self.address(number.saturating_sub(1).min(self.last))
    }

    fn address(&self, offset: u64) -> IpAddr {
        let number = self.first + u128::from(offset);
        match self.net {
            // `first` and `last` lie in a 32-bit network, so nothing is cut off.
            IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::tests::LOOKUPS;

    fn range(net: &str) -> AddressRange {
        AddressRange::new(net.parse().unwrap()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_numbered() {
        for (net, first, tenth) in [
            ("10.96.0.0/16", "10.96.0.1", "10.96.0.10"),
            ("fd00:10:96::/112", "fd00:10:96::1", "fd00:10:96::a"),
            ("10.96.0.0/29", "10.96.0.1", "10.96.0.6"),
            ("10.96.0.0/30", "10.96.0.1", "10.96.0.2"),
            ("fd00::/126", "fd00::1", "fd00::3"),
        ] {
            assert_eq!((range(net).nth(1), range(net).nth(10)), (ip(first), ip(tenth)), "{net}");
        }
    }

    #[test]
    fn network_and_broadcast_are_never_given() {
        let mut v4 = range("10.0.0.0/30");
        assert!(!v4.contains(ip("10.0.0.0")) && !v4.contains(ip("10.0.0.3")));
        let mut given: Vec<_> = (0..2)
            .map(|n| {
                let a = v4.choose(n).unwrap();
                v4.take(a);
                a
            })
            .collect();
        given.sort();
        assert_eq!(given, [ip("10.0.0.1"), ip("10.0.0.2")]);
        assert_eq!(v4.choose(0), None);
        let v6 = range("fd00::/126");
        assert!(!v6.contains(ip("fd00::")) && v6.contains(ip("fd00::3")) && !v6.contains(ip("fd00::4")));
        assert!(!v6.contains(ip("10.0.0.1")));
    }

    #[test]
    fn ranges_without_room_or_bounds_are_refused() {
        let refused = |net: &str| AddressRange::new(net.parse().unwrap()).unwrap_err();
        assert_eq!(refused("10.0.0.0/31"), RangeError::Empty);
        assert_eq!(refused("10.0.0.0/32"), RangeError::Empty);
        assert_eq!(refused("fd00::/128"), RangeError::Empty);
        assert_eq!(refused("fd00::/63"), RangeError::TooLarge);
        let whole = range("fd00::/64");
        assert!(whole.contains(ip("fd00::ffff:ffff:ffff:ffff")));
        assert!(whole.contains(whole.choose(u64::MAX).unwrap()));
        assert!(range("0.0.0.0/0").contains(ip("255.255.255.254")));
    }

    #[test]
    fn a_full_16_costs_the_same_from_first_to_last() {
        let mut range = range("10.96.0.0/16");
        let mut chance = 1u64;
        let mut worst = 0;
        let mut static_from = None;
        for nth in 0..65_534u32 {
            // Any mixing will do: the point is that the places are spread.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let before = LOOKUPS.get();
            let address = range.choose(chance >> 11).unwrap();
            worst = worst.max(LOOKUPS.get() - before);
            assert!(range.take(address), "{address} was given twice");
            let IpAddr::V4(v4) = address else { panic!("an IPv6 address from an IPv4 range") };
            if static_from.is_none() && v4.octets()[2] == 0 && v4.octets()[3] > 0 {
                static_from = Some(nth);
            }
        }
        assert_eq!(range.choose(7), None);
        assert!(worst <= 4, "one choice took {worst} lookups");
        // The static band 10.96.0.1 – 10.96.1.0 is the last to be used.
        assert_eq!(static_from, Some(65_534 - 256));
    }
}
