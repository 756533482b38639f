//! The header of the PROXY protocol, version 2: who connects to whom, in front of everything else. Pure.
//!
//! The layout is that of HAProxy's `proxy-protocol.txt`, section 2.2: a signature, version and command, family and transport,
//! a length, addresses and ports.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, on behalf of somebody.
const PROXY: u8 = 0x21;

/// What the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Stream = 1,
    Datagram = 2,
}

/// The header for a connection from a client to the address that it asked for. Where the families differ both are told as IPv6.
pub fn encode(client: SocketAddr, asked: SocketAddr, transport: Transport) -> Vec<u8> {
    let (client_ip, asked_ip) = (client.ip().to_canonical(), asked.ip().to_canonical());
    let (family, addresses) = match (client_ip, asked_ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (1, [from.octets(), to.octets()].concat()),
        (from, to) => (2, [wide(from), wide(to)].concat()),
    };
    let mut header = Vec::with_capacity(SIGNATURE.len() + 4 + addresses.len() + 4);
    header.extend(SIGNATURE);
    header.extend([PROXY, (family << 4) | transport as u8]);
    let length = if family == 1 { 12_u16 } else { 36 };
    header.extend(length.to_be_bytes());
    header.extend(addresses);
    header.extend(client.port().to_be_bytes());
    header.extend(asked.port().to_be_bytes());
    header
}

fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_documents_layout() {
        let (client, asked) = ("192.0.2.7:4711".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
        let header = encode(client, asked, Transport::Stream);
        let expected = [
            &b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"[..],
            &[0x21, 0x11, 0, 12],
            &[192, 0, 2, 7, 198, 51, 100, 1],
            &[0x12, 0x67, 0x01, 0xbb],
        ];
        assert_eq!(header, expected.concat());
        // A dual-stack socket's way to say IPv4.
        assert_eq!(encode("[::ffff:192.0.2.7]:4711".parse().unwrap(), asked, Transport::Stream), header);
        assert_eq!(encode(client, asked, Transport::Datagram)[13], 0x12);
    }

    #[test]
    fn ipv6_has_longer_addresses() {
        let header =
            encode("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap(), Transport::Datagram);
        assert_eq!(header[12..16], [0x21, 0x22, 0, 36]);
        assert_eq!(header.len(), 16 + 36);
        assert_eq!(header[31], 1);
        assert_eq!(header[47..], [2, 0, 1, 0, 2]);
    }
}
