//! The static and the dynamic band of a range (KEP-3070 for addresses, KEP-3668 for node ports).
//!
//! The low end of a range is left to those who ask for a number by name; what is chosen for a client comes from the rest,
//! and from the low end only when the rest is full.

use crate::runs::Runs;

/// Size of the static band: a `part`-th of `size`, at least 16, at most `max`; none in a range of 16 or fewer.
pub(crate) fn static_band(size: u64, part: u64, max: u64) -> u64 {
    const MIN: u64 = 16;
    if size <= MIN { 0 } else { (size / part).clamp(MIN, max) }
}

/// A free number of `0..=last`: from the dynamic band, beginning at a place that `chance` picks, else from the static one.
pub(crate) fn choose(taken: &Runs, band: u64, last: u64, chance: u64) -> Option<u64> {
    choose_within(taken, band, last, chance)
        .or_else(|| band.checked_sub(1).and_then(|end| choose_within(taken, 0, end, chance)))
}

fn choose_within(taken: &Runs, first: u64, last: u64, chance: u64) -> Option<u64> {
    let size = last.checked_sub(first)?.checked_add(1);
    let start = match size {
        Some(size) => first + chance % size,
        // Only `0..=u64::MAX` has no size in 64 bits, and there every number is a start.
        None => chance,
    };
    let free_from = |from: u64| taken.next_free(from).filter(|n| *n <= last);
    free_from(start).or_else(|| free_from(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bands_are_kubernetes() {
        // (size, part, max) → band; the first three as in KEP-3070, the last is 30000-32767 of KEP-3668.
        let addresses = |size| static_band(size, 16, 256);
        assert_eq!(addresses(16), 0);
        assert_eq!(addresses(32), 16);
        assert_eq!(addresses(256), 16);
        assert_eq!(addresses(1 << 12), 256);
        assert_eq!(addresses(1 << 16), 256);
        assert_eq!(static_band(2768, 32, 128), 86);
        assert_eq!(static_band(65_536, 32, 128), 128);
    }

    #[test]
    fn every_number_is_found_whatever_the_chance() {
        for chance in [0, 1, 7, 12345, u64::MAX] {
            let mut taken = Runs::default();
            for nth in 0..20 {
                let n = choose(&taken, 4, 19, chance.wrapping_mul(nth + 1)).unwrap();
                assert!(nth >= 16 || n >= 4, "the static band was used while the other had room");
                assert!(taken.insert(n));
            }
            assert_eq!(choose(&taken, 4, 19, chance), None);
        }
    }
}
