//! What other dataplanes have left on this machine, and how it goes.
//!
//! An agent may be started with another dataplane than the one before it. The new one is programmed first, beside the old
//! one; only then the old one is taken away. In between both translate alike, whichever the kernel asks first: both were made
//! of the same plan, or nearly. So no new connection finds nobody, and an established one is not touched, because the kernel
//! translates it from conntrack and asks no rule, as long as somebody's translating rules are there at all, which the new
//! one's are. A setting that both need is handed over, and never off in between. IPVS is another matter: its connections are its own, so it is taken away as they end.
//!
//! What cannot be removed now, most likely because another agent still runs, is tried again.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::chain;
use crate::mode::Mode;

/// When what could not be removed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// When a dataplane is looked at again whose connections are still under way.
const LOOK: Duration = Duration::from_secs(2);

/// How far a dataplane is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// There was nothing of it.
    Nothing,
    Removed,
    /// It gets no new connections, and stays for those that it has.
    Draining,
}

/// The dataplanes that are to go.
pub struct Leftovers {
    others: Vec<Other>,
    /// `None`: not before something is programmed.
    due: Option<Instant>,
}

struct Other {
    mode: Mode,
    /// What was said about it last.
    told: Told,
}

#[derive(PartialEq, Eq)]
enum Told {
    Nothing,
    Draining,
    Failed(String),
}

impl Leftovers {
    /// All but `mode`.
    pub fn of_others_than(mode: Mode) -> Self {
        let others = Mode::ALL.into_iter().filter(|other| *other != mode);
        Self { others: others.map(|mode| Other { mode, told: Told::Nothing }).collect(), due: None }
    }

    /// Something is programmed: what others left may go.
    pub fn begin(&mut self, now: Instant) {
        if !self.others.is_empty() {
            self.due = self.due.or(Some(now));
        }
    }

    /// When [`Self::look`] is to be called; `None`: never, as things are.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Has `remove` take away what can be removed, if it is time. Whether anything went.
    pub fn look<E: std::error::Error>(
        &mut self,
        now: Instant,
        mut remove: impl FnMut(Mode) -> Result<Removal, E>,
    ) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        let mut anything = false;
        let mut wait = None;
        self.others.retain_mut(|Other { mode, told }| {
            let (now_told, pause) = match remove(*mode) {
                Ok(Removal::Nothing) => return false,
                Ok(Removal::Removed) => {
                    info!(dataplane = %mode, "what another dataplane had left is removed");
                    anything = true;
                    return false;
                }
                Ok(Removal::Draining) => (Told::Draining, LOOK),
                Err(error) => (Told::Failed(chain(&error)), RETRY),
            };
            if *told != now_told {
                match &now_told {
                    Told::Draining => {
                        info!(dataplane = %mode, "another dataplane gets no new connections, and goes with those it has");
                    }
                    Told::Failed(error) => {
                        warn!(dataplane = %mode, error, "what another dataplane left cannot be removed; trying on");
                    }
                    Told::Nothing => {}
                }
                *told = now_told;
            }
            wait = wait.map_or(Some(pause), |wait: Duration| Some(wait.min(pause)));
            true
        });
        self.due = wait.map(|wait| now + wait);
        anything
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use super::*;

    /// Leftovers, and what becomes of them in this order.
    struct Bench {
        left: Leftovers,
        script: VecDeque<(Mode, Result<Removal, io::Error>)>,
    }

    impl Bench {
        fn new<const N: usize>(mode: Mode, script: [(Mode, Result<Removal, io::Error>); N]) -> Self {
            Self { left: Leftovers::of_others_than(mode), script: script.into() }
        }

        fn look(&mut self, now: Instant) -> bool {
            let script = &mut self.script;
            self.left.look(now, |asked| {
                let (mode, outcome) = script.pop_front().expect("nobody is to be asked any more");
                assert_eq!(asked, mode);
                outcome
            })
        }
    }

    #[test]
    fn nothing_goes_before_there_is_another() {
        let mut bench = Bench::new(Mode::Ipvs, []);
        assert!(!bench.look(Instant::now()));
        assert_eq!(bench.left.due(), None);
    }

    #[test]
    fn each_goes_once() {
        let now = Instant::now();
        let script = [(Mode::Ipvs, Ok(Removal::Nothing)), (Mode::Iptables, Ok(Removal::Removed))];
        let mut bench = Bench::new(Mode::Nftables, script);
        bench.left.begin(now);
        assert_eq!(bench.left.due(), Some(now));
        assert!(bench.look(now));
        assert_eq!(bench.left.due(), None);
        bench.left.begin(now);
        assert_eq!(bench.left.due(), None, "all are gone for good");
    }

    #[test]
    fn what_stays_is_looked_at_again() {
        let now = Instant::now();
        let held = || Err(io::Error::other("another agent has it"));
        let script = [
            (Mode::Nftables, held()),
            (Mode::Ipvs, Ok(Removal::Draining)),
            (Mode::Nftables, held()),
            (Mode::Ipvs, Ok(Removal::Removed)),
            (Mode::Nftables, Ok(Removal::Removed)),
        ];
        let mut bench = Bench::new(Mode::Iptables, script);
        bench.left.begin(now);
        assert!(!bench.look(now));
        assert_eq!(bench.left.due(), Some(now + LOOK));
        bench.left.begin(now);
        assert!(!bench.look(now + LOOK / 2), "not before its time");
        assert!(bench.look(now + LOOK));
        assert_eq!(bench.left.due(), Some(now + LOOK + RETRY));
        assert!(bench.look(now + LOOK + RETRY));
        assert_eq!(bench.left.due(), None);
    }
}
