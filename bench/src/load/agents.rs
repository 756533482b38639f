//! How far the kernels of agents are that somebody named: read from their metrics, again and again.
//!
//! An agent tells the newest revision of EndpointSlices that is in its kernel. It is asked every [`REST`], so a time may be
//! that much too long, and no kernel notices that it is measured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxy_agent::client::{Client, ClientError};
use tokio::task::JoinHandle;

use super::LoadError;
use super::crew::micros_now;

/// Between an answer and the next question.
const REST: Duration = Duration::from_millis(5);
const METRIC: &str = "portolan_agent_programmed_revision{resource=\"endpointslices\"} ";

/// One agent, asked until this is dropped.
pub struct Agent {
    pub url: String,
    /// Revisions and when they were first told.
    progress: Arc<Mutex<Vec<(u64, u64)>>>,
    task: JoinHandle<()>,
}

/// Begins to ask these agents.
///
/// # Errors
/// When one of them does not answer, or is none.
pub async fn follow(urls: &[String]) -> Result<Vec<Agent>, LoadError> {
    let failed = |source| LoadError::Client { doing: "asking an agent for its metrics", source };
    let mut agents = Vec::new();
    for url in urls {
        let base = url.trim_end_matches('/').trim_end_matches("/metrics");
        let client = Client::new(base, None, None).map_err(failed)?;
        let first = ask(&client).await.map_err(failed)?;
        let progress = Arc::new(Mutex::new(vec![(first, micros_now())]));
        let keeping = Arc::clone(&progress);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(REST).await;
                let Ok(revision) = ask(&client).await else { continue };
                let mut progress = lock(&keeping);
                if progress.last().is_none_or(|(last, _)| *last < revision) {
                    progress.push((revision, micros_now()));
                }
            }
        });
        agents.push(Agent { url: url.clone(), progress, task });
    }
    Ok(agents)
}

impl Agent {
    pub fn revision(&self) -> u64 {
        lock(&self.progress).last().map_or(0, |(revision, _)| *revision)
    }

    pub fn progress(&self) -> Vec<(u64, u64)> {
        lock(&self.progress).clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(progress: &Mutex<Vec<(u64, u64)>>) -> MutexGuard<'_, Vec<(u64, u64)>> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(client: &Client) -> Result<u64, ClientError> {
    let text = client.get_text("/metrics").await?;
    programmed(&text).ok_or_else(|| ClientError::Malformed {
        what: "the metrics",
        reason: format!("there is no {} in them", METRIC.trim_end()),
    })
}

fn programmed(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(METRIC))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_stands_among_many_lines() {
        let text = "# TYPE x gauge\nportolan_agent_programmed_revision{resource=\"services\"} 7\n\
                    portolan_agent_programmed_revision{resource=\"endpointslices\"} 9\n";
        assert_eq!(programmed(text), Some(9));
        assert_eq!(programmed("# EOF\n"), None);
    }
}
