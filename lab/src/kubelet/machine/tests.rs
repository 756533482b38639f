use super::Action::{Kill, Start, Terminate};
use super::*;

const GRACE: Duration = Duration::from_secs(30);

/// A machine and its clock, in seconds since an arbitrary moment.
struct Play {
    machine: Machine,
}

impl Play {
    fn new(policy: RestartPolicy, roles: &[Role]) -> Self {
        Self { machine: Machine::new(policy, roles.iter().map(|r| (*r, 0))) }
    }

    fn at(&mut self, second: i64, event: Event) -> Vec<Action> {
        self.machine.handle(time(second), &event, GRACE)
    }

    fn ended(&mut self, second: i64, index: usize, code: i32) -> Vec<Action> {
        self.at(second, Event::Ended { index, code, signal: None })
    }

    fn wake(&self) -> Option<i64> {
        self.machine.wake().map(|t| t.as_second() - time(0).as_second())
    }
}

fn ready(index: usize) -> Event {
    Event::Stands { index, started: true, ready: true, why: String::new() }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

#[test]
fn main_containers_start_together_and_are_ready_one_by_one() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Main, Role::Main]);
    assert_eq!(pod.machine.phase(), Phase::Pending);
    assert_eq!(pod.at(0, Event::Tick), [Start { index: 0 }, Start { index: 1 }]);
    assert_eq!(pod.machine.phase(), Phase::Running);
    assert_eq!(pod.at(1, ready(1)), []);
    assert!(!pod.machine.ready());
    assert_eq!(pod.at(1, ready(0)), []);
    assert!(pod.machine.ready());
}

#[test]
fn init_containers_run_in_turn_and_sidecars_stay() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Init, Role::Sidecar, Role::Init, Role::Main]);
    assert_eq!(pod.at(0, Event::Tick), [Start { index: 0 }]);
    assert_eq!(pod.ended(1, 0, 0), [Start { index: 1 }]);
    assert_eq!(pod.at(2, Event::Tick), [], "a sidecar holds the next back until it is started");
    assert_eq!(pod.at(3, ready(1)), [Start { index: 2 }]);
    assert_eq!(pod.machine.phase(), Phase::Pending);
    assert!(!pod.machine.initialized());
    assert_eq!(pod.ended(4, 2, 0), [Start { index: 3 }]);
    assert!(pod.machine.initialized());
    assert_eq!(pod.ended(5, 1, 1), [Start { index: 1 }], "and is always started again");
    assert!(pod.machine.initialized());
}

#[test]
fn a_failing_init_container_is_tried_again_or_fails_the_pod() {
    let mut pod = Play::new(RestartPolicy::OnFailure, &[Role::Init, Role::Main]);
    pod.at(0, Event::Tick);
    assert_eq!(pod.ended(1, 0, 3), [Start { index: 0 }]);
    let mut pod = Play::new(RestartPolicy::Never, &[Role::Init, Role::Main]);
    pod.at(0, Event::Tick);
    assert_eq!(pod.ended(1, 0, 3), []);
    assert_eq!(pod.machine.phase(), Phase::Failed);
    assert!(pod.machine.finished());
}

#[test]
fn restarts_come_at_once_and_then_ever_later() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Main]);
    pod.at(0, Event::Tick);
    assert_eq!(pod.ended(0, 0, 0), [Start { index: 0 }], "the first at once, whatever the code");
    let mut now = 0;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(pod.ended(now, 0, 1), []);
        assert_eq!(pod.wake(), Some(now + pause));
        assert!(!pod.machine.ready());
        now += pause;
        assert_eq!(pod.at(now, Event::Tick), [Start { index: 0 }]);
    }
    assert_eq!(pod.machine.containers[0].restarts, 9);
    assert_eq!(pod.ended(now + 120, 0, 1), [Start { index: 0 }], "who ran for long is forgiven");
}

#[test]
fn the_restart_policy_decides_how_a_pod_ends() {
    for (policy, code, phase) in [
        (RestartPolicy::Never, 0, Phase::Succeeded),
        (RestartPolicy::Never, 1, Phase::Failed),
        (RestartPolicy::OnFailure, 0, Phase::Succeeded),
    ] {
        let mut pod = Play::new(policy, &[Role::Main]);
        pod.at(0, Event::Tick);
        assert_eq!(pod.ended(1, 0, code), []);
        assert_eq!(pod.machine.phase(), phase);
        assert!(pod.machine.finished());
        assert_eq!(pod.wake(), None);
    }
    let mut pod = Play::new(RestartPolicy::OnFailure, &[Role::Main]);
    pod.at(0, Event::Tick);
    assert_eq!(pod.ended(1, 0, 1), [Start { index: 0 }]);
}

#[test]
fn sidecars_end_with_the_last_main_container() {
    let mut pod = Play::new(RestartPolicy::Never, &[Role::Sidecar, Role::Main]);
    pod.at(0, Event::Tick);
    pod.at(0, ready(0));
    assert_eq!(pod.ended(5, 1, 0), [Terminate { index: 0 }]);
    assert_eq!(pod.wake(), Some(35));
    assert_eq!(pod.at(35, Event::Tick), [Kill { index: 0 }]);
    assert_eq!(pod.ended(35, 0, 137), []);
    assert_eq!(pod.machine.phase(), Phase::Succeeded);
}

#[test]
fn a_command_that_cannot_be_started_is_told_apart() {
    let mut pod = Play::new(RestartPolicy::Never, &[Role::Main]);
    pod.at(0, Event::Tick);
    pod.at(0, Event::Failed { index: 0, message: "no such file".into() });
    let last = pod.machine.containers[0].last.clone().unwrap();
    assert_eq!((last.code, last.reason, last.message.as_str()), (128, "StartError", "no such file"));
    assert_eq!(pod.machine.phase(), Phase::Failed);
}

#[test]
fn deletion_asks_first_and_kills_once_when_the_grace_is_over() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Main, Role::Main]);
    pod.at(0, Event::Tick);
    pod.at(0, ready(0));
    pod.at(0, ready(1));
    let grace = Duration::from_secs(10);
    assert_eq!(pod.at(100, Event::Delete { grace }), [Terminate { index: 0 }, Terminate { index: 1 }]);
    assert!(pod.machine.ready(), "it goes on serving");
    assert_eq!(pod.ended(102, 0, 0), [], "and nothing is started again");
    assert_eq!(pod.at(103, Event::Delete { grace }), [], "asking again changes nothing");
    assert_eq!(pod.wake(), Some(110));
    assert_eq!(pod.at(110, Event::Tick), [Kill { index: 1 }]);
    assert_eq!(pod.wake(), None, "who was killed is only waited for");
    assert_eq!(pod.at(111, Event::Tick), []);
    assert!(!pod.machine.finished());
    assert_eq!(pod.ended(112, 1, 137), []);
    assert!(pod.machine.finished());
    assert_eq!(pod.machine.phase(), Phase::Failed);
}

#[test]
fn grace_may_be_shortened_but_not_extended() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Main]);
    pod.at(0, Event::Tick);
    pod.at(0, Event::Delete { grace: Duration::from_secs(30) });
    assert_eq!(pod.at(1, Event::Delete { grace: Duration::from_secs(60) }), []);
    assert_eq!(pod.wake(), Some(30));
    assert_eq!(pod.at(2, Event::Delete { grace: Duration::ZERO }), [Kill { index: 0 }]);
}

#[test]
fn a_pod_deleted_while_it_waits_to_restart_is_finished() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Main]);
    pod.at(0, Event::Tick);
    pod.ended(0, 0, 1);
    pod.ended(0, 0, 1);
    assert_eq!(pod.at(0, Event::Delete { grace: GRACE }), []);
    assert!(pod.machine.finished());
}

#[test]
fn who_is_not_healthy_is_ended_alone_and_started_again() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Main, Role::Main]);
    pod.at(0, Event::Tick);
    pod.at(0, ready(0));
    pod.at(0, ready(1));
    let unhealthy = |seconds| Event::Unhealthy { index: 1, grace: Duration::from_secs(seconds) };
    assert_eq!(pod.at(10, unhealthy(5)), [Terminate { index: 1 }]);
    assert!(pod.machine.is_ending(1) && !pod.machine.is_ending(0));
    assert_eq!(pod.at(11, unhealthy(1)), [], "once");
    assert_eq!(pod.wake(), Some(15));
    assert_eq!(pod.at(15, Event::Tick), [Kill { index: 1 }]);
    assert_eq!((pod.wake(), pod.at(99, Event::Tick)), (None, vec![]), "who was killed is only waited for");
    let why = "Liveness probe failed: no".to_owned();
    pod.at(99, Event::Stands { index: 1, started: true, ready: false, why: why.clone() });
    assert_eq!(pod.machine.containers[1].why, why);
    assert_eq!(pod.ended(100, 1, 137), [Start { index: 1 }]);
    assert!(!pod.machine.is_ending(1) && !pod.machine.ready());
    assert_eq!((pod.machine.containers[1].restarts, pod.machine.containers[1].why.as_str()), (1, ""));
    // With the whole pod on its way out nothing more is asked of one of it.
    pod.at(101, Event::Delete { grace: GRACE });
    assert_eq!(pod.at(102, unhealthy(0)), []);
}

#[test]
fn a_sidecar_need_not_be_ready_for_the_others_to_begin() {
    let mut pod = Play::new(RestartPolicy::Always, &[Role::Sidecar, Role::Main]);
    pod.at(0, Event::Tick);
    let started = Event::Stands { index: 0, started: true, ready: false, why: String::new() };
    assert_eq!(pod.at(1, started), [Start { index: 1 }]);
    assert!(pod.machine.initialized() && !pod.machine.ready());
}
