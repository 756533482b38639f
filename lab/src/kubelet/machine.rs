//! The life of a pod's containers, decided without doing anything: events in, actions out, time as an argument.
//!
//! Init containers run one after the other, each to its end; one with `restartPolicy: Always` is a sidecar, which is
//! only waited for until it is ready and then keeps running beside the others. Then all other containers start
//! together. What ends is started again as the pod's restart policy says: the first time at once, then after
//! 1, 2, 4 … 60 s (kubelet begins at 10 s and goes up to 300; a lab is watched by someone who waits). Deletion, or the
//! end of all that is no sidecar, stops what runs: SIGTERM, and SIGKILL when the grace is over. A container that is not
//! healthy is stopped in the same way, alone.

use std::time::Duration;

use jiff::Timestamp;
pub use proxy_agent::pods::status::{Ended, Phase, Role};

/// The longest pause before a restart.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A container that ran this long begins with a short pause again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its turn has not come.
    Waiting,
    /// Its process runs; `started` and `ready` as its probes say, which begin once it listens (echo), or has been started
    /// (a command).
    Running { since: Timestamp, started: bool, ready: bool },
    /// To be started again then.
    Backoff { until: Timestamp },
    /// Not to be started again.
    Done,
}

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    pub role: Role,
    pub state: State,
    /// Starts after the first, ever.
    pub restarts: u32,
    pub last: Option<Ended>,
    /// What a probe said that keeps it from being ready.
    pub why: String,
    /// Ends in a row, each soon after its start.
    ends: u32,
    was_started: bool,
    /// When it is killed, if it was told to end because it is not healthy.
    kill_at: Option<Timestamp>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Begin, or a time asked for by [`Machine::wake`] has come.
    Tick,
    /// What probes say of it; of one without probes, that it is started and ready.
    Stands {
        index: usize,
        started: bool,
        ready: bool,
        why: String,
    },
    /// A probe says that it must be restarted. It may take `grace` to end.
    Unhealthy {
        index: usize,
        grace: Duration,
    },
    Ended {
        index: usize,
        code: i32,
        signal: Option<i32>,
    },
    /// The process could not be started.
    Failed {
        index: usize,
        message: String,
    },
    /// The pod is to go within `grace`; only the shortest counts.
    Delete {
        grace: Duration,
    },
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start { index: usize },
    Terminate { index: usize },
    Kill { index: usize },
}

/// A pod's containers.
#[derive(Clone, Debug)]
pub struct Machine {
    policy: RestartPolicy,
    pub containers: Vec<Container>,
    /// When what still runs is killed; set once the pod is stopping.
    kill_at: Option<Timestamp>,
    killed: bool,
    deleting: bool,
}

impl Machine {
    /// Containers in the order of the manifest, init containers first, with how often each was restarted in an
    /// earlier life of the lab.
    pub fn new(policy: RestartPolicy, containers: impl IntoIterator<Item = (Role, u32)>) -> Self {
        let container = |(role, restarts)| Container {
            role,
            state: State::Waiting,
            restarts,
            last: None,
            why: String::new(),
            ends: 0,
            was_started: false,
            kill_at: None,
        };
        Self {
            policy,
            containers: containers.into_iter().map(container).collect(),
            kill_at: None,
            killed: false,
            deleting: false,
        }
    }

    /// Takes an event in, and says what is to be done, in this order.
    pub fn handle(&mut self, now: Timestamp, event: &Event, grace: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Stands { index, started, ready, why } => {
                if let Some(c) = self.containers.get_mut(*index)
                    && let State::Running { started: is_started, ready: is_ready, .. } = &mut c.state
                {
                    (*is_started, *is_ready) = (*started, *ready);
                    c.was_started |= *started;
                    c.why.clone_from(why);
                }
            }
            Event::Unhealthy { index, grace } => {
                if let Some(c) = self.containers.get_mut(*index)
                    && matches!(c.state, State::Running { .. })
                    && c.kill_at.is_none()
                    && self.kill_at.is_none()
                {
                    c.kill_at = Some(later(now, *grace));
                    actions.push(Action::Terminate { index: *index });
                }
            }
            Event::Ended { index, code, signal } => {
                let reason = if *code == 0 { "Completed" } else { "Error" };
                self.end(
                    now,
                    *index,
                    Ended {
                        code: *code,
                        signal: *signal,
                        reason,
                        message: String::new(),
                        started: None,
                        finished: now,
                    },
                );
            }
            Event::Failed { index, message } => self.end(
                now,
                *index,
                Ended {
                    code: 128,
                    signal: None,
                    reason: "StartError",
                    message: message.clone(),
                    started: None,
                    finished: now,
                },
            ),
            Event::Delete { grace } => {
                self.deleting = true;
                self.stop(now, *grace, &mut actions);
            }
        }
        if self.kill_at.is_none() {
            if self.mains_are_done() {
                self.stop(now, grace, &mut actions);
            } else {
                self.start_due(now, &mut actions);
            }
        }
        if !self.killed && self.kill_at.is_some_and(|at| at <= now) {
            self.killed = true;
            let running = self.containers.iter().enumerate().filter(|(_, c)| matches!(c.state, State::Running { .. }));
            actions.extend(running.map(|(index, _)| Action::Kill { index }));
        }
        for (index, c) in self.containers.iter_mut().enumerate() {
            // It stays set, so that nobody asks again; its end takes it away.
            if c.kill_at.is_some_and(|at| at <= now && at != Timestamp::MAX) && matches!(c.state, State::Running { .. })
            {
                c.kill_at = Some(Timestamp::MAX);
                actions.push(Action::Kill { index });
            }
        }
        actions
    }

    /// When [`Event::Tick`] is wanted next.
    pub fn wake(&self) -> Option<Timestamp> {
        let restarts = self.containers.iter().filter_map(|c| match c.state {
            State::Backoff { until } => Some(until),
            _ => None,
        });
        let unhealthy = self.containers.iter().filter_map(|c| c.kill_at.filter(|at| *at != Timestamp::MAX));
        restarts.chain(unhealthy).chain(self.kill_at.filter(|_| !self.killed && self.something_runs())).min()
    }

    /// Whether nothing runs and nothing will.
    pub fn finished(&self) -> bool {
        self.kill_at.is_some() && !self.something_runs()
    }

    pub fn deleting(&self) -> bool {
        self.deleting
    }

    /// Whether a container was told to end because it is not healthy.
    pub fn is_ending(&self, index: usize) -> bool {
        self.containers.get(index).is_some_and(|c| c.kill_at.is_some())
    }

    /// Whether every init container has done its part.
    pub fn initialized(&self) -> bool {
        self.containers.iter().all(|c| match c.role {
            Role::Main => true,
            Role::Sidecar => c.was_started,
            Role::Init => c.state == State::Done && c.succeeded(),
        })
    }

    /// Whether every container that serves is ready.
    pub fn ready(&self) -> bool {
        self.containers
            .iter()
            .filter(|c| c.role != Role::Init)
            .all(|c| matches!(c.state, State::Running { ready: true, .. }))
            && self.initialized()
    }

    pub fn phase(&self) -> Phase {
        let mains = || self.containers.iter().filter(|c| c.role == Role::Main);
        let init_failed =
            self.containers.iter().any(|c| c.role == Role::Init && c.state == State::Done && !c.succeeded());
        if self.finished() || init_failed || mains().all(|c| c.state == State::Done) {
            let all_well = !init_failed && mains().all(Container::succeeded);
            return if all_well { Phase::Succeeded } else { Phase::Failed };
        }
        if mains().all(|c| c.state == State::Waiting) { Phase::Pending } else { Phase::Running }
    }

    fn something_runs(&self) -> bool {
        self.containers.iter().any(|c| matches!(c.state, State::Running { .. }))
    }

    /// Whether nothing but sidecars is left to run: the end of a pod that is not deleted.
    fn mains_are_done(&self) -> bool {
        matches!(self.phase(), Phase::Succeeded | Phase::Failed)
    }

    fn end(&mut self, now: Timestamp, index: usize, mut ended: Ended) {
        let stopping = self.kill_at.is_some();
        let policy = self.policy;
        let Some(c) = self.containers.get_mut(index) else { return };
        if let State::Running { since, .. } = c.state {
            ended.started = Some(since);
        }
        let again = !stopping
            && match c.role {
                Role::Sidecar => true,
                Role::Init => policy != RestartPolicy::Never && ended.code != 0,
                Role::Main => policy == RestartPolicy::Always || policy == RestartPolicy::OnFailure && ended.code != 0,
            };
        let ran = ended.started.and_then(|s| Duration::try_from(now.duration_since(s)).ok()).unwrap_or_default();
        c.ends = if ran >= FORGIVEN_AFTER { 0 } else { c.ends };
        c.state = if again { State::Backoff { until: later(now, backoff(c.ends)) } } else { State::Done };
        c.ends = c.ends.saturating_add(1);
        c.last = Some(ended);
        c.kill_at = None;
        c.why.clear();
    }

    /// Starts what may run now: the first init container that has not done its part, else everything else.
    fn start_due(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for (index, c) in self.containers.iter_mut().enumerate() {
            let due = match c.state {
                State::Waiting => true,
                State::Backoff { until } => until <= now,
                State::Running { .. } | State::Done => false,
            };
            if due {
                if matches!(c.state, State::Backoff { .. }) {
                    c.restarts = c.restarts.saturating_add(1);
                }
                c.state = State::Running { since: now, started: false, ready: false };
                actions.push(Action::Start { index });
            }
            let passed = match c.role {
                Role::Main => true,
                Role::Init => c.state == State::Done,
                // A sidecar that was up once does not hold the others back while it restarts.
                Role::Sidecar => c.was_started,
            };
            if !passed {
                break;
            }
        }
    }

    fn stop(&mut self, now: Timestamp, grace: Duration, actions: &mut Vec<Action>) {
        let at = later(now, grace);
        let first = self.kill_at.is_none();
        self.kill_at = Some(self.kill_at.map_or(at, |known| known.min(at)));
        for (index, c) in self.containers.iter_mut().enumerate() {
            match c.state {
                State::Running { .. } if first => actions.push(Action::Terminate { index }),
                State::Running { .. } => {}
                State::Waiting | State::Backoff { .. } => c.state = State::Done,
                State::Done => {}
            }
        }
    }
}

impl Container {
    fn succeeded(&self) -> bool {
        self.last.as_ref().is_some_and(|e| e.code == 0)
    }

    pub fn is_ready(&self) -> bool {
        match self.role {
            Role::Init => self.state == State::Done && self.succeeded(),
            Role::Sidecar | Role::Main => matches!(self.state, State::Running { ready: true, .. }),
        }
    }
}

fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 1).min(6)).min(MAX_BACKOFF),
    }
}

/// `now + pause`, or the end of time.
fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
