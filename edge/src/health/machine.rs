//! What the answers to one check come to. No clock: the driver asks when it is time.
//!
//! The first answer decides at once, so that a new backend serves after one round and a dead one never does. From then on the
//! thresholds count answers in a row, so a backend that fails is out within unhealthy-threshold × interval.

use super::spec::Pace;

/// Whether a backend can be used, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It was not asked yet.
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    verdict: Verdict,
    /// Answers in a row that speak against the verdict.
    against: u32,
}

impl Machine {
    /// An answer came. The verdict afterwards.
    pub fn answered(&mut self, passed: bool, pace: &Pace) -> Verdict {
        let says = if passed { Verdict::Healthy } else { Verdict::Unhealthy };
        if says == self.verdict {
            self.against = 0;
            return says;
        }
        self.against += 1;
        let threshold = match self.verdict {
            Verdict::Unknown => 1,
            Verdict::Healthy => pace.unhealthy_threshold,
            Verdict::Unhealthy => pace.healthy_threshold,
        };
        if self.against >= threshold {
            *self = Self { verdict: says, against: 0 };
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verdicts(healthy: u32, unhealthy: u32, answers: &str) -> String {
        let second = Duration::from_secs(1);
        let pace =
            Pace { interval: second, timeout: second, healthy_threshold: healthy, unhealthy_threshold: unhealthy };
        let mut machine = Machine::default();
        let each = answers.chars().map(|answer| match machine.answered(answer == '+', &pace) {
            Verdict::Unknown => '?',
            Verdict::Healthy => '+',
            Verdict::Unhealthy => '-',
        });
        each.collect()
    }

    #[test]
    fn answers_in_a_row_decide() {
        for (answers, expected) in [
            ("+", "+"),
            ("-", "-"),
            ("+--+---", "++++++-"),
            ("-++-+++", "------+"),
            ("+-+-+-+", "+++++++"),
            ("+---+++", "+++---+"),
        ] {
            assert_eq!(verdicts(3, 3, answers), expected, "{answers}");
        }
        assert_eq!(verdicts(1, 1, "+-+-"), "+-+-");
        assert_eq!(verdicts(2, 4, "+----+-++"), "++++----+");
    }
}
