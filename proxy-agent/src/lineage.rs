//! Whether the server still has the database that the agent has learnt from.
//!
//! A revision is a place in the history of one database. When the server comes back with another one, or with an older
//! copy of the same, a position that an agent has is worth nothing: a watch from there may miss what is different, and
//! would never tell. So everything that is learnt belongs to an *epoch*, and a new one begins when
//!
//! - the Namespace `kube-system`, which each database makes once, has another uid: asked after every list and after
//!   every watch that was opened, before anything of it counts;
//! - a list shows an older revision than was seen before it was asked for;
//! - something that the server has confirmed or shown is there in an older version: this node's own Lease, or the newest
//!   object of a watch. Nor does a watch go on from a place that is not proven to lie in the server's past
//!   ([`ground`](crate::reflector::ground)), so that a copy is found out whose revisions have caught up since.
//!
//! In a new epoch every resource is listed anew; until all are, nothing is programmed, and then only what is different.
//! "An older revision never wins" holds within an epoch.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use model::Revision;
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

use crate::client::{Client, ClientError};

/// Where the uid of the database is read.
pub const IDENTITY: &str = "/api/v1/namespaces/kube-system";
/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Counts the databases that were seen, from 0.
pub type Epoch = u64;

/// What is known of the database; shared by all who talk to the server.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    now: Arc<watch::Sender<Now>>,
}

#[derive(Clone, Debug, Default)]
struct Now {
    epoch: Epoch,
    /// Empty: not known yet.
    uid: String,
    newest: Revision,
    confirmed: Option<Confirmed>,
}

/// A write of this agent's that is in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Where the object is read.
    pub path: String,
    pub uid: String,
    pub revision: Revision,
}

/// The database is another one than that of this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Another;

impl Lineage {
    pub fn epoch(&self) -> Epoch {
        self.now.borrow().epoch
    }

    /// The newest revision that was seen in this epoch.
    pub fn newest(&self) -> Revision {
        self.now.borrow().newest
    }

    /// Completes when `epoch` is over.
    pub async fn over(&self, epoch: Epoch) {
        // The sender is held by this very value: it cannot be gone.
        let _ = self.now.subscribe().wait_for(|now| now.epoch != epoch).await;
    }

    /// The server has shown this revision to somebody who knows of `epoch`.
    pub fn saw(&self, epoch: Epoch, revision: Revision) {
        self.now.send_if_modified(|now| {
            if now.epoch == epoch {
                now.newest = now.newest.max(revision);
            }
            false
        });
    }

    /// The server says that it stands at `revision`, asked when `newest` had been seen.
    ///
    /// # Errors
    /// When that cannot be the same database.
    pub fn stands_at(&self, epoch: Epoch, newest: Revision, revision: Revision) -> Result<(), Another> {
        if self.epoch() != epoch {
            return Err(Another);
        }
        if revision < newest {
            self.end(epoch, &format!("it is at revision {revision}, and was at {newest}"));
            return Err(Another);
        }
        self.saw(epoch, revision);
        Ok(())
    }

    /// The server has answered a write of ours with this.
    pub fn confirm(&self, epoch: Epoch, write: Confirmed) {
        self.now.send_if_modified(|now| {
            if now.epoch == epoch {
                now.confirmed = Some(write);
            }
            false
        });
    }

    /// The newest write of ours that was confirmed in this epoch.
    pub fn confirmed(&self, epoch: Epoch) -> Option<Confirmed> {
        let now = self.now.borrow();
        if now.epoch == epoch { now.confirmed.clone() } else { None }
    }

    /// `found` is what the server has where `write` was confirmed. An older version ends the epoch.
    ///
    /// # Errors
    /// When it does not prove that this is the database of the epoch.
    pub fn has(&self, epoch: Epoch, write: &Confirmed, found: &Value) -> Result<(), Another> {
        let Some((uid, revision)) = version(found) else { return Err(Another) };
        if uid != write.uid {
            return Err(Another);
        }
        if revision < write.revision {
            let (path, confirmed) = (&write.path, write.revision);
            self.end(epoch, &format!("{path} is at revision {revision}, and {confirmed} was confirmed"));
            return Err(Another);
        }
        Ok(())
    }

    /// The database has this uid.
    ///
    /// # Errors
    /// When that is not the uid of this epoch's.
    pub fn is(&self, epoch: Epoch, uid: &str) -> Result<(), Another> {
        self.now.send_if_modified(|now| {
            if now.epoch == epoch && now.uid.is_empty() {
                uid.clone_into(&mut now.uid);
            }
            false
        });
        if self.epoch() != epoch {
            return Err(Another);
        }
        if self.now.borrow().uid != uid {
            self.end(epoch, "its kube-system has another uid");
            return Err(Another);
        }
        Ok(())
    }

    /// Something that this database had confirmed is not in it: `epoch` is over.
    pub fn end(&self, epoch: Epoch, why: &str) {
        let ended = self.now.send_if_modified(|now| {
            let same = now.epoch == epoch;
            if same {
                *now = Now { epoch: epoch + 1, ..Now::default() };
            }
            same
        });
        if ended {
            warn!("the server has another database than before: {why}; listing everything anew");
        }
    }

    /// Asks the server whether it still has this epoch's database. One that does not let us read the Namespace, or has
    /// none, is believed.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn check(&self, client: &Client, epoch: Epoch) -> Result<Result<(), Another>, ClientError> {
        let silence = |_| ClientError::Timeout { what: "asking which database this is", limit: LIMIT };
        match tokio::time::timeout(LIMIT, client.get(IDENTITY)).await.map_err(silence)? {
            Ok(namespace) => Ok(match namespace["metadata"]["uid"].as_str() {
                Some(uid) if !uid.is_empty() => self.is(epoch, uid),
                _ => Ok(()),
            }),
            Err(error) if error.code().is_some_and(|code| code == 403 || code == 404) => Ok(Ok(())),
            Err(error) => Err(error),
        }
    }
}

/// Uid and revision of an object, if it has both.
pub fn version(object: &Value) -> Option<(String, Revision)> {
    let revision = object["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
    Some((object["metadata"]["uid"].as_str()?.to_owned(), revision))
}
