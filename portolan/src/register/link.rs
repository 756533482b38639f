//! The connection to the agent, kept for as long as the registration lasts: an agent that is restarted is found again
//! and told anew. How often that is tried, and what is said once, is here; what it means is `life`'s matter.

use std::path::PathBuf;
use std::time::Duration;

use proxy_agent::workloads::protocol::{Answer, Request, Talk};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long an agent may take to answer what needs no waiting.
const PROMPT: Duration = Duration::from_secs(10);
/// Between two attempts to reach it, and to be accepted by one that refused.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// What is wished of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That everybody finds what runs here.
    Register,
    /// That nobody is sent here any more, by then.
    Leave { until: Instant },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The agent is asked to register this: from now on somebody may be sent here.
    Asked,
    /// With why somebody may be sent here still, if so.
    Left(Option<String>),
}

/// Asks whether this could be registered; `None`: there is no agent to be asked.
///
/// # Errors
/// Why it is refused.
pub async fn check(socket: &std::path::Path, pods: &[Value]) -> Result<Option<Vec<String>>, String> {
    let request = Request::Check { pods: pods.to_vec() };
    let answer = async { Talk::connect(socket).await?.ask(&request, PROMPT).await };
    match answer.await {
        Ok(Answer::Accepted { pods }) => Ok(Some(pods)),
        Ok(Answer::Refused { reason }) => Err(reason),
        Ok(Answer::Deregistered { .. }) => Err("the agent is of another version".to_owned()),
        Err(error) => {
            warn!("the agent at {} cannot be reached yet: {error}", socket.display());
            Ok(None)
        }
    }
}

/// Keeps the connection, until it is dropped.
pub async fn keep(socket: PathBuf, pods: Vec<Value>, mut wish: watch::Receiver<Wish>, news: mpsc::Sender<News>) {
    let mut link = Link { socket, pods, names: Vec::new(), told: None };
    loop {
        let wished = *wish.borrow_and_update();
        let pause = match link.session(wished, &mut wish, &news).await {
            Ok(()) => Duration::ZERO,
            Err(Broken::Lost(why)) => {
                link.tell(format!("the agent cannot be reached: {why}; trying on"));
                RETRY
            }
            Err(Broken::Refused(why)) => {
                link.tell(format!("the agent refuses: {why}; trying on"));
                RETRY_REFUSED
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = wish.changed() => if changed.is_err() { return },
        }
    }
}

enum Broken {
    Lost(std::io::Error),
    Refused(String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error)
    }
}

struct Link {
    socket: PathBuf,
    pods: Vec<Value>,
    /// As the agent calls them.
    names: Vec<String>,
    told: Option<String>,
}

impl Link {
    /// One connection, to its end.
    async fn session(
        &mut self,
        mut wished: Wish,
        wish: &mut watch::Receiver<Wish>,
        news: &mpsc::Sender<News>,
    ) -> Result<(), Broken> {
        let mut talk = Talk::connect(&self.socket).await?;
        if wished == Wish::Register {
            // Said first: who is told to end before the answer is here must still go in order.
            let _ = news.send(News::Asked).await;
            match talk.ask(&Request::Register { pods: self.pods.clone() }, PROMPT).await? {
                Answer::Accepted { pods } => {
                    info!("registered as {}", pods.join(", "));
                    self.names = pods;
                    self.told = None;
                }
                Answer::Refused { reason } => return Err(Broken::Refused(reason)),
                Answer::Deregistered { .. } => return Err(Broken::Refused("it is of another version".to_owned())),
            }
            while wished == Wish::Register {
                tokio::select! {
                    () = talk.ended() => return Err(Broken::Lost(std::io::ErrorKind::ConnectionReset.into())),
                    changed = wish.changed() => {
                        // Nobody wishes anything any more.
                        if changed.is_err() { std::future::pending::<()>().await }
                        wished = *wish.borrow_and_update();
                    }
                }
            }
        }
        let Wish::Leave { until } = wished else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        let grace_milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Deregister { pods: self.names.clone(), grace_milliseconds };
        let doubt = match talk.ask(&request, left + PROMPT).await? {
            Answer::Deregistered { doubt } => doubt,
            Answer::Refused { reason } => Some(reason),
            Answer::Accepted { .. } => Some("the agent is of another version".to_owned()),
        };
        let _ = news.send(News::Left(doubt)).await;
        // The Pod stays until this connection ends, and that is with the process.
        talk.ended().await;
        std::future::pending().await
    }

    /// Says it once.
    fn tell(&mut self, text: String) {
        if self.told.as_ref() != Some(&text) {
            warn!("{text}");
            self.told = Some(text);
        }
    }
}
