//! `grpc`: `grpc.health.v1.Health/Check`, unencrypted, as Kubernetes' probe asks it.
//!
//! Two messages of one field each need no code generator: a request is a string of field 1, an answer a number of field 1.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::http::USER_AGENT;
use super::outcome::{Outcome, connect, seconds};
use super::{MAX_OUTPUT_BYTES, Place};

const OK: u32 = 0;
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const INTERNAL: u32 = 13;
const UNIMPLEMENTED: u32 = 12;
const UNAVAILABLE: u32 = 14;

/// The names of the status codes as Go prints them, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`, by number.
const SERVING: u64 = 1;
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Makes one probe.
pub async fn probe(place: &dyn Place, address: SocketAddr, service: &str, limit: Duration) -> Outcome {
    let until = Instant::now() + limit;
    let took = seconds(limit);
    let stream = match connect(place, &[address], until).await {
        Ok(stream) => stream,
        Err(_) if Instant::now() >= until => {
            let why = "context deadline exceeded";
            let problem = format!("timeout: failed to connect service {:?} within {took}: {why}", address.to_string());
            return Outcome::Failure(problem);
        }
        Err(problem) => {
            let address = address.to_string();
            return Outcome::Failure(format!("error: failed to connect service at {address:?}: {problem}"));
        }
    };
    let stream = match stream.into_polled() {
        Ok(stream) => stream,
        Err(problem) => return Outcome::Failure(format!("error: health rpc probe failed: {problem}")),
    };
    match timeout_at(until, check(stream, address, service)).await {
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            let name = usize::try_from(status).ok().and_then(|n| STATUSES.get(n)).map(|name| (*name).to_owned());
            let name = name.unwrap_or_else(|| status.to_string());
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Ok(Err(Status { code: UNIMPLEMENTED, message })) => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Err(_) | Ok(Err(Status { code: DEADLINE_EXCEEDED, .. })) => {
            Outcome::Failure(format!("timeout: health rpc did not complete within {took}"))
        }
        Ok(Err(Status { code, message })) => {
            let name = usize::try_from(code).ok().and_then(|n| CODES.get(n)).map(|name| (*name).to_owned());
            let name = name.unwrap_or_else(|| format!("Code({code})"));
            Outcome::Failure(format!("error: health rpc probe failed: rpc error: code = {name} desc = {message}"))
        }
    }
}

/// How a call ended.
#[derive(Debug)]
struct Status {
    code: u32,
    message: String,
}

impl Status {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn lost(error: &hyper::Error) -> Self {
        Self::new(UNAVAILABLE, crate::chain(error))
    }
}

/// Ends the connection with the probe.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks, and gives the serving status.
async fn check(stream: TcpStream, address: SocketAddr, service: &str) -> Result<u64, Status> {
    // The request is one small write behind the preface: it must not wait for the preface's acknowledgement.
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| Status::lost(&error))?;
    let _connection = Connection(tokio::spawn(async move {
        // Its error reaches whoever waits for the answer.
        let _ = connection.await;
    }));
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .body(Full::new(message(service)))
        .map_err(|error| Status::new(INTERNAL, error.to_string()))?;
    let (head, body) = sender.send_request(request).await.map_err(|error| Status::lost(&error))?.into_parts();
    ended(&head.headers)?;
    if head.status != StatusCode::OK {
        let code = if head.status == StatusCode::NOT_FOUND { UNIMPLEMENTED } else { UNKNOWN };
        let words = format!("unexpected HTTP status code received from server: {}", head.status);
        return Err(Status::new(code, words));
    }
    let body = Limited::new(body, MAX_OUTPUT_BYTES).collect().await;
    let body = body.map_err(|error| Status::new(UNAVAILABLE, error.to_string()))?;
    match body.trailers().map(ended) {
        Some(Ok(true)) => {}
        Some(Err(status)) => return Err(status),
        Some(Ok(false)) | None => {
            return Err(Status::new(INTERNAL, "server closed the stream without sending trailers"));
        }
    }
    answer(&body.to_bytes()).ok_or_else(|| Status::new(INTERNAL, "the answer is no HealthCheckResponse"))
}

/// Whether these fields end the call, and how.
fn ended(fields: &HeaderMap) -> Result<bool, Status> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").map(str::parse) {
        None => Ok(false),
        Some(Ok(OK)) => Ok(true),
        Some(Ok(code)) => Err(Status::new(code, unescape(text("grpc-message").unwrap_or_default()))),
        Some(Err(_)) => Err(Status::new(UNKNOWN, "malformed grpc-status")),
    }
}

/// A `HealthCheckRequest` in its frame.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        field.put_u8((length & 0x7f) as u8);
        field.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + field.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    frame.put(field);
    frame.freeze()
}

/// The status of a framed `HealthCheckResponse`: a number of field 1, 0 where it is missing. Other fields are passed over.
fn answer(frame: &[u8]) -> Option<u64> {
    let (head, mut rest) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..)?.try_into().ok()?);
    if head.first() != Some(&0) || usize::try_from(length).ok()? != rest.len() {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let key = number(&mut rest)?;
        match key & 7 {
            0 => {
                let value = number(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// A number of protobuf, taken from the front.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// `grpc-message` is percent-encoded.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_protobuf_says() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("db")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(&message(&"x".repeat(300))[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        for (frame, expected) in [
            (&[0, 0, 0, 0, 0][..], Some(0)),
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 7, 0x12, 1, 7, 8, 3, 0x18, 1], Some(3)),
            (&[0, 0, 0, 0, 3, 8, 0x80, 1], Some(128)),
            (&[0, 0, 0, 0, 2, 8], None),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[], None),
        ] {
            assert_eq!(answer(frame), expected, "{frame:?}");
        }
        assert_eq!(unescape("unknown service%20%C3%BC 5%"), "unknown service ü 5%");
    }
}
