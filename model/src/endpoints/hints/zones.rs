//! What the Nodes say about the zones: how much CPU each has.

use std::collections::BTreeMap;

use crate::endpoints::ZONE;
use crate::types::Node;

/// Labels of Nodes whose CPU is not for Pods of users.
const EXCLUDED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// The zones of a cluster. It is kept by adding and removing Nodes, so that no derivation looks at all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    by_name: BTreeMap<Box<str>, Zone>,
    /// Nodes that count, and lack a zone or CPU.
    lacking: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Zone {
    cpu_milli: u64,
    nodes: usize,
}

/// What one Node adds to its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share<'a> {
    /// It is not ready, or of the control plane.
    None,
    /// It counts, but says no zone or no CPU.
    Lacking,
    Of {
        zone: &'a str,
        cpu_milli: u64,
    },
}

impl<'a> Share<'a> {
    pub fn of(node: &'a Node) -> Self {
        let labels = &node.metadata.labels;
        if !node.ready() || EXCLUDED.iter().any(|label| labels.contains_key(label)) {
            return Self::None;
        }
        match (labels.get(ZONE).map_or("", String::as_str), node.status.allocatable.cpu_milli) {
            ("", _) | (_, 0) => Self::Lacking,
            (zone, cpu_milli) => Self::Of { zone, cpu_milli },
        }
    }
}

impl Zones {
    pub fn add(&mut self, share: Share<'_>) {
        match share {
            Share::None => {}
            Share::Lacking => self.lacking += 1,
            Share::Of { zone, cpu_milli } => {
                let zone = self.by_name.entry(zone.into()).or_default();
                zone.cpu_milli += cpu_milli;
                zone.nodes += 1;
            }
        }
    }

    /// Takes away what was added.
    pub fn remove(&mut self, share: Share<'_>) {
        match share {
            Share::None => {}
            Share::Lacking => self.lacking = self.lacking.saturating_sub(1),
            Share::Of { zone: name, cpu_milli } => {
                let Some(zone) = self.by_name.get_mut(name) else { return };
                zone.cpu_milli = zone.cpu_milli.saturating_sub(cpu_milli);
                zone.nodes = zone.nodes.saturating_sub(1);
                if zone.nodes == 0 {
                    self.by_name.remove(name);
                }
            }
        }
    }

    /// Whether every Node that counts says its zone and its CPU.
    pub(super) fn complete(&self) -> bool {
        self.lacking == 0
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The zones with their CPU, in the order of their names.
    pub(super) fn cpus(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_name.iter().map(|(name, zone)| (&**name, zone.cpu_milli))
    }
}
