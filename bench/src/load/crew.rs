//! The clients, each with a connection of its own, and the book in which they write down what became of their requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proxy_agent::client::{Client, ClientError};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::arrivals::Moment;
use super::tally::{Kind, Tally};

/// As many requests at the same time as there are clients.
pub struct Crew {
    free: mpsc::Receiver<Client>,
    back: mpsc::Sender<Client>,
    work: JoinSet<()>,
    pub book: Arc<Book>,
}

/// What became of requests.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

#[derive(Clone, Debug, Default)]
pub struct Pages {
    pub tallies: BTreeMap<Kind, Tally>,
    /// Writes that change the endpoints of a Service.
    pub writes: Vec<Moment>,
}

/// When a request was to be sent, by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub at: Instant,
    /// Since 1970.
    pub micros: u64,
}

impl Due {
    pub fn now() -> Self {
        Self { at: Instant::now(), micros: micros_now() }
    }

    pub fn after(self, time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { at: self.at + time, micros: self.micros.saturating_add(micros) }
    }
}

pub fn micros_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Crew {
    pub fn new(client: &Client, clients: u16) -> Self {
        let clients = usize::from(clients.max(1));
        let (back, free) = mpsc::channel(clients);
        for _ in 0..clients {
            // There is room for all of them.
            let _ = back.try_send(client.apart());
        }
        Self { free, back, work: JoinSet::new(), book: Arc::default() }
    }

    /// Gives work to a client, when one is free.
    pub async fn give<W>(&mut self, work: impl FnOnce(Client, Arc<Book>) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let Some(client) = self.free.recv().await else { return };
        while self.work.try_join_next().is_some() {}
        let (back, work) = (self.back.clone(), work(client.clone(), Arc::clone(&self.book)));
        self.work.spawn(async move {
            work.await;
            let _ = back.send(client).await;
        });
    }

    /// Waits until all that was given is done.
    pub async fn done(&mut self) {
        while self.work.join_next().await.is_some() {}
    }
}

impl Book {
    /// Writes down what became of a request; `service`: whose endpoints it changes. Whether it was done is returned.
    pub fn note(&self, kind: Kind, due: Due, service: Option<u32>, result: Result<Value, ClientError>) -> bool {
        let time = due.at.elapsed();
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = pages.tallies.entry(kind).or_default();
        match result {
            Ok(object) => {
                tally.done(time);
                let revision = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
                if let Some((service, revision)) = service.zip(revision) {
                    pages.writes.push(Moment { revision, micros: due.micros, service });
                }
                true
            }
            Err(error) => {
                tally.failed(time, &error);
                false
            }
        }
    }

    /// What was written so far; the book begins anew.
    pub fn take(&self) -> Pages {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
