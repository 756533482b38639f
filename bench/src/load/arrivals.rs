//! When who got to know of what: writes and arrivals side by side, by revision and Service.
//!
//! What follows from a write, as an EndpointSlice from a Pod, has a later revision, and an earlier one than what follows from
//! any later transaction. But a transaction may hold several writes, and what follows from them comes behind the last of
//! them. So somebody who sees revisions in their order has what follows from a write at the first that is not before it
//! *and* of the same Service; and a node has it when it has that revision.

use std::collections::HashMap;

use crate::histogram::Times;

/// Something about a Service at a revision: that it was written, or that it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub revision: u64,
    /// Since 1970.
    pub micros: u64,
    pub service: u32,
}

/// For each write, in its order, what of its Service came next for somebody; both are in the order of revisions.
pub fn followed(writes: &[Moment], seen: &[Moment]) -> Vec<Option<Moment>> {
    let mut of: HashMap<u32, Vec<Moment>> = HashMap::new();
    for moment in seen {
        of.entry(moment.service).or_default().push(*moment);
    }
    let next = |write: &Moment| {
        let seen = of.get(&write.service)?;
        seen.get(seen.partition_point(|moment| moment.revision < write.revision)).copied()
    };
    writes.iter().map(next).collect()
}

/// How long after it was due each write had arrived; and how many have not.
pub fn lags(writes: &[Moment], arrived: impl Iterator<Item = Option<u64>>) -> (Times, u64) {
    let (mut times, mut missing) = (Times::new(), 0);
    for (write, arrived) in writes.iter().zip(arrived) {
        match arrived {
            // Nothing arrives before it was sent: a clock that was set back says so.
            Some(micros) => times.record(std::time::Duration::from_micros(micros.saturating_sub(write.micros))),
            None => missing += 1,
        }
    }
    (times, missing)
}

/// When somebody who tells only how far it is, in revisions and times, was at a revision.
pub fn reached(progress: &[(u64, u64)], revision: u64) -> Option<u64> {
    progress.get(progress.partition_point(|(at, _)| *at < revision)).map(|(_, micros)| *micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64, micros: u64, service: u32) -> Moment {
        Moment { revision, micros, service }
    }

    #[test]
    fn a_write_arrives_with_the_next_revision_of_its_service() {
        // One transaction: two Pods, then the slices of their Services.
        let writes = [at(5, 0, 1), at(6, 10_000, 2), at(9, 20_000, 1)];
        let seen = [at(3, 1000, 1), at(7, 14_000, 2), at(8, 15_000, 1), at(10, 21_000, 1)];
        let followed = followed(&writes, &seen);
        assert_eq!(followed, [Some(seen[2]), Some(seen[1]), Some(seen[3])]);
        let (times, missing) = lags(&writes, followed.iter().map(|m| m.map(|m| m.micros)));
        assert_eq!((times.count(), missing), (3, 0));
        assert!((times.ms(1.0) - 15.0).abs() < 0.1 && (times.ms(0.1) - 1.0).abs() < 0.1);
    }

    #[test]
    fn what_never_came_is_counted() {
        let writes = [at(5, 0, 1), at(8, 10, 1)];
        let followed = followed(&writes, &[at(6, 4, 1), at(9, 20, 2)]);
        assert_eq!(lags(&writes, followed.iter().map(|m| m.map(|m| m.micros))).1, 1);
    }

    #[test]
    fn a_node_has_all_up_to_its_revision() {
        let progress = [(4, 100), (8, 200)];
        assert_eq!((reached(&progress, 4), reached(&progress, 5), reached(&progress, 9)), (Some(100), Some(200), None));
    }
}
