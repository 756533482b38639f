//! One request: where it goes, what happens when that fails, and what the client is told.
//!
//! A request is sent a second time only where that cannot do harm: when the backend did not take the connection or had closed
//! it before anything was written, whatever the request is; and when the connection broke before any answer, if the method is
//! idempotent and there is no body (RFC 9110 §9.2.2): on a connection that had served others, which is how a server that
//! ends meets a request, by a new one; on a new one, once, to another backend. What fails otherwise is answered with 502.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CONTENT_TYPE, LOCATION, SERVER};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};

use super::backend::{Backend, Busy};
use super::body::Answer;
use super::connection::Client;
use super::headers::{self, Way};
use super::link::{Link, LinkError, Outgoing, again};
use super::listening::Settings;
use super::sticky::Cookie;
use super::{clock, shared, tunnel};

/// How many backends are tried for one request.
const TRIES: usize = 4;

/// How long a backend may take to take a connection: three SYNs.
pub const CONNECT_LONGEST: Duration = Duration::from_secs(4);

const NO_BACKEND: &str = "503: nobody serves this at the moment. The load balancer is well; none of the Service's endpoints \
                          is ready. Look at its EndpointSlices.\n";
const UNREACHABLE: &str = "502: the load balancer cannot reach any endpoint of this Service. Check that they listen at the \
                           target port.\n";
const BROKEN: &str = "502: the endpoint that was to answer this closed the connection, or sent no HTTP.\n";
const TOO_LATE: &str =
    "504: the endpoint that was to answer this did not begin to within the listener's request timeout.\n";
const BAD_TUNNEL: &str = "502: the endpoint agreed to another protocol, and its connection ended.\n";

/// What went wrong, as it is told.
#[derive(Debug)]
pub enum Failure {
    NoBackend,
    Unreachable,
    Broken,
    TooLate,
    Tunnel,
}

/// Answers a request.
pub async fn answer(client: Arc<Client>, request: Request<Incoming>) -> Response<Answer> {
    let settings = client.listening.settings();
    let version = request.version();
    let mut response = forward(&client, &settings, request).await;
    client.listening.counts.answered(response.status());
    // A client of HTTP/1.0 that did not ask to stay is let go by hyper.
    *response.version_mut() = if version == Version::HTTP_2 { Version::HTTP_2 } else { Version::HTTP_11 };
    response
}

async fn forward(client: &Arc<Client>, settings: &Arc<Settings>, request: Request<Incoming>) -> Response<Answer> {
    let (mut parts, body) = request.into_parts();
    let host = match headers::host(&parts) {
        Ok(host) => host,
        Err(refusal) => return refused(client, refusal),
    };
    if let Some(port) = settings.http.redirect_port {
        return redirected(client, &parts, &host, port);
    }
    let wanted = settings.sticky.as_ref().and_then(|cookie| cookie.wanted(&mut parts.headers));
    let way = headers::way(&parts);
    if let Err(refusal) = headers::forward(&mut parts, host, &body, way, &client.about, &settings.http) {
        return refused(client, refusal);
    }
    let mut attempt = Attempt { client, settings, wanted, tried: Vec::new(), chosen: None };
    let answered = match way {
        Way::Http1 => attempt.http1(parts, body).await,
        Way::Http2 => shared::ask(&mut attempt, parts, body).await,
        Way::Tunnel => tunnel::ask(&mut attempt, parts, body).await,
    };
    match answered {
        Ok(mut response) => {
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                headers::back(response.headers_mut());
            }
            if let (Some(cookie), Some(backend)) = (&settings.sticky, attempt.chosen) {
                Cookie::note(cookie, response.headers_mut(), backend, wanted == Some(backend));
            }
            response
        }
        Err(failure) => own(client, failure),
    }
}

/// A request on its way through the backends.
pub struct Attempt<'a> {
    pub client: &'a Arc<Client>,
    pub settings: &'a Arc<Settings>,
    /// By the session's cookie.
    wanted: Option<u64>,
    tried: Vec<SocketAddr>,
    chosen: Option<u64>,
}

impl Attempt<'_> {
    /// The next to try, which is busy from now on.
    ///
    /// # Errors
    /// When there is nobody, or nobody else.
    pub fn next(&mut self) -> Result<Busy, Failure> {
        if self.tried.len() >= TRIES {
            return Err(Failure::Unreachable);
        }
        let backends = &self.settings.backends;
        let own = self.wanted.filter(|_| self.tried.is_empty()).and_then(|id| backends.by_id(id));
        let backend =
            own.or_else(|| backends.choose(self.client.listening.asked(self.client.about.peer.ip()), &self.tried));
        match backend {
            Some(backend) => {
                if !self.tried.is_empty() {
                    self.client.listening.counts.retries.inc();
                }
                self.chosen = Some(backend.id);
                Ok(backend.busy())
            }
            None if self.tried.is_empty() => Err(Failure::NoBackend),
            None => Err(Failure::Unreachable),
        }
    }

    /// This one did not take a connection.
    pub fn refused(&mut self, backend: &Backend) {
        backend.rests();
        self.tried.push(backend.address);
    }

    /// A new connection to a backend, or to the next that takes one.
    ///
    /// # Errors
    /// When none does.
    pub async fn connect(&mut self, mut busy: Busy) -> Result<(Box<Link>, Busy), Failure> {
        loop {
            self.client.listening.counts.backend_connections.inc();
            match tokio::time::timeout(CONNECT_LONGEST, Link::open(busy.backend().address)).await {
                Ok(Ok(link)) => return Ok((Box::new(link), busy)),
                Ok(Err(error)) => tracing::debug!("connecting to {}: {error}", busy.backend().address),
                Err(_) => tracing::debug!("connecting to {}: no answer", busy.backend().address),
            }
            self.refused(busy.backend());
            busy = self.next()?;
        }
    }

    async fn http1(&mut self, parts: Parts, body: Incoming) -> Result<Response<Answer>, Failure> {
        let (body, progress) = if body.is_end_stream() { (Outgoing::Nothing, None) } else { Outgoing::client(body) };
        let may_repeat = progress.is_none() && headers::is_idempotent(&parts.method);
        let mut request = Request::from_parts(parts, body);
        let mut busy = self.next()?;
        // Whoever closes one connection of a pool often closes all: the second time a new one is made.
        let (mut fresh, mut repeated) = (false, false);
        loop {
            let idle =
                if fresh { None } else { busy.backend().idle(self.client.worker).and_then(|mut idle| idle.take()) };
            let was_idle = idle.is_some();
            let mut link = match idle {
                Some(link) => link,
                None => {
                    let (link, connected) = self.connect(busy).await?;
                    busy = connected;
                    link
                }
            };
            let spare = (may_repeat && !repeated).then(|| again(&request));
            let asking = link.ask(request);
            let failed = match in_time(asking, self.settings.request, progress.as_deref()).await {
                Ok(Ok(response)) => {
                    let (parts, body) = response.into_parts();
                    return Ok(Response::from_parts(parts, Answer::backend(body, link, busy, self.client.worker)));
                }
                Ok(Err(error)) => error,
                Err(failure) => return Err(failure),
            };
            tracing::debug!("a request to {}: {failed}", busy.backend().address);
            request = match (failed, spare) {
                (LinkError::Unsent(request), _) => *request,
                (LinkError::Http(error), _) if error.is_parse() => return Err(Failure::Broken),
                (_, Some(request)) => {
                    // One that ends its connections has ended all of them; one that ends a new one, too, is asked no more,
                    // and a request that ends those that it meets meets no third.
                    repeated = !was_idle;
                    request
                }
                (_, None) => return Err(Failure::Broken),
            };
            if was_idle {
                self.client.listening.counts.retries.inc();
            } else {
                self.refused(busy.backend());
                busy = self.next().map_err(|_| Failure::Broken)?;
            }
            fresh = true;
        }
    }
}

/// Waits for the head of an answer. While the client is still sending its body, the time begins anew with each piece.
pub async fn in_time<T>(
    asking: impl Future<Output = T>,
    longest: Duration,
    progress: Option<&AtomicU64>,
) -> Result<T, Failure> {
    let mut asking = std::pin::pin!(asking);
    let mut wait = longest;
    loop {
        match tokio::time::timeout(wait, asking.as_mut()).await {
            Ok(answered) => return Ok(answered),
            Err(_) => {
                let silent = progress.map(|p| clock::millis().saturating_sub(p.load(Ordering::Relaxed)));
                match silent.map(|s| longest.saturating_sub(Duration::from_millis(s))) {
                    Some(rest) if !rest.is_zero() => wait = rest,
                    _ => return Err(Failure::TooLate),
                }
            }
        }
    }
}

/// What we say ourselves.
fn own(client: &Client, failure: Failure) -> Response<Answer> {
    let (status, text) = match failure {
        Failure::NoBackend => (StatusCode::SERVICE_UNAVAILABLE, NO_BACKEND),
        Failure::Unreachable => (StatusCode::BAD_GATEWAY, UNREACHABLE),
        Failure::Broken => (StatusCode::BAD_GATEWAY, BROKEN),
        Failure::Tunnel => (StatusCode::BAD_GATEWAY, BAD_TUNNEL),
        Failure::TooLate => (StatusCode::GATEWAY_TIMEOUT, TOO_LATE),
    };
    words(client, status, Answer::text(text))
}

fn refused(client: &Client, refusal: headers::Refusal) -> Response<Answer> {
    let status = match refusal {
        headers::Refusal::Connect => StatusCode::METHOD_NOT_ALLOWED,
        headers::Refusal::Host | headers::Refusal::Target => StatusCode::BAD_REQUEST,
    };
    words(client, status, Answer::Own(Some(refusal.to_string().into())))
}

/// A method that is repeated by the redirect is kept where the client may not change it (RFC 9110 §15.4.9).
fn redirected(client: &Client, parts: &Parts, host: &HeaderValue, port: u16) -> Response<Answer> {
    let Some(to) = headers::redirect(host, &parts.uri, port) else { return refused(client, headers::Refusal::Host) };
    let is_plain = matches!(parts.method, Method::GET | Method::HEAD);
    let status = if is_plain { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
    let mut response = words(client, status, Answer::text(""));
    response.headers_mut().insert(LOCATION, to);
    response
}

fn words(client: &Client, status: StatusCode, body: Answer) -> Response<Answer> {
    client.listening.counts.own.inc();
    let has_words = !body.is_end_stream();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if has_words {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    response.headers_mut().insert(SERVER, HeaderValue::from_static("portolan"));
    response
}
