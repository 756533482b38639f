//! A request whose body goes on, and its answer beside it: a line is sent, and a line comes back.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::error::ClientError;
use super::split::{LineTooLong, Lines};

/// Bytes of an answer's line.
const LINE_MOST: usize = 64 * 1024;

/// An open conversation. Dropping it closes its connection.
pub struct Conversation {
    sender: mpsc::Sender<Bytes>,
    body: Incoming,
    lines: Lines,
    _connection: Connection,
}

impl Conversation {
    pub(super) fn new(sender: mpsc::Sender<Bytes>, body: Incoming, connection: Connection) -> Self {
        Self { sender, body, lines: Lines::with_limit(LINE_MOST), _connection: connection }
    }

    /// Sends a line, which ends with a newline, and awaits the one that answers it, which has none. `None` when the server
    /// ends the conversation. It is of no use after an error, nor when the future was dropped: the next answer would be
    /// that of this line.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is too long.
    pub async fn exchange(&mut self, line: &'static [u8]) -> Result<Option<Bytes>, ClientError> {
        if self.sender.send(Bytes::from_static(line)).await.is_err() {
            return Ok(None);
        }
        loop {
            let too_long = |LineTooLong { limit }| ClientError::TooLarge { what: "an answer", limit };
            if let Some(answer) = self.lines.next().map_err(too_long)? {
                return Ok(Some(answer));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|source| ClientError::Http { what: "reading an answer", source })?;
            if let Ok(data) = frame.into_data() {
                self.lines.push(data);
            }
        }
    }
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").finish_non_exhaustive()
    }
}
