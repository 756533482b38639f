//! Every address that is held, and every range that may give one.
//!
//! Holding and giving are separate: an address may be held that no range covers any more (a ServiceCIDR went away), two
//! ranges may overlap, and one address may have two holders in a damaged database. So holders are counted per address, and
//! each range marks what lies in it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::range::{AddressRange, RangeError};

/// The addresses of all service ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPool {
    holders: HashMap<IpAddr, u32>,
    /// (rank, network) → (the range, how often it was added). Dynamic choice tries them in this order.
    ranges: BTreeMap<(u8, IpNet), (AddressRange, u32)>,
}

/// An address that is not given. The texts are Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    #[error("provided IP is already allocated")]
    Taken,
    #[error("the provided IP ({address}) is not in the valid range. The range of valid IPs is {ranges}")]
    OutOfRange { address: IpAddr, ranges: String },
    #[error("range is full")]
    Full,
}

impl AddressPool {
    /// Adds a range; lower ranks are used first. Adding it again is counted.
    ///
    /// # Errors
    /// When the network cannot be a service range.
    pub fn add_range(&mut self, rank: u8, net: IpNet) -> Result<(), RangeError> {
        if let Some((_, count)) = self.ranges.get_mut(&(rank, net.trunc())) {
            *count += 1;
            return Ok(());
        }
        let mut range = AddressRange::new(net)?;
        for address in self.holders.keys() {
            range.take(*address);
        }
        self.ranges.insert((rank, net.trunc()), (range, 1));
        Ok(())
    }

    /// Takes back one `add_range`.
    pub fn remove_range(&mut self, rank: u8, net: IpNet) {
        let key = (rank, net.trunc());
        if let Some((_, count)) = self.ranges.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.ranges.remove(&key);
            }
        }
    }

    /// One more holder of `address`.
    pub fn hold(&mut self, address: IpAddr) {
        let count = self.holders.entry(address).or_default();
        *count += 1;
        if *count == 1 {
            for (range, _) in self.ranges.values_mut() {
                range.take(address);
            }
        }
    }

    /// One holder less.
    pub fn release(&mut self, address: IpAddr) {
        let Some(count) = self.holders.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            self.holders.remove(&address);
            for (range, _) in self.ranges.values_mut() {
                range.release(address);
            }
        }
    }

    pub fn is_held(&self, address: IpAddr) -> bool {
        self.holders.contains_key(&address)
    }

    /// Whether a range covers `address`.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.ranges.values().any(|(range, _)| range.contains(address))
    }

    /// Every address that is held, in no order.
    pub fn held(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.holders.keys().copied()
    }

    /// Whether `address` may be given to someone who asks for it.
    ///
    /// # Errors
    /// Out of range, or taken, in this order.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressRefusal> {
        if !self.covers(address) {
            let ranges = self.nets(address.is_ipv4()).map(|net| net.to_string()).collect::<Vec<_>>().join(", ");
            return Err(AddressRefusal::OutOfRange { address, ranges });
        }
        if self.is_held(address) { Err(AddressRefusal::Taken) } else { Ok(()) }
    }

    /// A free address; holding it is the caller's.
    ///
    /// # Errors
    /// When no range of the family has one.
    pub fn choose(&self, ipv4: bool, chance: u64) -> Result<IpAddr, AddressRefusal> {
        self.ranges
            .values()
            .filter(|(range, _)| range.net().addr().is_ipv4() == ipv4)
            .find_map(|(range, _)| range.choose(chance))
            .ok_or(AddressRefusal::Full)
    }

    /// The network address of the first range of a family: what Kubernetes shows in a dry run.
    pub fn base(&self, ipv4: bool) -> Option<IpAddr> {
        self.nets(ipv4).next().map(|net| net.addr())
    }

    fn nets(&self, ipv4: bool) -> impl Iterator<Item = IpNet> + '_ {
        self.ranges.keys().map(|(_, net)| *net).filter(move |net| net.addr().is_ipv4() == ipv4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool(nets: &[&str]) -> AddressPool {
        let mut pool = AddressPool::default();
        for net in nets {
            pool.add_range(1, net.parse().unwrap()).unwrap();
        }
        pool
    }

    #[test]
    fn a_second_range_serves_when_the_first_is_full() {
        let mut pool = pool(&["10.0.0.0/30", "10.1.0.0/30", "fd00::/126"]);
        let mut given = Vec::new();
        for chance in 0..4 {
            let address = pool.choose(true, chance).unwrap();
            pool.hold(address);
            given.push(address);
        }
        assert!(given[..2].iter().all(|a| a.to_string().starts_with("10.0.")));
        assert!(given[2..].iter().all(|a| a.to_string().starts_with("10.1.")));
        assert_eq!(pool.choose(true, 0), Err(AddressRefusal::Full));
        assert!(pool.choose(false, 0).unwrap().is_ipv6());
        pool.release(given[1]);
        assert_eq!(pool.choose(true, 9), Ok(given[1]));
    }

    #[test]
    fn overlapping_ranges_agree_on_what_is_taken() {
        let mut pool = pool(&["10.0.0.0/24"]);
        pool.hold(ip("10.0.0.5"));
        pool.add_range(0, "10.0.0.0/29".parse().unwrap()).unwrap();
        for chance in 0..5 {
            let address = pool.choose(true, chance).unwrap();
            assert_ne!(address, ip("10.0.0.5"));
            pool.hold(address);
        }
        // The /29 of rank 0 is full, the /24 knows what was taken through it.
        let next = pool.choose(true, 0).unwrap();
        assert!(!"10.0.0.0/29".parse::<IpNet>().unwrap().contains(&next), "{next}");
    }

    #[test]
    fn holders_are_counted_and_outlive_ranges() {
        let mut pool = pool(&["10.0.0.0/24"]);
        let address = ip("10.0.0.7");
        assert_eq!(pool.check(address), Ok(()));
        pool.hold(address);
        pool.hold(address);
        pool.release(address);
        assert_eq!(pool.check(address), Err(AddressRefusal::Taken));
        pool.remove_range(1, "10.0.0.0/24".parse().unwrap());
        assert!(matches!(pool.check(address), Err(AddressRefusal::OutOfRange { .. })));
        pool.add_range(1, "10.0.0.0/24".parse().unwrap()).unwrap();
        assert_eq!(pool.check(address), Err(AddressRefusal::Taken));
        pool.release(address);
        assert_eq!(pool.check(address), Ok(()));
    }

    #[test]
    fn the_texts_are_kubernetes() {
        let pool = pool(&["10.0.0.0/24"]);
        assert_eq!(
            pool.check(ip("10.9.0.1")).unwrap_err().to_string(),
            "the provided IP (10.9.0.1) is not in the valid range. The range of valid IPs is 10.0.0.0/24"
        );
        assert_eq!(AddressRefusal::Taken.to_string(), "provided IP is already allocated");
        assert_eq!(AddressRefusal::Full.to_string(), "range is full");
    }
}
