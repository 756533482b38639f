//! The servers that `/etc/resolv.conf` names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;

pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved writes the servers that it asks itself.
pub const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// systemd-resolved's stub, and the one that does without its extras.
const STUBS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];

/// Every `nameserver` line (resolv.conf(5)), in order, each once. What is no address is passed over, as glibc does.
pub fn nameservers(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        if let Some(server) = words.next().and_then(address)
            && !found.contains(&server)
        {
            found.push(server);
        }
    }
    found
}

/// `fe80::1%eth0` has its interface beside it.
fn address(word: &str) -> Option<SocketAddr> {
    let Some((ip, zone)) = word.split_once('%') else {
        return word.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
    };
    let scope = zone.parse().ok().or_else(|| if_nametoindex(zone).ok())?;
    Some(SocketAddrV6::new(ip.parse().ok()?, 53, 0, scope).into())
}

/// Whether somebody at this address is systemd-resolved, who knows others.
pub(super) fn is_stub(server: &SocketAddr) -> bool {
    STUBS.iter().any(|stub| server.ip() == IpAddr::V4(*stub)) && server.port() == 53
}
