//! What a handler left of a request's body.
//!
//! Over HTTP/1.1 the answer to a request that was refused before its body was read cannot be followed by another one on
//! the same connection, and closing it while the client is still sending takes the answer from it: a kernel that gets
//! data for a closed socket resets the connection, and the client reports that instead of the 415. So the rest is read
//! and thrown away, within bounds; a client that means to send more is cut off as before. HTTP/2 can refuse a body by
//! itself, and a client that waits for `100 Continue` has sent nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use http::{Version, header};
use hyper::body::{Frame, SizeHint};

use crate::body::LIMIT;

/// How much is thrown away, in bytes: what is not much longer than a body may be.
const MOST: usize = LIMIT + LIMIT / 2;

/// How long it may take to arrive.
const LONGEST: Duration = Duration::from_secs(2);

/// A body that its handler reads and that can be had back.
struct Shared(Arc<Mutex<Body>>);

/// The way back to it.
pub struct Leftover(Arc<Mutex<Body>>);

/// Lends the body of a request to its handler, where there is something to be left.
pub fn lend(request: Request) -> (Request, Option<Leftover>) {
    let awaited = request.headers().contains_key(header::EXPECT);
    if request.version() >= Version::HTTP_2 || awaited || request.body().is_end_stream() {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    let request = Request::from_parts(parts, Body::new(Shared(Arc::clone(&body))));
    (request, Some(Leftover(body)))
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *lock(&self.0)).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).size_hint()
    }
}

impl Leftover {
    /// Reads what is left; the handler has returned, so nobody else does.
    pub async fn discard(self) {
        // What does not come in time is left to the connection, which then closes.
        let _ = tokio::time::timeout(LONGEST, self.read()).await;
    }

    async fn read(self) {
        let mut seen = 0;
        while seen <= MOST {
            let frame = std::future::poll_fn(|context| {
                let mut body = lock(&self.0);
                if body.is_end_stream() { Poll::Ready(None) } else { Pin::new(&mut *body).poll_frame(context) }
            });
            match frame.await {
                Some(Ok(frame)) => seen += frame.data_ref().map_or(0, Bytes::len),
                None | Some(Err(_)) => return,
            }
        }
    }
}

/// A panic in a handler leaves a body that is as good as before.
fn lock(body: &Mutex<Body>) -> std::sync::MutexGuard<'_, Body> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn request(size: usize) -> Request {
        Request::new(Body::new(Zeros(size)))
    }

    /// A body of so many bytes, in pieces of a thousand.
    struct Zeros(usize);

    impl HttpBody for Zeros {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            let piece = self.0.min(1000);
            self.0 -= piece;
            Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from(vec![0; piece])))))
        }
    }

    #[tokio::test]
    async fn what_the_handler_has_not_read_is_read() {
        let (request, leftover) = lend(request(5000));
        let mut body = request.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().data_ref().unwrap().len(), 1000);
        drop(body);
        let leftover = leftover.unwrap();
        let inner = Arc::clone(&leftover.0);
        leftover.discard().await;
        assert!(Shared(inner).frame().await.is_none());
    }

    #[tokio::test]
    async fn no_more_is_read_than_the_bound() {
        let (_, leftover) = lend(request(2 * MOST));
        let leftover = leftover.unwrap();
        let inner = Arc::clone(&leftover.0);
        leftover.discard().await;
        assert!(Shared(inner).frame().await.is_some());
    }

    #[test]
    fn a_body_that_is_empty_or_awaited_is_left_alone() {
        assert!(lend(Request::new(Body::empty())).1.is_none());
        let mut waiting = request(10);
        waiting.headers_mut().insert(header::EXPECT, http::HeaderValue::from_static("100-continue"));
        assert!(lend(waiting).1.is_none());
        let mut second = request(10);
        *second.version_mut() = Version::HTTP_2;
        assert!(lend(second).1.is_none());
    }
}
