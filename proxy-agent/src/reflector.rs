//! One watched resource, brought to the core loop whole and in order.
//!
//! The decisions stand in [`machine`]; here is the thin part that does what it says: it lists and watches through
//! the client, decodes each object at once (the wire form of a list is never in memory as a whole), and sends
//! [`Update`]s. A list is one update: the core swaps it in whole, so there is no moment in which half a cluster is
//! missing. While the server is away nothing is sent, and the kernel keeps what it has.
//!
//! Everything that is sent belongs to an epoch, a database of the server's ([`lineage`](crate::lineage)): when that changes,
//! a position is worth nothing, and the resource is listed.
//!
//! The channel is bounded. When the core falls behind, the reflector stops reading, and the server cuts the watch
//! off in the end: then the reflector goes on from its last event, or lists.

pub mod ground;
pub mod machine;
#[cfg(test)]
mod tests;

use std::time::Duration;

use model::{Key, Resource, Revision};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::chain;
use crate::client::{Client, ClientError, StatusError, WatchEvent, WatchStream};
use crate::lineage::{Another, Epoch, Lineage};
use crate::objects::{Decoded, decode, identify};
use ground::{Ground, Newest, Proof};
use machine::{Action, End, Machine, Verdict};

/// A watch asks the server to end it after a random time in this range, as client-go does.
const WATCH_SECONDS: std::ops::Range<u64> = 300..600;
/// A watch that has not ended by then, and one whose server has gone silent, is given up. The server answers a
/// bookmark a minute to those who ask, but that is a custom and no promise; the end of a watch is one.
pub const GRACE: Duration = Duration::from_secs(30);
/// No piece of a list comes for this long: the server is gone.
const LIST_SILENCE: Duration = Duration::from_secs(30);

/// An update, and the database that it is from.
#[derive(Debug)]
pub struct News {
    pub epoch: Epoch,
    pub update: Update,
}

/// News of one resource for the core loop.
#[derive(Debug)]
pub enum Update {
    /// Everything there is, as of `revision`. What is not in it is gone.
    Replaced {
        resource: Resource,
        revision: Revision,
        objects: Vec<Decoded>,
        /// These exist and could not be read: what is known of them stays.
        unreadable: Vec<Key>,
    },
    /// An object was created or changed.
    Set { resource: Resource, object: Decoded },
    /// An object was deleted at `revision`.
    Removed { resource: Resource, key: Key, revision: Revision },
    /// Nothing else happened up to `revision`.
    Seen { resource: Resource, revision: Revision },
}

/// The core loop has ended: there is nobody to tell.
struct Gone;

/// Follows `resource` until `updates` is closed. `chance` gives a random number for each step.
pub async fn follow(
    client: Client,
    lineage: Lineage,
    resource: Resource,
    updates: mpsc::Sender<News>,
    mut chance: impl FnMut() -> u64,
) {
    let (client, epoch) = (client.slim(), lineage.epoch());
    let mut reflector =
        Reflector { client, lineage, epoch, resource, updates, machine: Machine::new(), newest: None, troubled: false };
    loop {
        let chance = chance();
        let step = reflector.machine.next(chance);
        tokio::time::sleep(step.wait).await;
        let end = match step.action {
            Action::List => reflector.list().await,
            Action::Watch { from } => reflector.watch(from, chance).await,
        };
        match end {
            Ok(end) => reflector.machine.end(end),
            Err(Gone) => return,
        }
    }
}

struct Reflector {
    client: Client,
    lineage: Lineage,
    /// To which the machine's position belongs.
    epoch: Epoch,
    resource: Resource,
    updates: mpsc::Sender<News>,
    machine: Machine,
    /// `None` straight after a list, and before the first.
    newest: Option<Newest>,
    /// A fault was reported and has not been reported as over: one line each, however long it lasts.
    troubled: bool,
}

impl Reflector {
    async fn list(&mut self) -> Result<End, Gone> {
        self.epoch = self.lineage.epoch();
        let newest = self.lineage.newest();
        match self.read_list().await {
            Ok(update) => {
                let Update::Replaced { revision, ref objects, .. } = update else { return Ok(End::ListFailed) };
                let same = self.lineage.check(&self.client, self.epoch).await;
                match same.map(|same| same.and_then(|()| self.lineage.stands_at(self.epoch, newest, revision))) {
                    Ok(Ok(())) => {}
                    Ok(Err(Another)) => return Ok(End::Expired),
                    Err(error) => {
                        self.trouble("listing", &error);
                        return Ok(End::ListFailed);
                    }
                }
                self.well();
                debug!(resource = %self.resource, revision, objects = objects.len(), "listed");
                self.newest = None;
                self.send(update).await?;
                Ok(End::Listed(revision))
            }
            Err(error) => {
                self.trouble("listing", &error);
                Ok(End::ListFailed)
            }
        }
    }

    async fn read_list(&self) -> Result<Update, ClientError> {
        let mut stream = self.client.list(&collection(self.resource)).await?;
        let mut objects = Vec::new();
        let mut unreadable = Vec::new();
        loop {
            let silence = |_| ClientError::Timeout { what: "waiting for more of a list", limit: LIST_SILENCE };
            let next = tokio::time::timeout(LIST_SILENCE, stream.next()).await.map_err(silence)??;
            let Some(bytes) = next else { break };
            match decode(self.resource, &bytes) {
                Ok(object) => objects.push(object),
                Err(error) => {
                    warn!(resource = %self.resource, key = ?error.key, cause = %error.source, "an object of the list cannot be read");
                    // One that cannot even be named might be any of those that the kernel has: none may be taken away.
                    match error.key {
                        Some(key) => unreadable.push(key),
                        None => return Err(ClientError::Json { what: "an object of a list", source: error.source }),
                    }
                }
            }
        }
        let revision = stream.revision()?;
        Ok(Update::Replaced { resource: self.resource, revision, objects, unreadable })
    }

    async fn watch(&mut self, position: Revision, chance: u64) -> Result<End, Gone> {
        let confirmed = self.lineage.confirmed(self.epoch);
        let (from, proof) = match ground::choose(self.resource, position, self.newest.as_ref(), confirmed) {
            Ground::Watch { from, proof } => (from, proof),
            Ground::List => return Ok(End::Expired),
        };
        // The list is behind this watch alone, even if it cannot be opened.
        self.newest.get_or_insert(Newest { revision: position, object: None });
        let seconds = seconds(chance);
        let path = watch_path(self.resource, from, seconds);
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(seconds) + GRACE;
        let mut stream = match self.client.watch(&path).await {
            Ok(stream) => stream,
            Err(ClientError::Status(status)) if status.is_expired() => return Ok(self.expired(&status)),
            Err(error) => {
                self.trouble("opening a watch", &error);
                return Ok(End::Broken { lived: Duration::ZERO });
            }
        };
        // Not before: what a watch brings counts only if it comes from the database that the position is from.
        match self.prove(&proof).await {
            Ok(Ok(())) => {}
            Ok(Err(Another)) => return Ok(End::Expired),
            Err(error) => {
                self.trouble("opening a watch", &error);
                return Ok(End::Broken { lived: Duration::ZERO });
            }
        }
        self.machine.rewind(from);
        debug!(resource = %self.resource, from, seconds, "watching");
        self.well();
        loop {
            let next = self.next(&mut stream, deadline).await;
            if self.lineage.epoch() != self.epoch {
                return Ok(End::Expired);
            }
            match next {
                Ok(Some(event)) => {
                    if let Some(end) = self.event(event).await? {
                        return Ok(end);
                    }
                }
                Ok(None) => return Ok(End::Closed { lived: begin.elapsed() }),
                Err(
                    error @ (ClientError::Malformed { .. } | ClientError::Json { .. } | ClientError::TooLarge { .. }),
                ) => {
                    self.trouble("reading a watch", &error);
                    return Ok(End::Garbled);
                }
                Err(error) => {
                    self.trouble("reading a watch", &error);
                    return Ok(End::Broken { lived: begin.elapsed() });
                }
            }
        }
    }

    async fn prove(&self, proof: &Proof) -> Result<Result<(), Another>, ClientError> {
        match self.lineage.check(&self.client, self.epoch).await? {
            Ok(()) => ground::prove(&self.client, &self.lineage, self.epoch, proof).await,
            Err(Another) => Ok(Err(Another)),
        }
    }

    /// The next event; `None` at the end of the watch, or of the epoch.
    async fn next(&self, stream: &mut WatchStream, deadline: Instant) -> Result<Option<WatchEvent>, ClientError> {
        // What is there already costs no timer.
        if let Some(event) = stream.ready()? {
            return Ok(Some(event));
        }
        let silence = |_| ClientError::Timeout { what: "waiting for a watch to end", limit: GRACE };
        tokio::select! {
            next = tokio::time::timeout_at(deadline, stream.next()) => next.map_err(silence)?,
            () = self.lineage.over(self.epoch) => Ok(None),
        }
    }

    /// Passes an event on; `Some` when the watch is over with it.
    async fn event(&mut self, event: WatchEvent) -> Result<Option<End>, Gone> {
        let resource = self.resource;
        let (revision, update) = match event.kind.as_str() {
            "ADDED" | "MODIFIED" => match decode(resource, &event.object) {
                Ok(object) => (object.revision, Update::Set { resource, object }),
                Err(error) => match error.revision {
                    // It has changed in a way that this agent cannot read: it stays as it was.
                    Some(revision) => {
                        warn!(%resource, key = ?error.key, cause = %error.source, "a changed object cannot be read");
                        (revision, Update::Seen { resource, revision })
                    }
                    None => return Ok(Some(self.garbled(&error.source))),
                },
            },
            "DELETED" | "BOOKMARK" => match identify(&event.object) {
                Ok((_, revision)) if event.kind == "BOOKMARK" => (revision, Update::Seen { resource, revision }),
                Ok((key, revision)) => (revision, Update::Removed { resource, key, revision }),
                Err(error) => return Ok(Some(self.garbled(&error))),
            },
            "ERROR" => {
                let status = event.status();
                if status.is_expired() {
                    return Ok(Some(self.expired(&status)));
                }
                self.trouble("watching", &ClientError::Status(status));
                return Ok(Some(End::Garbled));
            }
            other => {
                self.trouble(
                    "watching",
                    &ClientError::Malformed { what: "a watch event", reason: format!("type {other:?}") },
                );
                return Ok(Some(End::Garbled));
            }
        };
        match self.machine.event(revision) {
            Verdict::Apply => {
                self.lineage.saw(self.epoch, revision);
                if event.kind != "BOOKMARK" {
                    let key = match &update {
                        Update::Set { object, .. } => Some(object.key.clone()),
                        _ => None,
                    };
                    self.newest = Some(Newest { revision, object: key.map(|key| (key, event.object)) });
                }
                self.send(update).await?;
                Ok(None)
            }
            Verdict::Backwards => {
                warn!(%resource, revision, "the server's revisions went backwards; listing anew");
                Ok(Some(End::Garbled))
            }
        }
    }

    async fn send(&self, update: Update) -> Result<(), Gone> {
        self.updates.send(News { epoch: self.epoch, update }).await.map_err(|_| Gone)
    }

    fn expired(&self, status: &StatusError) -> End {
        info!(resource = %self.resource, answer = %status, "the server has forgotten this watch's position; listing anew");
        End::Expired
    }

    fn garbled(&mut self, error: &serde_json::Error) -> End {
        let reason = error.to_string();
        self.trouble("reading a watch", &ClientError::Malformed { what: "the object of a watch event", reason });
        End::Garbled
    }

    fn trouble(&mut self, doing: &str, error: &ClientError) {
        if self.troubled {
            debug!(resource = %self.resource, error = %chain(error), "{doing} failed again");
        } else {
            warn!(resource = %self.resource, error = %chain(error), "{doing} failed; the kernel keeps what it has");
            self.troubled = true;
        }
    }

    fn well(&mut self) {
        if std::mem::take(&mut self.troubled) {
            info!(resource = %self.resource, "the server answers again");
        }
    }
}

/// After how many seconds a watch is to end, as chance has it.
pub fn seconds(chance: u64) -> u64 {
    WATCH_SECONDS.start + chance % (WATCH_SECONDS.end - WATCH_SECONDS.start)
}

/// Where a resource is watched for what happened after `from`, for so many seconds.
pub fn watch_path(resource: Resource, from: Revision, seconds: u64) -> String {
    let collection = collection(resource);
    format!("{collection}?watch=true&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={seconds}")
}

/// The path of a resource's collection, across namespaces.
pub fn collection(resource: Resource) -> String {
    let info = resource.info();
    let root = if info.group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}/{}", info.api_version(), info.plural)
}
