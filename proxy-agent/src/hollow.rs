//! An agent without a kernel: what many nodes put on a server can be measured on one machine by as many of these.
//!
//! It is what an agent is to its server: a certificate of its own, a Node and a Lease, beats on a connection of their own,
//! a watch of everything that agents watch, the long poll for questions, and acknowledgements of what it would have
//! programmed. Nothing of what comes is kept but its revision, so a hollow node takes no more memory than its connections.
//!
//! Three things are otherwise than with an agent, and a measurement has to say so. It registers before it watches, since
//! thousands of Nodes that come while all watch them would be millions of events before anything is measured. From where its
//! watches begin is its [`Audience`]'s to say, which may have listed once for all. And a watch that broke goes on from its
//! position without the proof that an agent wants first ([`ground`](crate::reflector::ground)).

#[cfg(test)]
mod tests;
mod watching;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{Resource, Revision};
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::acknowledge::{self, Programmed};
use crate::client::{Client, ClientError};
use crate::lineage::Lineage;
use crate::node::shape::Shape;
use crate::node::{self, DnsPort};
use crate::objects::WATCHED;
use crate::questions::{self, Asked};
use crate::{beat, give_up, process_id};

pub use crate::beat::Apart;
pub use crate::reflector::collection;

/// How often it is looked whether a Node is registered.
const LOOK: Duration = Duration::from_millis(20);
/// Questions that wait for their refusal.
const QUESTIONS: usize = 1;

/// What a hollow node watches: all that an agent does for its plan, its names and its way through edge nodes.
pub fn watched() -> impl Iterator<Item = Resource> {
    WATCHED.into_iter().chain([Resource::LoadBalancers])
}

/// Who is told what hollow nodes see. One for all nodes of a process; nothing in it may wait for long.
pub trait Audience: Send + Sync + 'static {
    /// The revision of a list of `resource` that was made after `since`; what a node can do is done through its `client`.
    fn list(
        &self,
        client: &Client,
        resource: Resource,
        since: Instant,
    ) -> impl Future<Output = Result<Revision, ClientError>> + Send;

    /// A watch is open.
    fn opened(&self, resource: Resource);

    /// An object came, as it is at `revision`.
    fn came(&self, resource: Resource, revision: Revision, object: &[u8]);

    /// A watch that was open has ended.
    fn ended(&self, resource: Resource, how: Ended);

    /// Something failed, and is tried again.
    fn failed(&self, doing: &'static str, error: &ClientError);
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// When it was to.
    InTime,
    /// Earlier, by the server or by a fault: it was cut.
    Early,
    /// The node was too slow, and the server has forgotten where it was.
    TooSlow,
}

/// A node that is being hollow; dropping it ends everything but what the server remembers.
pub struct Hollow {
    client: Client,
    name: String,
    lineage: Lineage,
    tasks: JoinSet<()>,
}

impl Hollow {
    /// Begins to be a Node at `address`, and to renew its Lease. `client` shows this node's certificate ([`introduce`]).
    pub fn start(client: Client, name: &str, address: IpAddr, labels: BTreeMap<String, String>) -> Self {
        let (lineage, mut tasks) = (Lineage::default(), JoinSet::new());
        let shape = Shape::new(name, vec![address], labels);
        let dns = DnsPort { is: watch::channel(None).1, told: watch::channel(None).0 };
        tasks.spawn(node::keep(client.clone(), lineage.clone(), shape, dns));
        Self { client, name: name.to_owned(), lineage, tasks }
    }

    /// Completes when the server has the Node and its Lease.
    pub async fn registered(&self) {
        while self.lineage.confirmed(self.lineage.epoch()).is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Watches, beats, acknowledges and refuses questions from now on. All nodes of a process beat from the thread `beats`: an
    /// agent's have one of their own, too, and are not kept waiting by what the others are busy with.
    pub fn watch<A: Audience>(&mut self, audience: &Arc<A>, beats: &Apart) {
        let (programmed, acknowledged) = watch::channel(Programmed::default());
        let programmed = Arc::new(programmed);
        let since = Instant::now();
        for resource in watched() {
            let (client, lineage) = (self.client.clone(), self.lineage.clone());
            let (audience, programmed) = (Arc::clone(audience), Arc::clone(&programmed));
            self.tasks.spawn(watching::follow(client, lineage, resource, since, audience, programmed));
        }
        let again = Arc::new(Notify::new());
        let (asked, questions) = mpsc::channel(QUESTIONS);
        self.tasks.spawn(acknowledge::tell(
            self.client.clone(),
            self.name.clone(),
            process_id(),
            acknowledged,
            Arc::clone(&again),
            acknowledge::REPEAT,
        ));
        self.tasks.spawn(questions::listen(self.client.clone(), self.name.clone(), asked, again));
        self.tasks.spawn(refuse(questions));
        let (cut, cuts) = watch::channel(0);
        let (client, name) = (self.client.apart(), self.name.clone());
        self.tasks.spawn_on(async move { beat::beat(client, &name, &cut).await }, beats.runtime());
        self.tasks.spawn(give_up(self.client.clone(), Some(cuts)));
    }
}

/// Answers what can be answered without a kernel.
async fn refuse(mut questions: mpsc::Receiver<Asked>) {
    while let Some(Asked { question, answer }) = questions.recv().await {
        let reply = match question.get("kind").and_then(serde_json::Value::as_str) {
            Some("Ping") => json!({"kind": "Pong", "revision": "0"}),
            _ => questions::refusal("a hollow node has no kernel that could be asked".to_owned()),
        };
        // Whoever asked may have gone.
        drop(answer.send(reply));
    }
}
