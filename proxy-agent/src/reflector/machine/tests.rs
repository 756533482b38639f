use super::*;

const AT_ONCE: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

fn watching(from: Revision) -> Machine {
    let mut machine = Machine::new();
    assert_eq!(machine.next(0), Step { wait: AT_ONCE, action: Action::List });
    machine.end(End::Listed(from));
    assert_eq!(machine.next(0), Step { wait: AT_ONCE, action: Action::Watch { from } });
    machine
}

#[test]
fn a_closed_watch_goes_on_at_once_from_the_last_event() {
    let mut machine = watching(5);
    assert_eq!(machine.event(7), Verdict::Apply);
    assert_eq!(machine.event(9), Verdict::Apply);
    machine.end(End::Closed { lived: SHORT });
    assert_eq!(machine.next(0), Step { wait: AT_ONCE, action: Action::Watch { from: 9 } });
}

#[test]
fn a_watch_that_lived_needs_no_event_to_go_on_at_once() {
    let mut machine = watching(5);
    machine.end(End::Closed { lived: LONG });
    assert_eq!(machine.next(0), Step { wait: AT_ONCE, action: Action::Watch { from: 5 } });
}

#[test]
fn a_server_that_closes_every_watch_at_once_is_left_alone_longer_and_longer() {
    let mut machine = watching(5);
    let mut waits = Vec::new();
    for _ in 0..8 {
        machine.end(End::Closed { lived: SHORT });
        let step = machine.next(0);
        assert_eq!(step.action, Action::Watch { from: 5 });
        waits.push(step.wait.as_millis());
    }
    assert_eq!(waits, [200, 400, 800, 1000, 1000, 1000, 1000, 1000]);
}

#[test]
fn a_broken_watch_keeps_its_position_and_waits() {
    let mut machine = watching(5);
    machine.event(8);
    machine.end(End::Broken { lived: LONG });
    assert_eq!(machine.next(0), Step { wait: MIN_WAIT, action: Action::Watch { from: 8 } });
}

#[test]
fn the_first_expiry_lists_at_once_and_the_next_ones_wait() {
    let mut machine = watching(5);
    machine.end(End::Expired);
    assert_eq!(machine.next(0), Step { wait: AT_ONCE, action: Action::List });
    machine.end(End::Listed(20));
    assert_eq!(machine.next(0), Step { wait: AT_ONCE, action: Action::Watch { from: 20 } });
    machine.end(End::Expired);
    assert_eq!(machine.next(0).action, Action::List);
    assert!(machine.next(0).wait >= MIN_WAIT, "a list is no progress");
}

#[test]
fn what_could_not_be_read_is_listed() {
    let mut machine = watching(5);
    machine.end(End::Garbled);
    assert_eq!(machine.next(0), Step { wait: MIN_WAIT, action: Action::List });
}

#[test]
fn a_step_back_is_refused_and_listed() {
    let mut machine = watching(5);
    assert_eq!(machine.event(5), Verdict::Apply, "a bookmark may repeat the position");
    assert_eq!(machine.event(4), Verdict::Backwards);
    machine.end(End::Garbled);
    assert_eq!(machine.next(0).action, Action::List);
}

#[test]
fn a_failed_list_is_tried_again() {
    let mut machine = Machine::new();
    machine.end(End::ListFailed);
    assert_eq!(machine.next(0), Step { wait: MIN_WAIT, action: Action::List });
    machine.end(End::ListFailed);
    machine.end(End::Listed(3));
    assert_eq!(machine.next(0), Step { wait: AT_ONCE, action: Action::Watch { from: 3 } });
}

#[test]
fn progress_forgets_the_failures() {
    let mut machine = watching(5);
    for _ in 0..5 {
        machine.end(End::Broken { lived: SHORT });
    }
    machine.event(6);
    machine.end(End::Broken { lived: SHORT });
    assert_eq!(machine.next(0).wait, MIN_WAIT);
}

#[test]
fn waits_stay_within_their_bounds_whatever_the_chance() {
    for failures in [1, 2, 5, 6, 7, 40, u32::MAX] {
        for chance in [0, 1, 511, 1023, u64::MAX] {
            let wait = wait(failures, chance);
            assert!((MIN_WAIT..=MAX_WAIT).contains(&wait), "{failures} {chance}: {wait:?}");
        }
    }
    assert!(wait(3, 0) < wait(3, 1000));
}
