//! IP addresses and CIDRs as Kubernetes' API reads them.
//!
//! Old fields (`clusterIPs`, `externalIPs`, …) take what Go's parser of before 1.17 took: leading zeros in IPv4
//! (`010.1.2.3` is 10.1.2.3) and IPv4-mapped IPv6 (`::ffff:1.2.3.4` is 1.2.3.4), with a warning. New fields
//! (IPAddress, ServiceCIDR) take the canonical spelling alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address as it was written in a CIDR, with the network round it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub network: IpNet,
}

/// Reads an address the lenient way; an IPv4-mapped IPv6 address is its IPv4 address.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        let address: Ipv6Addr = text.parse().ok()?;
        return Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4));
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 16 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.trim_start_matches('0').parse().ok().or_else(|| part.bytes().all(|b| b == b'0').then_some(0))?;
    }
    parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Reads a CIDR the lenient way. Bits beyond the prefix are allowed; `address` keeps them.
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, length) = text.split_once('/')?;
    let address = if address.contains(':') { IpAddr::V6(address.parse().ok()?) } else { parse_ip(address)? };
    if length.is_empty() || length.len() > 16 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = length.trim_start_matches('0');
    let length: u8 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    // An IPv4-mapped prefix counts in the 128 bits that were written; it is IPv4 only when it lies inside ::ffff/96.
    let (address, length) = match address {
        IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), length.checked_sub(96)) {
            (Some(v4), Some(length)) => (IpAddr::V4(v4), length),
            _ => (address, length),
        },
        IpAddr::V4(_) => (address, length),
    };
    let network = IpNet::new(address, length).ok()?.trunc();
    Some(Cidr { address, network })
}

/// Problems of an address in a field that reads it leniently.
pub fn valid_ip(value: &str) -> Vec<String> {
    if parse_ip(value).is_some() { Vec::new() } else { vec![NOT_AN_ADDRESS.to_owned()] }
}

/// Problems of a CIDR in a field that reads it leniently.
pub fn valid_cidr(value: &str) -> Vec<String> {
    if parse_cidr(value).is_some() { Vec::new() } else { vec![NOT_A_CIDR.to_owned()] }
}

/// Problems of an address in a field that takes the canonical spelling alone.
pub fn canonical_ip_problems(value: &str) -> Vec<String> {
    let Some(address) = parse_ip(value) else { return vec![NOT_AN_ADDRESS.to_owned()] };
    if value == address.to_string() {
        return Vec::new();
    }
    vec![if value.contains(':') && address.is_ipv4() {
        "must not be an IPv4-mapped IPv6 address".to_owned()
    } else if address.is_ipv4() {
        "must not have leading 0s".to_owned()
    } else {
        format!("must be in canonical form (\"{address}\")")
    }]
}

/// Problems of a CIDR in a field that takes the canonical spelling alone.
pub fn canonical_cidr_problems(value: &str) -> Vec<String> {
    let Some(cidr) = parse_cidr(value) else { return vec![NOT_A_CIDR.to_owned()] };
    if value == cidr.network.to_string() {
        return Vec::new();
    }
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    let mut problems = Vec::new();
    if address.contains(':') && cidr.address.is_ipv4() {
        problems.push("must not have an IPv4-mapped IPv6 address".to_owned());
    } else if !address.contains(':') && address != cidr.address.to_string() {
        problems.push("must not have leading 0s in IP".to_owned());
    }
    if length.len() > 1 && length.starts_with('0') {
        problems.push("must not have leading 0s in prefix length".to_owned());
    }
    if cidr.address != cidr.network.addr() {
        problems.push("must not have bits set beyond the prefix length".to_owned());
    }
    if problems.is_empty() {
        problems.push(format!("must be in canonical form (\"{}\")", cidr.network));
    }
    problems
}

/// The warning that an address in a lenient field deserves for its spelling.
pub fn ip_warnings(path: &str, value: &str) -> Vec<String> {
    let Some(address) = parse_ip(value) else { return Vec::new() };
    if value == address.to_string() {
        return Vec::new();
    }
    vec![if address.is_ipv4() {
        format!(
            "{path}: non-standard IP address \"{value}\" will be considered invalid in a future Kubernetes release: \
             use \"{address}\""
        )
    } else {
        format!("{path}: IPv6 address \"{value}\" should be in RFC 5952 canonical format (\"{address}\")")
    }]
}

/// The warnings that a CIDR in a lenient field deserves for its spelling.
pub fn cidr_warnings(path: &str, value: &str) -> Vec<String> {
    let Some(Cidr { address, network }) = parse_cidr(value) else { return Vec::new() };
    let mut warnings = Vec::new();
    if address != network.addr() {
        let single = network.max_prefix_len();
        warnings.push(format!(
            "{path}: CIDR value \"{value}\" is ambiguous in this context (should be \"{network}\" or \
             \"{address}/{single}\"?)"
        ));
    }
    let (written, length) = value.split_once('/').unwrap_or((value, ""));
    // The standard parser takes no leading zeros; an IPv4-mapped address it takes for IPv6.
    let standard = written.parse::<IpAddr>() == Ok(address);
    let zero_length = length.len() > 1 && length.starts_with('0');
    if !standard || zero_length {
        warnings.push(format!(
            "{path}: non-standard CIDR value \"{value}\" will be considered invalid in a future Kubernetes release: \
             use \"{network}\""
        ));
    }
    if warnings.is_empty() && value != network.to_string() {
        warnings.push(format!(
            "{path}: IPv6 CIDR value \"{value}\" should be in RFC 5952 canonical format (\"{network}\")"
        ));
    }
    warnings
}
