//! Whether spellings of plans do what the oracle says, in memory: [`every_cell`] by the packet-flow table, [`every_plan`] by
//! random plans and packets. Each dataplane's own tests call both.
//!
//! A plan is random as a whole ([`plans`]), not compiled from a random cluster: Services share addresses and ports, frontends
//! lead to pools that are not there, ranges overlap, endpoints weigh differently. What holds of every plan holds here too:
//! lists are sorted, keys are unique, pools are not empty, an address is on one node; and an agent's node ports and external
//! addresses hide their clients from endpoints of other nodes, which an edge node's need not.

use std::collections::{BTreeMap, BTreeSet};

use model::Key;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::compile::compile;
use crate::flow_table::{self, Cell, Expected, Place};
use crate::plan::Plan;
use crate::program::Dirty;
use crate::route::{Candidate, Origin, Packet, Source, Verdict, route};

mod packets;
mod plans;
mod table;

/// How many random plans, each with its packets, a spelling and the oracle must agree about.
const CASES: u32 = 10_000;

/// A dataplane whose kernel is in memory.
pub trait Spelling {
    /// A kernel that nobody has programmed yet.
    fn new() -> Self;

    /// Programs the plan as the dataplane does a kernel. Returns the Services that it says it cannot do.
    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> BTreeSet<Key>;

    /// What becomes of a connection's first packet, and how likely each endpoint is. Candidates are sorted; shares say nothing.
    fn walk(&self, packet: &Packet) -> (Verdict, Vec<f64>);

    /// What the dataplane does in place of what the oracle says, where users are told that it cannot do that.
    fn instead(&self, _plan: &Plan, _packet: &Packet, said: Verdict) -> Verdict {
        said
    }
}

/// The oracle and the spelling follow the packet-flow table.
pub fn every_cell<S: Spelling>() {
    let plan = compile(&flow_table::snapshot(), &flow_table::local());
    let mut spelling = S::new();
    assert_eq!(spelling.program(&plan, &Dirty::All), BTreeSet::new());
    let mut wrong = Vec::new();
    for cell in flow_table::all() {
        let packet = cell.packet();
        let oracle = words(&cell, &route(&plan, &packet));
        let rules = words(&cell, &spelling.walk(&packet).0);
        if oracle != Ok(cell.expected()) || rules != oracle {
            wrong.push(format!("{cell:?}: {:?}, oracle {oracle:?}, rules {rules:?}", cell.expected()));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

/// The verdict in the table's words.
fn words(cell: &Cell, verdict: &Verdict) -> Result<Expected, String> {
    let place = |address| match [Place::Here, Place::There].into_iter().find(|p| p.address(cell.family) == address) {
        Some(place) => Ok(place),
        None => Err(format!("{address} is no endpoint")),
    };
    match verdict {
        Verdict::Reject => Ok(Expected::Refused),
        Verdict::Drop => Ok(Expected::Dropped),
        Verdict::Here => Err("answered here".into()),
        Verdict::NotOurs => Err("not ours".into()),
        Verdict::Endpoints { candidates, .. } => {
            let one = |c: &Candidate| Ok((place(c.endpoint.ip())?, c.source == Source::Masqueraded));
            candidates.iter().map(one).collect::<Result<_, String>>().map(Expected::Answer)
        }
    }
}

/// The oracle and the spelling agree about random packets in random plans, which change once.
pub fn every_plan<S: Spelling>() {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let case = (plans::arbitrary(), prop::collection::vec(packets::arbitrary(), 1..8));
    let outcome = TestRunner::new(config).run(&case, |(plans, packets)| {
        let mut spelling = S::new();
        for (plan, dirty) in plans.build() {
            let refused = spelling.program(&plan, &dirty);
            let mut rest = plan.clone();
            rest.services.retain(|key, _| !refused.contains(key));
            for packet in packets.iter().filter_map(|packet| packet.build(&plan)) {
                agree(&spelling, &rest, &packet)?;
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn agree<S: Spelling>(spelling: &S, plan: &Plan, packet: &Packet) -> Result<(), TestCaseError> {
    let (expected, shares) = settled(spelling.instead(plan, packet, route(plan, packet)));
    let (verdict, probabilities) = spelling.walk(packet);
    let (verdict, _) = settled(verdict);
    // Nobody else's: whether the kernel drops it or a rule does is the same.
    let trick = packet.destination.is_loopback() && packet.origin != Origin::ThisNode;
    if trick && expected == Verdict::NotOurs && verdict == Verdict::Drop {
        return Ok(());
    }
    prop_assert_eq!(&verdict, &expected, "{:?} of {:#?}", packet, plan);
    prop_assert_eq!(probabilities.len(), shares.len());
    let total: f64 = shares.iter().sum();
    for (share, probability) in shares.iter().zip(probabilities) {
        let due = share / total;
        prop_assert!((due - probability).abs() < 0.001, "{probability} for {due}: {packet:?} of {plan:#?}");
    }
    Ok(())
}

/// Candidates sorted, their shares apart.
fn settled(mut verdict: Verdict) -> (Verdict, Vec<f64>) {
    let mut shares = Vec::new();
    if let Verdict::Endpoints { candidates, .. } = &mut verdict {
        candidates.sort_unstable();
        shares = candidates.iter().map(|c| f64::from(c.share)).collect();
        candidates.iter_mut().for_each(|c| c.share = 1);
    }
    (verdict, shares)
}

/// The packets come to every kind of end often enough to mean something.
#[test]
fn packets_come_to_every_end() {
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..3000 {
        let case = (plans::arbitrary(), packets::arbitrary());
        let (plans, packet) = case.new_tree(&mut runner).unwrap().current();
        for (plan, _) in plans.build() {
            let Some(packet) = packet.build(&plan) else { continue };
            let end = match route(&plan, &packet) {
                Verdict::Reject => "reject",
                Verdict::Drop => "drop",
                Verdict::Here => "here",
                Verdict::NotOurs => "not ours",
                Verdict::Endpoints { affinity_seconds: Some(_), .. } => "sticky",
                Verdict::Endpoints { candidates, .. } if candidates.len() > 1 => "several",
                Verdict::Endpoints { candidates, .. } if candidates.iter().all(|c| c.source == Source::Kept) => "one",
                Verdict::Endpoints { .. } => "one, hidden",
            };
            *ends.entry(end).or_default() += 1;
        }
    }
    assert!(ends.len() == 8 && ends.values().all(|count| *count >= 10), "{ends:?}");
}
