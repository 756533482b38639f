//! Turns, bounds and queues, first by hand, then whatever comes in whatever order.

use proptest::prelude::*;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn level(seats: u32, seats_per_user: u32, waiting_per_user: usize) -> Level<&'static str, &'static str> {
    Level::new(Bounds { seats, seats_per_user, waiting_per_user, waiting: 1_000 })
}

fn admitted(level: &mut Level<&'static str, &'static str>) -> Vec<&'static str> {
    std::iter::from_fn(|| level.admit()).collect()
}

#[test]
fn while_there_are_seats_nobody_waits() {
    let mut level = level(4, 3, 10);
    assert_eq!(level.arrive(&"a", 1, ""), Arrival::Goes);
    assert_eq!(level.arrive(&"a", 2, ""), Arrival::Goes);
    assert_eq!(level.arrive(&"b", 1, ""), Arrival::Goes);
    assert_eq!((level.taken(), level.waiting()), (4, 0));
}

#[test]
fn a_user_at_its_bound_waits_and_others_do_not() {
    let mut level = level(10, 2, 10);
    assert_eq!(level.arrive(&"greedy", 1, ""), Arrival::Goes);
    assert_eq!(level.arrive(&"greedy", 1, ""), Arrival::Goes);
    for _ in 0..10 {
        assert!(matches!(level.arrive(&"greedy", 1, "greedy"), Arrival::Waits(_)));
    }
    assert_eq!(level.arrive(&"greedy", 1, ""), Arrival::Refused);
    assert_eq!(admitted(&mut level), [""; 0]);
    assert_eq!(level.arrive(&"other", 1, ""), Arrival::Goes);
    level.finish(&"greedy", 1, MILLISECOND);
    assert_eq!(admitted(&mut level), ["greedy"]);
}

#[test]
fn who_has_had_least_goes_first() {
    let mut level = level(1, 1, 100);
    assert_eq!(level.arrive(&"greedy", 1, ""), Arrival::Goes);
    for _ in 0..50 {
        level.arrive(&"greedy", 1, "greedy");
    }
    level.arrive(&"b", 1, "b");
    level.arrive(&"c", 1, "c1");
    level.arrive(&"c", 1, "c2");
    let mut order = Vec::new();
    let mut now = "greedy";
    for _ in 0..6 {
        let user = if now.starts_with('c') { "c" } else { now };
        level.finish(&user, 1, 10 * MILLISECOND);
        now = level.admit().unwrap();
        order.push(now);
    }
    // Whoever came late has had nothing and goes before what was there long ago; then they take turns.
    assert_eq!(order, ["b", "c1", "c2", "greedy", "greedy", "greedy"]);
}

/// A client whose requests take ten times as long has a tenth of the turns.
#[test]
fn what_counts_is_time() {
    let mut level = level(1, 1, 1_000);
    level.arrive(&"z", 1, "");
    for _ in 0..500 {
        level.arrive(&"long", 1, "long");
        level.arrive(&"short", 1, "short");
    }
    level.finish(&"z", 1, MILLISECOND);
    let (mut long, mut short) = (0, 0);
    while short < 400 {
        match level.admit().unwrap() {
            "long" => {
                long += 1;
                level.finish(&"long", 1, 20 * MILLISECOND);
            }
            _ => {
                short += 1;
                level.finish(&"short", 1, 2 * MILLISECOND);
            }
        }
    }
    assert!((39..=41).contains(&long), "{long} long ones beside 400 short ones");
}

#[test]
fn a_wide_request_is_not_passed_for_ever_and_always_fits_in_the_end() {
    let mut level = level(4, 4, 10);
    assert_eq!(level.arrive(&"a", 1, ""), Arrival::Goes);
    assert!(matches!(level.arrive(&"wide", 99, "wide"), Arrival::Waits(_)));
    assert!(matches!(level.arrive(&"a", 1, "narrow"), Arrival::Waits(_)));
    assert_eq!(admitted(&mut level), [""; 0]);
    level.finish(&"a", 1, MILLISECOND);
    assert_eq!(admitted(&mut level), ["wide"]);
    level.finish(&"wide", 99, MILLISECOND);
    assert_eq!(admitted(&mut level), ["narrow"]);
}

#[test]
fn who_gives_up_leaves_its_place() {
    let mut level = level(1, 1, 10);
    level.arrive(&"a", 1, "");
    let Arrival::Waits(first) = level.arrive(&"b", 1, "first") else { panic!() };
    let Arrival::Waits(_) = level.arrive(&"b", 1, "second") else { panic!() };
    assert!(level.give_up(&"b", first));
    assert!(!level.give_up(&"b", first));
    level.finish(&"a", 1, MILLISECOND);
    assert_eq!(admitted(&mut level), ["second"]);
}

#[test]
fn a_full_house_still_has_a_place_for_one_of_each() {
    let mut level = Level::new(Bounds { seats: 1, seats_per_user: 1, waiting_per_user: 5, waiting: 5 });
    level.arrive(&"a", 1, 0);
    for n in 0..5 {
        assert!(matches!(level.arrive(&"a", 1, n), Arrival::Waits(_)));
    }
    assert!(matches!(level.arrive(&"b", 1, 9), Arrival::Waits(_)));
    assert_eq!(level.arrive(&"b", 1, 9), Arrival::Refused);
}

#[derive(Clone, Debug)]
enum Step {
    Arrive { user: u8, width: u32 },
    Finish { nth: usize, milliseconds: u64 },
    GiveUp { nth: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..5u8, 1..7u32).prop_map(|(user, width)| Step::Arrive { user, width }),
        3 => (0..100usize, 0..50u64).prop_map(|(nth, milliseconds)| Step::Finish { nth, milliseconds }),
        1 => (0..100usize).prop_map(|nth| Step::GiveUp { nth }),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Bounds hold at every moment, no seat is lost, and where somebody waits there was no seat for the first of them.
    #[test]
    fn whatever_comes(steps in steps()) {
        let bounds = Bounds { seats: 8, seats_per_user: 5, waiting_per_user: 6, waiting: 12 };
        let mut level: Level<u8, (u8, u32, u64)> = Level::new(bounds);
        let mut running: Vec<(u8, u32)> = Vec::new();
        let mut waiting: Vec<(u8, u64, Ticket)> = Vec::new();
        for (id, step) in (0u64..).zip(steps) {
            match step {
                Step::Arrive { user, width } => {
                    let queued = waiting.iter().filter(|(who, ..)| *who == user).count();
                    match level.arrive(&user, width, (user, width, id)) {
                        Arrival::Goes => running.push((user, width)),
                        Arrival::Waits(ticket) => waiting.push((user, id, ticket)),
                        Arrival::Refused => prop_assert!(queued == 6 || waiting.len() >= 12 && queued > 0),
                    }
                }
                Step::Finish { nth, milliseconds } if !running.is_empty() => {
                    let (user, width) = running.swap_remove(nth % running.len());
                    level.finish(&user, width, Duration::from_millis(milliseconds));
                }
                Step::GiveUp { nth } if !waiting.is_empty() => {
                    let (user, _, ticket) = waiting.remove(nth % waiting.len());
                    prop_assert!(level.give_up(&user, ticket));
                }
                Step::Finish { .. } | Step::GiveUp { .. } => {}
            }
            while let Some((user, width, id)) = level.admit() {
                let first = waiting.iter().position(|(who, ..)| *who == user).unwrap();
                prop_assert_eq!(waiting.remove(first).1, id, "one user's requests go in their order");
                running.push((user, width));
            }
            let taken: u32 = running.iter().map(|(_, width)| width).sum();
            prop_assert!(taken <= bounds.seats);
            prop_assert_eq!((level.taken(), level.waiting()), (taken, waiting.len()));
            for user in 0..5u8 {
                let own: Vec<u32> = running.iter().filter(|(who, _)| *who == user).map(|(_, width)| *width).collect();
                prop_assert!(own.len() == 1 || own.iter().sum::<u32>() <= bounds.seats_per_user);
            }
            prop_assert!(waiting.is_empty() || !running.is_empty(), "somebody waits for nobody");
        }
        for (user, width) in running {
            level.finish(&user, width, Duration::ZERO);
        }
        for (user, _, ticket) in waiting {
            level.give_up(&user, ticket);
        }
        prop_assert!(level.users.is_empty() && level.next.is_empty());
    }
}
