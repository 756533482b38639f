//! The routing table, asked one thing: is this address one of the machine's own?

use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::batch::NLM_F_ACK;
use super::socket::{Request, Socket};
use super::{NetlinkError, Writer};
use crate::nftables::expr::family_number;
use crate::plan::Family;

pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_DELROUTE: u16 = 25;
pub const RTM_GETROUTE: u16 = 26;
pub const RTA_DST: u16 = 1;
/// Where `rtm_type` stands in what follows the first four bytes of `struct rtmsg`.
const TYPE_AT: usize = 3;
/// `RTN_LOCAL`.
pub const LOCAL: u8 = 2;
/// The bytes of `struct rtmsg` behind its first four.
pub const REST: usize = 8;

/// The routes of the network namespace in which this was opened.
pub struct Routes(Socket);

impl Routes {
    /// # Errors
    /// When the kernel has no routing socket.
    pub fn open() -> io::Result<Self> {
        Socket::open_to(NETLINK_ROUTE).map(Self)
    }

    /// Whether packets to the address end on this machine: what `fib daddr type local` says in a rule. That is more than
    /// the addresses of its interfaces: all of 127.0.0.0/8, and whatever a local route has.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_local(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        let family = family_number(Family::of(address));
        let request = Request { kind: RTM_GETROUTE, flags: NLM_F_ACK, family, what: "looking up a route" };
        let mut local = false;
        let outcome = self.0.exchange(
            request,
            |w| {
                // The rest of `struct rtmsg`, of which the family is all that is asked for.
                w.bytes.extend_from_slice(&[0; REST]);
                destination(w, address);
            },
            |route| local = route.get(TYPE_AT) == Some(&LOCAL),
        );
        match outcome {
            Ok(_) => Ok(local),
            // There is no route, or one that says so.
            Err(NetlinkError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Writes the attribute that names the address.
pub fn destination(w: &mut Writer, address: IpAddr) {
    match address {
        IpAddr::V4(a) => w.bytes(RTA_DST, &a.octets()),
        IpAddr::V6(a) => w.bytes(RTA_DST, &a.octets()),
    }
}
