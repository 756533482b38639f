//! Names of chains, at most 28 characters long, that follow from what the chain is for: they are the same whenever the rules are
//! written anew, by whichever process.

use std::net::IpAddr;

use ipnet::IpNet;

use super::PREFIX;

/// The longest name that the kernel takes.
pub const LONGEST: usize = 28;
/// RFC 4648's alphabet, as in the names of kube-proxy's chains.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Of five bits each: two different things have one name once in 10^22 pairs.
const DIGITS: usize = 15;

/// `PORTOLAN-<kind>-` and a hash of the parts. `kind` has at most three characters.
pub fn hashed(kind: &str, parts: &[&[u8]]) -> String {
    let mut name = format!("{PREFIX}{kind}-");
    let (mut low, mut high) = (half(0, parts), half(1, parts));
    for digit in 0..DIGITS {
        let from = if digit < 8 { &mut low } else { &mut high };
        name.push(char::from(ALPHABET[(*from % 32) as usize]));
        *from /= 32;
    }
    name
}

/// FNV-1a over the parts, each with its length, then mixed, so that every bit of the result depends on all of them.
fn half(number: u64, parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        (part.len() as u64).to_le_bytes().into_iter().for_each(&mut add);
        part.iter().copied().for_each(&mut add);
    }
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// The chain for the addresses of a range: the range itself, where it fits.
pub fn of_range(range: IpNet) -> String {
    // A colon would end the name for whoever restores what `nft list ruleset` has printed.
    let text = format!("{PREFIX}{range}").replace(':', "-");
    if text.len() <= LONGEST {
        return text;
    }
    match range.network() {
        IpAddr::V4(address) => hashed("NET", &[&address.octets(), &[range.prefix_len()]]),
        IpAddr::V6(address) => hashed("NET", &[&address.octets(), &[range.prefix_len()]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay() {
        let name = hashed("SVC", &[b"default", b"web", &[0, 6], &80u16.to_be_bytes()]);
        assert_eq!(name.len(), LONGEST);
        assert_eq!(name, hashed("SVC", &[b"default", b"web", &[0, 6], &80u16.to_be_bytes()]));
        assert_ne!(name, hashed("SVC", &[b"defaul", b"tweb", &[0, 6], &80u16.to_be_bytes()]));
        // Rules that are there must be found by the agent of the next version.
        assert_eq!(hashed("SVC", &[b"a", b"b"]), "PORTOLAN-SVC-AAPIRY7XIEPK2QN");
    }

    #[test]
    fn ranges_are_readable_where_they_fit() {
        let of = |text: &str| of_range(text.parse().unwrap());
        assert_eq!(of("10.96.1.0/24"), "PORTOLAN-10.96.1.0/24");
        assert_eq!(of("255.255.255.240/28"), "PORTOLAN-255.255.255.240/28");
        assert_eq!(of("fd00:10:96::/112"), "PORTOLAN-fd00-10-96--/112");
        assert!(of("2001:db8:1234:5678:9abc::/80").starts_with("PORTOLAN-NET-"));
        assert!(of("2001:db8:1234:5678:9abc::/80").len() <= LONGEST);
    }
}
