//! A source of frames as an HTTP body. The future of the next frame owns the source, and both are boxed: what is handed from
//! one frame to the next is a pointer, and not the kilobyte behind it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::Frame;

/// What gives out frames until it has no more.
pub trait Source: Send + 'static {
    /// The next frame; None at the end.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

type Step<S> = Pin<Box<dyn Future<Output = Option<(Bytes, Box<S>)>> + Send>>;

/// The body that a source makes.
pub struct Frames<S>(Option<Step<S>>);

impl<S: Source> Frames<S> {
    pub fn new(source: S) -> Self {
        Self(Some(step(Box::new(source))))
    }
}

fn step<S: Source>(mut source: Box<S>) -> Step<S> {
    Box::pin(async move { source.next().await.map(|frame| (frame, source)) })
}

impl<S: Source> HttpBody for Frames<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(current) = self.0.as_mut() else { return Poll::Ready(None) };
        match ready!(current.as_mut().poll(context)) {
            Some((frame, source)) => {
                self.0 = Some(step(source));
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
