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
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::health::Health;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;
/// A client that is slower with its request is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection lives no longer than this, so that idle ones cannot keep others out.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// What both servers answer from.
#[derive(Clone)]
pub struct Site {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
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
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; there will be some again.
                debug!(%error, ?door, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let site = site.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let response =
                    answer(&site, door, request.method(), request.uri().path(), Instant::now(), Timestamp::now());
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
        (Door::Metrics, "/proxyMode") => text(StatusCode::OK, "text/plain", "nftables".into()),
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

fn text(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
