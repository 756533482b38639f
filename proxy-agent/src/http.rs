//! The agent's two small HTTP servers, on kube-proxy's ports: metrics on 10249, health on 10256 (research F.3).
//!
//! They are for loopback and for the cluster's own probes: GET only, no bodies, few connections at a time.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;

use crate::health::Health;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::mode::Mode;

/// Connections at a time; more wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 32;
/// A client that is slower with its request is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection lives no longer than this, so that idle ones cannot keep others out.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// What both servers answer from.
#[derive(Clone)]
pub struct Site {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// What the agent was told, as `/configz` shows it.
    pub config: Arc<Value>,
    /// Which dataplane carries the Services.
    pub mode: Mode,
}

/// Which of the two servers a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Metrics,
    Health,
}

/// Answers on `listener` for ever.
pub async fn serve(listener: TcpListener, door: Door, site: Site) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let reply = move |method: &Method, path: &str| answer(&site, door, method, path, Instant::now(), Timestamp::now());
    accept(listener, slots, reply).await;
}

/// Answers each request on `listener` with `reply`, for ever; `slots` says on how many connections at a time. Bodies are
/// not read. Dropping it closes the listener and every connection.
pub async fn accept<F>(listener: TcpListener, slots: Arc<Semaphore>, reply: F)
where
    F: Fn(&Method, &str) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let reply = Arc::new(reply);
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; there will be some again.
                debug!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Others may share the slots, so none is held while nobody has come.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let reply = Arc::clone(&reply);
        connections.spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let response = reply(request.method(), request.uri().path());
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // Whatever goes wrong is between this client and itself.
            let _ = tokio::time::timeout(CONNECTION_LIFETIME, connection).await;
            drop(slot);
        });
    }
}

fn answer(
    site: &Site,
    door: Door,
    method: &Method,
    path: &str,
    now: Instant,
    wall: Timestamp,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".into());
    }
    match (door, path) {
        (Door::Metrics, "/metrics") => text(StatusCode::OK, CONTENT_TYPE, site.metrics.text()),
        (Door::Metrics, "/configz") => text(StatusCode::OK, "application/json", site.config.to_string()),
        (Door::Metrics, "/proxyMode") => text(StatusCode::OK, "text/plain", site.mode.name().into()),
        // The process is up; whether its node is, is the other door's matter.
        (Door::Metrics, "/healthz") => text(StatusCode::OK, "text/plain", "ok".into()),
        (Door::Health, "/healthz" | "/livez") => {
            let facts = site.health.facts();
            let live = facts.live(now);
            let good = if path == "/livez" { live } else { live && !facts.leaving };
            let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            if path == "/livez" {
                site.metrics.answered_livez(code.as_u16());
            } else {
                site.metrics.answered_healthz(code.as_u16());
            }
            text(code, "application/json", facts.body(wall).to_string())
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
    }
}

/// A whole answer.
pub fn text(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
