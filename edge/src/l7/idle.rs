//! Connections to one backend that wait for the next request, of one worker.
//!
//! The one used last is taken first, so that those which are not needed grow old. Nobody waits on a waiting connection:
//! whether the backend has closed it is found out when it is taken, and by a sweep every second. The sweep also ends those that
//! are older than a backend's own patience usually is, since a request that meets a closing connection is the one failure that
//! a load balancer brings in of its own accord.

use std::time::Duration;

use hyper::client::conn::http2;
use tokio::time::Instant;

use super::link::{Link, Outgoing};

/// Connections to a backend that a worker keeps for later.
const MOST: usize = 128;

/// Servers close silent connections after 5 s (Node, uvicorn) or more.
const LONGEST: Duration = Duration::from_secs(4);

/// How often all are looked at.
pub const SWEEP: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Idle {
    links: Vec<(Box<Link>, Instant)>,
    /// The one HTTP/2 connection; many requests share it.
    shared: Option<http2::SendRequest<Outgoing>>,
}

impl Idle {
    /// One that can be used, as far as is known.
    pub fn take(&mut self) -> Option<Box<Link>> {
        while let Some((mut link, _)) = self.links.pop() {
            if link.is_usable() {
                return Some(link);
            }
        }
        None
    }

    pub fn put(&mut self, link: Box<Link>) {
        if self.links.len() < MOST {
            self.links.push((link, Instant::now()));
        }
    }

    pub fn shared(&mut self) -> Option<http2::SendRequest<Outgoing>> {
        self.shared.take_if(|s| s.is_closed());
        self.shared.clone()
    }

    pub fn share(&mut self, sender: http2::SendRequest<Outgoing>) {
        self.shared = Some(sender);
    }

    /// Ends those that are old, and lets go of those that have ended.
    pub fn sweep(&mut self, now: Instant) {
        self.links.retain_mut(|(link, since)| now.duration_since(*since) < LONGEST && link.is_usable());
    }

    pub fn clear(&mut self) {
        self.links.clear();
        self.shared = None;
    }
}
