//! What every handler shares.

use std::sync::Arc;

use jiff::Timestamp;
use store::Store;

use crate::auth::Token;
use crate::discovery::Discovery;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::version::Version;

/// The state of the router; everything but the store is constant or counts.
pub struct App {
    pub store: Store,
    pub token: Token,
    pub version: Version,
    pub discovery: Discovery,
    pub openapi: OpenApi,
    pub metrics: Arc<Metrics>,
    /// For the ages in tables.
    pub clock: fn() -> Timestamp,
}

impl App {
    pub fn new(config: &crate::Config) -> Arc<Self> {
        Arc::new(Self {
            store: config.store.clone(),
            token: Token::new(&config.token),
            version: Version::new(&config.version),
            discovery: Discovery::new(),
            openapi: OpenApi::new(&config.version),
            metrics: Arc::new(Metrics::new()),
            clock: Timestamp::now,
        })
    }
}
