//! Whether the server still has the database that the agent has learnt from.
//!
//! A revision is a place in the history of one database. When the server comes back with another one, or with an older
//! copy of the same, a position that an agent has is worth nothing: a watch from there may miss what is different, and
//! would never tell. So everything that is learnt belongs to an *epoch*, and a new one begins when
//!
//! - the Namespace `kube-system`, which each database makes once, has another uid: asked after every list and after
//!   every watch that was opened, before anything of it counts;
//! - a list shows an older revision than was seen before it was asked for;
//! - the node's own Lease, which the server confirmed, is there in an older version: the agent writes it every ten seconds,
//!   so it finds a copy that is older than that even when the server's revisions have caught up since.
//!
//! In a new epoch every resource is listed anew; until all are, nothing is programmed, and then only what is different.
//! "An older revision never wins" holds within an epoch.
//!
//! What this does not find: a copy from the last ten seconds before the fault, whose revisions have overtaken a
//! bookmark of the agent before it is back.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use model::Revision;
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
