//! Counters that the writer keeps and `api` prints. Atomics: reading them takes no lock and blocks no one.

use std::sync::atomic::{AtomicU64, Ordering};

use model::{Resource, Revision};

/// What the store looks like now. Counters start at 0 with the process.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub revision: Revision,
    /// The oldest revision that the file can replay from.
    pub compacted: Revision,
    /// Live objects of each resource.
    pub objects: Vec<(Resource, u64)>,
    /// Events held in memory for watches, of all resources.
    pub history_events: u64,
    /// Their estimated memory.
    pub history_bytes: u64,
    pub database_bytes: u64,
    pub wal_bytes: u64,
    /// Rows in the file that are no longer the newest of their key.
    pub superseded_rows: u64,
    /// Requests that wait for the writer.
    pub queue_length: u64,
    pub rows_written: u64,
    pub requests: u64,
    /// Requests answered with a refusal.
    pub refused: u64,
    /// Commits that SQLite did not take.
    pub failed_commits: u64,
    /// Requests per group.
    pub group_size: Histogram,
    /// From handing a group to SQLite until it is on the disk, in seconds.
    pub commit_seconds: Histogram,
    /// The writer's own work per group, in seconds.
    pub prepare_seconds: Histogram,
}

/// A cumulative histogram: `counts[i]` observations were at most `bounds[i]`; `count` has all of them.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    pub bounds: &'static [f64],
    pub counts: Vec<u64>,
    pub count: u64,
    pub sum: f64,
}

pub(crate) const SIZE_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
pub(crate) const SECONDS_BOUNDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024];

/// A histogram that one thread writes and any reads.
#[derive(Debug)]
pub(crate) struct Observed {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// In millionths.
    sum_micros: AtomicU64,
}

impl Observed {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum_micros: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, value: f64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // Non-negative and far below 2^63: a size or a number of seconds.
        self.sum_micros.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        let mut total = 0;
        let cumulative: Vec<u64> = self
            .counts
            .iter()
            .map(|count| {
                total += count.load(Ordering::Relaxed);
                total
            })
            .collect();
        Histogram {
            bounds: self.bounds,
            counts: cumulative.into_iter().take(self.bounds.len()).collect(),
            count: total,
            sum: self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

/// What the writer counts.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) compacted: AtomicU64,
    pub(crate) database_bytes: AtomicU64,
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) superseded_rows: AtomicU64,
    pub(crate) rows_written: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) failed_commits: AtomicU64,
    pub(crate) group_size: Observed,
    pub(crate) commit_seconds: Observed,
    pub(crate) prepare_seconds: Observed,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            compacted: AtomicU64::new(0),
            database_bytes: AtomicU64::new(0),
            wal_bytes: AtomicU64::new(0),
            superseded_rows: AtomicU64::new(0),
            rows_written: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed_commits: AtomicU64::new(0),
            group_size: Observed::new(SIZE_BOUNDS),
            commit_seconds: Observed::new(SECONDS_BOUNDS),
            prepare_seconds: Observed::new(SECONDS_BOUNDS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let observed = Observed::new(&[1.0, 10.0]);
        for value in [0.5, 1.0, 5.0, 100.0] {
            observed.observe(value);
        }
        let read = observed.read();
        assert_eq!((read.counts, read.count), (vec![2, 3], 4));
        assert!((read.sum - 106.5).abs() < 1e-6);
    }
}
