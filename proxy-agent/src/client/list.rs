//! The answer to a list, object by object.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use model::Revision;
use serde::Deserialize;

use super::connection::Connection;
use super::error::ClientError;
use super::split::{ListFault, ListSplitter};

/// A list that is arriving. Take [`ListStream::next`] until it gives `None`, then ask for the revision.
pub struct ListStream {
    body: Incoming,
    chunk: Bytes,
    splitter: ListSplitter,
    _connection: Connection,
}

#[derive(Deserialize)]
struct Envelope {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

impl ListStream {
    pub(super) fn new(body: Incoming, connection: Connection) -> Self {
        Self { body, chunk: Bytes::new(), splitter: ListSplitter::default(), _connection: connection }
    }

    /// The JSON of the next object, or `None` at the end of the answer.
    ///
    /// # Errors
    /// When the connection breaks, or an object is too large.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(item) = self.splitter.next(&mut self.chunk).map_err(fault)? {
                return Ok(Some(item));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|source| ClientError::Http { what: "reading a list", source })?;
            if let Ok(data) = frame.into_data() {
                self.chunk = data;
            }
        }
    }

    /// The revision that the list shows; a watch goes on from there.
    ///
    /// # Errors
    /// When the list ended before its time or has no usable `metadata.resourceVersion`. Nothing that
    /// [`ListStream::next`] gave may be used then.
    pub fn revision(&self) -> Result<Revision, ClientError> {
        let malformed = |reason: String| ClientError::Malformed { what: "a list", reason };
        let envelope = self.splitter.finish().ok_or_else(|| malformed("it was cut off".into()))?;
        let envelope: Envelope =
            serde_json::from_slice(envelope).map_err(|source| ClientError::Json { what: "a list", source })?;
        let text = envelope.metadata.resource_version;
        text.parse().map_err(|_| malformed(format!("its resourceVersion, {text:?}, is no number")))
    }
}

fn fault(fault: ListFault) -> ClientError {
    match fault {
        ListFault::TooLarge { limit } => ClientError::TooLarge { what: "an object of a list", limit },
        ListFault::Unbalanced => ClientError::Malformed { what: "a list", reason: "its brackets do not match".into() },
    }
}

impl std::fmt::Debug for ListStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListStream").finish_non_exhaustive()
    }
}
