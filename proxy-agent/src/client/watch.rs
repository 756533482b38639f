//! The answer to a watch, event by event.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::Revision;
use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::error::{ClientError, StatusError};
use super::split::{LineTooLong, Lines, member, resource_version, usual_event};

/// One watch event as it came: `{"type": kind, "object": object}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: String,
    /// The JSON of the object, not yet checked; [`WatchEvent::decode`] reads it.
    pub object: Bytes,
}

impl WatchEvent {
    /// Reads the object.
    ///
    /// # Errors
    /// When it is not JSON or not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.object)
            .map_err(|source| ClientError::Json { what: "the object of a watch event", source })
    }

    /// The object's resourceVersion, without reading the rest. For objects that are written without blanks.
    pub fn revision(&self) -> Option<Revision> {
        let text = &self.object[resource_version(&self.object)?];
        let text = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// The `Status` of an `ERROR` event.
    pub fn status(&self) -> StatusError {
        StatusError::read(0, &self.object)
    }

    fn read(line: Bytes) -> Result<Self, ClientError> {
        if let Some((kind, object)) = usual_event(&line) {
            return Ok(Self { kind: String::from_utf8_lossy(kind).into_owned(), object: line.slice(object) });
        }
        let malformed = |reason| ClientError::Malformed { what: "a watch event", reason };
        let object = member(&line, "object").ok_or_else(|| malformed(excerpt(&line)))?;
        let kind = member(&line, "type").ok_or_else(|| malformed(excerpt(&line)))?;
        let kind = serde_json::from_slice(&line[kind])
            .map_err(|source| ClientError::Json { what: "the type of a watch event", source })?;
        Ok(Self { kind, object: line.slice(object) })
    }
}

/// An open watch. Dropping it closes its connection.
pub struct WatchStream {
    body: Incoming,
    lines: Lines,
    _connection: Connection,
}

impl WatchStream {
    pub(super) fn new(body: Incoming, connection: Connection) -> Self {
        Self { body, lines: Lines::new(), _connection: connection }
    }

    /// The next event, or `None` when the server ended the watch. Cancelling the future loses nothing. There is no
    /// timeout: a watch may be silent for as long as the server likes, and how long that is the caller knows.
    ///
    /// # Errors
    /// When the connection breaks, a line is too long, or it is not an event. The stream is of no use after that.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        loop {
            if let Some(event) = self.ready()? {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                // What stands after the last newline is a line that was cut: it counts as not sent.
                return Ok(None);
            };
            let frame = frame.map_err(|source| ClientError::Http { what: "reading a watch", source })?;
            if let Ok(data) = frame.into_data() {
                self.lines.push(data);
            }
        }
    }

    /// An event that has already arrived, without waiting.
    ///
    /// # Errors
    /// As [`WatchStream::next`].
    pub fn ready(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        while let Some(line) = self.lines.next().map_err(too_long)? {
            if !line.trim_ascii().is_empty() {
                return WatchEvent::read(line).map(Some);
            }
        }
        Ok(None)
    }
}

fn too_long(LineTooLong { limit }: LineTooLong) -> ClientError {
    ClientError::TooLarge { what: "a watch event", limit }
}

/// The beginning of a line, for a message.
fn excerpt(line: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&line[..line.len().min(200)]).chars().take(80).collect();
    format!("{text:?} is not one")
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").finish_non_exhaustive()
    }
}
