//! What every handler shares.

use std::sync::Arc;

use hyper::body::SizeHint;
use jiff::Timestamp;
use store::Store;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth::Authenticator;
use crate::body;
use crate::discovery::Discovery;
use crate::issuer::Issuer;
use crate::joining::Joining;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::programmed::Programming;
use crate::questions::Questions;
use crate::routes::OpenPages;
use crate::version::Version;

/// Bodies that may be on their way at a time, read or waiting for the store, in KiB. Parsed they take several times that.
/// A request beyond waits, within its time limit, with nothing read.
const BODIES_KIB: usize = 32 * 1024;

/// The state of the router; beside the store, what nodes have said and were given, and what is asked of them, everything is
/// constant or counts.
pub struct App {
    pub store: Store,
    pub authenticator: Authenticator,
    pub open: OpenPages,
    pub version: Version,
    pub discovery: Discovery,
    pub openapi: OpenApi,
    pub metrics: Arc<Metrics>,
    pub programming: Arc<Programming>,
    pub questions: Questions,
    pub issuer: Option<Arc<dyn Issuer>>,
    pub joining: Joining,
    /// Room for bodies, in KiB.
    pub bodies: Semaphore,
    /// For the ages in tables.
    pub clock: fn() -> Timestamp,
}

impl App {
    /// Waits until there is room for a body of this size; the room is taken as long as what is returned lives. A body
    /// of unknown length is taken for the longest one, and what is too long will be refused without being read.
    pub async fn room(&self, size: &SizeHint) -> Option<SemaphorePermit<'_>> {
        let longest = body::LIMIT as u64;
        if size.lower() > longest {
            return None;
        }
        let kib = size.upper().unwrap_or(longest).min(longest).div_ceil(1024);
        if kib == 0 {
            return None;
        }
        // An error means that the semaphore was closed, and nobody does that.
        self.bodies.acquire_many(u32::try_from(kib).unwrap_or(u32::MAX)).await.ok()
    }

    pub fn new(config: &crate::Config) -> Arc<Self> {
        let clock = Timestamp::now;
        Arc::new(Self {
            store: config.store.clone(),
            authenticator: Authenticator::new(&config.token),
            open: OpenPages::new(),
            version: Version::new(&config.version),
            discovery: Discovery::new(),
            openapi: OpenApi::new(&config.version),
            metrics: Arc::new(Metrics::new()),
            programming: Arc::new(Programming::new(config.store.clone(), clock)),
            questions: Questions::new(),
            issuer: config.issuer.clone(),
            joining: Joining::default(),
            bodies: Semaphore::new(BODIES_KIB),
            clock,
        })
    }
}
