//! Nodes get their part of the ranges for pods in the transaction that makes them, as Services get their addresses.
//!
//! Kubernetes has a controller for this (kube-controller-manager's node IPAM), which comes by later; here a Node is never
//! seen without, unless there is no room. Then it is made all the same, with an Event in Kubernetes' words, and gets its
//! part in the transaction that removes another Node. What a Node says itself is kept.

use std::sync::Arc;

use model::{Object, Resource};
use serde_json::{Value, json};

use super::Engine;
use super::report::Report;
use super::stamp::{Managers, broken};
use crate::config::PodRange;
use crate::error::Refusal;

impl Engine {
    /// Takes the ranges in use, and gives every Node its part that has none.
    pub(crate) fn start_pod_cidrs(&mut self, ranges: &[PodRange]) -> Result<(), Refusal> {
        self.state.set_pod_pools(ranges.iter().map(PodRange::pool).collect());
        self.settle_pod_cidrs()
    }

    pub(super) fn create_node(&mut self, mut node: Value, managers: &Managers) -> Result<Arc<Object>, Refusal> {
        let lacks = lacks_cidrs(&node);
        let full = lacks && !self.give_pod_cidrs(&mut node);
        let node = self.put_managed(Resource::Nodes, node, managers.of_new())?;
        if full && !self.dry_run {
            let note = format!("Node {} status is now: CIDRNotAvailable", node.key.name);
            let reason = "CIDRNotAvailable";
            self.report(
                &Report { about: &node, reason, note, warns: false, component: "portolan-ipam" },
                Some(reason),
            )?;
        }
        Ok(node)
    }

    /// Gives the Nodes without a part one, as far as there is room.
    pub(super) fn settle_pod_cidrs(&mut self) -> Result<(), Refusal> {
        if self.state.pod_pools().is_empty() {
            return Ok(());
        }
        let nodes = self.state.shelf(Resource::Nodes).all();
        let lacking = |node: &&Arc<Object>| node.node().is_some_and(|node| node.spec.pod_cidrs.is_empty());
        let nodes: Vec<Arc<Object>> =
            nodes.filter(lacking).filter(|node| !node.meta().terminating()).cloned().collect();
        for old in nodes {
            let (mut node, _) = old.value_and_managers().map_err(broken)?;
            if !self.give_pod_cidrs(&mut node) {
                return Ok(());
            }
            self.put_changed(node, &old, &Managers::Keep)?;
        }
        Ok(())
    }

    /// Writes into a Node a free part of each range; false, and nothing, if one has none.
    fn give_pod_cidrs(&self, node: &mut Value) -> bool {
        let chosen: Option<Vec<String>> =
            self.state.pod_pools().iter().map(|pool| pool.choose().map(|subnet| subnet.to_string())).collect();
        let Some(chosen) = chosen else { return false };
        if let Some(first) = chosen.first() {
            if !node["spec"].is_object() {
                node["spec"] = json!({});
            }
            node["spec"]["podCIDR"] = first.as_str().into();
            node["spec"]["podCIDRs"] = chosen.into();
        }
        true
    }
}

fn lacks_cidrs(node: &Value) -> bool {
    node["spec"]["podCIDRs"].as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use model::admission::Family;

    use super::*;
    use crate::config::Environment;
    use crate::engine::State;
    use crate::request::{DeleteOptions, Verb, Write};

    fn engine(ranges: &[(&str, u8)]) -> Engine {
        let clock = || Timestamp::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let environment = Environment { clock: Box::new(clock), seed: [7; 4] };
        let ports = allocator::PortPool::new(30000..=30005).unwrap();
        let mut engine = Engine::new(State::new(0, ports), vec![Family::V4], environment);
        engine.start(&["10.0.0.0/28".parse().unwrap()], None).unwrap();
        restart(&mut engine, ranges);
        engine
    }

    fn restart(engine: &mut Engine, ranges: &[(&str, u8)]) {
        let ranges: Vec<PodRange> =
            ranges.iter().map(|(net, mask)| PodRange::new(net.parse().unwrap(), *mask).unwrap()).collect();
        engine.start_pod_cidrs(&ranges).unwrap();
    }

    fn ask(engine: &mut Engine, name: &str, verb: Verb, dry_run: bool) -> Result<(), Refusal> {
        let (namespace, name, manager) = (String::new(), name.to_owned(), "test".to_owned());
        engine.request(Write { resource: Resource::Nodes, namespace, name, verb, manager, dry_run }).map(drop)
    }

    fn make(engine: &mut Engine, name: &str, spec: Value) {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec});
        ask(engine, name, Verb::Create { object }, false).unwrap();
    }

    fn remove(engine: &mut Engine, name: &str) {
        ask(engine, name, Verb::Delete { options: DeleteOptions::default() }, false).unwrap();
    }

    fn has(engine: &Engine, name: &str) -> String {
        let node = engine.state.get(Resource::Nodes, "", name).unwrap().node().unwrap();
        assert_eq!(node.spec.pod_cidrs.first().unwrap_or(&String::new()), &node.spec.pod_cidr);
        node.spec.pod_cidrs.join(" ")
    }

    #[test]
    fn a_node_has_its_part_from_the_beginning() {
        let mut engine = engine(&[("10.244.0.0/16", 24), ("fd00:244::/48", 64)]);
        make(&mut engine, "a", json!({}));
        make(&mut engine, "by-hand", json!({"podCIDRs": ["10.244.1.0/24"]}));
        make(&mut engine, "b", json!({}));
        assert_eq!(has(&engine, "a"), "10.244.0.0/24 fd00:244::/64");
        assert_eq!(has(&engine, "by-hand"), "10.244.1.0/24");
        assert_eq!(has(&engine, "b"), "10.244.2.0/24 fd00:244:0:1::/64");
        remove(&mut engine, "a");
        make(&mut engine, "c", json!({}));
        assert_eq!(has(&engine, "c"), "10.244.0.0/24 fd00:244::/64");
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "dry"}});
        ask(&mut engine, "dry", Verb::Create { object }, true).unwrap();
        make(&mut engine, "d", json!({}));
        assert_eq!(has(&engine, "d"), "10.244.3.0/24 fd00:244:0:2::/64", "what was only tried holds nothing");
    }

    #[test]
    fn a_node_that_finds_no_room_gets_it_when_another_goes() {
        let mut engine = engine(&[("10.244.0.0/23", 24)]);
        for name in ["a", "b", "c"] {
            make(&mut engine, name, json!({}));
        }
        assert_eq!(has(&engine, "c"), "");
        let events: Vec<Value> =
            engine.state.shelf(Resource::Events).all().map(|event| event.value().unwrap()).collect();
        assert_eq!((events.len(), &events[0]["reason"]), (1, &json!("CIDRNotAvailable")));
        assert_eq!(events[0]["involvedObject"]["name"], "c");
        remove(&mut engine, "a");
        assert_eq!(has(&engine, "c"), "10.244.0.0/24");
    }

    #[test]
    fn nodes_of_before_get_theirs_at_the_start() {
        let mut engine = engine(&[]);
        make(&mut engine, "a", json!({}));
        make(&mut engine, "b", json!({"podCIDR": "10.244.0.0/24"}));
        assert_eq!(has(&engine, "a"), "");
        restart(&mut engine, &[("10.244.0.0/16", 24)]);
        assert_eq!((has(&engine, "a").as_str(), has(&engine, "b").as_str()), ("10.244.1.0/24", "10.244.0.0/24"));
        // A server without the ranges takes nothing back.
        restart(&mut engine, &[]);
        assert_eq!(has(&engine, "a"), "10.244.1.0/24");
    }
}
