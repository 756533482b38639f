//! What a request must be to be passed on, and what is changed on its way and on the way of its answer. Pure.
//!
//! hyper has parsed it and refuses what has no single meaning: lengths that contradict each other, `Transfer-Encoding` that
//! does not end in `chunked`, or in HTTP/1.0, names and values with forbidden octets. A message that has both lengths is read by
//! its chunks, and loses the other. What leaves here was written anew from that, so no two sides can read it differently.
//!
//! A field that the client names in `Connection` goes no further (RFC 9110 §7.6.1), and what is said of the client is added
//! *behind* that: nobody can have `X-Forwarded-For` taken out by naming it there.

use std::net::SocketAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use hyper::body::Body;
use model::types::HttpSettings;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_CLIENT_PORT: HeaderName = HeaderName::from_static("x-forwarded-client-srcport");

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a request names one host (RFC 9112 §3.2); this one does not\n")]
    Host,
    #[error("this load balancer is no forward proxy: CONNECT is for those\n")]
    Connect,
    #[error("the target of this request is no path\n")]
    Target,
}

/// How a request is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Http1,
    /// gRPC needs HTTP/2 up to the server.
    Http2,
    /// The connection becomes something else, as WebSocket.
    Tunnel,
}

/// Who asks, and by which door.
#[derive(Clone, Debug)]
pub struct About {
    pub peer: SocketAddr,
    /// The peer's address, as a field says it.
    pub client: HeaderValue,
    pub port: HeaderValue,
    pub secure: bool,
}

impl About {
    pub fn new(peer: SocketAddr, port: HeaderValue, secure: bool) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        // The text of an address is a value; nothing is ever told in its place.
        let client = HeaderValue::try_from(peer.ip().to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { peer, client, port, secure }
    }
}

/// The host that a request is for; what is wrong with it otherwise.
///
/// # Errors
/// When there is none, more than one, or a method that is none of ours.
pub fn host(parts: &Parts) -> Result<HeaderValue, Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Refusal::Host);
    }
    match (parts.uri.authority(), line) {
        // HTTP/2 has the authority; a Host beside it must say the same (RFC 9113 §8.3.1). In HTTP/1.1 the target wins.
        (Some(authority), line) => {
            let authority = without_user(authority);
            let agrees = line.is_none_or(|l| l.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
            if parts.version == Version::HTTP_2 && !agrees {
                return Err(Refusal::Host);
            }
            HeaderValue::try_from(authority).map_err(|_| Refusal::Host)
        }
        (None, Some(line)) => {
            let is_host =
                line.is_empty() || Authority::try_from(line.as_bytes()).is_ok_and(|a| !a.as_str().contains('@'));
            if is_host { Ok(line.clone()) } else { Err(Refusal::Host) }
        }
        (None, None) if parts.version == Version::HTTP_10 => Ok(HeaderValue::from_static("")),
        (None, None) => Err(Refusal::Host),
    }
}

fn without_user(authority: &Authority) -> &str {
    authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host)
}

/// Which way a request goes.
pub fn way(parts: &Parts) -> Way {
    let is_grpc = || parts.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    if parts.version == Version::HTTP_2 {
        if is_grpc() { Way::Http2 } else { Way::Http1 }
    } else if parts.version == Version::HTTP_11 && asks_for_tunnel(&parts.headers) {
        Way::Tunnel
    } else {
        Way::Http1
    }
}

/// `h2c` is no tunnel: it would carry requests past everything that is done with requests here.
fn asks_for_tunnel(headers: &HeaderMap) -> bool {
    let Some(to) = headers.get(UPGRADE) else { return false };
    let is_http2 = to.as_bytes().split(|b| *b == b',').any(|p| p.trim_ascii().to_ascii_lowercase().starts_with(b"h2c"));
    !is_http2 && tokens(headers, &CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"))
}

/// The comma-separated words of every line of a field.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

/// Turns a client's request into ours.
///
/// # Errors
/// When its target cannot be asked for.
pub fn forward(
    parts: &mut Parts,
    host: HeaderValue,
    body: &impl Body,
    way: Way,
    about: &About,
    settings: &HttpSettings,
) -> Result<(), Refusal> {
    let from_http2 = parts.version == Version::HTTP_2;
    if parts.uri.authority().is_some() || way == Way::Http2 {
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = match way {
            Way::Http2 => absolute(&host, path)?,
            Way::Http1 | Way::Tunnel => Uri::from(path),
        };
    }
    let headers = &mut parts.headers;
    let trailers = tokens(headers, &TE).any(|t| t.eq_ignore_ascii_case("trailers"));
    let tunnel = (way == Way::Tunnel).then(|| headers.get(UPGRADE).cloned()).flatten();
    drop_hop_by_hop(headers);
    headers.remove(EXPECT);
    match way {
        Way::Http1 | Way::Tunnel => {
            parts.version = Version::HTTP_11;
            headers.insert(HOST, host);
            if from_http2 {
                join_cookies(headers);
            }
            // Only so does hyper send a body without a length with methods that seldom have one.
            if !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        Way::Http2 => {
            parts.version = Version::HTTP_2;
            headers.remove(HOST);
        }
    }
    if let Some(to) = tunnel {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, to);
    } else if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if way == Way::Http1 {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    tell(headers, about, settings);
    Ok(())
}

fn absolute(host: &HeaderValue, path: PathAndQuery) -> Result<Uri, Refusal> {
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| Refusal::Host)?;
    Uri::builder().scheme("http").authority(authority).path_and_query(path).build().map_err(|_| Refusal::Target)
}

/// Who asked, for the backend.
fn tell(headers: &mut HeaderMap, about: &About, settings: &HttpSettings) {
    let before: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let chain = if before.is_empty() {
        None
    } else {
        let all = [before.join(&b", "[..]).as_slice(), about.client.as_bytes()].join(&b", "[..]);
        HeaderValue::from_bytes(&all).ok()
    };
    headers.insert(FORWARDED_FOR, chain.unwrap_or_else(|| about.client.clone()));
    if settings.forwarded_proto {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if about.secure { "https" } else { "http" }));
    }
    if settings.forwarded_port {
        headers.insert(FORWARDED_PORT, about.port.clone());
    }
    if settings.forwarded_client_port {
        headers.insert(FORWARDED_CLIENT_PORT, HeaderValue::from(about.peer.port()));
    }
}

/// HTTP/2 may split the field into one per cookie, HTTP/1.1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Takes out of an answer what was said to us alone.
pub fn back(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
    headers.remove(PROXY_AUTHENTICATE);
}

/// What is between two neighbours, in both directions.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers, &CONNECTION).filter_map(|t| HeaderName::from_bytes(t.as_bytes()).ok()).collect();
        for name in named {
            // Without these a message has another meaning, and nobody may take them away.
            if name != HOST && name != CONTENT_LENGTH && name != COOKIE {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
}

/// Where a request is sent that must come by https; the port is left out if it is the usual one.
pub fn redirect(host: &HeaderValue, uri: &Uri, port: u16) -> Option<HeaderValue> {
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('/') { path } else { "/" };
    HeaderValue::try_from(format!("https://{}{port}{path}", authority.host())).ok()
}

/// Whether a request may be sent again although a backend may have seen it (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests;
