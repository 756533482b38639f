//! The thin end: conntrack's entries read, and removed one by one.
//!
//! An entry is removed by its tuple and the number that the kernel gave it, so that a new flow which took the tuple
//! meanwhile stays.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};

use model::types::Protocol;
use nix::libc;

use super::{Connection, Flow, Index, Lasting, Stray, abandoned, ended, missed, stale};
use crate::nftables::expr::family_number;
use crate::nftables::netlink::batch::{NLM_F_ACK, NLM_F_DUMP};
use crate::nftables::netlink::routes::Routes;
use crate::nftables::netlink::socket::{Request, Socket};
use crate::nftables::netlink::{NetlinkError, Writer, attribute};
use crate::plan::Family;

// NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_*
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;

// CTA_*
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const STATUS_MASK: u16 = 26;
// CTA_TUPLE_*, CTA_PROTO_*
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const TUPLE_ZONE: u16 = 3;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// `IPS_SEEN_REPLY`.
const SEEN_REPLY: u32 = 1 << 1;
/// `CTA_FILTER_ORIG_FLAGS`.
const FILTER_ORIGINAL: u16 = 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM`: the protocol of the tuple counts, and nothing else of it.
const FILTER_PROTOCOL: u32 = 1 << 3;

/// Entries that are removed before the others are looked at again; bounds what is kept in memory.
const PASS: usize = 16_384;
const MAX_PASSES: usize = 64;

/// What a clean-up did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries that were looked at: all of UDP, and where connections may have been missed or abandoned, those of other
    /// protocols that nobody has answered.
    pub looked: usize,
    pub removed: usize,
}

/// Conntrack of the network namespace in which this was opened.
pub struct Cleaner {
    socket: Socket,
    routes: Routes,
}

/// Which entries the kernel is asked for.
#[derive(Clone, Copy)]
enum Which {
    All,
    /// Those that nobody has answered. A kernel before 5.15 tells of all.
    Unanswered,
}

/// An entry, as it must be named to be removed.
struct Entry {
    tuple: Vec<u8>,
    id: Vec<u8>,
}

impl Cleaner {
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open()?, routes: Routes::open()? })
    }

    /// Removes every stale flow, and connections that were missed or abandoned. Blocks for about a microsecond per entry
    /// that is looked at.
    ///
    /// # Errors
    /// When the kernel refuses; some flows may have been removed.
    pub fn clean(&self, index: &Index) -> Result<Report, NetlinkError> {
        let mut report = Report::default();
        for (protocol, family) in index.looks() {
            let known = RefCell::new(HashMap::new());
            let is_here = |address: IpAddr| {
                // What cannot be told is not touched.
                let look = || self.routes.is_local(address).unwrap_or(false);
                *known.borrow_mut().entry(address).or_insert_with(look)
            };
            if protocol == Protocol::Udp {
                let goes = |connection: &Connection| stale(index, &connection.flow, is_here);
                self.sweep(protocol, family, Which::All, goes, &mut report)?;
            } else {
                let goes = |connection: &Connection| {
                    missed(index, connection, is_here) || abandoned(index, connection, is_here)
                };
                self.sweep(protocol, family, Which::Unanswered, goes, &mut report)?;
            }
        }
        Ok(report)
    }

    /// Removes every connection of a load balancer that leads to nobody who may have any. Blocks like [`Cleaner::clean`],
    /// for connections of TCP and UDP.
    ///
    /// # Errors
    /// When the kernel refuses; some connections may have been removed.
    pub fn end(&self, lasting: &Lasting) -> Result<Report, NetlinkError> {
        let mut report = Report::default();
        for (protocol, family) in tracked() {
            self.sweep(protocol, family, Which::All, |connection| ended(lasting, connection), &mut report)?;
        }
        Ok(report)
    }

    /// Where connections lead that [`Cleaner::end`] would remove.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn strays(&self, lasting: &Lasting) -> Result<BTreeSet<Stray>, NetlinkError> {
        let strays = RefCell::new(BTreeSet::new());
        for (protocol, family) in tracked() {
            self.find(protocol, family, Which::All, |connection| {
                if ended(lasting, connection) {
                    let Flow { destination, reply_source, .. } = connection.flow;
                    strays.borrow_mut().insert(Stray { protocol, destination, backend: reply_source });
                }
                false
            })?;
        }
        Ok(strays.into_inner())
    }

    fn sweep(
        &self,
        protocol: Protocol,
        family: Family,
        which: Which,
        goes: impl Fn(&Connection) -> bool,
        report: &mut Report,
    ) -> Result<(), NetlinkError> {
        for _ in 0..MAX_PASSES {
            let (looked, entries) = self.find(protocol, family, which, &goes)?;
            report.looked += looked;
            for entry in &entries {
                report.removed += usize::from(self.remove(family, entry)?);
            }
            if entries.len() < PASS {
                break;
            }
        }
        Ok(())
    }

    /// How many entries of the protocol there are, and the first that must go.
    fn find(
        &self,
        protocol: Protocol,
        family: Family,
        which: Which,
        goes: impl Fn(&Connection) -> bool,
    ) -> Result<(usize, Vec<Entry>), NetlinkError> {
        let (mut looked, mut found) = (0, Vec::new());
        // A kernel before 5.8 does not know the filter, and tells of every protocol.
        let body = |w: &mut Writer| {
            w.nest(TUPLE_ORIGINAL, |w| w.nest(TUPLE_PROTOCOL, |w| w.bytes(PROTOCOL_NUMBER, &[protocol.number()])));
            w.nest(FILTER, |w| w.bytes(FILTER_ORIGINAL, &FILTER_PROTOCOL.to_ne_bytes()));
            if let Which::Unanswered = which {
                w.bytes(STATUS, &0_u32.to_be_bytes());
                w.bytes(STATUS_MASK, &SEEN_REPLY.to_be_bytes());
            }
        };
        let request =
            Request { kind: GET, flags: NLM_F_DUMP, family: family_number(family), what: "reading conntrack" };
        // Entries come and go all the time, so whether something changed meanwhile is no question.
        self.socket.exchange(request, body, |message| {
            let Some(connection) = connection(message, protocol) else { return };
            looked += 1;
            if found.len() < PASS && goes(&connection) {
                let bytes = |kind| attribute(message, kind).unwrap_or_default().to_vec();
                found.push(Entry { tuple: bytes(TUPLE_ORIGINAL), id: bytes(ID) });
            }
        })?;
        Ok((looked, found))
    }

    /// Whether the entry was still there.
    fn remove(&self, family: Family, entry: &Entry) -> Result<bool, NetlinkError> {
        let request =
            Request { kind: DELETE, flags: NLM_F_ACK, family: family_number(family), what: "removing a flow" };
        let body = |w: &mut Writer| {
            w.nest(TUPLE_ORIGINAL, |w| w.bytes.extend_from_slice(&entry.tuple));
            w.bytes(ID, &entry.id);
        };
        match self.socket.exchange(request, body, |_| {}) {
            Ok(_) => Ok(true),
            Err(NetlinkError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn tracked() -> impl Iterator<Item = (Protocol, Family)> {
    [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|protocol| Family::ALL.map(|family| (protocol, family)))
}

/// What an entry says, if it is of this protocol.
fn connection(message: &[u8], protocol: Protocol) -> Option<Connection> {
    let (original, reply) = (attribute(message, TUPLE_ORIGINAL)?, attribute(message, TUPLE_REPLY)?);
    let (source, destination) = ends(original, protocol)?;
    let (reply_source, _) = ends(reply, protocol)?;
    // A zone may be said of both directions or of one.
    let zones = [attribute(message, ZONE), attribute(original, TUPLE_ZONE), attribute(reply, TUPLE_ZONE)];
    let zone = zones.into_iter().flatten().find_map(big_u16).unwrap_or(0);
    let status = attribute(message, STATUS)?.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))?;
    let flow = Flow { source, destination, reply_source, zone };
    Some(Connection { protocol, flow, answered: status & SEEN_REPLY != 0 })
}

/// The source and destination of a tuple of this protocol.
fn ends(tuple: &[u8], wanted: Protocol) -> Option<(SocketAddr, SocketAddr)> {
    let (ip, protocol) = (attribute(tuple, TUPLE_IP)?, attribute(tuple, TUPLE_PROTOCOL)?);
    if attribute(protocol, PROTOCOL_NUMBER)?.first() != Some(&wanted.number()) {
        return None;
    }
    // CTA_IP_V4_SRC, _DST are 1 and 2, CTA_IP_V6_SRC, _DST 3 and 4.
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        let v4 = attribute(ip, v4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
        v4.or_else(|| attribute(ip, v6).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from))
    };
    let port = |kind| attribute(protocol, kind).and_then(big_u16);
    Some((
        SocketAddr::new(address(1, 3)?, port(SOURCE_PORT)?),
        SocketAddr::new(address(2, 4)?, port(DESTINATION_PORT)?),
    ))
}

fn big_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}
