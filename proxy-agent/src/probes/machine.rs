//! What is probed when, and what the results mean, for one start of one container: kubelet's rules, with time and chance
//! as arguments.
//!
//! - Until the startup probe has succeeded once, the other two are not made. After that it is not made any more.
//! - A container is not ready before its first success. It takes `successThreshold` successes in a row to become ready,
//!   `failureThreshold` failures in a row to lose it, or to be found in need of a restart.
//! - Probes come in a fixed beat from the first one on. One that is still under way when the next is due delays it; of
//!   several that were missed one is made up for.
//! - A container that is to be restarted is asked for its readiness alone until it has been.
//! - The first probe is made when `initialDelaySeconds` have passed, and a little later by chance. Behind the start of the
//!   agent, when it finds everything at once, that is any part of the period.

use std::time::{Duration, Instant};

use super::spec::{Kind, Probes, Timing};
use super::{Before, OnFailure, Verdict};

/// What a first probe may be put off by at any time: containers that are started together are not probed together.
const SPREAD: Duration = Duration::from_millis(100);

/// The state of one container's probes.
#[derive(Clone, Debug)]
pub struct Machine {
    slots: [Option<Slot>; 3],
    on_failure: OnFailure,
    /// The pod is about to end: only its readiness is still of interest.
    quiet: bool,
    verdict: Verdict,
}

#[derive(Clone, Debug)]
struct Slot {
    kind: Kind,
    timing: Timing,
    due: Instant,
    under_way: bool,
    /// What came last, and how often in a row.
    last: Option<bool>,
    row: u32,
}

/// When a container's probes begin.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    pub now: Instant,
    /// When the container was started.
    pub since: Instant,
    /// How long the prober has been there.
    pub age: Duration,
    pub before: Before,
    pub on_failure: OnFailure,
}

impl Machine {
    /// `chance` gives numbers from 0 to 1, one for each probe.
    pub fn new(probes: &Probes, begin: Begin, mut chance: impl FnMut() -> f64) -> Self {
        let slots = Kind::ALL.map(|kind| {
            let timing = probes.get(kind)?.timing;
            let spread = if begin.age < timing.period { timing.period } else { SPREAD.min(timing.period) };
            let due = begin.now.max(begin.since + timing.delay) + spread.mul_f64(chance().clamp(0.0, 1.0));
            Some(Slot { kind, timing, due, under_way: false, last: None, row: 0 })
        });
        let started = probes.startup.is_none() || begin.before.started;
        let ready = started && (probes.readiness.is_none() || begin.before.ready);
        let verdict = Verdict { started, ready, failed: None, why: String::new() };
        Self { slots, on_failure: begin.on_failure, quiet: false, verdict }
    }

    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// When [`Machine::due`] has something next, as things stand.
    pub fn next(&self) -> Option<Instant> {
        self.slots.iter().flatten().filter(|slot| !slot.under_way && self.is_on(slot.kind)).map(|slot| slot.due).min()
    }

    /// Which probes are to be made now. Each is under way until [`Machine::finished`] or [`Machine::undone`].
    pub fn due(&mut self, now: Instant) -> Vec<Kind> {
        let on = Kind::ALL.map(|kind| self.is_on(kind));
        let mut due = Vec::new();
        for (slot, on) in self.slots.iter_mut().zip(on) {
            let Some(slot) = slot.as_mut().filter(|slot| on && !slot.under_way && slot.due <= now) else { continue };
            slot.under_way = true;
            slot.beat(now);
            due.push(slot.kind);
        }
        due
    }

    /// A probe came to a result: `Err` with what its Event says.
    pub fn finished(&mut self, now: Instant, kind: Kind, result: Result<(), &str>) {
        if !self.land(kind) || !self.is_on(kind) {
            return;
        }
        let ok = result.is_ok();
        if let Err(why) = result {
            self.explain(kind, why);
        }
        let Some(slot) = self.slot(kind) else { return };
        slot.row = if slot.last == Some(ok) { slot.row.saturating_add(1) } else { 1 };
        slot.last = Some(ok);
        let wanted = match (ok, kind) {
            (false, _) => slot.timing.failures,
            (true, Kind::Readiness) => slot.timing.successes,
            // Kubernetes allows nothing else.
            (true, Kind::Startup | Kind::Liveness) => 1,
        };
        if slot.row < wanted {
            return;
        }
        match (kind, result) {
            (Kind::Startup, Ok(())) => self.start(now),
            (Kind::Liveness, Ok(())) => self.verdict.failed = None,
            (Kind::Startup | Kind::Liveness, Err(_)) => {
                slot.row = 0;
                self.verdict.failed = Some(kind);
            }
            (Kind::Readiness, Ok(())) => {
                self.verdict.ready = true;
                self.verdict.why.clear();
            }
            (Kind::Readiness, Err(why)) => {
                self.verdict.ready = false;
                self.explain(kind, why);
            }
        }
    }

    /// A probe came to no result: what it would have said is not known, so nothing follows from it.
    pub fn undone(&mut self, kind: Kind, why: &str) {
        if self.land(kind) && self.is_on(kind) {
            self.explain(kind, why);
        }
    }

    /// The pod is about to end.
    pub fn quiet(&mut self) {
        self.quiet = true;
    }

    fn is_on(&self, kind: Kind) -> bool {
        let held = self.verdict.failed.is_some() && self.on_failure == OnFailure::Restart;
        match kind {
            Kind::Startup => !self.verdict.started && !held && !self.quiet,
            Kind::Liveness => self.verdict.started && !held && !self.quiet,
            // It serves until its process has ended.
            Kind::Readiness => self.verdict.started,
        }
    }

    fn slot(&mut self, kind: Kind) -> Option<&mut Slot> {
        self.slots.iter_mut().flatten().find(|slot| slot.kind == kind)
    }

    /// It is under way no more; false if it never was.
    fn land(&mut self, kind: Kind) -> bool {
        self.slot(kind).is_some_and(|slot| std::mem::take(&mut slot.under_way))
    }

    /// The first reason for which the container is not ready is kept: others would be a write for each probe.
    fn explain(&mut self, kind: Kind, why: &str) {
        if kind != Kind::Liveness && !self.verdict.ready && self.verdict.why.is_empty() {
            self.verdict.why = why.to_owned();
        }
    }

    fn start(&mut self, now: Instant) {
        let has_readiness = self.slot(Kind::Readiness).is_some();
        self.verdict = Verdict { started: true, ready: !has_readiness, failed: None, why: String::new() };
        if let Some(readiness) = self.slot(Kind::Readiness) {
            // Whoever waited for the start need not wait for a beat.
            readiness.due = readiness.due.min(now);
        }
        if let Some(liveness) = self.slot(Kind::Liveness).filter(|liveness| liveness.due < now) {
            liveness.beat(now);
        }
    }
}

impl Slot {
    /// The next time of the beat after now. It may pass while the probe is under way: then the next is due at once.
    fn beat(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.due);
        let beats = late.as_nanos() / self.timing.period.as_nanos().max(1) + 1;
        self.due += self.timing.period * u32::try_from(beats).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests;
