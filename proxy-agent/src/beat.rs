//! Says every second that this node lives: the server takes a node that falls silent out of the endpoints, within seconds.
//!
//! A thread, a runtime and a connection of its own. The agent's thread may be busy with the kernel for seconds and its
//! other connections with whatever a slow server keeps waiting; a node that is only busy is not to be taken for dead. On the
//! connection is one request that goes on: a beat is a line of its body, and a line of the answer says when the next is to
//! come, which is half of what a request for each would cost.
//!
//! A beat that is not answered within [`LIMIT`] is given up with its connection: after a cut the next goes by a new one
//! at once, where the old would wait for TCP's ever longer pauses. Where that one is not answered either, the next are given
//! more time: a connection costs a server a hundred times what a beat costs, and thousands of nodes that open one each
//! second would keep a server that is merely late from ever being in time again.
//!
//! When the server is heard again after [`CUT`] or longer, the other connections may be dead without knowing it (nothing is
//! sent on a watch). Whoever has one follows [`Beat::cuts`], asks over it, and opens a new one where nothing comes.
//!
//! Beats begin when the node forwards, and not before: silence of a node that never spoke means nothing.

#[cfg(test)]
mod tests;

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::chain;
use crate::client::{Client, ClientError, Conversation};

/// How long one beat may take, at first and by a new connection.
pub const LIMIT: Duration = Duration::from_secs(1);
/// The same after many that were not answered.
const LONGEST_LIMIT: Duration = Duration::from_secs(4);
/// How often a node beats until the server says otherwise, and within which bounds it is believed.
const INTERVAL: Duration = Duration::from_secs(1);
/// One beat.
const BEAT: &[u8] = b"{}\n";
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// So long without an answer, and other connections are given up when there is one.
pub const CUT: Duration = Duration::from_secs(3);

/// A thread with a runtime of its own. Dropping it ends what runs there.
#[derive(Debug)]
pub struct Apart {
    runtime: Handle,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Apart {
    /// A thread in the network namespace of the calling one.
    ///
    /// # Errors
    /// When there can be no thread or no runtime.
    pub fn start(name: &str) -> io::Result<Self> {
        let (stop, mut stopped) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Nothing is ever sent: the sender is gone.
            drop(runtime.block_on(stopped.changed()));
        })?;
        Ok(Self { runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// What runs on this thread.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread for what must not wait had panicked");
        }
    }
}

/// The thread that beats. Dropping this ends it.
#[derive(Debug)]
pub struct Beat {
    _thread: Apart,
    cuts: watch::Receiver<u64>,
}

impl Beat {
    /// Beats from now on, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there can be no thread or no runtime.
    pub fn start(client: &Client, node: &str) -> io::Result<Self> {
        let thread = Apart::start("beat")?;
        let (cut, cuts) = watch::channel(0);
        let (client, node) = (client.apart(), node.to_owned());
        thread.runtime().spawn(async move { beat(client, &node, &cut).await });
        Ok(Self { _thread: thread, cuts })
    }

    /// Counts how often the server was away for long and is heard again.
    pub fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.clone()
    }
}

/// Beats for ever; `cuts` counts how often the server was away for long and is heard again.
pub async fn beat(client: Client, node: &str, cuts: &watch::Sender<u64>) {
    let path = format!("/apis/portolan.dev/v1alpha1/nodes/{node}/heartbeat");
    let mut interval = INTERVAL;
    let mut answered = Instant::now();
    let mut troubled = false;
    let mut unanswered = 0;
    let mut conversation = None;
    loop {
        let began = Instant::now();
        match once(&client, &path, limit(unanswered), &mut conversation).await {
            Ok(next) => {
                unanswered = 0;
                interval = next;
                if answered.elapsed() >= CUT {
                    info!(node, seconds = answered.elapsed().as_secs(), "the server is heard again");
                    cuts.send_modify(|count| *count = count.wrapping_add(1));
                }
                answered = Instant::now();
                troubled = false;
            }
            Err(error) => {
                // It answers, if only that there is no such Node yet.
                if error.code().is_some() {
                    answered = Instant::now();
                    unanswered = 0;
                } else {
                    unanswered = unanswered.saturating_add(1);
                }
                // The certificate that this connection was opened with has ended; a new connection shows the renewed one.
                if error.code() == Some(401) {
                    client.cut();
                }
                let refused = error.code().is_some_and(|code| (400..500).contains(&code) && code != 429);
                if refused && !error.is_not_found() && !troubled {
                    warn!(node, error = %chain(&error), "the server does not take that this node lives");
                    troubled = true;
                }
                debug!(node, error = %chain(&error), "not heard");
            }
        }
        tokio::time::sleep_until(began + interval).await;
    }
}

/// How long a beat may take after so many that were not answered.
fn limit(unanswered: u32) -> Duration {
    LIMIT.saturating_mul(1 << unanswered.saturating_sub(1).min(8)).min(LONGEST_LIMIT)
}

/// One beat; when the next is to come. `open` is where beats go until one fails.
async fn once(
    client: &Client,
    path: &str,
    limit: Duration,
    open: &mut Option<Conversation>,
) -> Result<Duration, ClientError> {
    let silence = |_| ClientError::Timeout { what: "a heartbeat", limit };
    let (conversation, interval) =
        tokio::time::timeout(limit, exchange(client, path, open.take())).await.map_err(silence)??;
    *open = Some(conversation);
    Ok(interval)
}

/// Beats in a conversation, and in a new one where the server has ended that: it does now and then, to ask anew who this is.
async fn exchange(
    client: &Client,
    path: &str,
    open: Option<Conversation>,
) -> Result<(Conversation, Duration), ClientError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Response {
        interval_milliseconds: u64,
    }
    if let Some(mut conversation) = open
        && let Some(answer) = conversation.exchange(BEAT).await?
    {
        return read(conversation, &answer);
    }
    let mut conversation = client.converse(&Method::PUT, path).await?;
    return match conversation.exchange(BEAT).await? {
        Some(answer) => read(conversation, &answer),
        None => Err(ClientError::Malformed { what: "a heartbeat", reason: "it was not answered".to_owned() }),
    };

    fn read(conversation: Conversation, answer: &[u8]) -> Result<(Conversation, Duration), ClientError> {
        let response: Response =
            serde_json::from_slice(answer).map_err(|source| ClientError::Json { what: "an answer", source })?;
        Ok((conversation, Duration::from_millis(response.interval_milliseconds).clamp(SHORTEST, LONGEST)))
    }
}
