//! The bounds of a request's body, whoever reads it: so many bytes, within so much time.
//!
//! What exceeds them is an error of the body; [`crate::body`] makes the answer of it. The time runs from the moment that
//! somebody begins to read: before that the request may have waited for its turn.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::limits::Limits;

/// Which bound was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// It has more bytes than this.
    Length(usize),
    /// It was not there after this.
    Time(Duration),
}

impl Exceeded {
    /// The bound that an error of a body tells of, however often it was wrapped on its way.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(exceeded) = error.downcast_ref() {
                return Some(*exceeded);
            }
            next = error.source();
        }
        None
    }
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(limit) => write!(f, "Request entity too large: limit is {limit}"),
            Self::Time(limit) => write!(f, "the body did not arrive within {limit:?}"),
        }
    }
}

impl Error for Exceeded {}

/// The request with bounds round its body, if it has one.
pub fn bound(request: Request, limits: &Limits) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    let (length, time) = (limits.request_bytes, limits.body_timeout);
    request.map(|body| Body::new(Bounded { body, length, seen: 0, time, timer: None }))
}

struct Bounded {
    body: Body,
    length: usize,
    seen: usize,
    time: Duration,
    /// Runs from the first time that it is read and is not there.
    timer: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let exceeded = |bound| Poll::Ready(Some(Err(axum::Error::new(bound))));
        // What is announced to be too long is not read.
        if this.seen == 0 && this.body.size_hint().lower() > this.length as u64 {
            return exceeded(Exceeded::Length(this.length));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let time = this.time;
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(time)));
            return match timer.as_mut().poll(context) {
                Poll::Ready(()) => exceeded(Exceeded::Time(time)),
                Poll::Pending => Poll::Pending,
            };
        };
        if let Some(Ok(frame)) = &frame {
            this.seen += frame.data_ref().map_or(0, Bytes::len);
            if this.seen > this.length {
                return exceeded(Exceeded::Length(this.length));
            }
        }
        Poll::Ready(frame)
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

    /// A byte each second.
    struct Trickle {
        bytes: u32,
        next: Pin<Box<Sleep>>,
    }

    impl HttpBody for Trickle {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            if self.bytes == 0 {
                return Poll::Ready(None);
            }
            std::task::ready!(self.next.as_mut().poll(context));
            self.next = Box::pin(sleep(Duration::from_secs(1)));
            self.bytes -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    fn limits() -> Limits {
        Limits { request_bytes: 10, body_timeout: Duration::from_secs(5), ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_held_to_length_and_time() {
        let read = async |body: Body| bound(Request::new(body), &limits()).into_body().collect().await;
        assert_eq!(read(Body::from("0123456789")).await.unwrap().to_bytes(), "0123456789");
        let error = read(Body::from("0123456789a")).await.unwrap_err();
        assert_eq!(Exceeded::of(&error), Some(Exceeded::Length(10)));

        // One byte a second is alive, and too slow.
        let trickle = |bytes| Body::new(Trickle { bytes, next: Box::pin(sleep(Duration::from_secs(1))) });
        assert_eq!(read(trickle(3)).await.unwrap().to_bytes(), "xxx");
        let begun = tokio::time::Instant::now();
        let error = read(trickle(8)).await.unwrap_err();
        assert_eq!(
            (Exceeded::of(&error), begun.elapsed().as_secs()),
            (Some(Exceeded::Time(Duration::from_secs(5))), 5)
        );
    }
}
