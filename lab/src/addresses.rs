//! The lab's address plan, as arithmetic. Users write these addresses into scripts, so they are part of the contract:
//! the same number always means the same machine, in both families, written with the same digits
//! (`172.31.255.11` and `fd00:31::11`).

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Where the server listens for the agents, on the bridge.
pub const API_PORT: u16 = 6443;
/// Length of the subnet that the bridge, the nodes and the client share.
pub const SUBNET_LEN_V4: u8 = 24;
pub const SUBNET_LEN_V6: u8 = 64;
/// What a pod's default routes point to: link-local, so it costs no address of the pod range. Answered by a permanent
/// neighbour entry, not by ARP.
pub const POD_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub const POD_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The most pods of a node; fewer than its addresses, so that none need be used again at once.
pub const MAX_PODS_PER_NODE: usize = 200;
/// Pods have the host numbers from here to [`LAST_POD`].
const FIRST_POD: u8 = 2;
const LAST_POD: u8 = 254;

/// Edge node N has the host number `EDGE_HOSTS + N`: behind the pools.
pub const EDGE_HOSTS: u8 = 200;

/// One machine's address in each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Pair {
    /// IPv4 first: the lab's cluster has IPv4 as its primary family.
    pub fn list(self) -> Vec<IpAddr> {
        vec![self.v4.into(), self.v6.into()]
    }
}

/// The bridge itself: the nodes' default gateway, and where their agents find the server.
pub fn bridge() -> Pair {
    on_subnet(1)
}

/// The machine outside the cluster.
pub fn client() -> Pair {
    on_subnet(100)
}

/// Node `number`, from 1.
pub fn node(number: u8) -> Pair {
    on_subnet(number.saturating_add(10))
}

/// Edge node `number`, from 1.
pub fn edge(number: u8) -> Pair {
    on_subnet(number.saturating_add(EDGE_HOSTS))
}

/// The lab's pools of external addresses: name, type, and what is in it.
pub const POOLS: [(&str, &str, [&str; 2]); 2] = [
    ("internet", "internet", ["172.31.255.128-172.31.255.191", "fd00:31::1:0/112"]),
    ("intranet", "intranet", ["172.31.255.192-172.31.255.199", "fd00:31::2:0/112"]),
];

/// The pod range of node `number`.
pub fn pod_range(number: u8) -> (Ipv4Net, Ipv6Net) {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, number, 0), 24);
    let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x244, same_digits(number), 0, 0, 0, 0, 0), 64);
    (v4, v6)
}

/// Pod `host` of node `number`.
pub fn pod(number: u8, host: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(10, 244, number, host),
        v6: Ipv6Addr::new(0xfd00, 0x244, same_digits(number), 0, 0, 0, 0, same_digits(host)),
    }
}

/// The host number that `address` has in the pod range of node `number`, if it lies in it.
pub fn pod_host(number: u8, address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(v4) => {
            let [10, 244, n, host] = v4.octets() else { return None };
            (n == number && (FIRST_POD..=LAST_POD).contains(&host)).then_some(host)
        }
        IpAddr::V6(_) => None,
    }
}

fn on_subnet(host: u8) -> Pair {
    Pair { v4: Ipv4Addr::new(172, 31, 255, host), v6: Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, same_digits(host)) }
}

/// The number whose hexadecimal digits are the decimal digits of `number`.
fn same_digits(number: u8) -> u16 {
    let n = u16::from(number);
    (n / 100) * 0x100 + (n / 10 % 10) * 0x10 + n % 10
}

/// The host numbers of one node's pods.
///
/// The lowest free number is taken, so that addresses stay short and predictable. One that was just given back rests
/// until [`Pool::REST`] others were given back after it: a client that still holds the old pod's address must not
/// reach a new one.
#[derive(Debug, Default)]
pub struct Pool {
    used: BTreeSet<u8>,
    resting: VecDeque<u8>,
}

impl Pool {
    const REST: usize = 32;

    /// Takes `wish` when it is free (a pod of an earlier run gets its address back), else the lowest free number, else
    /// the one that has rested longest. `None` when all are in use.
    pub fn take(&mut self, wish: Option<u8>) -> Option<u8> {
        let free = |host: &u8| !self.used.contains(host);
        let host = wish
            .filter(|h| (FIRST_POD..=LAST_POD).contains(h))
            .filter(free)
            .or_else(|| (FIRST_POD..=LAST_POD).filter(free).find(|h| !self.resting.contains(h)))
            .or_else(|| self.resting.front().copied())?;
        self.resting.retain(|h| *h != host);
        self.used.insert(host);
        Some(host)
    }

    /// How many are in use.
    pub fn used(&self) -> usize {
        self.used.len()
    }

    /// Gives a number back.
    pub fn put(&mut self, host: u8) {
        if self.used.remove(&host) {
            self.resting.push_back(host);
            if self.resting.len() > Self::REST {
                self.resting.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_show_the_same_digits() {
        assert_eq!(node(1).v4.to_string(), "172.31.255.11");
        assert_eq!(node(1).v6.to_string(), "fd00:31::11");
        assert_eq!(
            client().list().iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["172.31.255.100", "fd00:31::100"]
        );
        assert_eq!((edge(1).v4.to_string(), edge(1).v6.to_string()), ("172.31.255.201".into(), "fd00:31::201".into()));
        assert_eq!(bridge().v6.to_string(), "fd00:31::1");
        assert_eq!(pod(12, 254).v6.to_string(), "fd00:244:12::254");
        assert_eq!(pod_range(12).1.to_string(), "fd00:244:12::/64");
        assert_eq!(pod_range(3).0.to_string(), "10.244.3.0/24");
    }

    #[test]
    fn the_last_node_stays_clear_of_the_client() {
        let last = u8::try_from(crate::MAX_NODES).unwrap();
        assert!(node(last).v4 < client().v4);
    }

    #[test]
    fn a_pod_is_found_again_by_its_address() {
        assert_eq!(pod_host(2, "10.244.2.7".parse().unwrap()), Some(7));
        assert_eq!(pod_host(1, "10.244.2.7".parse().unwrap()), None);
        assert_eq!(pod_host(2, "10.244.2.255".parse().unwrap()), None);
        assert_eq!(pod_host(2, "fd00:244:2::7".parse().unwrap()), None);
    }

    #[test]
    fn the_lowest_free_number_is_taken_and_a_returned_one_rests() {
        let mut pool = Pool::default();
        assert_eq!([pool.take(None), pool.take(None), pool.take(None)], [Some(2), Some(3), Some(4)]);
        pool.put(3);
        assert_eq!(pool.take(None), Some(5));
        assert_eq!(pool.take(Some(3)), Some(3), "a wish is granted even while resting");
        assert_eq!(pool.take(Some(3)), Some(6), "unless it is in use");
        assert_eq!(pool.take(Some(255)), Some(7), "or out of range");
    }

    #[test]
    fn a_resting_number_is_used_before_a_pod_is_refused() {
        let mut pool = Pool::default();
        let all: Vec<u8> = std::iter::from_fn(|| pool.take(None)).collect();
        assert_eq!(all.len(), usize::from(LAST_POD - FIRST_POD) + 1);
        pool.put(9);
        pool.put(4);
        assert_eq!([pool.take(None), pool.take(None), pool.take(None)], [Some(9), Some(4), None]);
    }

    #[test]
    fn a_number_rests_for_a_bounded_time() {
        let mut pool = Pool::default();
        assert_eq!(pool.take(None), Some(2));
        pool.put(2);
        for _ in 0..Pool::REST {
            let host = pool.take(None).unwrap();
            assert_ne!(host, 2);
            pool.put(host);
        }
        assert_eq!(pool.take(None), Some(2));
    }
}
