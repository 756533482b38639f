//! What the Node object is to say of this machine, and how it differs.
//!
//! A Node that an agent has registered carries an annotation with the labels that the agent gave it. By that it is known as
//! the agent's own, which keeps it as the machine is: addresses, labels, what the machine has. So a flag that is left
//! out takes its label away, and a label that somebody else has added stays. Conditions are not looked at here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::resources::{self, Resources};
use super::{machine, seconds};

/// Names the labels that the agent gave the Node, with commas between.
const OWN_LABELS: &str = "portolan.dev/agent-labels";

/// A machine as a Node.
#[derive(Clone, Debug)]
pub struct Shape {
    pub name: String,
    /// Those of the flag.
    told: Vec<IpAddr>,
    /// That of the machine towards the server, where the flag says nothing.
    found: Option<IpAddr>,
    /// Those of the flags.
    labels: BTreeMap<String, String>,
    resources: Resources,
    info: Value,
}

/// What is to be patched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub metadata: Option<Value>,
    pub status: Option<Value>,
}

/// Whether an agent has registered this Node.
pub fn is_ours(node: &Value) -> bool {
    node["metadata"]["annotations"][OWN_LABELS].is_string()
}

impl Shape {
    /// Of this machine, with what the flags say.
    pub fn new(name: &str, ips: Vec<IpAddr>, labels: BTreeMap<String, String>) -> Self {
        let (resources, info) = (resources::read(), machine::info());
        Self { name: name.to_owned(), told: ips, found: None, labels, resources, info }
    }

    /// Takes in which address the machine has towards the server; what was known stays where that is not known now.
    pub fn look(&mut self, found: Option<IpAddr>) {
        self.found = found.or(self.found);
    }

    pub fn ips(&self) -> Vec<IpAddr> {
        if self.told.is_empty() { self.found.into_iter().collect() } else { self.told.clone() }
    }

    /// Whether flags say something that the Node is to say.
    pub fn is_told(&self) -> bool {
        !self.labels.is_empty()
    }

    /// The Node of a machine that has none.
    pub fn object(&self, now: Timestamp) -> Value {
        let mut status = self.status();
        status["conditions"] = json!([{
            "type": "Ready",
            "status": "True",
            "reason": "AgentReady",
            "message": "the node agent is running",
            "lastHeartbeatTime": seconds(now),
            "lastTransitionTime": seconds(now),
        }]);
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": self.labels(), "annotations": {OWN_LABELS: self.own_labels()}},
            "status": status,
        })
    }

    /// How a Node that is ours differs from the machine.
    pub fn changes(&self, node: &Value) -> Changes {
        let (wanted, has) = (self.labels(), &node["metadata"]["labels"]);
        let mut labels = Map::new();
        for (key, value) in &wanted {
            if has[key] != **value {
                labels.insert(key.clone(), value.clone().into());
            }
        }
        let recorded = node["metadata"]["annotations"][OWN_LABELS].as_str().unwrap_or_default();
        for key in recorded.split(',').filter(|key| !wanted.contains_key(*key) && has[*key].is_string()) {
            labels.insert(key.to_owned(), Value::Null);
        }
        let own = self.own_labels();
        let metadata = (!labels.is_empty() || recorded != own)
            .then(|| json!({"labels": labels, "annotations": {OWN_LABELS: own}}));
        let mut status = self.status();
        if self.ips().is_empty() {
            // Better the ones of before than none.
            status["addresses"] = node["status"]["addresses"].clone();
        }
        let differs = !contains(&node["status"], &status);
        Changes { metadata, status: differs.then_some(status) }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let text = |field: &str| self.info[field].as_str().unwrap_or_default().to_owned();
        let own = [
            ("kubernetes.io/hostname".to_owned(), self.name.clone()),
            ("kubernetes.io/os".to_owned(), text("operatingSystem")),
            ("kubernetes.io/arch".to_owned(), text("architecture")),
        ];
        self.labels.clone().into_iter().chain(own).collect()
    }

    fn own_labels(&self) -> String {
        self.labels().into_keys().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
    }

    /// Without conditions. What a kubelet would register, as far as Services need it.
    fn status(&self) -> Value {
        let addresses = self.ips().into_iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}));
        let addresses: Vec<Value> = addresses.chain([json!({"type": "Hostname", "address": self.name})]).collect();
        json!({
            "addresses": addresses,
            // All of it is there for Services: the agent takes nothing that counts.
            "capacity": self.resources.quantities(),
            "allocatable": self.resources.quantities(),
            "nodeInfo": self.info,
        })
    }
}

/// Whether `whole` says everything that `part` says; lists are equal or not.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        _ => whole == part,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn shape(ips: &[&str], labels: &[(&str, &str)]) -> Shape {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let resources = Resources { cpus: NonZeroUsize::MIN, memory_kib: Some(2048) };
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Shape { resources, ..Shape::new("n", ips, labels) }
    }

    fn now() -> Timestamp {
        "2024-05-06T07:08:09Z".parse().unwrap()
    }

    #[test]
    fn a_node_has_what_services_need() {
        let node = shape(&["192.0.2.1", "2001:db8::1"], &[("topology.kubernetes.io/zone", "a")]).object(now());
        assert_eq!(node["status"]["allocatable"], json!({"cpu": "1", "memory": "2048Ki"}));
        assert_eq!(node["status"]["capacity"], node["status"]["allocatable"]);
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n");
        assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "a");
        assert_eq!(node["status"]["addresses"][1], json!({"type": "InternalIP", "address": "2001:db8::1"}));
        assert_eq!(node["status"]["conditions"][0]["type"], "Ready");
        assert!(is_ours(&node) && !is_ours(&json!({"metadata": {"annotations": {"a": "b"}}})));
    }

    #[test]
    fn a_node_that_is_as_the_machine_is_not_touched() {
        let shape = shape(&["192.0.2.1"], &[("disk", "ssd")]);
        let mut node = shape.object(now());
        assert_eq!(shape.changes(&node), Changes::default());
        // What others have added is theirs.
        node["metadata"]["labels"]["theirs"] = json!("x");
        node["status"]["capacity"]["pods"] = json!("110");
        assert_eq!(shape.changes(&node), Changes::default());
    }

    #[test]
    fn labels_follow_the_flags() {
        let node = shape(&["192.0.2.1"], &[("disk", "ssd"), ("rack", "r1")]).object(now());
        let changes = shape(&["192.0.2.1"], &[("disk", "hdd")]).changes(&node);
        let own = "disk,kubernetes.io/arch,kubernetes.io/hostname,kubernetes.io/os";
        let metadata = json!({"labels": {"disk": "hdd", "rack": null}, "annotations": {OWN_LABELS: own}});
        assert_eq!(changes, Changes { metadata: Some(metadata), status: None });
    }

    #[test]
    fn addresses_follow_the_machine() {
        let node = shape(&["192.0.2.1"], &[]).object(now());
        let mut moved = shape(&[], &[]);
        assert_eq!(moved.changes(&node), Changes::default(), "not known now");
        moved.look(Some("192.0.2.7".parse().unwrap()));
        let status = moved.changes(&node).status.unwrap();
        assert_eq!(status["addresses"][0]["address"], "192.0.2.7");
        assert_eq!(status.get("conditions"), None);
        moved.look(None);
        assert_eq!(moved.ips().len(), 1, "it is remembered");
    }
}
