//! One watch of a hollow node: the decisions of a reflector ([`machine`](crate::reflector::machine)), and of what comes
//! the revision.

use std::sync::Arc;
use std::time::Duration;

use model::{Resource, Revision};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Audience, Ended};
use crate::acknowledge::Programmed;
use crate::chance;
use crate::client::{Client, ClientError, StatusError, WatchEvent, WatchStream};
use crate::lineage::Lineage;
use crate::objects::WATCHED;
use crate::reflector::machine::{Action, End, Machine, Verdict};
use crate::reflector::{GRACE, seconds, watch_path};

/// A server may end a watch so much earlier than it was told.
const EARLY: Duration = Duration::from_secs(1);

/// Follows `resource` for ever, from a list made after `since`.
pub async fn follow<A: Audience>(
    client: Client,
    lineage: Lineage,
    resource: Resource,
    since: Instant,
    audience: Arc<A>,
    programmed: Arc<watch::Sender<Programmed>>,
) {
    let place = WATCHED.iter().position(|watched| *watched == resource);
    let client = client.slim();
    let mut follower = Follower { client, lineage, resource, place, audience, programmed, machine: Machine::new() };
    let (mut chance, mut since) = (chance(), since);
    loop {
        let chance = chance();
        let step = follower.machine.next(chance);
        tokio::time::sleep(step.wait).await;
        let end = match step.action {
            Action::List => follower.list(since).await,
            Action::Watch { from } => follower.watch(from, seconds(chance)).await,
        };
        if matches!(end, End::Expired | End::Garbled) {
            since = Instant::now();
        }
        follower.machine.end(end);
    }
}

struct Follower<A> {
    client: Client,
    lineage: Lineage,
    resource: Resource,
    /// Where its revision stands in what is acknowledged.
    place: Option<usize>,
    audience: Arc<A>,
    programmed: Arc<watch::Sender<Programmed>>,
    machine: Machine,
}

impl<A: Audience> Follower<A> {
    async fn list(&self, since: Instant) -> End {
        match self.audience.list(&self.client, self.resource, since).await {
            Ok(revision) => {
                self.programmed(revision);
                End::Listed(revision)
            }
            Err(error) => {
                self.audience.failed("listing", &error);
                End::ListFailed
            }
        }
    }

    async fn watch(&mut self, from: Revision, seconds: u64) -> End {
        let begin = Instant::now();
        let mut stream = match self.open(from, seconds).await {
            Ok(Some(stream)) => stream,
            Ok(None) => return End::Expired,
            Err(ClientError::Status(status)) if status.is_expired() => return self.expired(status),
            Err(error) => {
                self.audience.failed("opening a watch", &error);
                return End::Broken { lived: Duration::ZERO };
            }
        };
        self.audience.opened(self.resource);
        let (end, how) = self.read(&mut stream, begin, Duration::from_secs(seconds)).await;
        self.audience.ended(self.resource, how);
        end
    }

    /// `None`: the server has another database than that of the position.
    async fn open(&self, from: Revision, seconds: u64) -> Result<Option<WatchStream>, ClientError> {
        let stream = self.client.watch(&watch_path(self.resource, from, seconds)).await?;
        let same = self.lineage.check(&self.client, self.lineage.epoch()).await?;
        Ok(same.is_ok().then_some(stream))
    }

    /// Reads a watch to its end.
    async fn read(&mut self, stream: &mut WatchStream, begin: Instant, limit: Duration) -> (End, Ended) {
        loop {
            let silence = |_| ClientError::Timeout { what: "waiting for a watch to end", limit: GRACE };
            let next = match stream.ready() {
                Ok(None) => tokio::time::timeout_at(begin + limit + GRACE, stream.next()).await.map_err(silence),
                ready => Ok(ready),
            };
            let lived = begin.elapsed();
            match next.and_then(|next| next) {
                Ok(Some(event)) => {
                    if let Err(over) = self.event(&event) {
                        return over;
                    }
                }
                Ok(None) if lived + EARLY < limit => return (End::Closed { lived }, Ended::Early),
                Ok(None) => return (End::Closed { lived }, Ended::InTime),
                Err(error) => {
                    self.audience.failed("reading a watch", &error);
                    return (End::Broken { lived }, Ended::Early);
                }
            }
        }
    }

    /// Takes an event in; the watch is over with it where that cannot be.
    fn event(&mut self, event: &WatchEvent) -> Result<(), (End, Ended)> {
        let bookmark = match event.kind.as_str() {
            "ADDED" | "MODIFIED" | "DELETED" => false,
            "BOOKMARK" => true,
            _ => {
                let status = event.status();
                return Err(if status.is_expired() {
                    (self.expired(status), Ended::TooSlow)
                } else {
                    self.audience.failed("watching", &ClientError::Status(status));
                    (End::Garbled, Ended::Early)
                });
            }
        };
        let verdict = event.revision().map(|revision| (revision, self.machine.event(revision)));
        let Some((revision, Verdict::Apply)) = verdict else { return Err((End::Garbled, Ended::Early)) };
        if !bookmark {
            self.audience.came(self.resource, revision, &event.object);
        }
        self.programmed(revision);
        Ok(())
    }

    fn expired(&self, status: StatusError) -> End {
        self.audience.failed("watching", &ClientError::Status(status));
        End::Expired
    }

    fn programmed(&self, revision: Revision) {
        if let Some(place) = self.place {
            self.programmed.send_modify(|programmed| programmed.revisions[place] = Some(revision));
        }
    }
}
