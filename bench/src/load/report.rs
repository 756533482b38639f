//! What a run has found, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::tally::{Kind, Tally};
use crate::histogram::Times;

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub created: Option<Created>,
    pub churned: Option<Churned>,
    /// Whether somebody ended it before its time.
    pub stopped: bool,
}

/// How everything was made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// What there is now, with what was there before.
    pub services: u32,
    pub pods: u32,
    pub seconds: f64,
    pub services_per_second: f64,
    /// Each with its status.
    pub pods_per_second: f64,
    /// By what they were for.
    pub requests: BTreeMap<Kind, Tally>,
}

/// How it was changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Churned {
    /// Per second, as was wanted.
    pub rate: u32,
    pub seconds: f64,
    /// As were sent; of those that replace something each is more than one request.
    pub changes: u64,
    pub changes_per_second: f64,
    /// By what they were for, from when they were due.
    pub requests: BTreeMap<Kind, Tally>,
    /// From when a write was due to a watcher, of all watchers.
    pub lag: Option<Known>,
    /// How often a watch of these was cut.
    pub cuts: u64,
    /// From when a write was due to a kernel, by the URL of its agent.
    pub kernels: Vec<(String, Known)>,
}

/// How somebody got to know of writes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Known {
    #[serde(flatten)]
    pub times: Times,
    /// Writes that somebody did not get to know of.
    pub missing: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(created) = &self.created {
            let Created { services, pods, seconds, services_per_second, pods_per_second, requests } = created;
            writeln!(
                f,
                "{services} Services and {pods} Pods are there after {seconds:.1} s \
                 ({services_per_second:.0} Services/s, {pods_per_second:.0} Pods/s)"
            )?;
            table(f, requests)?;
        }
        if let Some(churned) = &self.churned {
            let Churned { rate, seconds, changes, changes_per_second, requests, lag, cuts, kernels } = churned;
            writeln!(f, "\n{changes} changes in {seconds:.1} s: {changes_per_second:.1} of {rate} per second")?;
            table(f, requests)?;
            if let Some(lag) = lag {
                row(f, "until a watcher has it", &lag.times)?;
                missing(f, lag.missing)?;
                if *cuts > 0 {
                    writeln!(f, "    watches were cut {cuts} times")?;
                }
            }
            for (url, kernel) in kernels {
                row(f, "until the kernel has it", &kernel.times)?;
                writeln!(f, "    of the agent at {url}")?;
                missing(f, kernel.missing)?;
            }
        }
        if self.stopped { writeln!(f, "ended before its time") } else { Ok(()) }
    }
}

fn table(f: &mut fmt::Formatter<'_>, requests: &BTreeMap<Kind, Tally>) -> fmt::Result {
    for (kind, tally) in requests {
        row(f, kind.words(), &tally.times)?;
        for (kind, failed) in &tally.failed {
            writeln!(f, "    {} failed ({kind}): {}", failed.count, failed.example)?;
        }
    }
    Ok(())
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, times: &Times) -> fmt::Result {
    let (p50, p99, p999, max) = (times.ms(0.5), times.ms(0.99), times.ms(0.999), times.ms(1.0));
    let count = times.count();
    writeln!(f, "{what:24} {count:>8} × p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, longest {max:.2} ms")
}

fn missing(f: &mut fmt::Formatter<'_>, count: u64) -> fmt::Result {
    if count == 0 { Ok(()) } else { writeln!(f, "    {count} of them never") }
}
