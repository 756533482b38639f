//! Who may have names looked up that are not the cluster's. The cluster's own names are answered to everybody who reaches the
//! socket: the answer is small and made from memory. A resolver that looks up anything for anybody is an open resolver, and
//! used against others sooner or later (RFC 5358).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

/// Sources that may ask for every name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl Access {
    /// These networks, and no other.
    pub fn only(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut access = Self { v4: Vec::new(), v6: Vec::new() };
        access.add(networks);
        access
    }

    pub fn add(&mut self, networks: impl IntoIterator<Item = IpNet>) {
        for network in networks {
            match network {
                IpNet::V4(network) => self.v4.push(network),
                IpNet::V6(network) => self.v6.push(network),
            }
        }
    }

    /// The networks that this machine's interfaces are in now, so that its own programs and neighbours may ask where addresses
    /// are public ones.
    pub fn add_own_networks(&mut self) {
        let Ok(interfaces) = getifaddrs() else { return };
        self.add(interfaces.filter_map(|interface| network(&interface)));
    }

    pub fn allows(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(client) => self.v4.iter().any(|network| network.contains(&client)),
            IpAddr::V6(client) => self.v6.iter().any(|network| network.contains(&client)),
        }
    }
}

/// `None` for an interface without an address, and for a mask that takes in the whole world.
fn network(interface: &InterfaceAddress) -> Option<IpNet> {
    let address = ip(interface.address.as_ref()?)?;
    let mask = interface.netmask.as_ref().and_then(ip);
    let network = mask.and_then(|mask| IpNet::with_netmask(address, mask).ok()).unwrap_or_else(|| address.into());
    (network.prefix_len() > 0).then_some(network)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

impl Default for Access {
    /// Loopback, link-local and private addresses (RFC 1918, RFC 6598's shared ones, RFC 4193): what a packet from the internet
    /// does not come from.
    fn default() -> Self {
        let v4 = [([127, 0, 0, 0], 8), ([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16)];
        let v4 = v4.into_iter().chain([([169, 254, 0, 0], 16), ([100, 64, 0, 0], 10)]);
        let v6 =
            [([0, 0, 0, 0, 0, 0, 0, 1], 128), ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7)];
        Self {
            v4: v4.map(|(address, length)| Ipv4Net::new_assert(address.into(), length)).collect(),
            v6: v6.into_iter().map(|(address, length)| Ipv6Net::new_assert(address.into(), length)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_ask_for_everything_and_strangers_do_not() {
        let access = Access::default();
        let inside =
            ["127.0.0.1", "10.96.0.10", "172.31.255.1", "192.168.1.1", "100.64.3.4", "::1", "fe80::1", "fd00::5"];
        for client in inside.into_iter().chain(["::ffff:10.0.0.1"]) {
            assert!(access.allows(client.parse().unwrap()), "{client}");
        }
        for client in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!access.allows(client.parse().unwrap()), "{client}");
        }
        let only = Access::only(["203.0.113.0/24".parse().unwrap()]);
        assert!(only.allows("203.0.113.9".parse().unwrap()));
        assert!(!only.allows("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_machines_own_networks() {
        // There is loopback everywhere, with 127.0.0.1/8.
        let mut own = Access::only([]);
        own.add_own_networks();
        assert!(own.allows([127, 9, 9, 9].into()) && !own.allows([8, 8, 8, 8].into()));
    }
}
