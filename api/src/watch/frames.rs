//! A stream as an HTTP body. The future of the next frame owns the stream, and both are boxed: what is handed from one frame
//! to the next is a pointer, and not the kilobyte behind it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::Frame;

use super::Stream;

type Step = Pin<Box<dyn Future<Output = Option<(Bytes, Box<Stream>)>> + Send>>;

/// The body of a watch.
pub struct Frames(Option<Step>);

impl Frames {
    pub fn new(stream: Stream) -> Self {
        Self(Some(step(Box::new(stream))))
    }
}

fn step(mut stream: Box<Stream>) -> Step {
    Box::pin(async move { stream.next().await.map(|frame| (frame, stream)) })
}

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(current) = self.0.as_mut() else { return Poll::Ready(None) };
        match ready!(current.as_mut().poll(context)) {
            Some((frame, stream)) => {
                self.0 = Some(step(stream));
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
            None => {
                self.0 = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
