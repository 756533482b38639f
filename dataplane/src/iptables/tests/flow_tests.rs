//! The rules in memory beside the oracle: by the packet-flow table, and by random plans.

use super::super::service;
use super::*;
use crate::agreement;

struct Memory {
    kernel: Kernel,
    rules: Ruleset,
}

impl agreement::Spelling for Memory {
    fn new() -> Self {
        Self { kernel: Kernel::default(), rules: Ruleset::default() }
    }

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> BTreeSet<Key> {
        let mut sayable = plan.clone();
        sayable.services.retain(|_, service| service::refusal(service).is_none());
        self.kernel.program(&sayable, dirty);
        self.rules = self.kernel.rules();
        plan.services.keys().filter(|key| !sayable.services.contains_key(*key)).cloned().collect()
    }

    fn walk(&self, packet: &Packet) -> (Verdict, Vec<f64>) {
        let way = Walker::new(&self.rules, &Nothing).walk(packet).unwrap();
        (way.verdict, way.probabilities)
    }
}

#[test]
fn the_oracle_and_the_rules_follow_the_table() {
    agreement::every_cell::<Memory>();
}

#[test]
fn the_rules_agree_with_the_oracle() {
    agreement::every_plan::<Memory>();
}
