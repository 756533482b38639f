//! Where the edge stands on the network: its interface and its own addresses, from what it was told and what the machine has.

use std::io;
use std::net::IpAddr;

use model::types::EdgeAddress;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

use crate::announce::packet::Mac;

/// The interface on which addresses are answered for, and the edge's own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub interface: String,
    pub index: u32,
    /// Never empty; at most one per family.
    pub addresses: Vec<EdgeAddress>,
}

/// There is no such place.
#[derive(Debug, thiserror::Error)]
pub enum NoPlace {
    #[error("looking at this machine's interfaces")]
    Look(#[source] io::Error),
    #[error("this machine has no interface {0}; give one of its own with --interface")]
    NoInterface(String),
    #[error("no interface of this machine has the address {0}; give one of its own with --edge-ip")]
    NoAddress(IpAddr),
    #[error("the interface {0} has no address that others can reach; give it one, or name another with --interface")]
    Bare(String),
    #[error(
        "the interface {0} has no link-layer address, so no addresses can be answered for on it; name another with --interface"
    )]
    NoMac(String),
    #[error("which address of this machine is the edge's own is not clear; give it with --edge-ip")]
    Unclear,
}

/// What an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Has {
    Address(IpAddr),
    Mac(Mac),
}

/// Finds it. `towards_server` is the address that packets to the server leave from.
///
/// # Errors
/// When what was told is not there, or too little was.
pub fn find(told: &[IpAddr], interface: Option<&str>, towards_server: Option<IpAddr>) -> Result<Place, NoPlace> {
    let all: Vec<(String, Has)> = getifaddrs().map_err(|errno| NoPlace::Look(errno.into()))?.filter_map(seen).collect();
    let (interface, addresses) = choose(&all, told, interface, towards_server)?;
    let index = if_nametoindex(interface.as_str()).map_err(|errno| NoPlace::Look(errno.into()))?;
    Ok(Place { interface, index, addresses })
}

fn seen(found: nix::ifaddrs::InterfaceAddress) -> Option<(String, Has)> {
    let address = found.address?;
    let has = if let Some(v4) = address.as_sockaddr_in() {
        Has::Address(v4.ip().into())
    } else if let Some(v6) = address.as_sockaddr_in6() {
        Has::Address(v6.ip().into())
    } else {
        Has::Mac(Mac(address.as_link_addr()?.addr()?))
    };
    Some((found.interface_name, has))
}

/// The interface and the edge's own addresses with theirs.
fn choose(
    all: &[(String, Has)],
    told: &[IpAddr],
    interface: Option<&str>,
    towards_server: Option<IpAddr>,
) -> Result<(String, Vec<EdgeAddress>), NoPlace> {
    let with =
        |address: IpAddr| all.iter().find(|(_, has)| *has == Has::Address(address)).map(|(name, _)| name.as_str());
    let mac = |name: &str| {
        let of =
            all.iter().find_map(|(of, has)| if let Has::Mac(mac) = has { (of == name).then_some(*mac) } else { None });
        of.filter(|mac| mac.0 != [0; 6]).ok_or_else(|| NoPlace::NoMac(name.to_owned()))
    };
    if let Some(name) = interface.filter(|name| !all.iter().any(|(of, _)| of == name)) {
        return Err(NoPlace::NoInterface(name.to_owned()));
    }
    let own: Vec<IpAddr> = match (told, interface, towards_server) {
        ([_, ..], _, _) => told.to_vec(),
        ([], Some(name), _) => usable(all, name).map_err(|()| NoPlace::Bare(name.to_owned()))?,
        ([], None, Some(address)) => match with(address) {
            Some(name) => usable(all, name).map_err(|()| NoPlace::Unclear)?,
            None => return Err(NoPlace::Unclear),
        },
        ([], None, None) => return Err(NoPlace::Unclear),
    };
    let mut addresses = Vec::with_capacity(own.len());
    for ip in own {
        let name = with(ip).ok_or(NoPlace::NoAddress(ip))?;
        addresses.push(EdgeAddress { ip, mac: mac(name)?.to_string() });
    }
    let first = addresses.first().and_then(|address| with(address.ip)).ok_or(NoPlace::Unclear)?;
    let interface = interface.unwrap_or(first).to_owned();
    mac(&interface)?;
    Ok((interface, addresses))
}

/// The first address of each family that others can reach.
fn usable(all: &[(String, Has)], name: &str) -> Result<Vec<IpAddr>, ()> {
    let reachable = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
    };
    let of_it = all.iter().filter(|(of, _)| of == name);
    let addresses: Vec<IpAddr> = of_it
        .filter_map(|(_, has)| if let Has::Address(ip) = has { Some(*ip) } else { None })
        .filter(reachable)
        .collect();
    let first = |v6: bool| addresses.iter().find(move |ip| ip.is_ipv6() == v6).copied();
    let both: Vec<IpAddr> = first(false).into_iter().chain(first(true)).collect();
    if both.is_empty() { Err(()) } else { Ok(both) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn machine() -> Vec<(String, Has)> {
        let of = |name: &str, has: &[Has]| -> Vec<(String, Has)> {
            has.iter().map(|has| (name.to_owned(), has.clone())).collect()
        };
        let (inner, outer) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let address = |text: &str| Has::Address(ip(text));
        let mut all = of("lo", &[Has::Mac(Mac([0; 6])), address("127.0.0.1"), address("::1")]);
        all.extend(of("eth0", &[Has::Mac(inner), address("10.0.0.7"), address("fe80::1"), address("fd00::7")]));
        all.extend(of("eth1", &[Has::Mac(outer), address("169.254.0.1")]));
        all.extend(of("wg0", &[address("10.9.0.1")]));
        all
    }

    fn chosen(told: &[&str], interface: Option<&str>, server: Option<&str>) -> Result<(String, Vec<String>), String> {
        let told: Vec<IpAddr> = told.iter().map(|text| ip(text)).collect();
        let chosen = choose(&machine(), &told, interface, server.map(ip));
        let shown = |(interface, addresses): (String, Vec<EdgeAddress>)| {
            (interface, addresses.into_iter().map(|a| format!("{} {}", a.ip, a.mac)).collect())
        };
        chosen.map(shown).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_told_counts_and_else_what_the_interface_has() {
        let both = vec!["10.0.0.7 02:00:00:00:00:01".to_owned(), "fd00::7 02:00:00:00:00:01".to_owned()];
        let eth0 = |addresses: &[String]| Ok(("eth0".to_owned(), addresses.to_vec()));
        assert_eq!(chosen(&["10.0.0.7"], None, None), eth0(&both[..1]));
        assert_eq!(chosen(&[], Some("eth0"), None), eth0(&both));
        assert_eq!(chosen(&[], None, Some("10.0.0.7")), eth0(&both));
        // Clients are on another network than nodes.
        assert_eq!(chosen(&["10.0.0.7"], Some("eth1"), None), Ok(("eth1".to_owned(), both[..1].to_vec())));
    }

    #[test]
    fn whatever_is_wrong_says_what_to_do() {
        for (told, interface, server, word) in [
            (&["10.0.0.8"][..], None, None, "--edge-ip"),
            (&[], Some("eth9"), None, "--interface"),
            (&[], Some("eth1"), None, "--interface"),
            (&[], None, None, "--edge-ip"),
            (&[], None, Some("192.0.2.1"), "--edge-ip"),
            (&[], Some("wg0"), None, "--interface"),
            (&["127.0.0.1"], None, None, "--interface"),
        ] {
            let error = chosen(told, interface, server).unwrap_err();
            assert!(error.contains(word), "{told:?} {interface:?} {server:?}: {error}");
        }
    }
}
