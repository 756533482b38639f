//! Against tables in memory that refuse what they are told to.

use std::io;
use std::net::IpAddr;

use model::types::Protocol;
use nix::libc;
use proptest::prelude::*;

use super::*;
use crate::nftables::Repairs;
use crate::nftables::render::render_changes;
use crate::nftables::shadow::Chains;
use crate::nftables::trace;
use crate::plan::{Action, At, Endpoint, Family, Frontend, FrontendKind, Limits, Method, NodePlan, Pool, PoolKey};

/// Tables that refuse every batch in which one of these texts stands, as a kernel does: with one error for all.
struct Fake {
    tables: trace::Kernel,
    refuses: Vec<String>,
    error: i32,
    /// The next change finds that somebody else has been there.
    lost: bool,
    batches: usize,
    fills: usize,
}

impl Fake {
    fn new() -> Self {
        Self {
            tables: trace::Kernel::new(),
            refuses: Vec::new(),
            error: libc::EEXIST,
            lost: false,
            batches: 0,
            fills: 0,
        }
    }

    fn judge(&mut self, changes: &Changes) -> Result<usize, ProgramError> {
        self.batches += 1;
        let text = render_changes(changes);
        let refused = |text: &str| self.refuses.iter().any(|word| text.contains(word));
        match text.lines().find(|line| line.starts_with('+') && refused(line)) {
            Some(line) => Err(ProgramError::Kernel(NetlinkError::Refused {
                what: format!("adding {}", line.split(' ').nth(2).unwrap()),
                detail: String::new(),
                source: io::Error::from_raw_os_error(self.error),
            })),
            None => Ok(text.len()),
        }
    }
}

impl Target for Fake {
    fn adoptable(&mut self) -> Result<Option<Chains>, NetlinkError> {
        Ok(None)
    }

    fn refill(&mut self, _changes: &Changes, _localhost: bool) -> Result<usize, ProgramError> {
        unreachable!("nothing is adoptable")
    }

    fn replace(&mut self, changes: &Changes, _localhost: bool) -> Result<usize, ProgramError> {
        let bytes = self.judge(changes)?;
        self.fills += 1;
        self.tables = trace::Kernel::new();
        self.tables.apply(changes);
        Ok(bytes)
    }

    fn change(&mut self, changes: &Changes) -> Result<Option<usize>, ProgramError> {
        if std::mem::take(&mut self.lost) {
            return Ok(None);
        }
        let bytes = self.judge(changes)?;
        self.tables.apply(changes);
        Ok(Some(bytes))
    }

    fn take_repairs(&mut self) -> Repairs {
        Repairs::default()
    }
}

fn key(number: u16) -> Key {
    Key::new("default", &format!("web-{number}"))
}

/// Service `number` at 10.96.x.y with this endpoint.
fn service(number: u16, endpoint: u8) -> Arc<ServicePlan> {
    let [high, low] = number.to_be_bytes();
    let address = IpAddr::from([10, 96, high, low]);
    let pool = PoolKey { family: Family::V4, protocol: Protocol::Tcp, port: 80, local: false };
    let endpoint = Endpoint { address: [10, 244, 1, endpoint].into(), port: 8080, local: true, share: 1 };
    let frontend = Frontend {
        at: At::Address(address),
        protocol: Protocol::Tcp,
        port: 80,
        action: Action::Balance { pool, masquerade: false },
        inside: None,
        sources: None,
        kind: FrontendKind::ClusterIp,
        limits: Limits::default(),
    };
    Arc::new(ServicePlan {
        addresses: vec![address],
        frontends: vec![frontend],
        pools: vec![Pool { key: pool, method: Method::Chance, affinity_seconds: None, endpoints: vec![endpoint] }],
        ..ServicePlan::default()
    })
}

fn address(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("services 10.96.{high}.{low} ")
}

struct Bench {
    programmer: Programmer<Fake>,
    plan: Plan,
}

impl Bench {
    fn new() -> Self {
        let node = NodePlan { name: "node-1".into(), ..NodePlan::default() };
        Self { programmer: Programmer::new(Fake::new()), plan: Plan { node, ..Plan::default() } }
    }

    /// With Services 1 to `count` programmed.
    fn with(count: u16) -> Self {
        let mut bench = Self::new();
        let dirty: Vec<u16> = (1..=count).collect();
        bench.set(&dirty, 1);
        assert!(bench.program_all().unwrap().refused.is_empty());
        bench
    }

    fn set(&mut self, numbers: &[u16], endpoint: u8) {
        self.plan.services.extend(numbers.iter().map(|number| (key(*number), service(*number, endpoint))));
    }

    fn program(&mut self, numbers: &[u16]) -> Result<Report, ProgramError> {
        self.plan.revision += 1;
        let dirty = Dirty::Services(numbers.iter().map(|number| key(*number)).collect());
        self.programmer.program(&self.plan, &dirty)
    }

    fn program_all(&mut self) -> Result<Report, ProgramError> {
        self.plan.revision += 1;
        self.programmer.program(&self.plan, &Dirty::All)
    }

    fn refuse(&mut self, numbers: &[u16]) {
        self.programmer.target.refuses = numbers.iter().map(|number| address(*number)).collect();
    }

    /// What the tables hold is what tables hold that are made for this plan.
    fn holds(&self, plan: &Plan) {
        let mut expected = trace::Kernel::new();
        expected.apply(&Shadow::default().update(plan, &Dirty::All).unwrap());
        let tables = &self.programmer.target.tables;
        tables.check_invariants();
        assert_eq!(tables.elements(), expected.elements());
    }

    /// As the plan, but for these, which are as in `instead` or not there.
    fn holds_but(&self, numbers: &[u16], instead: Option<u8>) {
        let mut plan = self.plan.clone();
        for number in numbers {
            match instead {
                Some(endpoint) => plan.services.insert(key(*number), service(*number, endpoint)),
                None => plan.services.remove(&key(*number)),
            };
        }
        self.holds(&plan);
    }
}

fn names(report: &Report) -> Vec<Key> {
    report.refused.iter().map(|refused| refused.service.clone()).collect()
}

#[test]
fn a_change_that_is_refused_is_divided_and_the_rest_is_programmed() {
    let mut bench = Bench::with(100);
    bench.set(&[7, 50, 99, 101, 102, 103], 2);
    bench.refuse(&[102]);
    let report = bench.program(&[7, 50, 99, 101, 102, 103]).unwrap();
    assert_eq!(names(&report), [key(102)]);
    assert_eq!(report.refused[0].error, "the kernel refused adding services: File exists (os error 17)");
    bench.holds_but(&[102], None);
    assert_eq!(bench.programmer.target.fills, 2, "filled once more");
}

#[test]
fn the_first_plan_is_divided_too() {
    let mut bench = Bench::new();
    bench.set(&(1..=300).collect::<Vec<_>>(), 1);
    bench.refuse(&[1, 150, 151, 300]);
    let report = bench.program_all().unwrap();
    assert_eq!(
        names(&report),
        [key(1), key(150), key(151), key(300)]
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    bench.holds_but(&[1, 150, 151, 300], None);
    assert!(bench.programmer.target.batches < 100, "{}", bench.programmer.target.batches);
}

#[test]
fn what_was_taken_before_stays_and_what_is_refused_is_left_alone() {
    let mut bench = Bench::with(10);
    bench.set(&[3, 4], 2);
    // Its new endpoint, which Service 4 has as well, but in another pool.
    let pool = render_changes(
        &Shadow::default()
            .update(&Plan { services: [(key(3), service(3, 2))].into(), ..bench.plan.clone() }, &Dirty::All)
            .unwrap(),
    );
    let endpoint = pool.lines().find(|line| line.contains("endpoints")).unwrap().trim_start_matches("+ ").to_owned();
    bench.programmer.target.refuses = vec![endpoint];
    assert_eq!(names(&bench.program(&[3, 4]).unwrap()), [key(3)]);
    bench.holds_but(&[3], Some(1));

    // Others change: the one that was refused is not even tried.
    let (batches, fills) = (bench.programmer.target.batches, bench.programmer.target.fills);
    bench.set(&[5], 2);
    assert_eq!(names(&bench.program(&[5]).unwrap()), [key(3)]);
    assert_eq!((bench.programmer.target.batches, bench.programmer.target.fills), (batches + 1, fills));
    // Nor when everything is looked at, or written anew.
    bench.set(&[6], 2);
    assert_eq!(names(&bench.program_all().unwrap()), [key(3)]);
    bench.programmer.forget();
    assert_eq!(names(&bench.program_all().unwrap()), [key(3)]);
    assert_eq!(bench.programmer.target.batches, batches + 3);
    bench.holds_but(&[3], Some(1));

    // Named again it is tried apart, without filling anything.
    let fills = bench.programmer.target.fills;
    bench.set(&[7], 2);
    assert_eq!(names(&bench.program(&[3, 7]).unwrap()), [key(3)]);
    bench.holds_but(&[3], Some(1));
    bench.programmer.target.refuses.clear();
    assert!(bench.program(&[3]).unwrap().refused.is_empty());
    assert_eq!(bench.programmer.target.fills, fills);
    bench.holds(&bench.plan);
}

#[test]
fn a_culprit_that_changes_is_tried_and_one_that_goes_is_forgotten() {
    let mut bench = Bench::with(5);
    bench.set(&[6, 7], 1);
    bench.refuse(&[6, 7]);
    assert_eq!(names(&bench.program(&[6, 7]).unwrap()).len(), 2);
    bench.plan.services.remove(&key(6));
    assert_eq!(names(&bench.program(&[6]).unwrap()), [key(7)]);
    bench.refuse(&[]);
    bench.set(&[7], 9);
    assert!(bench.program_all().unwrap().refused.is_empty(), "its plan has changed");
    bench.holds(&bench.plan);
}

#[test]
fn what_is_the_machines_is_no_services_fault() {
    let mut bench = Bench::with(5);
    bench.programmer.target.error = libc::ENOMEM;
    bench.set(&[6], 1);
    bench.refuse(&[6]);
    assert!(matches!(bench.program(&[6]), Err(ProgramError::Kernel(_))));
    // The next attempt fills the tables; if then a Service is to blame, the others are as they were.
    bench.programmer.target.error = libc::EEXIST;
    assert_eq!(names(&bench.program_all().unwrap()), [key(6)]);
    bench.holds_but(&[6], None);
}

#[test]
fn tables_that_others_have_taken_are_filled() {
    let mut bench = Bench::with(5);
    bench.programmer.target.lost = true;
    bench.set(&[2], 2);
    assert!(bench.program(&[2]).unwrap().full);
    bench.holds(&bench.plan);
    // In the midst of looking for a culprit, too.
    bench.set(&[3, 4, 6], 2);
    bench.refuse(&[6]);
    bench.programmer.target.lost = true;
    assert_eq!(names(&bench.program(&[3, 4, 6]).unwrap()), [key(6)]);
    bench.programmer.target.lost = true;
    bench.set(&[5], 2);
    assert_eq!(names(&bench.program(&[5, 6]).unwrap()), [key(6)]);
    bench.holds_but(&[6], None);
}

#[test]
fn older_plans_never_win() {
    let mut bench = Bench::with(2);
    let old = bench.plan.clone();
    bench.program(&[]).unwrap();
    let error = bench.programmer.program(&old, &Dirty::All).unwrap_err();
    assert!(matches!(error, ProgramError::Stale { .. }));
    bench.programmer.begin_epoch();
    assert_eq!(bench.programmer.program(&old, &Dirty::All).unwrap().bytes, 0, "another database with the same in it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is refused when, the tables hold a whole number of Services' plans, and all of the plan in the end.
    #[test]
    fn in_the_end_everything_is_programmed(
        steps in prop::collection::vec(
            (prop::collection::vec((0..12u16, 1..4u8, any::<bool>()), 1..6), prop::collection::vec(0..12u16, 0..3), any::<bool>()),
            1..10,
        ),
    ) {
        let mut bench = Bench::with(6);
        for (changes, bad, all) in steps {
            bench.refuse(&bad);
            let numbers: Vec<u16> = changes.iter().map(|(number, ..)| *number).collect();
            for (number, endpoint, there) in changes {
                if there {
                    bench.set(&[number], endpoint);
                } else {
                    bench.plan.services.remove(&key(number));
                }
            }
            let report = if all { bench.program_all() } else { bench.program(&numbers) }.unwrap();
            let mut held = bench.plan.clone();
            for (key, refused) in &bench.programmer.held {
                prop_assert_eq!(Some(&refused.plan), bench.plan.services.get(key));
                match &refused.instead {
                    Some(instead) => held.services.insert(key.clone(), Arc::clone(instead)),
                    None => held.services.remove(key),
                };
            }
            prop_assert_eq!(report.refused.len(), bench.programmer.held.len());
            bench.holds(&held);
        }
        bench.refuse(&[]);
        prop_assert!(bench.program(&(0..12).collect::<Vec<_>>()).unwrap().refused.is_empty());
        bench.holds(&bench.plan);
    }
}
