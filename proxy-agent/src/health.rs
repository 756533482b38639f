//! Whether this node does what the cluster says: what `/healthz` and `/livez` answer.
//!
//! The server being away does not make a node unhealthy: its kernel forwards as before. A kernel that refuses
//! what is known to be true does.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long a known change may stay out of the kernel before the node says so.
pub const STALLED: Duration = Duration::from_secs(60);

/// Shared between the core loop, which writes, and those who read or wait.
#[derive(Debug, Default)]
pub struct Health {
    facts: watch::Sender<Facts>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// When the kernel was last brought up to date.
    pub updated: Option<Timestamp>,
    /// Since when there is something that the kernel does not have.
    pub pending: Option<Instant>,
    /// The node is about to leave the cluster.
    pub leaving: bool,
}

impl Health {
    pub fn update(&self, change: impl FnOnce(&mut Facts)) {
        self.facts.send_modify(change);
    }

    pub fn facts(&self) -> Facts {
        *self.facts.borrow()
    }

    /// Completes when the kernel was programmed for the first time.
    pub async fn programmed(&self) {
        // The sender is this very value: it cannot be gone.
        let _ = self.facts.subscribe().wait_for(|facts| facts.updated.is_some()).await;
    }
}

impl Facts {
    /// Whether the kernel was programmed, and has what is known.
    pub fn live(&self, now: Instant) -> bool {
        self.updated.is_some() && self.pending.is_none_or(|since| now.saturating_duration_since(since) < STALLED)
    }

    /// kube-proxy's answer (research F.3).
    pub fn body(&self, now: Timestamp) -> Value {
        let updated = self.updated.map(|time| time.to_string()).unwrap_or_default();
        json!({"lastUpdated": updated, "currentTime": now.to_string(), "nodeEligible": !self.leaving})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_live_once_programmed_and_while_nothing_is_stuck() {
        let now = Instant::now();
        let mut facts = Facts::default();
        assert!(!facts.live(now), "nothing is programmed yet");
        facts.updated = Some(Timestamp::UNIX_EPOCH);
        assert!(facts.live(now));
        facts.pending = Some(now);
        assert!(facts.live(now + STALLED / 2));
        assert!(!facts.live(now + STALLED));
    }

    #[test]
    fn the_body_is_kube_proxys() {
        let facts = Facts { updated: Some(Timestamp::UNIX_EPOCH), leaving: true, ..Facts::default() };
        let body = facts.body(Timestamp::UNIX_EPOCH).to_string();
        assert_eq!(
            body,
            r#"{"currentTime":"1970-01-01T00:00:00Z","lastUpdated":"1970-01-01T00:00:00Z","nodeEligible":false}"#
        );
    }
}
