//! Streams of an HTTP/2 connection, each of which may lose its server's patience alone.
//!
//! What [`stall`](super::stall) is to a socket this is to a stream: its client may leave the stream's window shut while it
//! reads everything else, and nothing else would ever end that. So a body tells by a [`Pulse`] that it has handed out a
//! frame and is not asked for the next, which is only while there is no room; a stream that has gone on so for too long is
//! reset, and its neighbours are not.
//!
//! hyper asks the service for the future of an answer and at once gives it to the executor, so the pulse that the service
//! has made last is the stream's.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes a second that a client takes at least, for frames that would take longer than the patience itself.
const SLOWEST: usize = 8 * 1024;

/// Whether a body waits for room.
#[derive(Debug, Default)]
pub struct Pulse {
    holds: AtomicBool,
    /// Frames that were handed out.
    frames: AtomicUsize,
    /// Bytes of the newest, and of what may still be on its way before it.
    bytes: AtomicUsize,
}

impl Pulse {
    /// The body was asked for a frame.
    pub fn asked(&self) {
        self.holds.store(false, Ordering::Relaxed);
    }

    /// It has handed one out.
    pub fn gave(&self, bytes: usize) {
        let before = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(bytes.saturating_add(before.min(super::connection::STREAM_BUFFER)), Ordering::Relaxed);
        self.frames.store(self.frames.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.holds.store(true, Ordering::Relaxed);
    }

    /// The frame for which there is no room, and how long that may last.
    fn held(&self, longest: Duration) -> Option<(usize, Duration)> {
        let sending = u64::try_from(self.bytes.load(Ordering::Relaxed) / SLOWEST).unwrap_or(u64::MAX);
        let held = self.holds.load(Ordering::Relaxed);
        held.then(|| (self.frames.load(Ordering::Relaxed), longest.saturating_add(Duration::from_secs(sending))))
    }
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub struct Streams {
    longest: Duration,
    /// Of the stream that is about to begin.
    next: Arc<Mutex<Option<Arc<Pulse>>>>,
}

impl Streams {
    pub fn new(longest: Duration) -> Self {
        Self { longest, next: Arc::default() }
    }

    /// The pulse of the stream that begins next.
    pub fn begin(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&pulse));
        pulse
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let pulse = self.next.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        tokio::spawn(Patient { stream: Box::pin(stream), pulse, longest: self.longest, waits: None });
    }
}

/// A stream, until it ends or has been without room for too long. Its client sees a reset then.
struct Patient<F> {
    stream: Pin<Box<F>>,
    pulse: Arc<Pulse>,
    longest: Duration,
    /// For which frame, and until when.
    waits: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<F: Future> Future for Patient<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some((frame, longest)) = self.pulse.held(self.longest) else {
            self.waits = None;
            return Poll::Pending;
        };
        let timer = match &mut self.waits {
            Some((of, timer)) if *of == frame => timer,
            waits => &mut waits.insert((frame, Box::pin(sleep_until(Instant::now() + longest)))).1,
        };
        if timer.as_mut().poll(context).is_ready() {
            tracing::debug!("a stream ends: its client stopped reading it");
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
