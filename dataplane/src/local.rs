//! Addresses that no interface has, and that are the machine's own all the same: a route of type `local` by way of `lo` in
//! the table `local` for each ("AnyIP"). A process of the machine can then listen at a Service's ClusterIP.
//!
//! They carry a protocol number of their own, by which an agent that follows finds them again, and `--cleanup` removes
//! them. Rejected: an interface of the dummy type with the addresses, which would be one more thing that network managers
//! configure, and that some kernels lack.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::libc;

use crate::nftables::expr::{LOOPBACK_INDEX, family_number};
use crate::nftables::netlink::NetlinkError;
use crate::nftables::netlink::batch::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use crate::nftables::netlink::routes::{LOCAL, REST, RTA_DST, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, destination};
use crate::nftables::netlink::socket::{Request, Socket};
use crate::nftables::netlink::{Writer, attribute};
use crate::plan::Family;

/// The protocol of our routes, as `ip route` shows it (`proto 80`): in the range that iproute2 leaves to users.
pub const PROTOCOL: u8 = 80;

const RTA_OIF: u16 = 4;
/// `RT_TABLE_LOCAL`, `RT_SCOPE_HOST`.
const TABLE: u8 = 255;
const SCOPE: u8 = 254;
/// The first bytes of `struct rtmsg`, family and prefix length, in a message that is being written.
const LENGTH_AT: usize = 17;

/// The local routes of the network namespace in which this was opened.
pub struct LocalRoutes(Socket);

impl LocalRoutes {
    /// # Errors
    /// When the kernel has no routing socket.
    pub fn open() -> io::Result<Self> {
        Socket::open_to(NETLINK_ROUTE).map(Self)
    }

    /// The addresses that have one of our routes.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn list(&self) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let mut found = BTreeSet::new();
        for family in Family::ALL {
            let request = Request {
                kind: RTM_GETROUTE,
                flags: NLM_F_DUMP,
                family: family_number(family),
                what: "listing routes",
            };
            // The rest of `struct rtmsg`, of which the family is all that is asked for. What changes while it is read are
            // other routes.
            self.0.exchange(request, |w| w.bytes.extend_from_slice(&[0; REST]), |route| found.extend(ours(route)))?;
        }
        Ok(found)
    }

    /// Makes the address the machine's own. `false`: it was.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        self.change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, address, "adding a local route", libc::EEXIST)
    }

    /// Takes our route to the address away. `false`: there was none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        self.change(RTM_DELROUTE, 0, address, "removing a local route", libc::ESRCH)
    }

    /// Takes all of our routes away but those to these addresses. `false`: there was none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn retain(&self, kept: &BTreeSet<IpAddr>) -> Result<bool, NetlinkError> {
        let mut removed = false;
        for address in self.list()?.difference(kept) {
            removed |= self.remove(*address)?;
        }
        Ok(removed)
    }

    /// `false` when the kernel says `already`.
    fn change(&self, kind: u16, flags: u16, address: IpAddr, what: &str, already: i32) -> Result<bool, NetlinkError> {
        let family = family_number(Family::of(address));
        let request = Request { kind, flags: flags | NLM_F_ACK, family, what };
        match self.0.exchange(request, |w| route(w, address), |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if error.refusal() == Some(already) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Writes a `struct rtmsg` behind the family, and its attributes.
fn route(w: &mut Writer, address: IpAddr) {
    if let Some(length) = w.bytes.get_mut(LENGTH_AT) {
        *length = if address.is_ipv4() { 32 } else { 128 };
    }
    w.bytes.extend_from_slice(&[TABLE, PROTOCOL, SCOPE, LOCAL, 0, 0, 0, 0]);
    destination(w, address);
    // In the host's order, unlike the numbers of nf_tables.
    w.bytes(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes());
}

/// The address of a listed route that is ours, given what follows the first four bytes of `struct rtmsg`.
fn ours(route: &[u8]) -> Option<IpAddr> {
    let (head, attributes) = route.split_at_checked(REST)?;
    let [TABLE, PROTOCOL, _, LOCAL, ..] = head else { return None };
    let bytes = attribute(attributes, RTA_DST)?;
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        _ => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
    }
}
