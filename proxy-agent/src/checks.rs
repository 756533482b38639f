//! The ports of `healthCheckNodePort`: on each, a load balancer asks whether this node has endpoints of the Service
//! that the port belongs to (type LoadBalancer with externalTrafficPolicy Local), and gets kube-proxy's answer.
//!
//! Ports open and close as plans change. A port that somebody else has is told as an Event on its Service and tried
//! again; all others go on meanwhile. Every port is open on all addresses of both families, since nobody knows from
//! where a load balancer asks; the answers tell nothing that it does not need.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataplane::plan::HealthCheck;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use model::Key;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use crate::census::Checks;
use crate::events::{About, Note, Reason, Recorder};
use crate::health::Health;
use crate::{chain, http as doors, path};

#[cfg(test)]
mod tests;

/// How long a port that is taken waits to be tried again.
pub const RETRY: Duration = Duration::from_secs(5);
/// Connections of all ports together, at a time; more wait in the kernel's queues.
const MAX_CONNECTIONS: usize = 128;
const BACKLOG: i32 = 128;
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Keeps the ports of `checks` open, until its sender is gone. A port that is taken is tried again every `retry`.
pub async fn serve(
    mut checks: watch::Receiver<Arc<Checks>>,
    health: Arc<Health>,
    events: Recorder,
    node: String,
    retry: Duration,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut ports = Ports { open: BTreeMap::new(), taken: BTreeMap::new(), health, events, node, slots };
    loop {
        let wanted = Arc::clone(&checks.borrow_and_update());
        ports.become_like(&wanted);
        let again = async {
            if ports.taken.is_empty() { std::future::pending().await } else { tokio::time::sleep(retry).await }
        };
        tokio::select! {
            changed = checks.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

struct Ports {
    open: BTreeMap<Key, Open>,
    /// Ports that could not be opened, and why: told once.
    taken: BTreeMap<Key, (u16, String)>,
    health: Arc<Health>,
    events: Recorder,
    node: String,
    slots: Arc<Semaphore>,
}

struct Open {
    port: u16,
    local_endpoints: watch::Sender<usize>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ports {
    fn become_like(&mut self, wanted: &Checks) {
        // First what closes: a port may have moved from one Service to another.
        self.open.retain(|key, open| wanted.get(key).is_some_and(|check| check.port == open.port));
        self.taken.retain(|key, (port, _)| wanted.get(key).is_some_and(|check| check.port == *port));
        for (key, check) in wanted {
            match self.open.entry(key.clone()) {
                Entry::Occupied(entry) => {
                    entry.get().local_endpoints.send_if_modified(|known| {
                        std::mem::replace(known, check.local_endpoints) != check.local_endpoints
                    });
                }
                Entry::Vacant(entry) => match listen(check.port) {
                    Ok(listener) => {
                        debug!(service = path(key), port = check.port, "the health check's port is open");
                        self.taken.remove(key);
                        entry.insert(open(listener, key, *check, &self.health, &self.slots));
                    }
                    Err(error) => self.fail(key, *check, &error),
                },
            }
        }
    }

    fn fail(&mut self, key: &Key, check: HealthCheck, error: &io::Error) {
        let cause = chain(error);
        let known = self.taken.insert(key.clone(), (check.port, cause.clone()));
        if known.is_some_and(|(_, before)| before == cause) {
            return;
        }
        let port = check.port;
        warn!(service = path(key), port, error = cause, "the health check's port cannot be opened; trying on");
        let message = format!("node {}: port {port} for health checks cannot be opened: {cause}", self.node);
        self.events.record(Note {
            about: About::service(key.clone()),
            reason: Reason::FailedToStartServiceHealthcheck,
            message,
        });
    }
}

fn open(listener: TcpListener, key: &Key, check: HealthCheck, health: &Arc<Health>, slots: &Arc<Semaphore>) -> Open {
    let (local_endpoints, count) = watch::channel(check.local_endpoints);
    let (key, health) = (key.clone(), Arc::clone(health));
    let reply = move |_: &http::Method, _: &str| {
        let local_endpoints = *count.borrow();
        answer(&key, local_endpoints, health.facts().live(Instant::now()))
    };
    let task = tokio::spawn(doors::accept(listener, Arc::clone(slots), reply)).abort_handle();
    Open { port: check.port, local_endpoints, task }
}

/// What kube-proxy answers, whatever the path and the verb (research F.3).
fn answer(service: &Key, local_endpoints: usize, healthy: bool) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        service: Name<'a>,
        local_endpoints: usize,
        service_proxy_healthy: bool,
    }
    #[derive(Serialize)]
    struct Name<'a> {
        namespace: &'a str,
        name: &'a str,
    }
    let name = Name { namespace: &service.namespace, name: &service.name };
    let body = Body { service: name, local_endpoints, service_proxy_healthy: healthy };
    // Names and numbers: there is nothing in it that JSON could not say.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let good = local_endpoints > 0 && healthy;
    *response.status_mut() = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(local_endpoints));
    response
}

/// On every address; on those of IPv4 alone where the kernel has no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    match listen_on(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported || error.kind() == io::ErrorKind::AddrNotAvailable => {
            listen_on(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        }
        outcome => outcome,
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}
