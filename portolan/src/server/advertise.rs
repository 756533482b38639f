//! Where others reach the server: what the endpoints of `default/kubernetes` say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use store::Api;
use tracing::info;

use crate::Failure;

/// Documentation addresses (RFC 5737, RFC 3849): a route to them is the one to the outside. Nothing is sent.
const OUTSIDE_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const OUTSIDE_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);

/// The addresses to advertise: those that were asked for, else what follows from the listeners. At most one per family.
///
/// # Errors
/// An address that nobody else could use, or two of one family; the sentence names the flag.
pub fn addresses(asked: &[IpAddr], listeners: &[(TcpListener, SocketAddr)]) -> Result<Api, Failure> {
    for address in asked {
        if let Some(why) = unusable(*address) {
            return Err(Failure::text(format!(
                "--advertise-address {address}: {why} is no address for other machines"
            )));
        }
    }
    let v4 = asked.iter().filter(|address| address.is_ipv4()).count();
    if v4 > 1 || asked.len() - v4 > 1 {
        return Err(Failure::text("--advertise-address takes at most one address per family"));
    }
    let listening: Vec<SocketAddr> = listeners.iter().map(|(_, address)| *address).collect();
    let found = if asked.is_empty() { from_listeners(&listening, outside) } else { asked.to_vec() };
    if found.is_empty() {
        info!("default/kubernetes leads nowhere: the server listens on loopback alone (--listen, --advertise-address)");
    }
    let first = listening.iter().find(|address| reaches(address.ip(), &found)).or(listening.first());
    Ok(Api { addresses: found, port: first.map_or(0, SocketAddr::port) })
}

/// One address per family: a listener's own, else, of one that listens on every address, what `outside` says.
fn from_listeners(listening: &[SocketAddr], outside: impl Fn(SocketAddr) -> Option<IpAddr>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for v4 in [true, false] {
        let own = listening.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == v4 && unusable(*ip).is_none());
        // A socket on [::] takes IPv4 as well.
        let any = || listening.iter().any(|at| at.ip().is_unspecified() && (v4 || at.is_ipv6()));
        let routed = || any().then(|| outside(if v4 { OUTSIDE_V4 } else { OUTSIDE_V6 })).flatten();
        found.extend(own.or_else(routed).filter(|ip| unusable(*ip).is_none()));
    }
    found
}

/// The address that packets to `target` would leave from. Connecting a UDP socket asks the routing table and sends nothing.
fn outside(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn reaches(listener: IpAddr, advertised: &[IpAddr]) -> bool {
    listener.is_unspecified() || advertised.contains(&listener)
}

/// Why an address can be no endpoint, as Kubernetes has it.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(listening: &[&str]) -> Vec<String> {
        let listening: Vec<SocketAddr> = listening.iter().map(|text| text.parse().unwrap()).collect();
        let outside = |target: SocketAddr| {
            Some(if target.is_ipv4() { "198.51.100.7".parse().unwrap() } else { "2001:db8:7::7".parse().unwrap() })
        };
        from_listeners(&listening, outside).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn what_is_advertised_follows_from_the_listeners() {
        assert_eq!(found(&["127.0.0.1:6443", "[::1]:6443"]), [""; 0]);
        assert_eq!(found(&["127.0.0.1:6443", "192.0.2.9:6443"]), ["192.0.2.9"]);
        assert_eq!(found(&["0.0.0.0:6443"]), ["198.51.100.7"]);
        assert_eq!(found(&["[::]:6443"]), ["198.51.100.7", "2001:db8:7::7"]);
        assert_eq!(found(&["0.0.0.0:6443", "[2001:db8::9]:6443"]), ["198.51.100.7", "2001:db8::9"]);
    }

    #[test]
    fn what_nobody_can_reach_is_refused() {
        let refused = |asked: &[&str]| {
            let asked: Vec<IpAddr> = asked.iter().map(|text| text.parse().unwrap()).collect();
            addresses(&asked, &[]).is_err()
        };
        for asked in [&["127.0.0.1"][..], &["::"], &["fe80::1"], &["224.0.0.1"], &["192.0.2.1", "192.0.2.2"]] {
            assert!(refused(asked), "{asked:?}");
        }
        assert!(!refused(&["192.0.2.1", "2001:db8::1"]));
    }
}
