//! The packet-flow table against the oracle and the tables in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::compile::compile;
use crate::flow_table::{self, Cell, Client, Expected, Kind, Place, Policy, STATES, State};
use crate::route::Source;

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
            let one = |c: &crate::route::Candidate| Ok((place(c.endpoint.ip())?, c.source == Source::Masqueraded));
            candidates.iter().map(one).collect::<Result<_, String>>().map(Expected::Answer)
        }
    }
}

/// Each combination that there is has one row, and the rows come to every kind of end.
#[test]
fn no_cell_is_missing() {
    let cells = flow_table::all();
    let unique: BTreeSet<_> = cells.iter().collect();
    assert_eq!(unique.len(), cells.len());
    let kinds = [Kind::ClusterIp, Kind::ExternalIp, Kind::LoadBalancer, Kind::NodePort, Kind::Localhost];
    let clients = [Client::Pod, Client::Itself, Client::Node, Client::OtherNode, Client::Stranger];
    let mut count = 0;
    for kind in kinds {
        for client in clients {
            // Nobody but the node can ask its loopback addresses.
            if kind == Kind::Localhost && client != Client::Node {
                continue;
            }
            for policy in [Policy::Cluster, Policy::Local] {
                for family in Family::ALL.into_iter().filter(|f| kind != Kind::Localhost || *f == Family::V4) {
                    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                        for here in STATES {
                            for there in STATES {
                                let cell = Cell { kind, policy, family, protocol, client, here, there };
                                assert!(unique.contains(&cell), "{cell:?}");
                                count += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(count, cells.len());
    // The matches are without wildcard, so that a new kind, client or state does not compile until it has rows.
    for cell in &cells {
        match cell.kind {
            Kind::ClusterIp | Kind::ExternalIp | Kind::LoadBalancer | Kind::NodePort | Kind::Localhost => {}
        }
        match cell.client {
            Client::Pod | Client::Itself | Client::Node | Client::OtherNode | Client::Stranger => {}
        }
        match cell.here {
            State::Absent | State::NotReady | State::Leaving | State::Ready => {}
        }
    }
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for cell in &cells {
        let end = match cell.expected() {
            Expected::Refused => "refused",
            Expected::Dropped => "dropped",
            Expected::Answer(answers) if answers.len() == 2 => "either answers",
            Expected::Answer(answers) if answers.iter().any(|(_, hidden)| *hidden) => "answers, hidden",
            Expected::Answer(_) => "answers",
        };
        *ends.entry(end).or_default() += 1;
    }
    assert_eq!(ends.len(), 5, "{ends:?}");
}

#[test]
fn the_oracle_and_the_tables_follow_the_table() {
    let plan = compile(&flow_table::snapshot(), &flow_table::local());
    let mut kernel = Kernel::new();
    kernel.apply(&Shadow::default().update(&plan, &Dirty::All).unwrap());
    let mut wrong = Vec::new();
    for cell in flow_table::all() {
        let packet = cell.packet();
        let oracle = words(&cell, &route(&plan, &packet));
        let tables = words(&cell, &kernel.route(&packet).0);
        if oracle != Ok(cell.expected()) || tables != oracle {
            wrong.push(format!("{cell:?}: {:?}, oracle {oracle:?}, tables {tables:?}", cell.expected()));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}
