//! The messages of IPVS, as `linux/ip_vs.h` has them (`IPVS_CMD_*`): written, and read back.
//!
//! Numbers are in the host's order but for ports and the netmask, which are big-endian. An address takes 16 bytes, of which
//! IPv4 uses the first four.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::types::Protocol;

use super::state::{Connections, Place};
use crate::Scheduler;
use crate::nftables::expr::family_number;
use crate::nftables::netlink::{Writer, attribute};
use crate::plan::Family;

// IPVS_CMD_ATTR_*
const SERVICE: u16 = 1;
const DESTINATION: u16 = 2;
// IPVS_SVC_ATTR_*
const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const ADDRESS: u16 = 3;
const PORT: u16 = 4;
const SCHEDULER: u16 = 6;
const FLAGS: u16 = 7;
const TIMEOUT: u16 = 8;
const NETMASK: u16 = 9;
// IPVS_DEST_ATTR_*
const DESTINATION_ADDRESS: u16 = 1;
const DESTINATION_PORT: u16 = 2;
const FORWARDING: u16 = 3;
const WEIGHT: u16 = 4;
const UPPER_THRESHOLD: u16 = 5;
const LOWER_THRESHOLD: u16 = 6;
const ACTIVE: u16 = 7;
const INACTIVE: u16 = 8;
const DESTINATION_FAMILY: u16 = 11;

/// `IP_VS_SVC_F_PERSISTENT`.
const PERSISTENT: u32 = 1;
/// `IP_VS_CONN_F_FWD_MASK`, and `IP_VS_CONN_F_MASQ`: network address translation.
const FORWARDING_MASK: u32 = 7;
const MASQUERADING: u32 = 0;

/// `IPVS_CMD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    NewServer = 1,
    SetServer = 2,
    RemoveServer = 3,
    GetServer = 4,
    NewDestination = 5,
    SetDestination = 6,
    RemoveDestination = 7,
    GetDestination = 8,
}

/// A virtual server as the kernel tells of it, without its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundServer {
    pub place: Place,
    /// `None`: one that is not offered here.
    pub scheduler: Option<Scheduler>,
    pub persistence_seconds: Option<u32>,
}

/// A destination as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundDestination {
    pub at: SocketAddr,
    pub weight: u32,
    pub connections: Connections,
    /// By network address translation, as all of ours.
    pub translated: bool,
}

/// Names a virtual server.
pub fn named(w: &mut Writer, place: &Place) {
    w.nest(SERVICE, |w| identity(w, place));
}

/// All of a virtual server but its destinations.
pub fn server(w: &mut Writer, place: &Place, scheduler: Scheduler, persistence_seconds: Option<u32>) {
    w.nest(SERVICE, |w| {
        identity(w, place);
        w.text(SCHEDULER, scheduler.name());
        // What the flags become, and which of them count: all.
        let flags = if persistence_seconds.is_some() { PERSISTENT } else { 0 };
        let mut both = [0xff; 8];
        both[..4].copy_from_slice(&flags.to_ne_bytes());
        w.bytes(FLAGS, &both);
        number(w, TIMEOUT, persistence_seconds.unwrap_or(0));
        // Each client for itself: a mask in IPv4, the length of a prefix in IPv6.
        number(w, NETMASK, if place.address.is_ipv4() { u32::MAX } else { 128 });
    });
}

/// A destination of a virtual server; `None`: only its name.
pub fn destination(w: &mut Writer, place: &Place, destination: SocketAddr, weight: Option<u32>) {
    named(w, place);
    w.nest(DESTINATION, |w| {
        w.bytes(DESTINATION_ADDRESS, &wide(destination.ip()));
        w.bytes(DESTINATION_PORT, &destination.port().to_be_bytes());
        w.bytes(DESTINATION_FAMILY, &u16::from(family_number(Family::of(destination.ip()))).to_ne_bytes());
        if let Some(weight) = weight {
            number(w, FORWARDING, MASQUERADING);
            number(w, WEIGHT, weight);
            // No limits.
            number(w, UPPER_THRESHOLD, 0);
            number(w, LOWER_THRESHOLD, 0);
        }
    });
}

fn identity(w: &mut Writer, place: &Place) {
    w.bytes(FAMILY, &u16::from(family_number(place.family())).to_ne_bytes());
    w.bytes(PROTOCOL, &u16::from(place.protocol.number()).to_ne_bytes());
    w.bytes(ADDRESS, &wide(place.address));
    w.bytes(PORT, &place.port.to_be_bytes());
}

fn number(w: &mut Writer, kind: u16, value: u32) {
    w.bytes(kind, &value.to_ne_bytes());
}

fn wide(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// Reads a virtual server. `None`: it is one by firewall mark, or of another protocol.
pub fn read_server(message: &[u8]) -> Option<FoundServer> {
    let service = attribute(message, SERVICE)?;
    let family = half(service, FAMILY)?;
    let protocol = half(service, PROTOCOL)?;
    let protocol =
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| u16::from(p.number()) == protocol)?;
    let address = address(attribute(service, ADDRESS)?, family)?;
    let flags = word(service, FLAGS).unwrap_or(0);
    let name = attribute(service, SCHEDULER).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    Some(FoundServer {
        place: Place::new(address, protocol, port(service, PORT)?),
        scheduler: Scheduler::parse(name.trim_end_matches('\0')),
        persistence_seconds: word(service, TIMEOUT).filter(|_| flags & PERSISTENT != 0),
    })
}

/// Reads a destination of a virtual server of this family.
pub fn read_destination(message: &[u8], family: Family) -> Option<FoundDestination> {
    let destination = attribute(message, DESTINATION)?;
    // Kernels before 3.18 do not say.
    let family = half(destination, DESTINATION_FAMILY).unwrap_or_else(|| u16::from(family_number(family)));
    let address = address(attribute(destination, DESTINATION_ADDRESS)?, family)?;
    Some(FoundDestination {
        at: SocketAddr::new(address, port(destination, DESTINATION_PORT)?),
        weight: word(destination, WEIGHT)?,
        connections: Connections {
            active: word(destination, ACTIVE).unwrap_or(0),
            inactive: word(destination, INACTIVE).unwrap_or(0),
        },
        translated: word(destination, FORWARDING)? & FORWARDING_MASK == MASQUERADING,
    })
}

fn address(bytes: &[u8], family: u16) -> Option<IpAddr> {
    let is = |wanted| family == u16::from(family_number(wanted));
    match bytes.first_chunk::<16>() {
        _ if is(Family::V4) => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        Some(bytes) if is(Family::V6) => Some(Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

fn half(attributes: &[u8], kind: u16) -> Option<u16> {
    attribute(attributes, kind)?.first_chunk::<2>().map(|b| u16::from_ne_bytes(*b))
}

fn port(attributes: &[u8], kind: u16) -> Option<u16> {
    attribute(attributes, kind)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

fn word(attributes: &[u8], kind: u16) -> Option<u32> {
    attribute(attributes, kind)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::nftables::netlink::tests::hex;

    fn place(address: &str) -> Place {
        Place::new(address.parse().unwrap(), Protocol::Tcp, 80)
    }

    fn written(body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        body(&mut w);
        w.bytes
    }

    #[cfg(target_endian = "little")]
    fn check(body: impl FnOnce(&mut Writer), expected: Expect) {
        expected.assert_eq(&hex(&written(body)));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn servers() {
        check(
            |w| server(w, &place("10.96.0.1"), Scheduler::RoundRobin, None),
            expect![[r#"
            54000180 06000100 02000000 06000200
            06000000 14000300 0a600001 00000000
            00000000 00000000 06000400 00500000
            07000600 72720000 0c000700 00000000
            ffffffff 08000800 00000000 08000900
            ffffffff
        "#]],
        );
        let persistent = |w: &mut Writer| server(w, &place("fd00::1"), Scheduler::MaglevHashing, Some(10_800));
        check(
            persistent,
            expect![[r#"
            54000180 06000100 0a000000 06000200
            06000000 14000300 fd000000 00000000
            00000000 00000001 06000400 00500000
            07000600 6d680000 0c000700 01000000
            ffffffff 08000800 302a0000 08000900
            80000000
        "#]],
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn destinations() {
        let at = "10.244.1.2:8080".parse().unwrap();
        check(
            |w| destination(w, &place("10.96.0.1"), at, Some(3)),
            expect![[r#"
            30000180 06000100 02000000 06000200
            06000000 14000300 0a600001 00000000
            00000000 00000000 06000400 00500000
            48000280 14000100 0af40102 00000000
            00000000 00000000 06000200 1f900000
            06000b00 02000000 08000300 00000000
            08000400 03000000 08000500 00000000
            08000600 00000000
        "#]],
        );
        check(
            |w| destination(w, &place("10.96.0.1"), at, None),
            expect![[r#"
            30000180 06000100 02000000 06000200
            06000000 14000300 0a600001 00000000
            00000000 00000000 06000400 00500000
            28000280 14000100 0af40102 00000000
            00000000 00000000 06000200 1f900000
            06000b00 02000000
        "#]],
        );
    }

    #[test]
    fn what_is_written_can_be_read() {
        for address in ["10.96.0.1", "fd00::1"] {
            for (scheduler, persistence_seconds) in [(Scheduler::RoundRobin, None), (Scheduler::SourceHashing, Some(5))]
            {
                let place = place(address);
                let bytes = written(|w| server(w, &place, scheduler, persistence_seconds));
                let expected = FoundServer { place, scheduler: Some(scheduler), persistence_seconds };
                assert_eq!(read_server(&bytes), Some(expected));
                let at = SocketAddr::new(place.address, 8080);
                let bytes = written(|w| destination(w, &place, at, Some(7)));
                let expected =
                    FoundDestination { at, weight: 7, connections: Connections::default(), translated: true };
                assert_eq!(read_destination(&bytes, place.family()), Some(expected));
                for length in 0..bytes.len() {
                    assert_eq!(read_server(&bytes[..length]).and(None::<()>), None);
                    assert_eq!(read_destination(&bytes[..length], place.family()), None);
                }
            }
        }
    }
}
