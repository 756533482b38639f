//! The zones in which the addresses of a range have their names.

use std::net::IpAddr;

use ipnet::IpNet;

/// The longest prefix that is divided to the byte, or to the half of one: what is narrower shares its zone with others, whose
/// names are then asked of us and forwarded.
const NARROWEST_V4: u8 = 24;
const NARROWEST_V6: u8 = 124;

/// `10.96.0.0/12` → `96.10.in-addr.arpa` to `111.10.in-addr.arpa` (RFC 1035, 3.5; RFC 3596, 2.5). At most 128 of them.
pub(super) fn reverse(range: IpNet) -> Vec<String> {
    let (step, narrowest) = match range {
        IpNet::V4(_) => (8, NARROWEST_V4),
        IpNet::V6(_) => (4, NARROWEST_V6),
    };
    // No zone of the root, whatever somebody takes for a range.
    let length = range.prefix_len().clamp(step, narrowest).next_multiple_of(step);
    let all = match IpNet::new(range.network(), range.prefix_len().min(length).max(length - (step - 1))) {
        Ok(range) => range.subnets(length),
        Err(_) => return Vec::new(),
    };
    all.map(|subnets| subnets.map(|net| zone(net.network(), length / step)).collect()).unwrap_or_default()
}

fn zone(network: IpAddr, labels: u8) -> String {
    let (mut parts, end): (Vec<String>, _) = match network {
        IpAddr::V4(ip) => (ip.octets().iter().map(u8::to_string).collect(), "in-addr.arpa"),
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
            (nibbles.map(|nibble| format!("{nibble:x}")).collect(), "ip6.arpa")
        }
    };
    parts.truncate(labels.into());
    parts.reverse();
    format!("{}.{end}", parts.join("."))
}
