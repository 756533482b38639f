//! The packet-flow table and random plans against what a machine in memory has, written by the programmer.

use std::time::Instant;

use model::Key;

use super::*;
use crate::agreement::{self, Spelling};
use crate::ipvs::programmer::tests::Memory;
use crate::ipvs::programmer::{Found, Programmer};
use crate::plan::Plan;
use crate::program::Dirty;

/// The machine's own addresses in both.
const OWN: [&str; 4] = ["172.31.255.11", "172.31.254.11", "fd00:31::11", "fd00:30::11"];

/// A machine that has what a kernel would.
struct Machine {
    programmer: Programmer<Memory>,
    tables: Tables,
}

impl Spelling for Machine {
    fn new() -> Self {
        let machine = OWN.iter().map(|a| a.parse().unwrap()).collect();
        let mut memory = Memory::default();
        memory.found = Found { machine, ..Found::default() };
        Self { programmer: Programmer::new(memory, Scheduler::RoundRobin), tables: Tables::default() }
    }

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> BTreeSet<Key> {
        let report = self.programmer.program(plan, dirty, Instant::now()).unwrap();
        let memory = &self.programmer.target;
        self.tables = Tables {
            rules: memory.rules.rules().unwrap(),
            elements: memory.found.elements.clone(),
            servers: memory.servers.clone(),
        };
        report.refused.into_iter().map(|refused| refused.service).collect()
    }

    fn walk(&self, packet: &Packet) -> (Verdict, Vec<f64>) {
        let way = self.tables.walk(packet).unwrap();
        (way.verdict, way.probabilities)
    }

    fn instead(&self, plan: &Plan, packet: &Packet, said: Verdict) -> Verdict {
        // Node ports answer at the machine's own addresses, and not at a Service's that it has for their sake.
        let ours = packet.here && self.tables.elements.contains(&address(packet));
        let said = if ours { crate::route::route(plan, &Packet { here: false, ..*packet }) } else { said };
        let one_family = packet.client.is_ipv4() == packet.destination.is_ipv4();
        match said {
            // An address on the dummy interface is the machine's: what is asked there is asked here, whatever the port.
            Verdict::NotOurs if one_family && self.tables.elements.contains(&address(packet)) => Verdict::Reject,
            // Two schedulers do not look at weights.
            Verdict::Endpoints { mut candidates, affinity_seconds } => {
                let unweighted = [Some(Scheduler::RoundRobin), Some(Scheduler::LeastConnections)];
                let found = crate::route::frontend(plan, packet);
                let found = found.filter(|found| unweighted.contains(&found.service.scheduler));
                if found.is_some_and(|found| self.is_balanced(packet) && !found.service.foreign) {
                    candidates.iter_mut().for_each(|candidate| candidate.share = 1);
                }
                Verdict::Endpoints { candidates, affinity_seconds }
            }
            other => other,
        }
    }
}

impl Machine {
    /// By IPVS, and not by rules.
    fn is_balanced(&self, packet: &Packet) -> bool {
        let place = Place::new(packet.destination, packet.protocol, packet.port);
        let inside = Element { set: Set::Inside, entry: Entry::Port(place) };
        let led = packet.origin != Origin::Outside && self.tables.elements.contains(&inside);
        !led && !packet.client.is_loopback() && self.tables.servers.contains_key(&place)
    }
}

fn address(packet: &Packet) -> Element {
    Element { set: Set::Addresses, entry: Entry::Address(packet.destination) }
}

#[test]
fn the_machine_follows_the_table() {
    agreement::every_cell::<Machine>();
}

#[test]
fn the_machine_follows_the_oracle() {
    agreement::every_plan::<Machine>();
}
