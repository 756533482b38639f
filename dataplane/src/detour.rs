//! The way back through edge nodes: for each one a routing table with a default route by way of it, and a rule that sends
//! packets there that are marked with its number.
//!
//! An edge node that keeps its clients' addresses must see the answers, and nodes would send those to the clients
//! themselves. The tables of nf_tables mark connections by the edge node that they came from, and their answers
//! (`edges` in the layout); here is what the mark means to routing. Rules and routes carry the protocol number of
//! [`crate::local`], and they alone remember which number an edge node has: connections outlive agents, and their marks must
//! go on meaning the same.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::libc;

use crate::local::PROTOCOL;
use crate::nftables::expr::family_number;
use crate::nftables::netlink::batch::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use crate::nftables::netlink::routes::{REST, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE};
use crate::nftables::netlink::socket::{Request, Socket};
use crate::nftables::netlink::{NetlinkError, Writer, attribute};
use crate::plan::{EDGE_MARK_MASK, Family, MAX_EDGES, edge_mark};

/// The number of a routing table, and the priority of its rule, are this and the number of the edge node.
pub const FIRST_TABLE: u32 = 20_300;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const NLM_F_REPLACE: u16 = 0x100;
/// `RT_SCOPE_UNIVERSE`, `RTN_UNICAST`.
const SCOPE: u8 = 0;
const UNICAST: u8 = 1;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
// FRA_*
const PRIORITY: u16 = 6;
const MARK: u16 = 10;
const TABLE: u16 = 15;
const MASK: u16 = 16;
const RULE_PROTOCOL: u16 = 21;

/// By number and family: the edge node's address, to which the answers go.
pub type Found = BTreeMap<(u8, Family), IpAddr>;

/// The detours of the network namespace in which this was opened.
pub struct Detours(Socket);

impl Detours {
    /// # Errors
    /// When the kernel has no routing socket.
    pub fn open() -> io::Result<Self> {
        Socket::open_to(NETLINK_ROUTE).map(Self)
    }

    /// Those that there are.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn list(&self) -> Result<Found, NetlinkError> {
        let mut found = Found::new();
        for family in Family::ALL {
            let request = Request {
                kind: RTM_GETROUTE,
                flags: NLM_F_DUMP,
                family: family_number(family),
                what: "listing routes",
            };
            let take = |route: &[u8]| found.extend(ours(route).map(|(number, gateway)| ((number, family), gateway)));
            self.0.exchange(request, |w| w.bytes.extend_from_slice(&[0; REST]), take)?;
        }
        Ok(found)
    }

    /// Answers that are marked with the number, and are of the address's family, go by way of it.
    ///
    /// # Errors
    /// When the kernel refuses: with `ENETUNREACH`, because the address is not on a network of this machine.
    pub fn set(&self, number: u8, gateway: IpAddr) -> Result<(), NetlinkError> {
        let family = family_number(Family::of(gateway));
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
        let request = Request { kind: RTM_NEWROUTE, flags, family, what: "adding a route by an edge node" };
        self.0.exchange(request, |w| route(w, number, Some(gateway)), |_| {})?;
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        let request = Request { kind: RTM_NEWRULE, flags, family, what: "adding a rule for an edge node" };
        match self.0.exchange(request, |w| rule(w, number), |_| {}) {
            Err(error) if error.refusal() != Some(libc::EEXIST) => Err(error),
            _ => Ok(()),
        }
    }

    /// Nothing goes by way of the edge node with this number any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, number: u8, family: Family) -> Result<(), NetlinkError> {
        type Body = fn(&mut Writer, u8);
        let both: [(u16, &str, Body); 2] = [
            (RTM_DELRULE, "removing a rule for an edge node", rule),
            (RTM_DELROUTE, "removing a route by an edge node", |w, number| route(w, number, None)),
        ];
        for (kind, what, body) in both {
            let request = Request { kind, flags: NLM_F_ACK, family: family_number(family), what };
            match self.0.exchange(request, |w| body(w, number), |_| {}) {
                Err(error) if !matches!(error.refusal(), Some(libc::ENOENT | libc::ESRCH)) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes all of them. `false`: there was none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear(&self) -> Result<bool, NetlinkError> {
        let found = self.list()?;
        for (number, family) in found.keys() {
            self.remove(*number, *family)?;
        }
        Ok(!found.is_empty())
    }
}

/// Writes a `struct rtmsg` behind its first four bytes, and the attributes of a default route.
fn route(w: &mut Writer, number: u8, gateway: Option<IpAddr>) {
    w.bytes.extend_from_slice(&[0, PROTOCOL, SCOPE, UNICAST, 0, 0, 0, 0]);
    // In the host's order, unlike the numbers of nf_tables.
    w.bytes(RTA_TABLE, &table(number).to_ne_bytes());
    match gateway {
        Some(IpAddr::V4(gateway)) => w.bytes(RTA_GATEWAY, &gateway.octets()),
        Some(IpAddr::V6(gateway)) => w.bytes(RTA_GATEWAY, &gateway.octets()),
        None => {}
    }
}

/// Writes a `struct fib_rule_hdr` behind its first four bytes, and its attributes.
fn rule(w: &mut Writer, number: u8) {
    w.bytes.extend_from_slice(&[0, 0, 0, TO_TABLE, 0, 0, 0, 0]);
    w.bytes(PRIORITY, &table(number).to_ne_bytes());
    w.bytes(MARK, &edge_mark(number).to_ne_bytes());
    w.bytes(MASK, &EDGE_MARK_MASK.to_ne_bytes());
    w.bytes(TABLE, &table(number).to_ne_bytes());
    w.bytes(RULE_PROTOCOL, &[PROTOCOL]);
}

fn table(number: u8) -> u32 {
    FIRST_TABLE + u32::from(number)
}

/// The number and the gateway of a listed route that is ours.
fn ours(route: &[u8]) -> Option<(u8, IpAddr)> {
    let (head, attributes) = route.split_at_checked(REST)?;
    let [_, PROTOCOL, _, UNICAST, ..] = head else { return None };
    let table = u32::from_ne_bytes(*attribute(attributes, RTA_TABLE)?.first_chunk::<4>()?);
    let number = u8::try_from(table.checked_sub(FIRST_TABLE)?).ok().filter(|n| (1..=MAX_EDGES).contains(n))?;
    let bytes = attribute(attributes, RTA_GATEWAY)?;
    let gateway = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        _ => IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)),
    };
    Some((number, gateway))
}
