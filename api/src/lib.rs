//! The Kubernetes API over the store: routes, negotiation, answers.
//!
//! One table ([`routes`]) is made from `model::Resource`; the router, the discovery documents and the OpenAPI
//! paths are three readings of it, so they cannot tell different stories. One file per action lives in
//! [`actions`]; an action takes a [`call::Call`] and returns a response or a [`status::Status`]; [`rim`] stands
//! round all of them and does what every request needs once: authentication, its turn ([`fair`]), the time limit,
//! panics, metrics and the spelling of errors. Only [`status`] knows HTTP codes and Kubernetes' reasons.
//!
//! Beside the resources stands Portolan's own group ([`own`]): what the nodes have programmed ([`programmed`]), questions to
//! them ([`questions`]), both in memory alone, and their certificates ([`issuer`], [`joining`]).
//!
//! What must stay true: nothing here decides what an object may be (that is `model`) or keeps state about objects
//! (that is `store`); an object that was stored is answered as the bytes that the store keeps, never serialised anew.

mod actions;
mod app;
mod asked;
mod audit;
mod auth;
mod authorize;
mod body;
mod call;
mod compress;
mod discovery;
mod docs;
mod encode;
mod fair;
mod frames;
mod health;
mod holding;
mod incoming;
mod issuer;
mod joining;
mod limits;
mod metrics;
mod negotiate;
mod openapi;
mod options;
mod own;
mod path;
mod peer;
mod policy;
mod programmed;
mod query;
mod questions;
mod respond;
mod reviews;
mod rim;
mod router;
mod routes;
mod serve;
mod status;
mod table;
mod version;
mod watch;

use std::sync::Arc;

pub use audit::{Audit, AuditConfig};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

pub use issuer::{IssueError, Issued, Issuer, MachineRole};
pub use limits::Limits;
pub use own::Heartbeats;
pub use peer::{Peer, Shown};
pub use serve::{Listener, serve};

/// What the API needs from its caller.
#[derive(Clone)]
pub struct Config {
    /// Where objects live.
    pub store: store::Store,
    /// The bearer token of the admin, who may do everything. An empty one is nobody's.
    pub token: String,
    /// Portolan's own version, shown in `/version` as the build metadata of `gitVersion`.
    pub version: String,
    /// Signs the certificates of nodes; without one no machine can join.
    pub issuer: Option<Arc<dyn Issuer>>,
    /// How much of the server whoever may have.
    pub limits: Limits,
    /// Where requests are recorded.
    pub audit: Option<Audit>,
    /// Signs the tokens of ServiceAccounts, and knows them again. None: there are none.
    pub signer: Option<Arc<access::service_account::Signer>>,
    /// Judges the certificates that clients show. None: none is worth anything.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Who counts the beats of nodes; by default nobody.
    pub heartbeats: Option<Arc<dyn Heartbeats>>,
}

impl Config {
    /// A configuration with everything else as it is by default.
    pub fn new(store: store::Store, token: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            store,
            token: token.into(),
            version: version.into(),
            issuer: None,
            signer: None,
            clients: None,
            limits: Limits::default(),
            audit: None,
            heartbeats: None,
        }
    }
}

/// The whole API as a service: tests call it without a socket, [`serve`] puts it on sockets.
pub fn router(config: &Config) -> axum::Router {
    router::build(config)
}
