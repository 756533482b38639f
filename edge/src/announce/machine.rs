//! Whether one address is answered for, and when it is announced or probed for. Time and chance are arguments.
//!
//! ```text
//!            leased                     leased
//!   Quiet ───────────▶ Owner ◀──────────────────────────┐
//!     ▲ ◀───────────── (announces, defends)             │
//!     │     lapsed       │ alone                        │
//!     │                  ▼                              │
//!     │ alone        Probing ── nobody answers ──▶ Keeper (announces, probes on)
//!     └────────────────▲ │                           │
//!                      │ │ somebody has it, or wants it
//!                      │ ▼                           │
//!                    Yielded ◀───────────────────────┘
//! ```
//!
//! An owner has its Lease, and so the right: it goes on answering whatever others say, and when somebody else claims the
//! address it announces itself once more after [`DEFEND_AFTER`], but not more often than [`DEFEND_EVERY`] (RFC 5227 §2.4). The
//! pause is for the usual case, in which the other is the new owner and the news of it is on its way.
//!
//! A keeper has no Lease, since there is no server. It has probed before it began to answer (RFC 5227 §2.1.1), and gives way at the
//! first word of anybody else about the address: then that one has it by right, or will soon. It probes on, so that
//! two which a broken network had kept apart find each other.

use std::time::Duration;

use crate::lease::fence::{Boot, Standing};

/// When announcements are sent, after the beginning. The first ones are for caches that were told otherwise within the last
/// second and then do not listen (Linux: `locktime`), the others for what the network loses.
const ANNOUNCED: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(1100),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
];
const DEFEND_AFTER: Duration = Duration::from_millis(300);
const DEFEND_EVERY: Duration = Duration::from_secs(10);
/// As RFC 5227 §1.1: PROBE_NUM, PROBE_MIN, the span up to PROBE_MAX, and ANNOUNCE_WAIT.
const PROBES: u32 = 3;
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_SPAN: Duration = Duration::from_secs(1);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// How often a keeper looks for others, and how long who has yielded to another waits before it tries again.
const KEEPER_PROBES: Duration = Duration::from_secs(5);
const YIELDS: Duration = Duration::from_secs(20);

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    Announcement,
    Probe,
}

/// How it stands with one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Quiet,
    Owner { round: Round },
    Probing { sent: u32, next: Boot },
    Keeper { round: Round, probe: Boot },
    Yielded { until: Boot },
}

/// A round of announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    began: Boot,
    /// How many were sent.
    sent: usize,
}

impl Round {
    fn new(now: Boot) -> Self {
        Self { began: now, sent: 0 }
    }

    fn next(&self) -> Option<Boot> {
        ANNOUNCED.get(self.sent).map(|after| self.began + *after)
    }

    /// Whether one is due; it counts as sent, and so do those that were missed.
    fn take(&mut self, now: Boot) -> bool {
        let due = self.next().is_some_and(|at| at <= now);
        while self.next().is_some_and(|at| at <= now) {
            self.sent += 1;
        }
        due
    }
}

/// One address.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    state: State,
    /// Somebody else claimed it; when that is answered.
    defend: Option<Boot>,
    defended: Option<Boot>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { state: State::Quiet, defend: None, defended: None }
    }
}

impl Machine {
    /// Whether a question is answered.
    pub fn answers(&self) -> bool {
        matches!(self.state, State::Owner { .. } | State::Keeper { .. })
    }

    /// Whether it answers without a Lease.
    pub fn keeps(&self) -> bool {
        matches!(self.state, State::Keeper { .. })
    }

    /// Brings it up to `now`, with the edge's standing then. What is given is to be sent.
    pub fn step(&mut self, now: Boot, standing: Standing, chance: u64) -> Option<Send> {
        self.state = match (standing, self.state) {
            (Standing::Leased | Standing::Leaving, State::Owner { round }) => State::Owner { round },
            (Standing::Leased, _) => State::Owner { round: Round::new(now) },
            (Standing::Lapsed | Standing::Leaving, _) => State::Quiet,
            (Standing::Alone, State::Yielded { until }) if now < until => State::Yielded { until },
            (Standing::Alone, state @ (State::Probing { .. } | State::Keeper { .. })) => state,
            // The first probe is put off, so that edges which fell silent together do not ask together.
            (Standing::Alone, _) => State::Probing { sent: 0, next: now + spread(PROBE_SPAN, chance) },
        };
        match &mut self.state {
            // Who leaves has nothing to announce.
            State::Owner { .. } if standing == Standing::Leaving => None,
            State::Owner { round } => {
                let defends = self.defend.is_some_and(|at| at <= now);
                if defends {
                    (self.defend, self.defended) = (None, Some(now));
                }
                (round.take(now) || defends).then_some(Send::Announcement)
            }
            State::Probing { sent, next } if *next <= now => {
                if *sent == PROBES {
                    let mut round = Round::new(now);
                    round.take(now);
                    self.state = State::Keeper { round, probe: now + KEEPER_PROBES };
                    return Some(Send::Announcement);
                }
                *sent += 1;
                let pause = if *sent == PROBES { ANNOUNCE_WAIT } else { PROBE_MIN + spread(PROBE_SPAN, chance) };
                *next = now + pause;
                Some(Send::Probe)
            }
            State::Keeper { round, probe } => {
                if round.take(now) {
                    return Some(Send::Announcement);
                }
                if *probe > now {
                    return None;
                }
                *probe = now + KEEPER_PROBES;
                Some(Send::Probe)
            }
            State::Quiet | State::Probing { .. } | State::Yielded { .. } => None,
        }
    }

    /// Somebody else says that it has the address, or asks whether it may take it.
    pub fn contested(&mut self, now: Boot, standing: Standing, probe: bool, chance: u64) {
        match self.state {
            // That is whom it was left to.
            State::Owner { .. } if standing == Standing::Leaving => self.state = State::Quiet,
            // Who probes is answered.
            State::Owner { .. } if !probe => {
                let rested = self.defended.is_none_or(|at| now.saturating_sub(at) >= DEFEND_EVERY);
                if rested && self.defend.is_none() {
                    self.defend = Some(now + DEFEND_AFTER);
                }
            }
            State::Probing { .. } | State::Keeper { .. } => {
                self.state = State::Yielded { until: now + YIELDS + spread(YIELDS, chance) };
            }
            State::Owner { .. } | State::Quiet | State::Yielded { .. } => {}
        }
    }

    /// When [`Machine::step`] has something to do if the standing stays as it is.
    pub fn next_at(&self) -> Option<Boot> {
        let earlier = |a: Option<Boot>, b: Option<Boot>| a.into_iter().chain(b).min();
        match self.state {
            State::Quiet => None,
            State::Owner { round } => earlier(round.next(), self.defend),
            State::Probing { next, .. } => Some(next),
            State::Keeper { round, probe } => earlier(round.next(), Some(probe)),
            State::Yielded { until } => Some(until),
        }
    }
}

/// A part of `span`.
fn spread(span: Duration, chance: u64) -> Duration {
    span.mul_f64((chance % 1024) as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Everything that is sent from `from` to `to`, a millisecond at a time.
    fn run(machine: &mut Machine, from: u32, to: u32, standing: Standing) -> Vec<(u32, Send)> {
        (from..to).filter_map(|ms| Some((ms, machine.step(MS * ms, standing, 0)?))).collect()
    }

    #[test]
    fn an_owner_announces_itself_a_few_times() {
        let mut machine = Machine::default();
        let sent = run(&mut machine, 0, 20_000, Standing::Leased);
        let times: Vec<u32> = sent.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(times, [0, 200, 1100, 2000, 3000, 5000]);
        assert!(sent.iter().all(|(_, send)| *send == Send::Announcement));
        assert!(machine.answers() && machine.next_at().is_none());
    }

    #[test]
    fn what_was_missed_is_announced_once() {
        let mut machine = Machine::default();
        machine.step(Boot::ZERO, Standing::Leased, 0);
        assert_eq!(machine.step(MS * 2500, Standing::Leased, 0), Some(Send::Announcement));
        assert_eq!(machine.step(MS * 2501, Standing::Leased, 0), None);
    }

    #[test]
    fn who_lapses_is_quiet_at_once_and_announces_anew_afterwards() {
        let mut machine = Machine::default();
        run(&mut machine, 0, 6000, Standing::Leased);
        assert_eq!(machine.step(MS * 6000, Standing::Lapsed, 0), None);
        assert!(!machine.answers());
        assert_eq!(machine.step(MS * 6001, Standing::Leased, 0), Some(Send::Announcement));
    }

    #[test]
    fn an_owner_defends_itself_after_a_while_and_rarely() {
        let mut machine = Machine::default();
        run(&mut machine, 0, 6000, Standing::Leased);
        for ms in 6000..6010 {
            machine.contested(MS * ms, Standing::Leased, false, 0);
        }
        machine.contested(MS * 6010, Standing::Leased, true, 0);
        assert_eq!(run(&mut machine, 6010, 7000, Standing::Leased), [(6300, Send::Announcement)]);
        machine.contested(MS * 7000, Standing::Leased, false, 0);
        assert_eq!(run(&mut machine, 7000, 9000, Standing::Leased), []);
        machine.contested(MS * 17_000, Standing::Leased, false, 0);
        assert_eq!(run(&mut machine, 17_000, 18_000, Standing::Leased), [(17_300, Send::Announcement)]);
    }

    #[test]
    fn who_is_alone_probes_before_it_answers() {
        let mut machine = Machine::default();
        let sent = run(&mut machine, 0, 6000, Standing::Alone);
        let expected = [
            (0, Send::Probe),
            (1000, Send::Probe),
            (2000, Send::Probe),
            (4000, Send::Announcement),
            (4200, Send::Announcement),
            (5100, Send::Announcement),
        ];
        assert_eq!(sent, expected);
        assert!(machine.answers() && machine.keeps());
        let probes = run(&mut machine, 10_000, 21_000, Standing::Alone);
        assert!(probes.iter().filter(|(_, send)| *send == Send::Probe).count() >= 2, "{probes:?}");
    }

    #[test]
    fn who_is_alone_gives_way_to_anybody() {
        for probe in [false, true] {
            for when in [500, 3900, 8000] {
                let mut machine = Machine::default();
                run(&mut machine, 0, when, Standing::Alone);
                machine.contested(MS * when, Standing::Alone, probe, 0);
                assert!(!machine.answers());
                assert_eq!(run(&mut machine, when, when + 19_999, Standing::Alone), [], "{when}");
                let later = machine.step(MS * (when + 20_000), Standing::Alone, 0);
                assert_eq!(later.or(machine.step(MS * (when + 20_000), Standing::Alone, 0)), Some(Send::Probe));
            }
        }
    }

    #[test]
    fn who_leaves_answers_until_it_hears_of_another() {
        let mut machine = Machine::default();
        run(&mut machine, 0, 100, Standing::Leased);
        assert_eq!(run(&mut machine, 100, 1000, Standing::Leaving), []);
        assert!(machine.answers());
        machine.contested(MS * 1000, Standing::Leaving, false, 0);
        assert!(!machine.answers());
        assert_eq!(run(&mut machine, 1001, 1100, Standing::Leaving), []);
        assert!(!machine.answers());
    }

    #[test]
    fn with_its_lease_back_it_owns_whatever_others_said() {
        let mut machine = Machine::default();
        run(&mut machine, 0, 5000, Standing::Alone);
        machine.contested(MS * 5000, Standing::Alone, false, 0);
        assert_eq!(machine.step(MS * 5001, Standing::Leased, 0), Some(Send::Announcement));
        assert!(machine.answers() && !machine.keeps());
    }
}
