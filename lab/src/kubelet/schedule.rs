//! Which node gets a pod: the one with the fewest pods among those that it may go to, the lowest number when several
//! have as few. No resources, no affinity: the lab has one machine to divide in any case.

use std::collections::BTreeMap;

use model::types::TextMap;

use super::manifest::Manifest;

/// A node as the choice sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    /// `node-10` comes after `node-9`: order is by this.
    pub number: u8,
    pub labels: TextMap,
    pub schedulable: bool,
    /// Whether it is ready, or says nothing about it.
    pub serves: bool,
    /// Pods that are bound to it and not over.
    pub pods: usize,
}

/// Why no node can take a pod, in Kubernetes' manner: `0/3 nodes are available: 1 …, 2 ….`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable(pub String);

/// The node for `pod`, as an index of `nodes`.
pub fn choose(pod: &Manifest, nodes: &[Candidate], max_pods: usize) -> Result<usize, Unschedulable> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut best: Option<(usize, &Candidate)> = None;
    for (index, node) in nodes.iter().enumerate() {
        if let Some(reason) = refusal(pod, node, max_pods) {
            *reasons.entry(reason).or_default() += 1;
        } else if best.is_none_or(|(_, b)| (node.pods, node.number) < (b.pods, b.number)) {
            best = Some((index, node));
        }
    }
    best.map(|(index, _)| index).ok_or_else(|| {
        let parts: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let why = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        Unschedulable(format!("0/{} nodes are available{why}.", nodes.len()))
    })
}

/// Whether the lab's scheduler is meant to place this pod.
pub fn wants_a_node(pod: &Manifest) -> bool {
    pod.spec.node_name.is_empty()
        && !pod.metadata.terminating()
        && !pod.is_over()
        && pod.spec.scheduling_gates.is_empty()
        && matches!(pod.spec.scheduler_name.as_str(), "" | "default-scheduler")
}

fn refusal(pod: &Manifest, node: &Candidate, max_pods: usize) -> Option<&'static str> {
    if !node.schedulable {
        Some("node(s) were unschedulable")
    } else if !node.serves {
        Some("node(s) were not ready")
    } else if !pod.spec.node_selector.iter().all(|(k, v)| node.labels.get(k) == Some(v)) {
        Some("node(s) didn't match Pod's node affinity/selector")
    } else if node.pods >= max_pods {
        Some("Too many pods")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8, pods: usize) -> Candidate {
        let name = format!("node-{number}");
        let labels = [("kubernetes.io/hostname".to_owned(), name.clone())].into();
        Candidate { name, number, labels, schedulable: true, serves: true, pods }
    }

    #[test]
    fn the_least_loaded_node_wins_and_the_lowest_of_equals() {
        let pod = Manifest::default();
        assert_eq!(choose(&pod, &[node(10, 2), node(9, 2), node(1, 3)], 200), Ok(1));
        assert_eq!(choose(&pod, &[node(1, 1), node(2, 0)], 200), Ok(1));
    }

    #[test]
    fn cordoned_full_and_unselected_nodes_are_left_out_with_the_reason() {
        let mut pod = Manifest::default();
        pod.spec.node_selector = [("kubernetes.io/hostname".to_owned(), "node-2".to_owned())].into();
        let mut nodes = vec![node(1, 0), node(2, 5), node(3, 0)];
        assert_eq!(choose(&pod, &nodes, 200), Ok(1));
        nodes[1].schedulable = false;
        assert_eq!(
            choose(&pod, &nodes, 200),
            Err(Unschedulable(
                "0/3 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, 1 node(s) were unschedulable."
                    .to_owned()
            ))
        );
        assert_eq!(
            choose(&Manifest::default(), &[node(1, 200)], 200).unwrap_err().0,
            "0/1 nodes are available: 1 Too many pods."
        );
        assert_eq!(choose(&pod, &[], 200).unwrap_err().0, "0/0 nodes are available.");
    }

    #[test]
    fn only_pods_that_ask_for_this_scheduler_are_placed() {
        let mut pod = Manifest::default();
        assert!(wants_a_node(&pod));
        pod.spec.scheduler_name = "another".into();
        assert!(!wants_a_node(&pod));
        pod.spec.scheduler_name = "default-scheduler".into();
        pod.metadata.deletion_timestamp = Some("2025-01-01T00:00:00Z".into());
        assert!(!wants_a_node(&pod));
    }
}
