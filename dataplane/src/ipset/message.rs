//! The messages of `NFNL_SUBSYS_IPSET`, as `linux/netfilter/ipset/ip_set.h` has them: written, and read back.
//!
//! Numbers and addresses are big-endian, and say so in their attribute's kind; the kernel refuses those that do not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::types::Protocol;

use super::MAX_ENTRIES;
use crate::ipvs::sets::{Entry, Kind};
use crate::ipvs::state::Place;
use crate::nftables::expr::family_number;
use crate::nftables::netlink::{NetlinkError, Writer, attribute, attributes};
use crate::plan::Family;

/// `NFNL_SUBSYS_IPSET`.
const SUBSYSTEM: u16 = 6;
/// The version of these messages that every kernel knows.
const PROTOCOL_VERSION: u8 = 6;

// IPSET_ATTR_* of a message.
const PROTOCOL: u16 = 1;
const NAME: u16 = 2;
const TYPE: u16 = 3;
const SECOND_NAME: u16 = 3;
const REVISION: u16 = 4;
const FAMILY: u16 = 5;
const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ENTRIES: u16 = 8;
const LINE: u16 = 9;
// IPSET_ATTR_* of what makes a set.
const MAX_ELEMENTS: u16 = 19;
// IPSET_ATTR_* of an entry.
const IP: u16 = 1;
const PREFIX: u16 = 3;
const PORT: u16 = 4;
const TRANSPORT: u16 = 7;
const SECOND_IP: u16 = 20;
const SECOND_PREFIX: u16 = 21;
// IPSET_ATTR_IPADDR_*
const V4: u16 = 1;
const V6: u16 = 2;
/// `NLA_F_NET_BYTEORDER`.
const BIG_ENDIAN: u16 = 0x4000;
/// `IPSET_FLAG_LIST_SETNAME`.
const NAMES_ALONE: u32 = 1 << 1;

/// `IPSET_CMD_*`.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Create = 2,
    Destroy = 3,
    Flush = 4,
    Swap = 6,
    List = 7,
    Add = 9,
    Remove = 10,
}

/// What a message of a dump says of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub kind: Option<String>,
    pub family: Option<Family>,
    pub entries: Vec<Entry>,
}

impl Command {
    /// `nlmsg_type`.
    pub fn kind(self) -> u16 {
        SUBSYSTEM << 8 | self as u16
    }
}

/// Which revision of a type is asked for: one that every kernel since 3.18 has, and that an `ipset` of these years can list.
/// Nothing is used that is newer.
fn revision(kind: Kind) -> u8 {
    match kind {
        Kind::Address => 4,
        Kind::Port | Kind::PortAddress => 5,
        Kind::Net => 6,
        Kind::PortNet => 7,
    }
}

/// About one set.
pub fn named(w: &mut Writer, name: &str) {
    w.bytes(PROTOCOL, &[PROTOCOL_VERSION]);
    w.text(NAME, name);
}

pub fn all_names(w: &mut Writer) {
    w.bytes(PROTOCOL, &[PROTOCOL_VERSION]);
    w.u32(FLAGS | BIG_ENDIAN, NAMES_ALONE);
}

pub fn create(w: &mut Writer, name: &str, kind: Kind, family: Family) {
    named(w, name);
    w.text(TYPE, kind.name());
    w.bytes(REVISION, &[revision(kind)]);
    w.bytes(FAMILY, &[family_number(family)]);
    w.nest(DATA, |w| w.u32(MAX_ELEMENTS | BIG_ENDIAN, MAX_ENTRIES));
}

pub fn swap(w: &mut Writer, one: &str, other: &str) {
    named(w, one);
    w.text(SECOND_NAME, other);
}

/// Entries that are to be added or removed.
pub fn entries<'a>(w: &mut Writer, name: &str, entries: impl Iterator<Item = &'a Entry>) {
    named(w, name);
    // The kernel wants it, for tools that read files.
    w.u32(LINE | BIG_ENDIAN, 0);
    w.nest(ENTRIES, |w| {
        for entry in entries {
            w.nest(DATA, |w| self::entry(w, entry));
        }
    });
}

fn entry(w: &mut Writer, entry: &Entry) {
    match entry {
        Entry::Address(address) => ip(w, IP, *address),
        Entry::Net(range) => {
            ip(w, IP, range.network());
            w.bytes(PREFIX, &[range.prefix_len()]);
        }
        Entry::Port(place) => self::place(w, place),
        Entry::PortAddress(place, address) => {
            self::place(w, place);
            ip(w, SECOND_IP, *address);
        }
        Entry::PortNet(place, range) => {
            self::place(w, place);
            ip(w, SECOND_IP, range.network());
            w.bytes(SECOND_PREFIX, &[range.prefix_len()]);
        }
    }
}

fn place(w: &mut Writer, place: &Place) {
    ip(w, IP, place.address);
    w.bytes(PORT | BIG_ENDIAN, &place.port.to_be_bytes());
    w.bytes(TRANSPORT, &[place.protocol.number()]);
}

fn ip(w: &mut Writer, kind: u16, address: IpAddr) {
    w.nest(kind, |w| match address {
        IpAddr::V4(a) => w.bytes(V4 | BIG_ENDIAN, &a.octets()),
        IpAddr::V6(a) => w.bytes(V6 | BIG_ENDIAN, &a.octets()),
    });
}

/// The name of the set that a message of a dump is about.
pub fn name(message: &[u8]) -> Option<String> {
    text(attribute(message, NAME)?)
}

/// What a message of a dump says; the type stands in the first of a set alone.
pub fn listed(message: &[u8]) -> Listed {
    let number = |kind| attribute(message, kind).and_then(<[u8]>::first).copied();
    let family = Family::ALL.into_iter().find(|family| number(FAMILY) == Some(family_number(*family)));
    let all = attribute(message, ENTRIES).unwrap_or_default();
    Listed {
        kind: attribute(message, TYPE).and_then(text),
        family,
        entries: attributes(all).filter(|(kind, _)| *kind == DATA).filter_map(|(_, data)| read(data)).collect(),
    }
}

fn read(data: &[u8]) -> Option<Entry> {
    let address = read_ip(attribute(data, IP)?)?;
    let range = |address, kind| {
        let prefix = attribute(data, kind)?.first()?;
        IpNet::new(address, *prefix).ok()
    };
    let Some(port) = attribute(data, PORT) else {
        return Some(range(address, PREFIX).map_or(Entry::Address(address), Entry::Net));
    };
    let number = attribute(data, TRANSPORT)?.first()?;
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.number() == *number)?;
    let place = Place::new(address, protocol, u16::from_be_bytes(*port.first_chunk::<2>()?));
    let Some(second) = attribute(data, SECOND_IP) else { return Some(Entry::Port(place)) };
    let second = read_ip(second)?;
    Some(match range(second, SECOND_PREFIX) {
        Some(range) => Entry::PortNet(place, range),
        None => Entry::PortAddress(place, second),
    })
}

fn read_ip(nested: &[u8]) -> Option<IpAddr> {
    let v4 = attribute(nested, V4).and_then(|b| b.first_chunk::<4>()).map(|b| Ipv4Addr::from(*b).into());
    v4.or_else(|| attribute(nested, V6).and_then(|b| b.first_chunk::<16>()).map(|b| Ipv6Addr::from(*b).into()))
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// Sets have error numbers of their own, which the C library has no words for.
pub fn explained(error: NetlinkError) -> NetlinkError {
    let NetlinkError::Refused { what, detail, source } = error else { return error };
    let words = match source.raw_os_error() {
        Some(4097) => "they are not of the set's type and address family",
        Some(4098) => "the kernel has no sets of this type, or not this revision",
        Some(4099) => "there are too many sets",
        Some(4100 | 4108) => "a rule asks the set",
        Some(4101) => "there is no second set of this name",
        Some(4102) => "the sets are of different types",
        Some(4104) => "a range of this length is not taken",
        Some(4106 | 4109 | 4110) => "they are of the other address family",
        Some(4352) => "the set is full",
        _ => "",
    };
    let detail = if detail.is_empty() { words.to_owned() } else { detail };
    NetlinkError::Refused { what, detail, source }
}
