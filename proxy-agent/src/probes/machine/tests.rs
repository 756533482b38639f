use super::*;
use crate::probes::Probe;
use serde_json::{Value, json};

/// A container's probes on a clock of whole seconds.
struct Run {
    start: Instant,
    machine: Machine,
}

impl Run {
    fn new(probes: Value) -> Self {
        Self::begun(probes, OnFailure::Restart, Before::default(), Duration::from_secs(1000), 0.0)
    }

    fn begun(probes: Value, on_failure: OnFailure, before: Before, age: Duration, chance: f64) -> Self {
        let start = Instant::now();
        let probe = |name: &str| -> Option<Probe> {
            let mut probe = probes.get(name)?.clone();
            probe["tcpSocket"] = json!({"port": 80});
            Some(serde_json::from_value(probe).unwrap())
        };
        let probes = Probes { startup: probe("startup"), liveness: probe("liveness"), readiness: probe("readiness") };
        let begin = Begin { now: start, since: start, age, before, on_failure };
        Self { start, machine: Machine::new(&probes, begin, || chance) }
    }

    fn at(&self, second: f64) -> Instant {
        self.start + Duration::from_secs_f64(second)
    }

    /// Lets time pass from second to second, every probe taking none and having this result; says what was probed when.
    fn live(&mut self, seconds: std::ops::Range<u32>, result: Result<(), &str>) -> Vec<(u32, Kind)> {
        let mut made = Vec::new();
        for second in seconds {
            let now = self.at(second.into());
            loop {
                let due = self.machine.due(now);
                if due.is_empty() {
                    break;
                }
                for kind in due {
                    made.push((second, kind));
                    self.machine.finished(now, kind, result);
                }
            }
        }
        made
    }

    fn stands(&self) -> (bool, bool, Option<Kind>) {
        let Verdict { started, ready, failed, .. } = self.machine.verdict();
        (*started, *ready, *failed)
    }
}

const NO: Result<(), &str> = Err("no");
use Kind::{Liveness, Readiness, Startup};

#[test]
fn without_probes_a_container_is_ready_at_once() {
    let mut run = Run::new(json!({}));
    assert_eq!(run.stands(), (true, true, None));
    assert_eq!((run.machine.next(), run.live(0..100, NO)), (None, vec![]));
}

#[test]
fn readiness_is_false_until_the_first_success_and_lost_after_three_failures() {
    let mut run = Run::new(json!({"readiness": {}}));
    assert_eq!(run.stands(), (true, false, None));
    assert_eq!(run.live(0..1, NO), [(0, Readiness)]);
    assert_eq!(run.machine.verdict().why, "no");
    assert_eq!(run.live(1..11, Ok(())), [(10, Readiness)]);
    assert_eq!((run.stands(), run.machine.verdict().why.as_str()), ((true, true, None), ""));
    assert_eq!(run.live(11..31, NO), [(20, Readiness), (30, Readiness)]);
    assert_eq!(run.stands(), (true, true, None));
    assert_eq!(run.live(31..41, Err("third")), [(40, Readiness)]);
    assert_eq!((run.stands(), run.machine.verdict().why.as_str()), ((true, false, None), "third"));
    // What the condition says stays what it was, however the next failures read.
    run.live(41..61, Err("fifth"));
    assert_eq!(run.machine.verdict().why, "third");
}

#[test]
fn thresholds_count_what_comes_in_a_row() {
    let mut run = Run::new(json!({"readiness": {"periodSeconds": 1, "successThreshold": 2, "failureThreshold": 2}}));
    for (second, result, ready) in [
        (0, Ok(()), false),
        (1, NO, false),
        (2, Ok(()), false),
        (3, Ok(()), true),
        (4, NO, true),
        (5, Ok(()), true),
        (6, NO, true),
        (7, NO, false),
    ] {
        assert_eq!(run.live(second..second + 1, result).len(), 1);
        assert_eq!(run.machine.verdict().ready, ready, "second {second}");
    }
}

#[test]
fn the_startup_probe_holds_the_others_back() {
    let mut run = Run::new(json!({
        "startup": {"periodSeconds": 2, "failureThreshold": 30}, "liveness": {"periodSeconds": 3}, "readiness": {},
    }));
    assert_eq!(run.live(0..6, NO), [(0, Startup), (2, Startup), (4, Startup)]);
    assert_eq!((run.stands(), run.machine.verdict().why.as_str()), ((false, false, None), "no"));
    // Readiness follows at once, liveness in its beat, and the startup probe is not made again.
    assert_eq!(run.live(6..15, Ok(())), [(6, Startup), (6, Readiness), (9, Liveness), (10, Readiness), (12, Liveness)]);
    assert_eq!(run.stands(), (true, true, None));
}

#[test]
fn who_fails_to_start_or_to_live_is_left_alone_until_it_is_restarted() {
    let mut run = Run::new(json!({"startup": {"periodSeconds": 1, "failureThreshold": 2}, "readiness": {}}));
    assert_eq!(run.live(0..9, NO), [(0, Startup), (1, Startup)]);
    assert_eq!((run.stands(), run.machine.next()), ((false, false, Some(Startup)), None));

    let mut run = Run::new(json!({"liveness": {"periodSeconds": 5}, "readiness": {"periodSeconds": 5}}));
    run.live(0..1, Ok(()));
    assert_eq!(run.stands(), (true, true, None));
    let of = |kind| move |(_, made): &(u32, Kind)| *made == kind;
    let made = run.live(1..60, NO);
    assert_eq!(
        (made.iter().filter(|p| of(Liveness)(p)).count(), made.iter().filter(|p| of(Readiness)(p)).count()),
        (3, 11)
    );
    assert_eq!(run.stands(), (true, false, Some(Liveness)));
}

#[test]
fn where_nobody_restarts_it_a_container_may_recover() {
    let probes = json!({"startup": {"periodSeconds": 1, "failureThreshold": 1}, "liveness": {"periodSeconds": 1}});
    let calm = Duration::from_secs(1000);
    let mut run = Run::begun(probes, OnFailure::Report, Before::default(), calm, 0.0);
    run.live(0..3, NO);
    assert_eq!(run.stands(), (false, false, Some(Startup)));
    run.live(3..5, Ok(()));
    assert_eq!(run.stands(), (true, true, None));
    run.live(5..8, NO);
    assert_eq!(run.stands(), (true, true, Some(Liveness)));
    run.live(8..9, Ok(()));
    assert_eq!(run.stands(), (true, true, None));
}

#[test]
fn a_liveness_probe_needs_one_success_whatever_its_spec_says() {
    let mut run = Run::begun(
        json!({"liveness": {"periodSeconds": 1, "failureThreshold": 1, "successThreshold": 5}}),
        OnFailure::Report,
        Before::default(),
        Duration::from_secs(1000),
        0.0,
    );
    run.live(0..1, NO);
    run.live(1..2, Ok(()));
    assert_eq!(run.stands(), (true, true, None));
}

#[test]
fn the_first_probe_waits_for_its_delay_and_for_chance() {
    let first = |spec: Value, age: u64, chance| {
        let age = Duration::from_secs(age);
        let run = Run::begun(spec, OnFailure::Restart, Before::default(), age, chance);
        run.machine.next().unwrap().duration_since(run.start)
    };
    assert_eq!(first(json!({"readiness": {"initialDelaySeconds": 7}}), 1000, 0.0), Duration::from_secs(7));
    assert_eq!(first(json!({"readiness": {}}), 1000, 0.5), Duration::from_millis(50));
    // An agent that has just begun finds everything at once: anywhere in the period.
    assert_eq!(first(json!({"readiness": {}}), 9, 0.5), Duration::from_secs(5));
    assert_eq!(first(json!({"readiness": {"periodSeconds": 2}}), 9, 0.5), Duration::from_millis(50));
}

#[test]
fn a_slow_probe_delays_the_next_and_of_several_missed_one_is_made_up_for() {
    let mut run = Run::new(json!({"readiness": {"periodSeconds": 1, "timeoutSeconds": 9}}));
    assert_eq!(run.machine.due(run.at(0.0)), [Readiness]);
    assert_eq!((run.machine.next(), run.machine.due(run.at(3.7))), (None, vec![]));
    run.machine.finished(run.at(3.7), Readiness, Ok(()));
    assert_eq!(run.machine.due(run.at(3.7)), [Readiness]);
    run.machine.finished(run.at(3.8), Readiness, Ok(()));
    assert_eq!((run.machine.due(run.at(3.8)), run.machine.next()), (vec![], Some(run.at(4.0))));
}

#[test]
fn what_could_not_be_made_counts_as_nothing_but_is_told() {
    let mut run =
        Run::new(json!({"readiness": {"periodSeconds": 1, "failureThreshold": 1}, "liveness": {"periodSeconds": 1}}));
    for second in 0..9 {
        for kind in run.machine.due(run.at(second.into())) {
            run.machine.undone(kind, &format!("{kind} cannot"));
        }
    }
    assert_eq!((run.stands(), run.machine.verdict().why.as_str()), ((true, false, None), "Readiness cannot"));
    run.live(9..10, Ok(()));
    assert_eq!((run.stands(), run.machine.verdict().why.as_str()), ((true, true, None), ""));
}

#[test]
fn a_pod_that_is_about_to_end_is_asked_for_its_readiness_alone() {
    let mut run = Run::new(json!({"liveness": {"periodSeconds": 1}, "readiness": {"periodSeconds": 1}}));
    run.live(0..1, Ok(()));
    let under_way = run.machine.due(run.at(1.0));
    assert_eq!(under_way, [Liveness, Readiness]);
    run.machine.quiet();
    for kind in under_way {
        run.machine.finished(run.at(1.0), kind, NO);
    }
    assert_eq!(run.live(2..5, NO).iter().map(|(_, kind)| *kind).collect::<Vec<_>>(), [Readiness; 3]);
    assert_eq!(run.stands(), (true, false, None));
}

#[test]
fn what_was_known_of_a_run_holds_until_probes_say_otherwise() {
    let probes = json!({"startup": {}, "readiness": {"periodSeconds": 1}});
    let before = Before { started: true, ready: true };
    let mut run = Run::begun(probes, OnFailure::Report, before, Duration::ZERO, 0.0);
    assert_eq!(run.stands(), (true, true, None));
    assert_eq!(run.live(0..2, NO), [(0, Readiness), (1, Readiness)]);
    assert_eq!(run.stands(), (true, true, None));
    run.live(2..3, NO);
    assert_eq!(run.stands(), (true, false, None));
}
