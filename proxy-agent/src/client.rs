//! A thin client of the Kubernetes API: the agent, the lab and the command line speak to the server through it.
//!
//! HTTP/2 over TLS where the server offers it, else HTTP/1.1; in clear text, for loopback development servers, HTTP/1.1.
//! Over HTTP/2 all requests, lists and watches share one connection ([`connection`]). Over HTTP/1.1 one request uses one at
//! a time; connections that are done go back to a small pool of idle ones, and lists and watches have connections of their
//! own. A semaphore bounds how many requests are under way. Long answers do not pass through memory whole: a list is handed
//! out object by object ([`ListStream`]) and a watch event by event ([`WatchStream`]), each bounded in size.
//!
//! A request that is given up leaves a doubt whether the connection that it shared is still alive: the next goes by a new
//! one, and what is on its way on the old one goes on ([`pool`]). Where even that is too much to depend on, [`Client::apart`]
//! gives a client of its own, which speaks HTTP/1.1: whatever is given up there is closed.
//!
//! Every future here needs a Tokio runtime with I/O and time enabled; none needs more than one thread.

pub mod authority;
mod connection;
mod conversation;
mod error;
mod heard;
pub(crate) mod kubeconfig;
mod list;
mod pool;
pub(crate) mod server;
mod split;
#[cfg(test)]
mod tests;
mod watch;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore, mpsc, watch as channel};
use tokio::time::Instant;

use connection::{Connection, Cut, Outgoing, Unanswered};
use pool::{MAX_CONNECTIONS, Pool};
use server::{Identity, Server};

pub use conversation::Conversation;
pub use error::{ClientError, KubeconfigError, StatusError};
pub use list::ListStream;
pub use watch::{WatchEvent, WatchStream};

/// JSON merge patch (RFC 7386), a content type for [`Client::patch`].
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// JSON patch (RFC 6902), a content type for [`Client::patch`].
pub const JSON_PATCH: &str = "application/json-patch+json";
/// Kubernetes' strategic merge patch, a content type for [`Client::patch`].
pub const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";

/// How long one request may take from asking for a connection to the last byte of the answer. The server gives
/// itself 34 s for a write (research A.4); a client that waits longer than this waits for nobody.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// Bytes of an answer that is read whole.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that are read of an answer that is an error.
const MAX_ERROR_BYTES: usize = 256 * 1024;
/// How often a request that the server answered with 429 is sent again.
const MAX_BUSY_RETRIES: u32 = 4;

const USER_AGENT: &str = concat!("portolan/", env!("CARGO_PKG_VERSION"));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The same without what decides about neither traffic nor names, from a server that can leave it out.
const SLIM: HeaderValue =
    HeaderValue::from_static("application/json;as=Slim;g=portolan.dev;v=v1alpha1, application/json");
/// Metrics have a type of their own.
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
/// Lines that go on.
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// A handle on one API server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// What is asked to be answered, if the server can.
    accept: HeaderValue,
}

struct Inner {
    server: Arc<Server>,
    pool: Pool,
    /// Whether it may share connections.
    sharing: bool,
    /// Held while a connection is opened that others may share.
    opening: Mutex<()>,
    slots: Semaphore,
    /// Ends every connection that is open when it says something.
    cut: channel::Sender<Cut>,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client for the current context of a kubeconfig file. Tokens and certificates are read now, once.
    ///
    /// # Errors
    /// When the file cannot be read, names what it does not hold, or asks for something that this client does not
    /// do (`exec` plugins, passwords, `insecure-skip-tls-verify`).
    pub fn from_kubeconfig(path: &Path) -> Result<Self, ClientError> {
        Self::read(path, None)
    }

    /// The same, with what the kubeconfig shows and believes, for a server that the caller names instead.
    ///
    /// # Errors
    /// As [`Client::from_kubeconfig`], and when the URL cannot be used.
    pub fn of_server(server_url: &str, path: &Path) -> Result<Self, ClientError> {
        Self::read(path, Some(server_url))
    }

    fn read(path: &Path, server_url: Option<&str>) -> Result<Self, ClientError> {
        let config = kubeconfig::load(path)
            .map_err(|source| ClientError::Kubeconfig { path: path.to_owned(), source: Box::new(source) })?;
        let url = server_url.unwrap_or(&config.server);
        let server = Server::new(url, config.tls_server_name.as_deref(), &config.trust)?;
        Self::with(server, config.token.as_deref())
    }

    /// A client for `server_url` (`https://host:port` or `http://host:port`), which trusts the certificates in
    /// `ca_pem` alone and shows `token`.
    ///
    /// # Errors
    /// When the URL or the certificates cannot be used, or an `https` URL comes without certificates.
    pub fn new(server_url: &str, ca_pem: Option<&str>, token: Option<&str>) -> Result<Self, ClientError> {
        let trust = server::Trust { ca_pem: ca_pem.map(|pem| pem.as_bytes().to_vec()), identity: None };
        Self::with(Server::new(server_url, None, &trust)?, token)
    }

    fn with(server: Server, token: Option<&str>) -> Result<Self, ClientError> {
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| ClientError::Setup {
                        what: "the bearer token",
                        reason: "it has characters that no header may carry".into(),
                    })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self::over(Arc::new(server), true, authorization))
    }

    fn over(server: Arc<Server>, sharing: bool, authorization: Option<HeaderValue>) -> Self {
        Self {
            inner: Arc::new(Inner {
                server,
                pool: Pool::default(),
                sharing,
                opening: Mutex::new(()),
                slots: Semaphore::new(MAX_CONNECTIONS),
                cut: channel::Sender::default(),
                authorization,
            }),
            accept: JSON,
        }
    }

    /// Gives up every connection that is open or being opened, and what is asked on them: after the server could not be
    /// reached they may be dead without knowing it, and what they wait for would come late or never.
    pub fn cut(&self) {
        self.inner.pool.clear();
        self.inner.cut.send_modify(|cut| cut.all = cut.all.wrapping_add(1));
    }

    /// Gives up the connections that are dead without knowing it, after the server could not be reached for a while. It is
    /// asked something over the connection that requests share, for `limit` at most; whichever connection brings nothing
    /// until the answer is taken for dead. A server that was only late keeps its connections so: thousands of new ones at
    /// once would make it later still.
    pub async fn cut_silent(&self, limit: Duration) {
        let since = Instant::now();
        // Whatever it answers: what counts is that it does.
        drop(tokio::time::timeout(limit, self.get_text("/livez")).await);
        self.inner.pool.clear_silent(since);
        self.inner.cut.send_modify(|cut| cut.silent_since = Some(since));
    }

    /// A client of the same server that shares no connection with this one, and each of whose requests has one for itself:
    /// for another thread's runtime, and for what must not wait behind anything.
    pub fn apart(&self) -> Self {
        let apart = Self::over(Arc::clone(&self.inner.server), false, self.inner.authorization.clone());
        Self { accept: self.accept.clone(), ..apart }
    }

    /// The same client, which asks for [slim](model::slim) objects: all that an agent keeps is in them.
    pub fn slim(&self) -> Self {
        Self { accept: SLIM, ..self.clone() }
    }

    /// Shows another certificate (PEM, with its key) on every connection that is opened from now on, and opens none of the
    /// former ones again. What is on its way, watches among it, goes on.
    ///
    /// # Errors
    /// When certificate and key cannot be used; then nothing has changed.
    pub fn identify(&self, certificate_pem: &str, key_pem: &str) -> Result<(), ClientError> {
        let identity =
            Identity { certificate_pem: certificate_pem.as_bytes().to_vec(), key_pem: key_pem.as_bytes().to_vec() };
        self.inner.server.identify(identity)?;
        self.inner.pool.clear();
        Ok(())
    }

    /// The authority that is trusted, as it stands in the kubeconfig; `None` where nothing is secret.
    pub fn ca_pem(&self) -> Option<&[u8]> {
        self.inner.server.ca_pem()
    }

    /// The server's URL, for messages.
    pub fn server_url(&self) -> &str {
        self.inner.server.url()
    }

    /// The address that this machine has towards the server, unless that is a loopback address. No packet is sent.
    pub async fn local_address(&self) -> Option<IpAddr> {
        self.inner.server.local_address().await.ok().filter(|ip| !ip.is_loopback())
    }

    /// Reads one object, or a whole list where it is known to be short.
    ///
    /// # Errors
    /// [`ClientError::Status`] with what the server answered, or why there was no answer.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.json(Method::GET, path, None).await
    }

    /// As [`Client::get`], for a question that the server may take `limit` to answer, and so may this.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_within(&self, path: &str, limit: Duration) -> Result<Value, ClientError> {
        let bytes = self.whole(Method::GET, path, None, limit.saturating_add(REQUEST_TIMEOUT)).await?;
        decode(&bytes)
    }

    /// Reads an answer that is not JSON, such as `/metrics`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.whole(Method::GET, path, None, REQUEST_TIMEOUT).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Creates an object in the collection `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, object: &Value) -> Result<Value, ClientError> {
        self.json(Method::POST, path, Some((JSON, object))).await
    }

    /// Replaces the object at `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put(&self, path: &str, object: &Value) -> Result<Value, ClientError> {
        self.json(Method::PUT, path, Some((JSON, object))).await
    }

    /// Patches the object at `path`; `content_type` says what kind of patch it is, e.g. [`MERGE_PATCH`].
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn patch(&self, path: &str, content_type: &str, patch: &Value) -> Result<Value, ClientError> {
        let content_type = HeaderValue::from_str(content_type)
            .map_err(|_| ClientError::Setup { what: "the content type of a patch", reason: content_type.to_owned() })?;
        self.json(Method::PATCH, path, Some((content_type, patch))).await
    }

    /// Deletes the object at `path`; `options` is a `DeleteOptions`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str, options: Option<&Value>) -> Result<Value, ClientError> {
        self.json(Method::DELETE, path, options.map(|o| (JSON, o))).await
    }

    /// Lists the collection `path`, object by object.
    ///
    /// # Errors
    /// As [`Client::get`]; the stream itself gives the errors that come later.
    pub async fn list(&self, path: &str) -> Result<ListStream, ClientError> {
        let (response, connection) = within("opening a list", REQUEST_TIMEOUT, self.long(path)).await?;
        Ok(ListStream::new(response.into_body(), connection))
    }

    /// Opens the watch `path_and_query` (which must hold `watch=true`). The answer's head is awaited; the events are not.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn watch(&self, path_and_query: &str) -> Result<WatchStream, ClientError> {
        let (response, connection) = within("opening a watch", REQUEST_TIMEOUT, self.long(path_and_query)).await?;
        Ok(WatchStream::new(response.into_body(), connection))
    }

    /// Opens a request whose body and answer go on together, a line each way, on a connection of its own.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn converse(&self, method: &Method, path: &str) -> Result<Conversation, ClientError> {
        let opening = async {
            let mut connection = self.inner.server.connect(Version::HTTP_11, &self.inner.cut).await?;
            let (sender, lines) = mpsc::channel(1);
            let ask = Ask { method, path, content_type: Some(&LINES), body: Bytes::new() };
            let request = self.with_body(&connection, &ask, Outgoing::Lines(lines))?;
            let response = connection.send(request).await.map_err(|unanswered| unanswered.error)?;
            if !response.status().is_success() {
                return Err(refusal(response).await);
            }
            Ok(Conversation::new(sender, response.into_body(), connection))
        };
        within("opening a conversation", REQUEST_TIMEOUT, opening).await
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<(HeaderValue, &Value)>,
    ) -> Result<Value, ClientError> {
        decode(&self.whole(method, path, body, REQUEST_TIMEOUT).await?)
    }

    /// One request and its whole answer, within `limit`.
    async fn whole(
        &self,
        method: Method,
        path: &str,
        body: Option<(HeaderValue, &Value)>,
        limit: Duration,
    ) -> Result<Bytes, ClientError> {
        let (content_type, body) = match body {
            None => (None, Bytes::new()),
            Some((content_type, value)) => (Some(content_type), Bytes::from(value.to_string())),
        };
        let ask = Ask { method: &method, path, content_type: content_type.as_ref(), body };
        let attempts = async {
            let mut retries = 0;
            loop {
                let closed = |_| ClientError::Setup { what: "the connection pool", reason: "it is closed".into() };
                let slot = self.inner.slots.acquire().await.map_err(closed)?;
                let (response, connection) = self.send(&ask, false).await?;
                let doubt = self.inner.pool.doubt(&connection);
                let status = response.status();
                if status.is_success() {
                    let bytes = collect(response.into_body(), MAX_BODY_BYTES).await?;
                    doubt.over();
                    self.inner.pool.put(connection);
                    return Ok(bytes);
                }
                let wait = retry_after(&response);
                let error = refusal(response).await;
                doubt.over();
                self.inner.pool.put(connection);
                drop(slot);
                match wait {
                    Some(wait) if status.as_u16() == 429 && retries < MAX_BUSY_RETRIES => {
                        retries += 1;
                        tokio::time::sleep(wait).await;
                    }
                    _ => return Err(error),
                }
            }
        };
        within("a request", limit, attempts).await
    }

    /// Sends a GET whose answer may take for ever, and awaits the answer's head.
    async fn long(&self, path: &str) -> Result<(Response<Incoming>, Connection), ClientError> {
        let ask = Ask { method: &Method::GET, path, content_type: None, body: Bytes::new() };
        let mut retries = 0;
        loop {
            let (response, connection) = self.send(&ask, true).await?;
            if response.status().is_success() {
                return Ok((response, connection));
            }
            let busy = response.status().as_u16() == 429;
            let wait = retry_after(&response).filter(|_| busy && retries < MAX_BUSY_RETRIES);
            let error = refusal(response).await;
            let Some(wait) = wait else { return Err(error) };
            retries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends over a connection that is open, or a new one.
    ///
    /// An idle connection that the server closed meanwhile is not an error of the request: hyper says of which request
    /// nothing was written, and a GET may be sent twice in any case.
    async fn send(&self, ask: &Ask<'_>, alone: bool) -> Result<(Response<Incoming>, Connection), ClientError> {
        let pool = &self.inner.pool;
        loop {
            let (mut connection, used) = match pool.take(alone) {
                Some(connection) => (connection, true),
                None => self.connect(alone).await?,
            };
            let doubt = pool.doubt(&connection);
            let Unanswered { error, unsent } = match connection.send(self.request(&connection, ask)?).await {
                Ok(response) => {
                    doubt.over();
                    return Ok((response, connection));
                }
                Err(unanswered) => unanswered,
            };
            pool.retire(&connection);
            if !used || !(unsent || ask.method == Method::GET) {
                return Err(error);
            }
        }
    }

    /// Opens a connection, unless one that can be shared was opened while this waited; says whether it was.
    async fn connect(&self, alone: bool) -> Result<(Connection, bool), ClientError> {
        let Inner { server, pool, opening, cut, sharing, .. } = &*self.inner;
        let offered = if *sharing && server.may_share() { Version::HTTP_2 } else { Version::HTTP_11 };
        let turn = if offered == Version::HTTP_2 { Some(opening.lock().await) } else { None };
        if turn.is_some()
            && let Some(connection) = pool.take(alone)
        {
            return Ok((connection, true));
        }
        let connection = server.connect(offered, cut).await?;
        pool.opened(&connection);
        Ok((connection, false))
    }

    fn request(&self, connection: &Connection, ask: &Ask<'_>) -> Result<Request<Outgoing>, ClientError> {
        self.with_body(connection, ask, Outgoing::Whole(Full::new(ask.body.clone())))
    }

    fn with_body(
        &self,
        connection: &Connection,
        ask: &Ask<'_>,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, ClientError> {
        let Ask { method, path, content_type, .. } = ask;
        let server = &self.inner.server;
        let bad = |e: http::Error| ClientError::Setup { what: "a request", reason: format!("{path:?}: {e}") };
        let target = format!("{}{path}", server.prefix());
        let mut request = Request::builder()
            .method(*method)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, if path.starts_with("/metrics") { ANYTHING } else { self.accept.clone() });
        request = if connection.version() == Version::HTTP_2 {
            let uri = Uri::builder().scheme("https").authority(server.authority().as_bytes()).path_and_query(target);
            request.version(Version::HTTP_2).uri(uri.build().map_err(bad)?)
        } else {
            request.uri(target).header(header::HOST, server.authority())
        };
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, *content_type);
        }
        if let Some(authorization) = &self.inner.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(body).map_err(bad)
    }
}

/// What a request says, over whichever connection.
struct Ask<'a> {
    method: &'a Method,
    path: &'a str,
    content_type: Option<&'a HeaderValue>,
    body: Bytes,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server_url()).finish_non_exhaustive()
    }
}

fn decode(bytes: &[u8]) -> Result<Value, ClientError> {
    serde_json::from_slice(bytes).map_err(|source| ClientError::Json { what: "an answer", source })
}

async fn within<T>(
    what: &'static str,
    limit: Duration,
    future: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(limit, future).await.unwrap_or(Err(ClientError::Timeout { what, limit }))
}

/// Reads a body of at most `limit` bytes.
async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, ClientError> {
    let too_large = || ClientError::TooLarge { what: "an answer", limit };
    let announced = usize::try_from(body.size_hint().lower()).map_err(|_| too_large())?;
    if announced > limit {
        return Err(too_large());
    }
    let mut buffer = BytesMut::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| ClientError::Http { what: "reading an answer", source })?;
        if let Some(data) = frame.data_ref() {
            if buffer.len() + data.len() > limit {
                return Err(too_large());
            }
            buffer.extend_from_slice(data);
        }
    }
    Ok(buffer.freeze())
}

/// What a non-2xx answer says: its `Status`, or else the beginning of its text.
async fn refusal(response: Response<Incoming>) -> ClientError {
    let code = response.status().as_u16();
    match collect(response.into_body(), MAX_ERROR_BYTES).await {
        Ok(bytes) => ClientError::Status(StatusError::read(code, &bytes)),
        Err(error) => error,
    }
}

/// The seconds of a `Retry-After` header, at most 10.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(10)))
}
