//! Whether backends can be used: each target is asked at its pace, by a task of its own, and the answers are a table that
//! changes ([`Checker::verdicts`]).
//!
//! What is asked follows from listeners and backends ([`spec`]), what answers come to is pure ([`machine`]), one question
//! is [`ask`]. A question is asked every interval, whether the one before was answered or not: a machine that swallows packets
//! is found out one timeout after the last of the questions that it may fail, and not after as many timeouts.

pub mod ask;
pub mod machine;
pub mod spec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::balancing::Backend;
use model::types::Listener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::info;

use machine::{Machine, Verdict};
use proxy_agent::chain;
use spec::{Target, targets};

/// Questions at a time, of all targets together and of one.
const AT_ONCE: usize = 512;
const OF_ONE: usize = 16;

/// What is known of each target.
pub type Verdicts = BTreeMap<Target, Verdict>;

/// Asks targets.
#[derive(Debug)]
pub struct Checker {
    verdicts: Arc<watch::Sender<Verdicts>>,
    tasks: JoinSet<()>,
    running: BTreeMap<Target, AbortHandle>,
    slots: Arc<Semaphore>,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            verdicts: Arc::new(watch::Sender::new(Verdicts::new())),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Checker {
    /// These are the targets from now on. What is known of those that stay is kept; a new one is asked at once. Call it
    /// inside a runtime.
    pub fn set(&mut self, targets: BTreeSet<Target>) {
        while self.tasks.try_join_next().is_some() {}
        let gone: BTreeSet<Target> = self.running.keys().filter(|target| !targets.contains(target)).cloned().collect();
        for target in &gone {
            if let Some(task) = self.running.remove(target) {
                task.abort();
            }
        }
        if !gone.is_empty() {
            self.verdicts.send_if_modified(|verdicts| {
                verdicts.retain(|target, _| !gone.contains(target));
                false
            });
        }
        for target in targets {
            if !self.running.contains_key(&target) {
                let asking = keep_asking(target.clone(), Arc::clone(&self.slots), Arc::clone(&self.verdicts));
                let task = self.tasks.spawn(asking);
                self.running.insert(target, task);
            }
        }
    }

    /// Changes whenever a verdict does.
    pub fn verdicts(&self) -> watch::Receiver<Verdicts> {
        self.verdicts.subscribe()
    }
}

/// What is known of a backend by everything that is asked of it; a target that nobody knows yet counts as not asked.
pub fn verdict(listener: &Listener, backend: &Backend, verdicts: &Verdicts) -> Verdict {
    let mut whole = Verdict::Healthy;
    for target in targets(listener, backend) {
        match verdicts.get(&target).copied().unwrap_or_default() {
            Verdict::Healthy => {}
            Verdict::Unhealthy => return Verdict::Unhealthy,
            Verdict::Unknown => whole = Verdict::Unknown,
        }
    }
    whole
}

async fn keep_asking(target: Target, slots: Arc<Semaphore>, verdicts: Arc<watch::Sender<Verdicts>>) {
    let mut machine = Machine::default();
    let mut known = Verdict::Unknown;
    let mut ticks = tokio::time::interval(target.pace.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick(), if asked.len() < OF_ONE => {
                if known == Verdict::Unknown {
                    // Those that began together need not go on together.
                    ticks.reset_at(Instant::now() + spread(&target));
                }
                let (target, slots) = (target.clone(), Arc::clone(&slots));
                asked.spawn(async move {
                    let _slot = slots.acquire_owned().await;
                    ask::ask(&target).await
                });
            }
            Some(answer) = asked.join_next() => {
                // A question that panicked, or was given up, is none.
                let Ok(answer) = answer else { continue };
                let verdict = machine.answered(answer.is_ok(), &target.pace);
                if verdict == known {
                    continue;
                }
                match &answer {
                    Err(error) => info!(backend = %target.at, reason = %chain(error), "a backend fails its health check"),
                    Ok(()) if known == Verdict::Unhealthy => info!(backend = %target.at, "a backend passes its health check again"),
                    Ok(()) => {}
                }
                known = verdict;
                verdicts.send_modify(|verdicts| _ = verdicts.insert(target.clone(), verdict));
            }
        }
    }
}

/// Between half an interval and a whole one, by the target itself.
fn spread(target: &Target) -> Duration {
    let by =
        u32::from(target.at.port()) ^ target.at.ip().to_canonical().to_string().bytes().map(u32::from).sum::<u32>();
    target.pace.interval.mul_f64(0.5 + f64::from(by % 64) / 128.0)
}
