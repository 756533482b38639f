//! Times as they were, in a histogram with three significant digits (hdrhistogram), from a microsecond to ten minutes.
//!
//! A time beyond the end counts as the end: a stall is never left out, and a histogram stays as small as it began.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

const LONGEST: Duration = Duration::from_secs(600);

/// Times, in microseconds.
#[derive(Clone, Debug)]
pub struct Times(hdrhistogram::Histogram<u64>);

impl Times {
    pub fn new() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants, and sane")]
        let times = hdrhistogram::Histogram::new_with_max(micros(LONGEST), 3).expect("sane bounds");
        Self(times)
    }

    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(micros(time));
    }

    pub fn add(&mut self, other: &Times) {
        let _ = self.0.add(&other.0);
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `q` of all did not exceed (0.99: the p99), in milliseconds; 0 of none.
    pub fn ms(&self, q: f64) -> f64 {
        self.0.value_at_quantile(q) as f64 / 1000.0
    }

    /// In milliseconds: p50, p90, p99, p99.9, the longest; and how many.
    pub fn summary(&self) -> Value {
        json!({"count": self.count(), "p50": self.ms(0.5), "p90": self.ms(0.9), "p99": self.ms(0.99), "p999": self.ms(0.999),
            "max": self.ms(1.0)})
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

/// As [`Times::summary`].
impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.summary().serialize(serializer)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.min(LONGEST).as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth_and_stalls_are_kept() {
        let mut times = Times::new();
        (1..=1000).for_each(|ms| times.record(Duration::from_millis(ms)));
        assert!((times.ms(0.5) - 500.0).abs() < 1.0, "{}", times.ms(0.5));
        assert!((times.ms(0.99) - 990.0).abs() < 1.0);
        let mut more = Times::new();
        more.record(Duration::from_secs(10_000));
        times.add(&more);
        assert_eq!(times.count(), 1001);
        assert!((times.ms(1.0) - 600_000.0).abs() < 600.0);
    }

    #[test]
    fn nothing_has_a_summary_too() {
        assert_eq!(Times::new().summary()["p99"], 0.0);
    }
}
