//! Subnets of one range, all of one size: what nodes get for their pods.
//!
//! The lowest free one is given, as kube-controller-manager does in the beginning, so that what a cluster uses of its range
//! stays together. What is held may be of another size, or several may hold one (a Node that was made by hand): every subnet
//! that it touches is not free, and holders are counted.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::runs::Runs;

/// How many bits a subnet's mask may be longer than the range's (Kubernetes' `clusterSubnetMaxDiff`): 65,536 subnets.
const BITS_MOST: u8 = 16;

/// The subnets of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetPool {
    net: IpNet,
    mask: u8,
    /// Number of a subnet → how many hold it.
    holders: HashMap<u64, u32>,
    taken: Runs,
}

/// A range that cannot be divided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    #[error("the mask of a node's part, /{mask}, is not longer than that of the range {net}, or not of its family")]
    Mask { net: IpNet, mask: u8 },
    #[error("{net} has more than 65536 parts of /{mask}")]
    TooMany { net: IpNet, mask: u8 },
}

impl SubnetPool {
    /// A pool of which nothing is held; host bits of `net` are ignored.
    ///
    /// # Errors
    /// When there would be no subnets, or too many.
    pub fn new(net: IpNet, mask: u8) -> Result<Self, SubnetError> {
        let net = net.trunc();
        let wrong = SubnetError::Mask { net, mask };
        let bits = mask.checked_sub(net.prefix_len()).filter(|_| mask <= net.max_prefix_len()).ok_or(wrong)?;
        if bits > BITS_MOST {
            return Err(SubnetError::TooMany { net, mask });
        }
        Ok(Self { net, mask, holders: HashMap::new(), taken: Runs::default() })
    }

    pub fn net(&self) -> IpNet {
        self.net
    }

    pub fn is_ipv4(&self) -> bool {
        self.net.addr().is_ipv4()
    }

    fn last(&self) -> u64 {
        (1 << (self.mask - self.net.prefix_len())) - 1
    }

    /// Bits behind the number of a subnet.
    fn shift(&self) -> u32 {
        u32::from(self.net.max_prefix_len() - self.mask)
    }

    /// The numbers of the subnets that `net` touches.
    fn touched(&self, net: IpNet) -> std::ops::Range<u64> {
        if net.addr().is_ipv4() != self.is_ipv4() || !(self.net.contains(&net) || net.contains(&self.net)) {
            return 0..0;
        }
        let number = |address| {
            // At most 65,536 of them, so the difference has 17 bits; where it is less than nothing `net` is the wider one.
            let offset = u128::saturating_sub(number(address), number(self.net.network()));
            u64::try_from(offset.checked_shr(self.shift()).unwrap_or(0)).unwrap_or(u64::MAX).min(self.last())
        };
        number(net.network())..number(net.broadcast()) + 1
    }

    /// One more holder of all that `net` touches.
    pub fn hold(&mut self, net: IpNet) {
        for subnet in self.touched(net) {
            let count = self.holders.entry(subnet).or_default();
            *count += 1;
            if *count == 1 {
                self.taken.insert(subnet);
            }
        }
    }

    /// One holder less.
    pub fn release(&mut self, net: IpNet) {
        for subnet in self.touched(net) {
            let Some(count) = self.holders.get_mut(&subnet) else { continue };
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&subnet);
                self.taken.remove(subnet);
            }
        }
    }

    /// The lowest free subnet; holding it is the caller's. None when every one is held.
    pub fn choose(&self) -> Option<IpNet> {
        let free = self.taken.next_free(0).filter(|subnet| *subnet <= self.last())?;
        let first = number(self.net.network()) + (u128::from(free) << self.shift());
        let address = match self.net {
            // It lies in a 32-bit network, so nothing is cut off.
            IpNet::V4(_) => Ipv4Addr::from(first as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from(first).into(),
        };
        IpNet::new(address, self.mask).ok()
    }
}

fn number(address: std::net::IpAddr) -> u128 {
    match address {
        std::net::IpAddr::V4(v4) => u128::from(u32::from(v4)),
        std::net::IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn chosen(pool: &mut SubnetPool) -> Option<String> {
        let subnet = pool.choose()?;
        pool.hold(subnet);
        Some(subnet.to_string())
    }

    #[test]
    fn every_subnet_is_given_once_in_order() {
        let mut pool = SubnetPool::new(net("10.244.0.0/22"), 24).unwrap();
        let given: Vec<String> = std::iter::from_fn(|| chosen(&mut pool)).collect();
        assert_eq!(given, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        pool.release(net("10.244.1.0/24"));
        assert_eq!(chosen(&mut pool).as_deref(), Some("10.244.1.0/24"));
        let mut v6 = SubnetPool::new(net("fd00:244::/48"), 64).unwrap();
        assert_eq!(chosen(&mut v6).as_deref(), Some("fd00:244::/64"));
        assert_eq!(chosen(&mut v6).as_deref(), Some("fd00:244:0:1::/64"));
        assert_eq!(std::iter::from_fn(|| chosen(&mut v6)).last().as_deref(), Some("fd00:244:0:ffff::/64"));
    }

    #[test]
    fn what_is_held_may_have_any_size() {
        let mut pool = SubnetPool::new(net("10.244.0.0/22"), 24).unwrap();
        for (held, next) in [
            ("10.244.0.128/25", Some("10.244.1.0/24")),
            ("10.244.0.0/23", Some("10.244.2.0/24")),
            ("10.0.0.0/8", None),
            ("10.245.0.0/24", Some("10.244.0.0/24")),
            ("fd00::/64", Some("10.244.0.0/24")),
        ] {
            pool.hold(net(held));
            assert_eq!(pool.choose().map(|subnet| subnet.to_string()).as_deref(), next, "{held}");
            pool.release(net(held));
        }
        assert_eq!(pool, SubnetPool::new(net("10.244.0.0/22"), 24).unwrap());
        pool.hold(net("10.244.0.0/24"));
        pool.hold(net("10.244.0.0/24"));
        pool.release(net("10.244.0.0/24"));
        assert_eq!(pool.choose(), Some(net("10.244.1.0/24")), "the other one has it still");
    }

    #[test]
    fn ranges_that_cannot_be_divided_are_refused() {
        let error = |range: &str, mask| SubnetPool::new(net(range), mask).unwrap_err();
        assert!(matches!(error("10.244.0.0/16", 15), SubnetError::Mask { .. }));
        assert!(matches!(error("10.244.0.0/16", 64), SubnetError::Mask { .. }));
        assert!(matches!(error("fd00::/32", 64), SubnetError::TooMany { .. }));
        assert_eq!(SubnetPool::new(net("10.244.0.0/16"), 16).unwrap().choose(), Some(net("10.244.0.0/16")));
    }
}
