//! A body that holds something until it is sent, or given up: seats, a count of what is under way, the end of a record.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::serve::Pulse;

/// A frame that is not shorter, in bytes, is a turn: what it costs is encryption and a copy, some tenths of a millisecond.
const TURN: usize = 64 * 1024;

/// The body, and what it holds.
pub struct Holding<T> {
    body: Body,
    in_turns: bool,
    /// Whether others go first now.
    rests: bool,
    /// What tells the stream of HTTP/2 whether there is room.
    pulse: Option<Arc<Pulse>>,
    _held: T,
}

impl<T> Holding<T> {
    pub fn new(body: Body, held: T) -> Self {
        Self { body, in_turns: false, rests: false, pulse: None, _held: held }
    }

    /// As [`Holding::new`]; after each long frame other tasks go first. A socket may take megabytes at once, and a thread
    /// that encrypts these for one client does nothing for all others.
    pub fn in_turns(body: Body, held: T, pulse: Option<Arc<Pulse>>) -> Self {
        Self { in_turns: true, pulse, ..Self::new(body, held) }
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(pulse) = &self.pulse {
            pulse.asked();
        }
        if std::mem::take(&mut self.rests) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.rests = self.in_turns && length >= TURN;
            if let Some(pulse) = &self.pulse {
                pulse.gave(length);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_long_frame_is_a_turn() {
        let polls = |length: usize| {
            let mut body = Box::pin(Holding::in_turns(Body::from(vec![0; length]), (), None));
            let mut polls = 0;
            async move {
                std::future::poll_fn(|context| {
                    polls += 1;
                    loop {
                        match body.as_mut().poll_frame(context) {
                            Poll::Ready(None) => return Poll::Ready(polls),
                            Poll::Ready(Some(_)) => {}
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                })
                .await
            }
        };
        assert_eq!((polls(TURN - 1).await, polls(TURN).await), (1, 2));
        let whole = Holding::in_turns(Body::from(vec![0; TURN]), (), None).collect().await.unwrap().to_bytes();
        assert_eq!(whole.len(), TURN);
    }
}
