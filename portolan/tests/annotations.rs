//! Every annotation that works, seen in traffic: a lab with two edge nodes, backends that say what they saw, and a client
//! outside. Each row of the table (`model::balancing::ROWS`) has a case here, and each case says what is different for whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod annotations {
    pub mod backends;
    pub mod balancing;
    pub mod checks;
    pub mod instances;
    pub mod requests;
    pub mod transport;
    pub mod world;
}
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use annotations::world::{Case, World};

/// Cases at a time: most of the time of most is waiting.
const BESIDE: usize = 6;
/// How often a case is tried: what it asks for may just be on its way.
const TRIES: u32 = 4;

#[test]
fn every_annotation_is_seen_in_traffic() {
    let cases = [
        annotations::instances::cases(),
        annotations::transport::cases(),
        annotations::requests::cases(),
        annotations::balancing::cases(),
        annotations::backends::cases(),
        annotations::checks::cases(),
    ]
    .concat();
    let covered: BTreeSet<&str> = cases.iter().flat_map(|case| case.covers.iter().copied()).collect();
    let rows = model::balancing::ROWS.iter().filter(|row| row.works).map(|row| row.suffix);
    let missing: Vec<&str> = rows.filter(|suffix| !covered.contains(suffix)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");

    // For who works on one of them: `CASES=turns,sticky cargo test …`.
    let wanted = std::env::var("CASES").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').filter(|name| !name.is_empty()).collect();
    let cases: Vec<Case> = cases.into_iter().filter(|case| wanted.is_empty() || wanted.contains(&case.name)).collect();

    let world = World::new();
    for case in &cases {
        world.make(case);
    }
    let waiting = Mutex::new(cases.iter().collect::<Vec<_>>());
    let wrong: Mutex<BTreeMap<&str, String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..BESIDE {
            scope.spawn(|| {
                loop {
                    let Some(case) = waiting.lock().unwrap().pop() else { return };
                    if let Err(problem) = tried(&world, case) {
                        wrong.lock().unwrap().insert(case.name, problem);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let list: Vec<String> = wrong.iter().map(|(name, problem)| format!("{name}: {problem}")).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), list.join("\n"));
    println!("{} cases, {} annotations", cases.len(), covered.len());
}

fn tried(world: &World, case: &Case) -> Result<(), String> {
    let begun = Instant::now();
    let mut tries = 1;
    let outcome = loop {
        let outcome = world.ready(case).and_then(|at| (case.check)(world, &at));
        if outcome.is_ok() || tries == TRIES {
            break outcome;
        }
        tries += 1;
        std::thread::sleep(Duration::from_secs(2));
    };
    println!(
        "{:<40} {} {:>5.1} s",
        case.name,
        outcome.as_ref().map_or_else(String::as_str, |()| "ok"),
        begun.elapsed().as_secs_f64()
    );
    outcome
}
