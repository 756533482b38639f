//! What hollow nodes have seen, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::load::Known;

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub nodes: u32,
    pub began: Begun,
    pub seen: Seen,
    /// From when a write was due to a node, of all nodes; with a record alone.
    pub lag: Option<Known>,
    /// Whether somebody ended it before its time.
    pub stopped: bool,
}

/// How they came.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// Until all of their watches were open.
    pub seconds: f64,
    pub watches: u64,
    /// Objects of lists.
    pub listed: u64,
}

/// What they saw from then on.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub seconds: f64,
    /// By resource, of all nodes.
    pub events: BTreeMap<String, u64>,
    pub events_per_second: f64,
    /// Watches that were open in the end.
    pub open: u64,
    /// Watches that were opened, and that ended, for whatever reason.
    pub opened: u64,
    pub ended: u64,
    /// Of those that ended: before their time.
    pub cut: u64,
    /// Of those that ended: the node was so slow that the server had forgotten where it was.
    pub too_slow: u64,
    /// What failed how often, and was tried again.
    pub failures: BTreeMap<String, u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, began, seen, lag, stopped } = self;
        writeln!(
            f,
            "{nodes} nodes with {} watches were there after {:.1} s, having listed {} objects",
            began.watches, began.seconds, began.listed
        )?;
        write!(f, "in {:.1} s they saw {:.0} events per second", seen.seconds, seen.events_per_second)?;
        let events = seen.events.iter().filter(|(_, count)| **count > 0);
        let events: Vec<String> = events.map(|(resource, count)| format!("{count} of {resource}")).collect();
        writeln!(f, "{}{}", if events.is_empty() { "" } else { ": " }, events.join(", "))?;
        let Seen { open, opened, ended, cut, too_slow, .. } = seen;
        writeln!(f, "watches: {open} open, {ended} ended ({cut} cut, {too_slow} too slow), {opened} opened anew")?;
        for (failure, count) in &seen.failures {
            writeln!(f, "    {count} × {failure}")?;
        }
        if let Some(Known { times, missing }) = lag {
            writeln!(
                f,
                "lag: {} × p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, longest {:.1} ms; {missing} missing",
                times.count(),
                times.ms(0.5),
                times.ms(0.99),
                times.ms(0.999),
                times.ms(1.0)
            )?;
        }
        if *stopped { writeln!(f, "ended before its time") } else { Ok(()) }
    }
}
