//! A node's certificate is replaced long before it ends, by the certificate itself.
//!
//! At a moment of chance between 60 and 80 % of its life, so that a thousand nodes that joined together do not come together,
//! and a server that is away for days costs nobody his certificate. As kubelet does it, somewhat earlier. The new one has a
//! new key; it is stored before it is used, and used by every connection that is opened from then on.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::attempt::{Applicant, IssueError};
use super::credentials::{self, Credentials};
use crate::chain;
use crate::client::Client;

/// In which part of its life a certificate is renewed, in thousandths.
const FROM: u32 = 600;
const TO: u32 = 800;
/// The longest sleep: the clock of a machine may be set, and stands still in no sleep of the machine.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How soon an attempt that failed is repeated, at least and at most.
const AGAIN_SOONEST: Duration = Duration::from_secs(1);
const AGAIN_LATEST: Duration = Duration::from_secs(600);

/// When this certificate is to be renewed.
pub fn due(credentials: &Credentials, chance: u64) -> Timestamp {
    let (from, until) = (credentials.facts.not_before, credentials.facts.not_after);
    let life = Duration::try_from(until.duration_since(from)).unwrap_or_default();
    let after = between(life / 1000 * FROM, life / 1000 * TO, chance);
    from.checked_add(after).unwrap_or(until)
}

/// How long to wait after an attempt that failed: a twentieth of what is left; after the end there is no hurry any more.
fn again(left: Duration) -> Duration {
    if left.is_zero() { AGAIN_LATEST } else { (left / 20).clamp(AGAIN_SOONEST, AGAIN_LATEST) }
}

/// A duration from `least` up to `most`, as chance has it.
pub fn between(least: Duration, most: Duration, chance: u64) -> Duration {
    const STEPS: u32 = 1 << 16;
    // The remainder is smaller than a u32.
    let step = (chance % u64::from(STEPS)) as u32;
    least + (most.saturating_sub(least) / STEPS) * step
}

/// What is left of a certificate's life; nothing after its end.
fn left(credentials: &Credentials, now: Timestamp) -> Duration {
    Duration::try_from(credentials.facts.not_after.duration_since(now)).unwrap_or_default()
}

/// Renews the certificate for as long as it is polled. A certificate that has ended is tried on: it may be this machine's
/// clock that is wrong.
pub async fn keep(client: Client, directory: PathBuf, mut current: Credentials, mut chance: impl FnMut() -> u64) {
    let mut due = due(&current, chance());
    let mut failed = None;
    loop {
        let now = Timestamp::now();
        let wait = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(LOOK_EVERY)).await;
            continue;
        }
        match renew(&client, &directory, &current).await {
            Ok(renewed) => {
                let (node, until) = (&renewed.facts.node, renewed.facts.not_after);
                info!(node, %until, "this machine's certificate is renewed");
                (current, failed) = (renewed, None);
                // Not at once again, whatever the clocks say.
                let soonest = now.checked_add(again(left(&current, now))).unwrap_or(due);
                due = self::due(&current, chance()).max(soonest);
            }
            Err(error) => {
                let left = left(&current, now);
                let (node, error, until) = (&current.facts.node, chain(&error), current.facts.not_after);
                // Once for each of the two states, and again when it ends.
                match (failed.replace(left.is_zero()), left.is_zero()) {
                    (None, false) => warn!(node, error, %until, "the node's certificate is not renewed; trying on"),
                    (None | Some(false), true) => {
                        error!(node, error, %until, "the node's certificate has ended; start the agent with a new --token");
                    }
                    _ => tracing::debug!(node, error, %until, "the node's certificate is not renewed"),
                }
                due = now.checked_add(again(left)).unwrap_or(due);
            }
        }
    }
}

async fn renew(client: &Client, directory: &std::path::Path, current: &Credentials) -> Result<Credentials, IssueError> {
    let renewed = Applicant::new(current.facts.role, &current.facts.node)?.renew(client, current).await?;
    credentials::store(directory, &renewed)?;
    client.identify(&renewed.certificate_pem, &renewed.key_pem)?;
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use super::super::credentials::tests::credentials;
    use super::*;

    #[test]
    fn a_certificate_is_renewed_well_before_its_end_and_not_all_at_once() {
        let certificate = credentials("web", "2024-01-01T00:00:00Z", "2024-01-31T00:00:00Z");
        let day = |chance| due(&certificate, chance).to_string()[..10].to_owned();
        assert_eq!((day(0).as_str(), day((1 << 16) - 1).as_str()), ("2024-01-19", "2024-01-24"));
        assert_ne!(due(&certificate, 1), due(&certificate, 2));
        assert_eq!(day(u64::MAX), "2024-01-24");
    }

    #[test]
    fn what_failed_is_tried_often_enough_to_succeed_before_the_end() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(again(hours(24 * 8)), AGAIN_LATEST);
        assert_eq!(again(hours(1)), Duration::from_secs(180));
        assert_eq!(again(Duration::from_secs(5)), AGAIN_SOONEST);
        assert_eq!(again(Duration::ZERO), AGAIN_LATEST);
    }

    #[test]
    fn nothing_is_left_after_the_end() {
        let certificate = credentials("web", "2024-01-01T00:00:00Z", "2024-01-31T00:00:00Z");
        assert_eq!(left(&certificate, "2024-01-30T00:00:00Z".parse().unwrap()), Duration::from_secs(24 * 3600));
        assert_eq!(left(&certificate, "2024-03-01T00:00:00Z".parse().unwrap()), Duration::ZERO);
    }
}
