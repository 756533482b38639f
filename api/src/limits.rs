//! How much of the server whoever may have: every bound that an operator may set, with what it is by default.
//!
//! Two rules stand behind the numbers. One user, whatever it does, leaves room for the next one ([`Limits::user_share`]);
//! and whoever has not shown yet who it is holds nothing that others need. Bounds that no operator would want to move are
//! constants beside what they bound.

use std::time::Duration;

use crate::fair::Bounds;

/// The bounds. Flags of `portolan server` of the same meaning set them; those that kube-apiserver has bear its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seats of requests that read; a seat is about a millisecond of a core. `--max-requests-inflight`.
    pub requests: u32,
    /// Seats of requests that write. `--max-mutating-requests-inflight`.
    pub mutating_requests: u32,
    /// Percent of seats, room for bodies and connections that one user may have at a time, 1 to 100. `--max-user-share`.
    pub user_share: u8,
    /// Requests of one user that wait for a seat; the next one is answered 429. `--max-queued-requests-per-user`.
    pub queued_per_user: usize,
    /// How long a request waits for a seat until it is answered 429. `--request-queue-timeout`.
    pub queue_timeout: Duration,
    /// Watches of one user, and requests that wait as watches do. `--max-watches-per-user`.
    pub watches_per_user: u32,
    /// Bytes of a request's body. `--max-request-bytes`.
    pub request_bytes: usize,
    /// How long the head of a request may take from its first byte to its last. `--request-header-timeout`.
    pub header_timeout: Duration,
    /// How long a body may take: until then it takes room that others wait for. `--request-body-timeout`.
    pub body_timeout: Duration,
    /// How long a connection may live that has brought no request of a known user yet; then, and while it says nothing,
    /// one that has. `--unauthenticated-connection-timeout`, `--idle-connection-timeout`.
    pub stranger_timeout: Duration,
    /// Longer than the 90 s after which Go's clients close an idle connection themselves, so that they seldom meet one that
    /// was closed under them.
    pub idle_timeout: Duration,
    /// Connections of all. `--max-connections`.
    pub connections: u32,
    /// Of these, connections that nobody has shown a name on yet; for a further one the oldest goes.
    /// `--max-unauthenticated-connections`.
    pub strangers: u32,
    /// Requests at once on one HTTP/2 connection; a client keeps a watch open for each resource that it follows.
    /// `--http2-max-streams-per-connection`.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 400,
            mutating_requests: 200,
            user_share: 50,
            queued_per_user: 1_000,
            queue_timeout: Duration::from_secs(15),
            watches_per_user: 5_000,
            request_bytes: 3 * 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            stranger_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(100),
            connections: 20_000,
            strangers: 2_000,
            streams: 250,
        }
    }
}

impl Limits {
    /// What one user may have of so many.
    pub fn share(&self, of: u32) -> u32 {
        let share = u64::from(of) * u64::from(self.user_share.clamp(1, 100)) / 100;
        u32::try_from(share).unwrap_or(of).max(1)
    }

    /// The bounds of so many seats that all users share.
    pub(crate) fn shared(&self, seats: u32) -> Bounds {
        Bounds {
            seats,
            seats_per_user: self.share(seats),
            waiting_per_user: self.queued_per_user,
            waiting: self.queued_per_user.saturating_mul(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_nothing_and_never_more_than_all() {
        let share = |percent, of| Limits { user_share: percent, ..Limits::default() }.share(of);
        assert_eq!((share(50, 400), share(50, 1), share(100, 7), share(0, 10), share(255, 10)), (200, 1, 7, 1, 10));
        assert_eq!(share(100, u32::MAX), u32::MAX);
    }
}
