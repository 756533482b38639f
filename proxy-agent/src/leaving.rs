//! The time between a pod's deletion and its SIGTERM: it serves on until every live node has programmed that it goes.
//!
//! The deletion and the slices that follow from it are one commit of the server, so when it is heard of, "what the server
//! holds now" has them. A connection that was sent here before is served; a new one is not sent here any more, unless
//! nobody else is there. That is why a rolling replacement loses no request, however slow a node is, within the pod's
//! grace period.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::{chain, programmed};

/// What is left of a long grace period for the end itself; of a short one it is half.
const FOR_THE_END: Duration = Duration::from_secs(3);
/// How long an attempt that could not reach the server waits.
const RETRY: Duration = Duration::from_millis(200);

/// A pod that is to go.
#[derive(Debug)]
pub struct Leaving {
    /// When the grace period is over.
    end: Instant,
    /// When nodes are waited for no longer.
    patience: Instant,
    /// Ends when every node knows, or with why one may not. Aborted with this.
    known: JoinSet<Result<(), String>>,
    over: bool,
    doubt: Option<String>,
}

impl Leaving {
    /// The pod was deleted just now.
    pub fn begin(client: Client, pod: String, grace: Duration) -> Self {
        let now = Instant::now();
        let patience = patience(grace);
        let mut known = JoinSet::new();
        known.spawn(async move { await_nodes(&client, &pod, patience).await });
        Self { end: now + grace, patience: now + patience, known, over: false, doubt: None }
    }

    /// It was deleted again, maybe with less grace.
    pub fn shorten(&mut self, grace: Duration) {
        let now = Instant::now();
        self.end = self.end.min(now + grace);
        self.patience = self.patience.min(now + patience(grace));
    }

    /// Returns when the processes may be told to end. Cancel-safe.
    pub async fn wait(&mut self) {
        if !self.over {
            tokio::select! {
                known = self.known.join_next() => self.doubt = known.and_then(Result::ok).and_then(Result::err),
                () = sleep_until(self.patience) => self.doubt = Some("there was no time to wait for every node".into()),
            }
            self.over = true;
        }
    }

    /// Whether that has come.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Why some node may still send there although it is over.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// What is left of the grace period.
    pub fn grace(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

/// How long nodes are waited for.
fn patience(grace: Duration) -> Duration {
    grace.saturating_sub(FOR_THE_END.min(grace / 2))
}

/// Returns when every live node has programmed what the server holds now, or at the end of the patience.
async fn await_nodes(client: &Client, pod: &str, patience: Duration) -> Result<(), String> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match programmed::everything(client, left).await {
            Ok(report) if report.programmed || report.nodes.is_empty() => return Ok(()),
            Ok(report) => {
                let late: Vec<&str> = report.nodes.iter().filter(|n| !n.programmed).map(|n| n.name.as_str()).collect();
                let doubt = format!("{} may still send to it", late.join(", "));
                tracing::warn!("pod {pod} ends although {doubt}");
                return Err(doubt);
            }
            Err(error) if left.is_zero() || error.code().is_some_and(|code| code < 500) => {
                let doubt = format!("it is not known whether nodes still send to it: {}", chain(&error));
                tracing::warn!("pod {pod} ends, and {doubt}");
                return Err(doubt);
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_itself_has_its_part_of_the_grace_period() {
        for (grace, expected) in [(0, 0), (1000, 500), (2000, 1000), (30_000, 27_000), (300_000, 297_000)] {
            assert_eq!(patience(Duration::from_millis(grace)).as_millis(), expected);
        }
    }

    /// A server that never answers, and a second deletion with less grace.
    #[tokio::test]
    async fn nobody_waits_longer_than_the_grace_allows() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", silent.local_addr().unwrap()), None, None).unwrap();
        let begun = Instant::now();
        let mut leaving = Leaving::begin(client, "default/web".to_owned(), Duration::from_secs(30));
        assert!(tokio::time::timeout(Duration::from_millis(50), leaving.wait()).await.is_err());
        assert!(!leaving.is_over() && leaving.grace() > Duration::from_secs(29));
        leaving.shorten(Duration::from_millis(200));
        leaving.wait().await;
        assert!(leaving.is_over() && begun.elapsed() < Duration::from_secs(5));
        assert!(leaving.grace() < Duration::from_millis(200));
    }
}
