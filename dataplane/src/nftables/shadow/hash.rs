//! Numbers that follow from what they stand for, so that they are the same in every table that an agent writes.
//!
//! They need not be secret or hard to find: whoever makes two of them equal, makes the second one the next number.

use std::net::{IpAddr, SocketAddr};

use model::Key;

use crate::plan::PoolKey;

/// FNV-1a over bytes, then mixed, so that every bit of the result depends on all of them.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    fn finish(self) -> u32 {
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        let [a, b, c, d, ..] = (mixed ^ (mixed >> 33)).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

/// Of an endpoint in its pool.
pub fn endpoint(at: SocketAddr) -> u32 {
    let hash = match at.ip() {
        IpAddr::V4(address) => Hash::new().bytes(&address.octets()),
        IpAddr::V6(address) => Hash::new().bytes(&address.octets()),
    };
    hash.bytes(&at.port().to_be_bytes()).finish()
}

/// Of a pool of a Service.
pub fn pool(service: &Key, key: PoolKey) -> u32 {
    Hash::new()
        .bytes(service.namespace.as_bytes())
        .bytes(b"/")
        .bytes(service.name.as_bytes())
        .bytes(&[b'/', key.family as u8, key.protocol.number(), u8::from(key.local)])
        .bytes(&key.port.to_be_bytes())
        .finish()
}
