//! The packet-flow table with packets: each row in network namespaces, through the kernel's own tables, by any dataplane.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use dataplane::Dirty;
use dataplane::compile;
use dataplane::nftables::Table;
use model::types::Protocol;

use crate::flow_table::{self, Cell, Client, Expected, Place};
use crate::lab::{Answer, Failure, Lab, ask_here, with_rights};
use crate::spellings::Spelling;

/// How often an endpoint may be drawn before the other one must have been: once in a million rows both were not.
const DRAWS: usize = 24;
/// How long an answer may take; and how long nothing must come where nothing is to come, as often as that is tried.
const PATIENCE: Duration = Duration::from_millis(1500);
const SILENCE: Duration = Duration::from_millis(120);

fn place(answer: &Answer) -> Option<Place> {
    match answer.pod.as_str() {
        "pod-2" => Some(Place::Here),
        "remote-2" => Some(Place::There),
        _ => None,
    }
}

/// The turn of one client at a destination. A dataplane that takes endpoints strictly in turn leads two clients who ask in step each to
/// one of two endpoints for ever; so who draws, draws alone there.
fn turn(to: SocketAddr) -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];
    let mut hasher = DefaultHasher::new();
    to.hash(&mut hasher);
    TURNS[hasher.finish() as usize % TURNS.len()].lock().unwrap()
}

/// What is wrong with the row, if anything. Runs in the client's namespace.
fn check(cell: &Cell) -> Result<(), String> {
    let (address, port) = cell.destination();
    let to = SocketAddr::new(address, port);
    let expected = cell.expected();
    let Expected::Answer(wanted) = &expected else {
        let failure = if expected == Expected::Refused { Failure::Refused } else { Failure::TimedOut };
        let patience = if failure == Failure::Refused { PATIENCE } else { SILENCE };
        return match ask_here(cell.protocol, to, patience) {
            Err(got) if got == failure => Ok(()),
            // What the node itself sends is refused or dropped while it is being sent, and it is told.
            Err(Failure::NotPermitted) if cell.client == Client::Node => Ok(()),
            got => Err(format!("{got:?} in place of {failure:?}")),
        };
    };
    let _turn = turn(to);
    let mut seen = BTreeSet::new();
    for _ in 0..DRAWS {
        let ask = || ask_here(cell.protocol, to, PATIENCE);
        // What ICMP says late of another association to the address reaches this one's raw socket too.
        let again = |failure| if cell.protocol == Protocol::Sctp { ask() } else { Err(failure) };
        let answer = ask().or_else(again).map_err(|e| format!("{e:?} in place of an answer"))?;
        let place = place(&answer).ok_or_else(|| format!("answered by {}", answer.pod))?;
        // The node's processes have the node's addresses anyhow; what matters of them is that none is a loopback one.
        let hidden = match cell.client {
            Client::Node if answer.client.is_loopback() => {
                return Err(format!("{} sees {}", answer.pod, answer.client));
            }
            Client::Node => wanted.contains(&(place, true)),
            _ if answer.client == cell.source() => false,
            _ if Lab::is_node(answer.client) => true,
            _ => return Err(format!("{} sees {}", answer.pod, answer.client)),
        };
        if !wanted.contains(&(place, hidden)) {
            return Err(format!("{place:?}, hidden: {hidden}"));
        }
        seen.insert((place, hidden));
        if seen == *wanted {
            return Ok(());
        }
    }
    Err(format!("only {seen:?}"))
}

/// Sends packets for every row at a node that `open`, which is called in its namespace, programs.
///
/// What is wrong is told row by row, and nothing but rows that are right passes.
pub fn every_cell_by<S: Spelling>(open: impl FnOnce() -> S + Send + 'static) {
    let lab = Lab::new();
    let plan = compile(&flow_table::snapshot(), &flow_table::local());
    let spelling = lab.node.run(move || {
        let mut spelling = open();
        let report = spelling.must(&plan, &Dirty::All);
        assert_eq!(report.refused, [], "every Service is programmed");
        spelling
    });
    let mut by_client: BTreeMap<Client, Vec<Cell>> = BTreeMap::new();
    for cell in flow_table::all() {
        by_client.entry(cell.client).or_default().push(cell);
    }
    let total: usize = by_client.values().map(Vec::len).sum();
    // Clients ask side by side, and each of them in several threads, since most of the time is spent in silence.
    let mut running = Vec::new();
    for (client, cells) in by_client {
        let namespace = match client {
            Client::Pod => &lab.pod_b,
            Client::Itself => &lab.pod_a,
            Client::Node => &lab.node,
            Client::OtherNode => &lab.other,
            Client::Stranger => &lab.outside,
        };
        for part in 0..4 {
            let cells: Vec<_> = cells.iter().copied().skip(part).step_by(4).collect();
            running.push(namespace.start(move || {
                let wrong = |cell: &Cell| check(cell).err().map(|text| format!("{cell:?}: {text}"));
                (cells.len(), cells.iter().filter_map(wrong).collect::<Vec<_>>())
            }));
        }
    }
    let (mut checked, mut wrong) = (0, Vec::new());
    for part in running {
        let (count, failures) = part.recv().expect("a client panicked");
        checked += count;
        wrong.extend(failures);
    }
    assert!(wrong.is_empty(), "{} of {total} rows:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert_eq!(checked, total);
    drop(spelling);
}

#[test]
fn every_cell() {
    with_rights("flows::every_cell", || every_cell_by(|| Table::open().unwrap()));
}
