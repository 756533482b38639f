//! What the nodes of a process see together: counted, and told apart by resource.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::{Resource, Revision};
use proxy_agent::chain;
use proxy_agent::client::{Client, ClientError};
use proxy_agent::hollow::{Audience, Ended, collection, watched};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Lists;
use super::arrivals::Arrivals;
use super::report::Seen;
use crate::load::Known;
use crate::record::{self, Sent};

/// Lists that are read at the same time, where each node makes its own.
const LISTING: usize = 4;
/// Failures that are told apart.
const FAILURES: usize = 32;

/// What all of them see.
pub struct Sights {
    lists: Lists,
    listing: Semaphore,
    /// By resource, in the order of [`watched`].
    of: Vec<Of>,
    opened: AtomicU64,
    ended: AtomicU64,
    cut: AtomicU64,
    too_slow: AtomicU64,
    listed: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
    /// `None`: nobody will ask for the lag.
    arrivals: Option<Mutex<Arrivals>>,
    /// How it was when counting began.
    before: Mutex<Counts>,
}

/// What is seen of a resource.
struct Of {
    resource: Resource,
    events: AtomicU64,
    /// The newest list, and when it was begun.
    list: tokio::sync::Mutex<Option<(Instant, Revision)>>,
}

#[derive(Clone, Default)]
struct Counts {
    events: Vec<u64>,
    opened: u64,
    ended: u64,
    cut: u64,
    too_slow: u64,
    failures: BTreeMap<String, u64>,
}

impl Sights {
    pub fn new(lists: Lists, arrivals: bool) -> Self {
        let of = |resource| Of { resource, events: AtomicU64::new(0), list: tokio::sync::Mutex::new(None) };
        Self {
            lists,
            listing: Semaphore::new(LISTING),
            of: watched().map(of).collect(),
            opened: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            listed: AtomicU64::new(0),
            failures: Mutex::default(),
            arrivals: arrivals.then(Mutex::default),
            before: Mutex::default(),
        }
    }

    /// Watches that were opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Watches that are open.
    pub fn open(&self) -> u64 {
        self.opened().saturating_sub(self.ended.load(Ordering::Relaxed))
    }

    /// Objects that were read of lists.
    pub fn listed(&self) -> u64 {
        self.listed.load(Ordering::Relaxed)
    }

    /// What was before this does not count.
    pub fn count_from_now(&self) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = self.counts();
    }

    fn counts(&self) -> Counts {
        Counts {
            events: self.of.iter().map(|of| of.events.load(Ordering::Relaxed)).collect(),
            opened: self.opened(),
            ended: self.ended.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
            too_slow: self.too_slow.load(Ordering::Relaxed),
            failures: self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What was seen since counting began, `time` ago.
    pub fn seen(&self, time: Duration) -> Seen {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.counts();
        let events = self.of.iter().enumerate().map(|(i, of)| {
            let was = before.events.get(i).copied().unwrap_or(0);
            (of.resource.info().plural.to_owned(), now.events[i] - was)
        });
        let events: BTreeMap<String, u64> = events.collect();
        let count: u64 = events.values().sum();
        let new = |failure: &str, count: u64| count - before.failures.get(failure).copied().unwrap_or(0);
        let failures = now.failures.into_iter().map(|(failure, count)| (new(&failure, count), failure));
        Seen {
            seconds: time.as_secs_f64(),
            events_per_second: count as f64 / time.as_secs_f64().max(f64::EPSILON),
            events,
            open: self.open(),
            opened: now.opened - before.opened,
            ended: now.ended - before.ended,
            cut: now.cut - before.cut,
            too_slow: now.too_slow - before.too_slow,
            failures: failures.filter(|(count, _)| *count > 0).map(|(count, failure)| (failure, count)).collect(),
        }
    }

    /// How late what followed from these writes came to so many nodes.
    pub fn lag(&self, sent: &[Sent], nodes: u32) -> Known {
        let arrivals = self.arrivals.as_ref().map(|arrivals| arrivals.lock().unwrap_or_else(PoisonError::into_inner));
        arrivals.map(|arrivals| arrivals.lag(sent, nodes)).unwrap_or_default()
    }

    fn of(&self, resource: Resource) -> Option<&Of> {
        self.of.iter().find(|of| of.resource == resource)
    }

    /// Reads a list to its end, and keeps its revision.
    async fn read(&self, client: &Client, resource: Resource) -> Result<Revision, ClientError> {
        let mut stream = client.list(&collection(resource)).await?;
        while stream.next().await?.is_some() {
            self.listed.fetch_add(1, Ordering::Relaxed);
        }
        stream.revision()
    }
}

impl Audience for Sights {
    async fn list(&self, client: &Client, resource: Resource, since: Instant) -> Result<Revision, ClientError> {
        let Some(of) = self.of(resource).filter(|_| self.lists == Lists::Shared) else {
            let _turn = self.listing.acquire().await;
            return self.read(client, resource).await;
        };
        // Whoever is first lists for all who wait.
        let mut list = of.list.lock().await;
        match *list {
            Some((begun, revision)) if begun >= since => Ok(revision),
            _ => {
                let begun = Instant::now();
                let revision = self.read(client, resource).await?;
                *list = Some((begun, revision));
                Ok(revision)
            }
        }
    }

    fn opened(&self, _: Resource) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    fn came(&self, resource: Resource, revision: Revision, object: &[u8]) {
        if let Some(of) = self.of(resource) {
            of.events.fetch_add(1, Ordering::Relaxed);
        }
        if resource == Resource::EndpointSlices
            && let Some(arrivals) = &self.arrivals
        {
            let now = record::now();
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).came(revision, object, now);
        }
    }

    fn ended(&self, _: Resource, how: Ended) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        match how {
            Ended::InTime => {}
            Ended::Early => drop(self.cut.fetch_add(1, Ordering::Relaxed)),
            Ended::TooSlow => drop(self.too_slow.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn failed(&self, doing: &'static str, error: &ClientError) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = format!("{doing}: {}", chain(error));
        let failure =
            if failures.len() < FAILURES || failures.contains_key(&failure) { failure } else { "others".into() };
        *failures.entry(failure).or_default() += 1;
    }
}
