//! Figures for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::lifecycle::{Census, Decision};

/// What the controller counts.
#[derive(Debug, Default)]
pub struct Metrics {
    census: Mutex<Census>,
    taken_out: AtomicU64,
    taken_back: AtomicU64,
    damped: AtomicU64,
    spared: AtomicU64,
}

impl Metrics {
    pub(crate) fn note(&self, census: Census, decisions: &[Decision]) {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
        for decision in decisions {
            let counter = match decision {
                Decision::TakeOut { .. } => &self.taken_out,
                Decision::TakeBack { .. } => &self.taken_back,
                Decision::Damp { .. } => &self.damped,
                Decision::Spare { .. } => &self.spared,
                Decision::Relent { .. } => continue,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How the nodes are.
    pub fn census(&self) -> Census {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In Prometheus' text form, with the beats that were taken.
    pub fn text(&self, beats: u64) -> String {
        let Census { heard, half_silent, out, damped, unjudged, spared } = self.census();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let states = [
            ("heard", heard),
            ("half_silent", half_silent),
            ("silent", out - damped.min(out)),
            ("damped", damped),
            ("unjudged", unjudged),
        ];
        let mut text = String::new();
        family(&mut text, "portolan_nodes", "gauge", "Nodes by how they are heard.");
        for (state, count) in states {
            text += &format!("portolan_nodes{{state=\"{state}\"}} {count}\n");
        }
        let spared_now = u64::from(spared);
        for (name, kind, help, value) in [
            (
                "portolan_nodes_spared",
                "gauge",
                "1 while most nodes are silent at once and none is taken out.",
                spared_now,
            ),
            ("portolan_node_heartbeats_total", "counter", "Heartbeats that were taken.", beats),
            (
                "portolan_nodes_taken_out_total",
                "counter",
                "Nodes that fell silent and became not ready.",
                get(&self.taken_out),
            ),
            (
                "portolan_nodes_taken_back_total",
                "counter",
                "Nodes that were heard again and became ready.",
                get(&self.taken_back),
            ),
            (
                "portolan_nodes_damped_total",
                "counter",
                "Returns that were put off since the node comes and goes.",
                get(&self.damped),
            ),
            ("portolan_nodes_spared_total", "counter", "Times that most nodes were silent at once.", get(&self.spared)),
        ] {
            family(&mut text, name, kind, help);
            text += &format!("{name} {value}\n");
        }
        text
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    *text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
}
