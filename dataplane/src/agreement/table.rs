//! Whether the packet-flow table is whole.

use std::collections::{BTreeMap, BTreeSet};

use model::types::Protocol;

use crate::flow_table::{self, Cell, Client, Expected, Kind, Policy, STATES, State};
use crate::plan::Family;

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
