//! What a probe has seen, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::exchange::Seen;

/// Failures that are listed one by one; more are only counted.
const MAX_LISTED: usize = 1000;

/// What the answers said. `Display` is the table, the serialised form is that of `-o json|yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub sent: u32,
    pub answered: u32,
    /// From a request's beginning to its answer, in milliseconds: the longest.
    pub slowest_milliseconds: u64,
    /// TCP connections whose first packet was sent more than once until it was answered: it, or the answer, was lost.
    pub resent: u32,
    /// Answers by pod; `unknown` for an answer that names none.
    pub pods: BTreeMap<String, u32>,
    /// Answers by the client address that the pod saw.
    pub clients: BTreeMap<String, u32>,
    /// Failures by kind: refused, reset, timeout, unreachable, `http-CODE`, not-sent, other.
    pub failures: BTreeMap<String, u32>,
    /// The first 1,000 failures, in the order in which they became known.
    pub failed: Vec<Failed>,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// When the request began, after the probe did.
    pub at_milliseconds: u64,
    /// How long it took until it had failed.
    pub took_milliseconds: u64,
    /// One of those in [`Report::failures`].
    pub kind: String,
}

impl Report {
    /// Whether a request failed: exit code 1.
    pub fn failed(&self) -> bool {
        self.answered < self.sent
    }

    /// Takes in a request that began at `at`.
    pub(super) fn count(&mut self, at: Duration, took: Duration, outcome: Result<Seen, String>) {
        let add = |counts: &mut BTreeMap<String, u32>, key: String| *counts.entry(key).or_default() += 1;
        self.sent += 1;
        match outcome {
            Ok(seen) => {
                self.answered += 1;
                self.slowest_milliseconds = self.slowest_milliseconds.max(milliseconds(took));
                self.resent += u32::from(seen.resent);
                add(&mut self.pods, seen.pod);
                add(&mut self.clients, seen.client);
            }
            Err(kind) => {
                if self.failed.len() < MAX_LISTED {
                    self.failed.push(Failed {
                        at_milliseconds: milliseconds(at),
                        took_milliseconds: milliseconds(took),
                        kind: kind.clone(),
                    });
                }
                add(&mut self.failures, kind);
            }
        }
    }

    pub(super) fn merge(&mut self, other: Report) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.slowest_milliseconds = self.slowest_milliseconds.max(other.slowest_milliseconds);
        self.resent += other.resent;
        let pairs =
            [(&mut self.pods, other.pods), (&mut self.clients, other.clients), (&mut self.failures, other.failures)];
        for (into, from) in pairs {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
        self.failed.extend(other.failed);
        self.failed.truncate(MAX_LISTED);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} answered", self.sent, self.answered)?;
        if self.answered > 0 {
            write!(f, ", the slowest after {} ms", self.slowest_milliseconds)?;
        }
        if self.resent > 0 {
            write!(f, ", {} at the second attempt", self.resent)?;
        }
        writeln!(f)?;
        for (title, counts) in [("POD", &self.pods), ("CLIENT", &self.clients), ("FAILURE", &self.failures)] {
            if counts.is_empty() {
                continue;
            }
            let width = counts.keys().map(String::len).chain([title.len()]).max().unwrap_or(0);
            writeln!(f, "\n{title:width$}   COUNT")?;
            for (key, count) in counts {
                writeln!(f, "{key:width$}   {count}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_tables() {
        let mut report = Report::default();
        for (n, pod) in (1..).zip(["web-1", "web-2", "web-1"]) {
            let seen = Seen { pod: pod.into(), client: "10.0.0.1".into(), resent: n == 2 };
            report.count(Duration::ZERO, Duration::from_millis(n), Ok(seen));
        }
        report.count(Duration::from_millis(7), Duration::from_secs(2), Err("timeout".into()));
        assert!(report.failed());
        assert_eq!(report.failed, [Failed { at_milliseconds: 7, took_milliseconds: 2000, kind: "timeout".into() }]);
        let expected = "\
4 sent, 3 answered, the slowest after 3 ms, 1 at the second attempt

POD     COUNT
web-1   2
web-2   1

CLIENT     COUNT
10.0.0.1   3

FAILURE   COUNT
timeout   1
";
        assert_eq!(report.to_string(), expected);
    }
}
