//! The cluster's DNS on a machine that is no node: the names, kept up to date with the API, and the server that says them. No
//! kernel is programmed, no Node kept, nothing acknowledged.
//!
//! Until everything was read once the cluster's names are SERVFAIL and `/ready` is 503; from then on both are good for ever, also
//! while the API server is away: the names live on as they were last known.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use dns::{Access, Names, Options, Rates, Server, SharedNames, Upstream};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::info;

use crate::client::Client;
use crate::config::{DnsConfig, ResolverConfig};
use crate::http::{MAX_CONNECTIONS, accept, text as page};
use crate::metrics::CONTENT_TYPE;
use crate::{AgentError, listen, names, resolver};

/// Where CoreDNS serves its metrics; scrape configurations know the port.
pub const METRICS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9153);
/// Where CoreDNS says whether it is ready.
pub const HEALTH_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8181);

/// What a DNS server is told that is on no node.
#[derive(Clone, Debug)]
pub struct Config {
    pub kubeconfig: PathBuf,
    /// Its port is a node's, and means nothing here.
    pub dns: DnsConfig,
    /// Where it answers, by UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Serves `/metrics`.
    pub metrics_addr: SocketAddr,
    /// Serves `/ready`, and `/health` and its other names.
    pub health_addr: SocketAddr,
    /// Whether this machine is to ask this server for the cluster's names.
    pub resolver: Option<ResolverConfig>,
}

/// What the server is told, on nodes and elsewhere.
pub fn options(config: &DnsConfig, listen: Vec<SocketAddr>) -> Options {
    let mut allow = Access::default();
    allow.add_own_networks();
    allow.add(config.allow.iter().copied());
    let upstream = match config.upstream.as_slice() {
        [] => Upstream::host(),
        servers => Upstream::Servers(servers.to_vec()),
    };
    Options { listen, upstream, allow, rates: Rates::new(config.rate_limit), log: config.log, threads: None }
}

/// Answers until `shutdown` is done. Sockets are made in the network namespace of the calling thread.
///
/// # Errors
/// When it cannot begin: the kubeconfig cannot be used, an address is taken, or an upstream is this server itself.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let client = Client::from_kubeconfig(&config.kubeconfig)?;
    let metrics_listener = listen(config.metrics_addr).await?;
    let health_listener = listen(config.health_addr).await?;
    let names = Arc::new(RwLock::new(Names::new(config.dns.zone.clone())));
    let metrics = dns::Metrics::new();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let server = Server::start(options(&config.dns, config.listen), Arc::clone(&names), metrics)?;
    let mut addresses = server.addresses();
    addresses.sort_unstable();

    let mut tasks = JoinSet::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tasks
        .spawn(accept(metrics_listener, Arc::clone(&slots), move |method, path| metrics_page(&registry, method, path)));
    let known = Arc::clone(&names);
    tasks.spawn(accept(health_listener, slots, move |method, path| health_page(&known, method, path)));
    if let Some(resolver) = config.resolver {
        tasks.spawn(resolver::keep(Arc::clone(&names), Some(addresses.clone()), resolver.search));
    }
    info!(?addresses, server = client.server_url(), "the cluster's names are answered");
    tokio::select! {
        () = shutdown => {
            info!("the cluster's names are answered no more");
            Ok(())
        }
        () = names::follow(client, names) => Err(AgentError::Ended(None)),
        ended = tasks.join_next() => Err(AgentError::Ended(ended.and_then(Result::err))),
    }
}

fn metrics_page(registry: &Registry, method: &Method, path: &str) -> Response<Full<Bytes>> {
    match path {
        _ if !reads(method) => page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".into()),
        "/metrics" => {
            let mut text = String::new();
            match encode(&mut text, registry) {
                Ok(()) => page(StatusCode::OK, CONTENT_TYPE, text),
                Err(_) => {
                    page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the metrics cannot be written\n".into())
                }
            }
        }
        _ => page(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
    }
}

/// CoreDNS' `ready` and `health`, and what the agent has.
fn health_page(names: &SharedNames, method: &Method, path: &str) -> Response<Full<Bytes>> {
    match path {
        _ if !reads(method) => page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".into()),
        "/ready" | "/readyz" => match names.read().unwrap_or_else(PoisonError::into_inner).synced() {
            true => page(StatusCode::OK, "text/plain", "OK".into()),
            false => page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the names are not read yet\n".into()),
        },
        "/health" | "/healthz" | "/livez" => page(StatusCode::OK, "text/plain", "OK".into()),
        _ => page(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
    }
}

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
