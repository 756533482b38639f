//! Random numbers from a seed: uids, generated names, places in a range.
//!
//! xoshiro256++ (Blackman and Vigna): small, quick, and repeatable. Nothing here is a secret.

/// A stream of random numbers.
pub(crate) struct Chance {
    state: [u64; 4],
}

/// What Kubernetes makes generated names from: no vowels, no digits that look like letters.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

impl Chance {
    /// A seed of zeros, from which the generator would never leave, counts as one.
    pub(crate) fn new(seed: [u64; 4]) -> Self {
        let state = if seed == [0; 4] { [1, 2, 3, 4] } else { seed };
        let mut chance = Self { state };
        // A seed with few bits set takes some steps to spread.
        for _ in 0..16 {
            chance.next();
        }
        chance
    }

    pub(crate) fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A version 4 UUID.
    pub(crate) fn uid(&mut self) -> String {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// The five characters at the end of a generated name.
    pub(crate) fn suffix(&mut self) -> String {
        (0..5).map(|_| char::from(ALPHABET[(self.next() % ALPHABET.len() as u64) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (chance.uid(), chance.suffix())
        };
        assert_eq!(draw([1, 2, 3, 4]), draw([1, 2, 3, 4]));
        assert_ne!(draw([1, 2, 3, 4]), draw([1, 2, 3, 5]));
        let (uid, suffix) = draw([0; 4]);
        assert_eq!((uid.len(), uid.as_bytes()[14], suffix.len()), (36, b'4', 5));
    }
}
