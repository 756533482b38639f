//! Neighbour solicitations and advertisements of ICMPv6, with the IPv6 header before them (RFC 4861 §4.3, §4.4, §7.1).

use std::net::Ipv6Addr;

use super::{Claim, Heard, Mac, Packet, Question};

const IPV6_LEN: usize = 40;
/// Type, code, checksum, flags, target.
const ICMP_LEN: usize = 24;
const ICMPV6: u8 = 58;
/// Nobody who is further away than the link can send with this hop limit (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Flags of an advertisement: it was asked for; it replaces what is known.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub fn read(bytes: &[u8], from: Mac) -> Option<Heard> {
    let header: &[u8; IPV6_LEN] = bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != HOP_LIMIT {
        return None;
    }
    let source = address(header, 8)?;
    let destination = address(header, 24)?;
    let message = bytes.get(IPV6_LEN..IPV6_LEN.checked_add(length)?)?;
    let head: &[u8; ICMP_LEN] = message.first_chunk()?;
    if head[1] != 0 || checksum(source, destination, message) != 0 {
        return None;
    }
    let target = address(head, 8)?;
    let options = Options::read(message.get(ICMP_LEN..)?)?;
    if target.is_multicast() {
        return None;
    }
    match head[0] {
        SOLICITATION if source.is_unspecified() => {
            let valid = destination == solicited_node(target) && options.source.is_none();
            let question = Question { address: target.into(), from, asker: None };
            valid.then_some(Heard { question: Some(question), claim: None })
        }
        SOLICITATION => {
            let mac = options.source.unwrap_or(from);
            let question = Question { address: target.into(), from: mac, asker: Some(source.into()) };
            let claim = Claim { address: source.into(), by: mac };
            Some(Heard { question: Some(question), claim: Some(claim) })
        }
        ADVERTISEMENT => {
            if destination.is_multicast() && head[4] & SOLICITED != 0 {
                return None;
            }
            let claim = Claim { address: target.into(), by: options.target.unwrap_or(from) };
            Some(Heard { question: None, claim: Some(claim) })
        }
        _ => None,
    }
}

/// To who has asked, or to everybody.
pub fn advertisement(mac: Mac, address: Ipv6Addr, asker: Option<(Mac, Ipv6Addr)>) -> Packet {
    let (to, destination, flags) = match asker {
        Some((to, asker)) => (to, asker, SOLICITED | OVERRIDE),
        None => (multicast(ALL_NODES), ALL_NODES, OVERRIDE),
    };
    let mut option = [TARGET_LINK_LAYER, 1, 0, 0, 0, 0, 0, 0];
    option[2..].copy_from_slice(&mac.0);
    packet(to, address, destination, ADVERTISEMENT, flags, address, &option)
}

pub fn probe(address: Ipv6Addr) -> Packet {
    let destination = solicited_node(address);
    packet(multicast(destination), Ipv6Addr::UNSPECIFIED, destination, SOLICITATION, 0, address, &[])
}

/// The group that every owner of `address` listens to (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The link-layer address of a group (RFC 2464 §7).
fn multicast(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

fn packet(
    to: Mac,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    options: &[u8],
) -> Packet {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend(options);
    let sum = checksum(source, destination, &message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut bytes = Vec::with_capacity(IPV6_LEN + message.len());
    bytes.extend([0x60, 0, 0, 0, length[0], length[1], ICMPV6, HOP_LIMIT]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(message);
    Packet { to, bytes, v6: true }
}

/// The link-layer addresses among the options.
#[derive(Default)]
struct Options {
    source: Option<Mac>,
    target: Option<Mac>,
}

impl Options {
    /// `None` when an option has no length or is cut off: then the whole message is not valid.
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while let [kind, units, ..] = *bytes {
            let length = usize::from(units) * 8;
            let option = bytes.get(..length).filter(|option| !option.is_empty())?;
            let mac = option.get(2..8).and_then(<[u8]>::first_chunk).map(|mac| Mac(*mac));
            match kind {
                SOURCE_LINK_LAYER => options.source = mac,
                TARGET_LINK_LAYER => options.target = mac,
                _ => {}
            }
            bytes = bytes.get(length..)?;
        }
        bytes.is_empty().then_some(options)
    }
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: &[u8; 16] = bytes.get(at..)?.first_chunk()?;
    Some(Ipv6Addr::from(*octets))
}

/// Over the pseudo-header and the message (RFC 4443 §2.3); 0 when the one in the message is right.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let pseudo = [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, ICMPV6]];
    let mut sum = 0_u32;
    // Every part but the last has an even length.
    for part in pseudo.into_iter().chain([message]) {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or_default();
            sum = sum.wrapping_add(u32::from(u16::from_be_bytes([pair[0], low])));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
