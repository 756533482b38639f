//! Figures for `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::liveness::{Seen, Standing};
use super::place::{Instance, Why};

/// What is counted of edges and instances.
#[derive(Debug, Default)]
pub struct Figures {
    now: Mutex<Now>,
    silent: AtomicU64,
    kept: AtomicU64,
    moved: [AtomicU64; WHYS.len()],
}

/// The reasons of a move, as the label `reason` has them.
const WHYS: [(&str, Why); 4] =
    [("new", Why::New), ("silent", Why::Silent), ("left", Why::Gone), ("preferred", Why::Prefers)];

/// How things are.
#[derive(Debug, Default)]
struct Now {
    lives: usize,
    quiet: usize,
    silent: usize,
    gone: usize,
    homeless: usize,
    /// Instances of each edge.
    instances: BTreeMap<Box<str>, usize>,
}

impl Figures {
    pub(super) fn note<'a>(
        &self,
        seen: &BTreeMap<Box<str>, Seen>,
        instances: impl Iterator<Item = &'a Instance>,
        homeless: usize,
    ) {
        let mut now = Now { homeless, ..Now::default() };
        for (name, edge) in seen {
            now.instances.insert(name.clone(), 0);
            *match edge.standing {
                Standing::Lives { .. } => &mut now.lives,
                Standing::Quiet => &mut now.quiet,
                Standing::Silent => &mut now.silent,
                Standing::Gone => &mut now.gone,
            } += 1;
        }
        for edge in instances.filter_map(|instance| instance.edge.as_ref()) {
            *now.instances.entry(edge.clone()).or_default() += 1;
        }
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn silent(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, why: Why) {
        for ((_, known), count) in WHYS.iter().zip(&self.moved) {
            count.fetch_add(u64::from(*known == why), Ordering::Relaxed);
        }
    }

    /// In Prometheus' text form.
    pub fn text(&self) -> String {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = family("portolan_edges", "gauge", "Edge nodes by how they are heard.");
        for (state, count) in [("lives", now.lives), ("quiet", now.quiet), ("silent", now.silent), ("gone", now.gone)] {
            text += &format!("portolan_edges{{state=\"{state}\"}} {count}\n");
        }
        text += &family("portolan_edge_load_balancers", "gauge", "Load balancers that each edge node holds.");
        for (edge, count) in &now.instances {
            text += &format!("portolan_edge_load_balancers{{edge=\"{edge}\"}} {count}\n");
        }
        for (name, kind, help, value) in [
            (
                "portolan_load_balancers_without_edge",
                "gauge",
                "Load balancers that no edge node holds that is heard.",
                now.homeless as u64,
            ),
            (
                "portolan_edges_silent_total",
                "counter",
                "Times that an edge node fell silent.",
                self.silent.load(Ordering::Relaxed),
            ),
            (
                "portolan_edge_takeovers_refused_total",
                "counter",
                "Take-overs that a renewal of the last moment has refused.",
                self.kept.load(Ordering::Relaxed),
            ),
        ] {
            text += &family(name, kind, help);
            text += &format!("{name} {value}\n");
        }
        text += &family("portolan_load_balancers_moved_total", "counter", "Load balancers that got another edge node.");
        for ((reason, _), count) in WHYS.iter().zip(&self.moved) {
            let count = count.load(Ordering::Relaxed);
            text += &format!("portolan_load_balancers_moved_total{{reason=\"{reason}\"}} {count}\n");
        }
        text
    }
}

fn family(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}
