//! The tables in memory beside the oracle: by the packet-flow table, and by random plans.

use super::*;
use crate::agreement::{self, Spelling};

struct Memory {
    shadow: Shadow,
    kernel: Kernel,
}

impl Spelling for Memory {
    fn new() -> Self {
        Self { shadow: Shadow::default(), kernel: Kernel::new() }
    }

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> BTreeSet<Key> {
        self.kernel.apply(&self.shadow.update(plan, dirty).unwrap());
        self.kernel.check_invariants();
        BTreeSet::new()
    }

    fn walk(&self, packet: &Packet) -> (Verdict, Vec<f64>) {
        let way = Walker::new(&self.kernel).walk(packet).unwrap();
        (way.verdict, way.probabilities)
    }
}

#[test]
fn the_oracle_and_the_tables_follow_the_table() {
    agreement::every_cell::<Memory>();
}

#[test]
fn the_tables_agree_with_the_oracle() {
    agreement::every_plan::<Memory>();
}
