//! What edges say and hear about who has an address, of both families alike: ARP (RFC 826, RFC 5227) and neighbour
//! discovery (RFC 4861), from the network header on. The link header is the kernel's: the sockets are datagram sockets.
//!
//! Both protocols say the same few things, so the machines above know neither: somebody *asks* for an address, somebody
//! asks whether it may take it (a *probe*), or somebody says that it has it (a *claim*). What is not valid by the RFCs,
//! or says none of this, is `None` and never an error: a network is full of it.

mod arp;
mod ndp;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

pub use ndp::solicited_node;

/// A link-layer address of Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub question: Option<Question>,
    pub claim: Option<Claim>,
}

/// Somebody wants to know who has `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub address: IpAddr,
    /// Where the answer goes.
    pub from: Mac,
    /// The asker's own address. `None`: it asks whether it may take the address itself, a probe.
    pub asker: Option<IpAddr>,
}

/// Somebody says that it has `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub address: IpAddr,
    pub by: Mac,
}

/// A packet that is ready to be sent, and to which link-layer address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub to: Mac,
    pub bytes: Vec<u8>,
    /// Of which family, and so on which socket.
    pub v6: bool,
}

/// Reads what came by ARP.
pub fn read_arp(bytes: &[u8]) -> Option<Heard> {
    arp::read(bytes)
}

/// Reads an IPv6 packet, which `from` has sent, if it is a neighbour solicitation or advertisement.
pub fn read_ndp(bytes: &[u8], from: Mac) -> Option<Heard> {
    ndp::read(bytes, from)
}

/// "`address` is at `mac`", to who has asked.
pub fn answer(mac: Mac, question: &Question) -> Packet {
    match question.address {
        IpAddr::V4(address) => {
            let asker = question.asker.and_then(|asker| if let IpAddr::V4(v4) = asker { Some(v4) } else { None });
            arp::reply(mac, address, question.from, asker)
        }
        IpAddr::V6(address) => {
            let asker = question.asker.and_then(|asker| if let IpAddr::V6(v6) = asker { Some(v6) } else { None });
            ndp::advertisement(mac, address, asker.map(|asker| (question.from, asker)))
        }
    }
}

/// "`address` is at `mac`", to everybody: an ARP announcement (RFC 5227 §2.3), an unsolicited advertisement (RFC 4861 §7.2.6).
pub fn announcement(mac: Mac, address: IpAddr) -> Packet {
    match address {
        IpAddr::V4(address) => arp::announcement(mac, address),
        IpAddr::V6(address) => ndp::advertisement(mac, address, None),
    }
}

/// "Does anybody have `address`?" without saying that this machine does: an ARP probe (RFC 5227 §2.1.1), a solicitation
/// of duplicate address detection (RFC 4862 §5.4.2).
pub fn probe(mac: Mac, address: IpAddr) -> Packet {
    match address {
        IpAddr::V4(address) => arp::probe(mac, address),
        IpAddr::V6(address) => ndp::probe(address),
    }
}
