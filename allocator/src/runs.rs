//! A set of numbers as maximal runs: `{1,2,3,7}` is `1..=3, 7..=7`.
//!
//! Invariant: runs do not touch, so the number after a run is free. That makes "the next free number" one lookup.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// First number of a run → its last.
    runs: BTreeMap<u64, u64>,
}

impl Runs {
    /// The run that holds `n`, or else the nearest one before it.
    fn at_or_before(&self, n: u64) -> Option<(u64, u64)> {
        #[cfg(test)]
        tests::LOOKUPS.with(|count| count.set(count.get() + 1));
        self.runs.range(..=n).next_back().map(|(first, last)| (*first, *last))
    }

    pub(crate) fn contains(&self, n: u64) -> bool {
        self.at_or_before(n).is_some_and(|(_, last)| n <= last)
    }

    /// The smallest number from `from` on that is not in the set; None when there is none.
    pub(crate) fn next_free(&self, from: u64) -> Option<u64> {
        match self.at_or_before(from) {
            Some((_, last)) if from <= last => last.checked_add(1),
            _ => Some(from),
        }
    }

    /// False if it was in the set.
    pub(crate) fn insert(&mut self, n: u64) -> bool {
        let before = self.at_or_before(n);
        if before.is_some_and(|(_, last)| n <= last) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last + 1 == n => first,
            _ => n,
        };
        let after = n.checked_add(1).and_then(|next| self.runs.remove(&next));
        self.runs.insert(first, after.unwrap_or(n));
        true
    }

    /// False if it was not in the set.
    pub(crate) fn remove(&mut self, n: u64) -> bool {
        let Some((first, last)) = self.at_or_before(n).filter(|(_, last)| n <= *last) else { return false };
        if first == n {
            self.runs.remove(&first);
        } else {
            self.runs.insert(first, n - 1);
        }
        if n < last {
            self.runs.insert(n + 1, last);
        }
        true
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Tree lookups since the thread began: what "cost" means in the tests.
        pub(crate) static LOOKUPS: Cell<u64> = const { Cell::new(0) };
    }

    #[test]
    fn the_last_number_has_no_successor() {
        let mut runs = Runs::default();
        assert!(runs.insert(u64::MAX));
        assert!(runs.insert(u64::MAX - 1));
        assert_eq!(runs.next_free(u64::MAX - 1), None);
        assert!(runs.remove(u64::MAX));
        assert_eq!(runs.next_free(u64::MAX - 1), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..40), 0..200)) {
            let mut runs = Runs::default();
            let mut set = BTreeSet::new();
            for (insert, n) in steps {
                if insert {
                    prop_assert_eq!(runs.insert(n), set.insert(n));
                } else {
                    prop_assert_eq!(runs.remove(n), set.remove(&n));
                }
                for n in 0..41 {
                    prop_assert_eq!(runs.contains(n), set.contains(&n));
                    prop_assert_eq!(runs.next_free(n), (n..).find(|n| !set.contains(n)));
                }
                // Maximal: neighbouring runs leave a gap.
                let pairs: Vec<_> = runs.runs.iter().collect();
                for pair in pairs.windows(2) {
                    prop_assert!(pair[0].1 + 1 < *pair[1].0);
                }
            }
        }
    }
}
