//! What every handler shares.

use std::sync::Arc;

use access::service_account::Signer;
use jiff::Timestamp;
use store::Store;

use crate::audit::Audit;
use crate::auth::Authenticator;
use crate::authorize::Authorizer;
use crate::discovery::Discovery;
use crate::fair::Fair;
use crate::issuer::Issuer;
use crate::joining::Joining;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::own::Heartbeats;
use crate::programmed::Programming;
use crate::questions::Questions;
use crate::routes::OpenPages;
use crate::version::Version;

/// The state of the router; beside the store, what nodes have said and were given, and what is asked of them, everything is
/// constant or counts.
pub struct App {
    pub store: Store,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    /// Signs the tokens of ServiceAccounts; None: there are none.
    pub signer: Option<Arc<Signer>>,
    pub open: OpenPages,
    pub version: Version,
    pub discovery: Discovery,
    pub openapi: OpenApi,
    pub metrics: Arc<Metrics>,
    pub programming: Arc<Programming>,
    pub questions: Questions,
    pub issuer: Option<Arc<dyn Issuer>>,
    pub joining: Joining,
    pub limits: Limits,
    pub fair: Fair,
    pub audit: Option<Audit>,
    pub heartbeats: Option<Arc<dyn Heartbeats>>,
    /// For the ages in tables.
    pub clock: fn() -> Timestamp,
}

impl App {
    pub fn new(config: &crate::Config) -> Arc<Self> {
        let clock = Timestamp::now;
        Arc::new(Self {
            store: config.store.clone(),
            authenticator: Authenticator::new(config),
            authorizer: Authorizer::new(config.store.clone()),
            signer: config.signer.clone(),
            open: OpenPages::new(),
            version: Version::new(&config.version),
            discovery: Discovery::new(),
            openapi: OpenApi::new(&config.version),
            metrics: Arc::new(Metrics::new()),
            programming: Arc::new(Programming::new(config.store.clone(), clock)),
            questions: Questions::new(),
            issuer: config.issuer.clone(),
            joining: Joining::default(),
            fair: Fair::new(&config.limits),
            limits: config.limits.clone(),
            audit: config.audit.clone(),
            heartbeats: config.heartbeats.clone(),
            clock,
        })
    }
}
