//! One listener as it is served now. Its connections hold it, and look at its settings anew for each request; what changes
//! is swapped as a whole, and a connection notices nothing else than what its next request is done with.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use model::types::{HttpSettings, Listener};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use super::backend::{Backend, Backends};
use super::metrics::{Counts, Metrics};
use super::order::{Asked, hash};
use super::routes::{Place, Route};
use super::sticky::Cookie;
use super::tls;
use crate::relay::affinity::Affinity;

/// The cloud's defaults, for a listener whose object leaves them out.
const IDLE: Duration = Duration::from_secs(15);
const REQUEST: Duration = Duration::from_secs(60);
const ESTABLISHED: Duration = Duration::from_secs(900);

/// What requests are done with.
pub struct Settings {
    pub listener: Arc<Listener>,
    pub backends: Backends,
    /// None: TLS is not asked for, or there is no certificate to show.
    pub tls: Option<Arc<ServerConfig>>,
    pub http: HttpSettings,
    pub sticky: Option<Cookie>,
    /// A client's connection without a request.
    pub idle: Duration,
    /// Until a backend begins its answer.
    pub request: Duration,
    /// Silence within what is under way.
    pub established: Duration,
    wanted: Route,
    /// With the certificates that are used in place of those that cannot be.
    effective: Route,
}

/// A listener, for as long as it has the same place and protocol.
pub struct Listening {
    pub place: Place,
    pub counts: Counts,
    /// The listener's first port, as `X-Forwarded-Port` says it where there is no range.
    pub port: HeaderValue,
    /// Of relayed connections; requests have cookies.
    pub affinity: Affinity,
    settings: RwLock<Arc<Settings>>,
    turn: AtomicU64,
    /// True once the listener has gone or the process is to end: connections finish what is under way.
    ending: watch::Sender<bool>,
    workers: usize,
}

impl Listening {
    /// As the route says; with what is wrong with it.
    pub fn new(route: &Route, workers: usize, metrics: &Metrics, now: Timestamp) -> (Self, Vec<String>) {
        let (settings, problems) = Settings::follow(None, route, workers, now);
        let listening = Self {
            place: route.place(),
            counts: metrics.of(route),
            port: HeaderValue::from(route.listener.port),
            affinity: Affinity::default(),
            settings: RwLock::new(Arc::new(settings)),
            turn: AtomicU64::new(0),
            ending: watch::channel(false).0,
            workers,
        };
        (listening, problems)
    }

    /// Does as the route says from now on.
    pub fn follow(&self, route: &Route, now: Timestamp) -> Vec<String> {
        let before = self.settings();
        // Where there is TLS, certificates grow old even if nothing changes.
        if before.wanted == *route && route.listener.tls.is_none() {
            return Vec::new();
        }
        let (settings, problems) = Settings::follow(Some(&before), route, self.workers, now);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        problems
    }

    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the next choice of a backend for a client depends on.
    pub fn asked(&self, client: IpAddr) -> Asked {
        let client = match client.to_canonical() {
            IpAddr::V4(ip) => hash(ip.octets()),
            IpAddr::V6(ip) => hash(ip.octets()),
        };
        Asked { turn: self.turn.fetch_add(1, Ordering::Relaxed), client }
    }

    /// Hears of the end.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Connections are to finish; with `dissolve`, backends too, as after the listener was removed.
    pub fn end(&self, dissolve: bool) {
        self.ending.send_replace(true);
        if dissolve {
            let settings = self.settings();
            settings.backends.dissolve(drain(&settings.listener));
        }
    }
}

impl Settings {
    fn follow(before: Option<&Self>, route: &Route, workers: usize, now: Timestamp) -> (Self, Vec<String>) {
        let listener = &route.listener;
        let backends = Backends::follow(
            before.map(|b| &b.backends),
            &route.backends,
            listener.scheduler,
            drain(listener),
            workers,
        );
        let mut effective = route.clone();
        let (tls, problems) = tls::follow(before.map(|b| (&b.effective, b.tls.as_ref())), &mut effective, now);
        let http = listener.http.clone().unwrap_or_default();
        let or = |seconds: u32, default| if seconds == 0 { default } else { Duration::from_secs(seconds.into()) };
        let settings = Self {
            listener: Arc::clone(listener),
            backends,
            tls,
            sticky: http.sticky.as_ref().map(Cookie::new),
            idle: or(http.idle_seconds, IDLE),
            request: or(http.request_seconds, REQUEST),
            established: or(listener.established_seconds, ESTABLISHED),
            http,
            wanted: route.clone(),
            effective,
        };
        (settings, problems)
    }

    /// Every backend, for the sweep of idle connections.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.iter()
    }
}

/// How long relayed connections may stay with a backend that has gone.
fn drain(listener: &Listener) -> Duration {
    Duration::from_secs(listener.drain_seconds.unwrap_or(0).into())
}
