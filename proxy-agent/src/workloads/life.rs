//! The Pod of one uid, for as long as it is there: it is probed, what the prober says is kept, and a status made of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use model::Key;
use serde_json::Value;
use tokio::sync::mpsc;

use super::exec::Machine;
use super::manifest::{PodName, Wanted};
use super::mirror::Seen;
use super::order::Shared;
use super::standing::{self, ContainerSpec, Facts};
use crate::events::About;
use crate::pods::conditions::Conditions;
use crate::probes::{News, OnFailure, Prober, Target, Verdict};

/// A status may wait so long for the first word of the prober, and is then written once instead of twice.
const SETTLING: Duration = Duration::from_millis(50);

/// One Pod.
pub struct Life {
    pub uid: Arc<str>,
    /// The status that the server has, by this agent.
    pub written: Option<Value>,
    hash: String,
    containers: Vec<ContainerSpec>,
    gates: Vec<String>,
    addresses: Vec<IpAddr>,
    verdicts: BTreeMap<Arc<str>, Verdict>,
    conditions: Conditions,
    started: Timestamp,
    begun: Instant,
    quiet: bool,
}

impl Life {
    /// Has the Pod probed from now on. `None`: it has no address, and nobody could be sent there.
    pub fn begin(
        shared: &Shared,
        name: &PodName,
        seen: &Seen,
        wanted: &Wanted,
        addresses: Vec<IpAddr>,
        machine: Machine,
        news: &mpsc::Sender<News>,
    ) -> Option<Self> {
        let ip = addresses.first().copied()?;
        let (wall, now) = (Timestamp::now(), Instant::now());
        let started = standing::started(seen, wall);
        let life = Self {
            uid: seen.uid().into(),
            written: None,
            hash: wanted.hash.clone(),
            containers: standing::containers(wanted),
            gates: standing::gates(wanted),
            addresses,
            verdicts: BTreeMap::new(),
            conditions: Conditions::of(seen.status.conditions.as_deref().unwrap_or_default()),
            started,
            begun: now,
            quiet: false,
        };
        let key = Key::new(&name.namespace, &name.name);
        for container in &life.containers {
            shared.prober.watch(Target {
                uid: Arc::clone(&life.uid),
                container: container.name.as_str().into(),
                run: 0,
                since: standing::since(started, wall, now),
                probes: container.probes(),
                ip,
                ports: container.named_ports(),
                place: Arc::new(machine),
                before: standing::before(seen, &container.name),
                on_failure: OnFailure::Report,
                about: About::container(key.clone(), &life.uid, "containers", &container.name),
                events: shared.events.clone(),
                news: news.clone(),
            });
        }
        Some(life)
    }

    pub fn is_of(&self, seen: &Seen, wanted: &Wanted, addresses: &[IpAddr]) -> bool {
        *self.uid == *seen.uid() && self.hash == wanted.hash && self.addresses == addresses
    }

    /// News of a Pod that was there before is none.
    pub fn hear(&mut self, news: News) {
        if news.uid == self.uid {
            self.verdicts.insert(news.container, news.verdict);
        }
    }

    /// How long a status may still wait for the prober.
    pub fn settling(&self) -> Option<Duration> {
        let waits = self.written.is_none() && self.verdicts.len() < self.containers.len();
        SETTLING.checked_sub(self.begun.elapsed()).filter(|_| waits)
    }

    /// What the server should have; `node`: the addresses of the node.
    pub fn status(&mut self, seen: &Seen, node: &[IpAddr], now: Timestamp) -> Value {
        let facts = Facts {
            containers: &self.containers,
            gates: &self.gates,
            verdicts: &self.verdicts,
            node,
            addresses: &self.addresses,
            started: self.started,
            reported: seen.status.conditions.as_deref().unwrap_or_default(),
        };
        standing::status(&facts, &mut self.conditions, now)
    }

    /// It is about to go: that it does not work any more is no news.
    pub fn quiet(&mut self, prober: &Prober) {
        if !std::mem::replace(&mut self.quiet, true) {
            self.containers.iter().for_each(|container| prober.quiet(&self.uid, &container.name));
        }
    }

    pub fn end(self, prober: &Prober) {
        self.containers.iter().for_each(|container| prober.forget(&self.uid, &container.name));
    }
}
