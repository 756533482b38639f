//! ARP for IPv4 over Ethernet: 28 octets (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use super::{Claim, Heard, Mac, Packet, Question};

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const LEN: usize = 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// The two pairs of addresses, in the order in which they stand in the packet.
struct Arp {
    operation: u16,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
}

pub fn read(bytes: &[u8]) -> Option<Heard> {
    let arp = Arp::decode(bytes)?;
    let (by, sender) = arp.sender;
    let (_, target) = arp.target;
    if by.0[0] & 1 == 1 {
        // A group has no address.
        return None;
    }
    let known = (!sender.is_unspecified()).then_some(sender);
    // RFC 826 learns from every packet that has a sender, whatever it is for; so does everybody on the network.
    let claim = known.map(|address| Claim { address: address.into(), by });
    // An announcement asks for its own sender.
    let asks = arp.operation == REQUEST && !target.is_unspecified() && known != Some(target);
    let question = asks.then(|| Question { address: target.into(), from: by, asker: known.map(IpAddr::V4) });
    Some(Heard { question, claim })
}

pub fn reply(mac: Mac, address: Ipv4Addr, to: Mac, asker: Option<Ipv4Addr>) -> Packet {
    let target = (to, asker.unwrap_or(Ipv4Addr::UNSPECIFIED));
    Arp { operation: REPLY, sender: (mac, address), target }.packet(to)
}

pub fn announcement(mac: Mac, address: Ipv4Addr) -> Packet {
    Arp { operation: REQUEST, sender: (mac, address), target: (Mac([0; 6]), address) }.packet(Mac::BROADCAST)
}

pub fn probe(mac: Mac, address: Ipv4Addr) -> Packet {
    let sender = (mac, Ipv4Addr::UNSPECIFIED);
    Arp { operation: REQUEST, sender, target: (Mac([0; 6]), address) }.packet(Mac::BROADCAST)
}

impl Arp {
    fn decode(bytes: &[u8]) -> Option<Self> {
        // Short frames are padded on the wire.
        let bytes: &[u8; LEN] = bytes.first_chunk()?;
        if bytes[..6] != HEAD {
            return None;
        }
        let operation = u16::from_be_bytes([bytes[6], bytes[7]]);
        let pair = |at: usize| {
            let mac = bytes.get(at..at + 6)?.first_chunk()?;
            let ip: &[u8; 4] = bytes.get(at + 6..at + 10)?.first_chunk()?;
            Some((Mac(*mac), Ipv4Addr::from(*ip)))
        };
        let known = operation == REQUEST || operation == REPLY;
        known.then_some(Self { operation, sender: pair(8)?, target: pair(18)? })
    }

    fn packet(&self, to: Mac) -> Packet {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend(HEAD);
        bytes.extend(self.operation.to_be_bytes());
        for (mac, ip) in [self.sender, self.target] {
            bytes.extend(mac.0);
            bytes.extend(ip.octets());
        }
        Packet { to, bytes, v6: false }
    }
}
