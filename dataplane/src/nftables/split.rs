//! Finding what is refused among many things of which most are taken: by halves, without knowing what refuses or why.

/// What was refused, with the reason.
pub type Culprits<T> = Vec<(T, String)>;

/// The reason for what could not be tried any more.
pub const NOT_TRIED: &str = "not tried: too many others are refused";

/// Gives `items` to `attempt` in pieces as large as it takes them. Whatever is refused alone is a culprit, and so is
/// what is not tried because `attempts` are used up. `attempt` answers `Ok(Err(reason))` for a piece that is refused
/// as a whole, of which nothing was taken.
///
/// For one culprit among n it takes some 2 log n attempts.
///
/// # Errors
/// The first one of `attempt`; what was taken until then is.
pub fn split<T: Clone, E>(
    items: &[T],
    attempts: usize,
    mut attempt: impl FnMut(&[T]) -> Result<Result<(), String>, E>,
) -> Result<Culprits<T>, E> {
    let mut culprits = Culprits::new();
    // The next piece is the last one, so that what comes first is tried first.
    let mut pieces = vec![items];
    let mut left = attempts;
    while let Some(piece) = pieces.pop() {
        if piece.is_empty() {
            continue;
        }
        if left == 0 {
            culprits.extend(piece.iter().map(|item| (item.clone(), NOT_TRIED.to_owned())));
            continue;
        }
        left -= 1;
        match (attempt(piece)?, piece) {
            (Ok(()), _) => {}
            (Err(reason), [item]) => culprits.push((item.clone(), reason)),
            (Err(_), piece) => {
                let (first, second) = piece.split_at(piece.len() / 2);
                pieces.extend([second, first]);
            }
        }
    }
    Ok(culprits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// What was taken, the culprits that were found, and the attempts that it took.
    fn find(count: u32, bad: &BTreeSet<u32>, attempts: usize) -> (BTreeSet<u32>, Vec<u32>, usize) {
        let items: Vec<u32> = (0..count).collect();
        let (mut taken, mut used) = (BTreeSet::new(), 0);
        let culprits = split(&items, attempts, |piece| {
            used += 1;
            Ok::<_, Infallible>(match piece.iter().find(|item| bad.contains(item)) {
                Some(item) => Err(format!("{item} is bad")),
                None => {
                    taken.extend(piece);
                    Ok(())
                }
            })
        });
        let Ok(culprits) = culprits;
        for (item, reason) in &culprits {
            assert!(*reason == format!("{item} is bad") || reason == NOT_TRIED, "{item}: {reason}");
        }
        (taken, culprits.into_iter().map(|(item, _)| item).collect(), used)
    }

    #[test]
    fn one_among_many_takes_few_attempts() {
        for culprit in [0, 1, 777, 49_999] {
            let (taken, culprits, used) = find(50_000, &[culprit].into(), 1000);
            assert_eq!((taken.len(), culprits), (49_999, vec![culprit]));
            assert!(used <= 33, "{used}");
        }
        assert_eq!(find(5, &BTreeSet::new(), 1000).2, 1);
        assert_eq!(find(0, &BTreeSet::new(), 1000).2, 0);
    }

    #[test]
    fn when_all_are_bad_it_ends() {
        let (taken, culprits, used) = find(1000, &(0..1000).collect(), 100);
        assert_eq!((taken.len(), culprits.len(), used), (0, 1000, 100));
    }

    #[test]
    fn an_error_ends_it() {
        assert_eq!(split(&[1, 2, 3], 10, |_| Err::<Result<(), String>, _>("no")), Err("no"));
    }

    proptest! {
        #[test]
        fn everything_is_taken_or_a_culprit(count in 0..60u32, bad in prop::collection::btree_set(0..60u32, 0..8)) {
            let (taken, culprits, _) = find(count, &bad, usize::MAX);
            prop_assert_eq!(&taken, &(0..count).filter(|item| !bad.contains(item)).collect());
            prop_assert_eq!(culprits, bad.iter().copied().filter(|item| *item < count).collect::<Vec<_>>());
        }
    }
}
