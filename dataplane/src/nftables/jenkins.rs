//! The kernel's hash of the client's address (`jhash`, lookup3 by Bob Jenkins, which is in the public domain), so that the
//! oracle knows where the kernel leads a client.

use std::net::IpAddr;

/// The same everywhere and for ever: two edge nodes, and one after a restart, lead a client to the same endpoint.
pub const SEED: u32 = 0x506f_7274;
const INITIAL: u32 = 0xdead_beef;

/// A number below `modulus` for an address, as the expression `hash` has it.
pub fn address(address: IpAddr, modulus: u32) -> u32 {
    match address {
        IpAddr::V4(a) => bytes(&a.octets(), modulus),
        IpAddr::V6(a) => bytes(&a.octets(), modulus),
    }
}

/// As [`address`] for bytes.
pub fn bytes(bytes: &[u8], modulus: u32) -> u32 {
    let scaled = (u64::from(hash(bytes, SEED)) * u64::from(modulus)) >> 32;
    u32::try_from(scaled).unwrap_or(0)
}

fn hash(bytes: &[u8], seed: u32) -> u32 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let start = INITIAL.wrapping_add(length).wrapping_add(seed);
    let mut state = [start; 3];
    let mut rest = bytes;
    while rest.len() > 12 {
        let (block, after) = rest.split_at(12);
        add(&mut state, block, u32::from_ne_bytes);
        mix(&mut state);
        rest = after;
    }
    if rest.is_empty() {
        return state[2];
    }
    add(&mut state, rest, u32::from_le_bytes);
    last(&mut state);
    state[2]
}

fn add(state: &mut [u32; 3], bytes: &[u8], read: fn([u8; 4]) -> u32) {
    for (number, chunk) in state.iter_mut().zip(bytes.chunks(4)) {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        *number = number.wrapping_add(read(word));
    }
}

fn mix(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    *state = [a, b, c];
}

fn last(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    *state = [a, b, c];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the author's own test of lookup3 (`hashlittle`).
    #[test]
    fn known_values() {
        assert_eq!(hash(b"", 0), 0xdead_beef);
        assert_eq!(hash(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(hash(b"Four score and seven years ago", 1), 0xcd62_8161);
    }

    #[test]
    fn numbers_are_below_the_modulus_and_even() {
        let mut counts = [0u32; 7];
        for n in 0..70_000u32 {
            let address: IpAddr = n.to_be_bytes().into();
            counts[super::address(address, 7) as usize] += 1;
        }
        assert!(counts.iter().all(|n| (9_000..11_000).contains(n)), "{counts:?}");
    }
}
