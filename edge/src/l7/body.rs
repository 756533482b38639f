//! The bodies of answers: our own words, or what a backend sends.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::backend::Busy;
use super::link::Link;

/// What a client is sent.
pub enum Answer {
    Own(Option<Bytes>),
    Backend(Box<FromBackend>),
    /// Over a connection that is driven elsewhere: HTTP/2, or one that was to become a tunnel.
    Elsewhere(Incoming, #[expect(dead_code, reason = "held until the end")] Busy),
}

impl Answer {
    pub fn text(text: &'static str) -> Self {
        Self::Own((!text.is_empty()).then(|| Bytes::from_static(text.as_bytes())))
    }

    /// What a backend answers on a link, which goes back to the idle ones of this worker with the last byte.
    pub fn backend(body: Incoming, link: Box<Link>, busy: Busy, worker: usize) -> Self {
        let mut answer = FromBackend { body, link: Some(link), busy: Some(busy), worker };
        if answer.body.is_end_stream() {
            answer.ends();
            return Self::Own(None);
        }
        Self::Backend(Box::new(answer))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Own(words) => Poll::Ready(words.take().map(|w| Ok(Frame::data(w)))),
            Self::Backend(body) => body.poll_frame(context),
            Self::Elsewhere(body, _) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(words) => words.is_none(),
            Self::Backend(body) => body.body.is_end_stream(),
            Self::Elsewhere(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(words) => SizeHint::with_exact(words.as_ref().map_or(0, |w| w.len() as u64)),
            Self::Backend(body) => body.body.size_hint(),
            Self::Elsewhere(body, _) => body.size_hint(),
        }
    }
}

/// A body, and the connection that it comes by. Dropped before its end, it takes the connection with it: what is still to
/// come is nobody's.
pub struct FromBackend {
    body: Incoming,
    link: Option<Box<Link>>,
    busy: Option<Busy>,
    worker: usize,
}

impl FromBackend {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Frames come by the link alone, as long as there is one: it has the waker.
        let Some(link) = &mut self.link else { return Pin::new(&mut self.body).poll_frame(context) };
        let mut nobody = Context::from_waker(Waker::noop());
        let frame = match Pin::new(&mut self.body).poll_frame(&mut nobody) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if link.poll(context) {
                    self.link = None;
                    ready!(Pin::new(&mut self.body).poll_frame(context))
                } else {
                    ready!(Pin::new(&mut self.body).poll_frame(&mut nobody))
                }
            }
        };
        if frame.is_none() || self.body.is_end_stream() {
            self.ends();
        }
        Poll::Ready(frame)
    }

    /// All was read: the link can serve others.
    fn ends(&mut self) {
        let Some(busy) = self.busy.take() else { return };
        let Some(mut link) = self.link.take() else { return };
        if (link.is_ready() || link.is_usable())
            && !busy.backend().is_gone()
            && let Some(mut idle) = busy.backend().idle(self.worker)
        {
            idle.put(link);
        }
    }
}
