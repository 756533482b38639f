//! `httpGet`: one GET on a connection of its own, by Go's client as kubelet uses it.
//!
//! Redirects to the same host are followed; one that leads to another host is a success with a warning. Certificates are
//! not verified. HTTP/1.1 alone is spoken. Of the answer 64 KiB of head and 10 KiB of body are read at most.
//!
//! In one thing this is stricter than kubelet: a body that breaks off, or does not come in time, is a failed probe.
//! Kubelet throws such a result away, so that whoever answers with a head and then hangs stays ready for good.

mod response;
mod tls;
mod url;

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::Place;
use super::outcome::{Outcome, connect, resolve, words};
use super::spec::{HttpGet, HttpHeader};
use response::{Head, body_at_once, read_body, read_head};
use url::Url;

/// Who asks: kubelet says the version of Kubernetes that it belongs to.
pub(super) const USER_AGENT: &str = "kube-probe/1.37";
/// Go's bound.
const MAX_REDIRECTS: usize = 10;
const SLOW: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const SLOW_BODY: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// Makes one probe.
pub async fn probe(place: &dyn Place, ip: IpAddr, action: &HttpGet, port: u16, limit: Duration) -> Outcome {
    let until = Instant::now() + limit;
    let host = if action.host.is_empty() { ip.to_string() } else { action.host.clone() };
    let first = Url::new(action.scheme.eq_ignore_ascii_case("https"), host, port, &action.path);
    let failed = |url: &Url, problem: &str| Outcome::Failure(format!("Get \"{url}\": {problem}"));
    if let Some(header) = action.http_headers.iter().find(|header| !is_sendable(header)) {
        let HttpHeader { name, .. } = header;
        return failed(&first, &format!("net/http: invalid header field value for {name:?}"));
    }
    let mut host_header = given(&action.http_headers, "Host").map(str::to_owned);
    let mut url = first.clone();
    for _ in 0..MAX_REDIRECTS {
        let (head, body) = match exchange(place, ip, &url, host_header.as_deref(), action, until).await {
            Ok(answer) => answer,
            Err(problem) => return failed(&url, &problem),
        };
        match head.status {
            200..=299 => return Outcome::Success,
            300..=399 => {
                let location = head.location.filter(|_| matches!(head.status, 301 | 302 | 303 | 307 | 308));
                let next = location.as_deref().and_then(|location| Some((url.join(location)?, location)));
                let Some((next, location)) = next.filter(|(next, _)| next.host == first.host) else {
                    let body = String::from_utf8_lossy(&body).into_owned();
                    return Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"));
                };
                if url::is_absolute(location) {
                    host_header = None;
                }
                url = next;
            }
            status => return Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    failed(&url, &format!("stopped after {MAX_REDIRECTS} redirects"))
}

/// Sends the request and reads the answer; an error in Go's words.
async fn exchange(
    place: &dyn Place,
    ip: IpAddr,
    url: &Url,
    host: Option<&str>,
    action: &HttpGet,
    until: Instant,
) -> Result<(Head, Vec<u8>), String> {
    let addresses = resolve(&url.host, ip, url.port, until).await?;
    let stream = connect(place, &addresses, until).await;
    if Instant::now() >= until {
        return Err(SLOW.to_owned());
    }
    let (stream, request) = (stream?, request(url, host, &action.http_headers));
    if !url.tls {
        let written = stream.write_at_once(request.as_bytes());
        return ask(stream.into_polled()?, request.get(written..).unwrap_or_default(), until).await;
    }
    let stream = timeout_at(until, tls::handshake(stream.into_polled()?, &url.host)).await;
    ask(stream.unwrap_or_else(|_| Err(SLOW.to_owned()))?, &request, until).await
}

/// Sends what is left of the request on a connection that is there, and reads the answer.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &str,
    until: Instant,
) -> Result<(Head, Vec<u8>), String> {
    let answered = async {
        stream.write_all(request.as_bytes()).await.map_err(|e| format!("write: {}", words(&e)))?;
        let mut read = Vec::new();
        Ok((read_head(&mut stream, &mut read).await?, read))
    };
    let (head, read) = timeout_at(until, answered).await.unwrap_or_else(|_| Err(SLOW.to_owned()))?;
    let body = match body_at_once(&head, &read) {
        Some(body) => body,
        None => {
            let body = timeout_at(until, read_body(&mut stream, &head, read)).await;
            body.unwrap_or_else(|_| Err(SLOW_BODY.to_owned()))?
        }
    };
    Ok((head, body))
}

/// The request as it is written. An empty `User-Agent` or `Accept` of the probe's own takes the header away.
fn request(url: &Url, host: Option<&str>, headers: &[HttpHeader]) -> String {
    let mut text = String::with_capacity(256);
    let authority = url.authority();
    // Writing to a String does not fail.
    let _ = write!(text, "GET {} HTTP/1.1\r\nHost: {}\r\n", url.target, host.unwrap_or(&authority));
    for (name, usual) in [("User-Agent", USER_AGENT), ("Accept", "*/*")] {
        if given(headers, name).is_none() {
            let _ = write!(text, "{name}: {usual}\r\n");
        }
    }
    for HttpHeader { name, value } in headers {
        let removes =
            value.is_empty() && (name.eq_ignore_ascii_case("User-Agent") || name.eq_ignore_ascii_case("Accept"));
        if !removes && !name.eq_ignore_ascii_case("Host") && !name.eq_ignore_ascii_case("Connection") {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text.push_str("Connection: close\r\n\r\n");
    text
}

/// The first of the probe's own headers of this name; an empty `Host` counts as none.
fn given<'a>(headers: &'a [HttpHeader], name: &str) -> Option<&'a str> {
    let value =
        headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str());
    value.filter(|value| name != "Host" || !value.is_empty())
}

/// Whether it can stand in a request without becoming something else.
fn is_sendable(header: &HttpHeader) -> bool {
    HeaderName::from_bytes(header.name.as_bytes()).is_ok() && HeaderValue::from_str(&header.value).is_ok()
}
