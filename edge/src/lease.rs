//! The edge's Lease: by it the controller knows that the edge lives and where it is, and the edge until when it may answer
//! ([`fence`]). How both sides use it stands in [`model::balancing::lease`].
//!
//! Each attempt has little time: one that is late is worth little, and the next goes by another connection. The moment that
//! counts is the one before the request leaves.
//!
//! A renewal names the version of the last one, so one that succeeds says that nobody took the Lease meanwhile, and nothing that
//! the edge held was given away, however long it was away. A renewal that is refused says the opposite: then the Lease is
//! taken anew, and what the server says of all instances is read once, from that state on ([`Known`]).

pub mod fence;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::balancing::lease::{EdgeLease, NAMESPACE, RENEW_EVERY, name_of};
use nix::time::{ClockId, clock_gettime};
use proxy_agent::client::{Client, ClientError};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::announce::Known;
use crate::watch::collection;
use fence::{Boot, Fence, Standing};
use proxy_agent::chain;

/// How long an attempt may take.
const LIMIT: Duration = Duration::from_millis(800);
/// How long reading all instances may take.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// So long without an answer, and other connections are given up when there is one: nothing is sent on a watch, and one that
/// the network has lost does not know it.
const CUT: Duration = Duration::from_secs(3);

/// Renewals without an answer that are remembered.
const UNANSWERED: usize = 32;

/// What the Lease comes to.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    pub fence: Fence,
    /// What was read since the Lease was taken last; `None`: not yet.
    pub known: Option<Arc<Known>>,
    /// Counts how often the server was away for long and is heard again.
    pub cuts: u64,
    /// Counts how often the Lease was taken from the edge, or is not the one that it wrote: another database has another.
    pub losses: u64,
    pub renewed: u64,
    pub failed: u64,
}

/// The time since boot.
pub fn boot() -> Boot {
    // It cannot fail for this clock; a time before every other would end nothing, and one after every other all.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Boot::MAX, Duration::from)
}

/// Renews the Lease until `leave` says something, and then gives it back.
pub async fn keep(client: Client, own: EdgeLease, lease: Arc<watch::Sender<Lease>>, mut leave: mpsc::Receiver<()>) {
    let mut keeper = Keeper {
        client,
        own,
        lease,
        version: None,
        unanswered: Vec::new(),
        read: None,
        answered: Instant::now(),
        troubled: false,
    };
    loop {
        let next = Instant::now() + RENEW_EVERY;
        keeper.renew().await;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => break,
                read = finished(&mut keeper.read) => keeper.learn(read),
                Some(()) = leave.recv() => return keeper.leave().await,
            }
        }
    }
}

struct Keeper {
    client: Client,
    own: EdgeLease,
    lease: Arc<watch::Sender<Lease>>,
    /// Of the Lease as this edge wrote it last.
    version: Option<String>,
    /// The times of renewals that were sent since and had no answer; the last first.
    unanswered: Vec<String>,
    /// Reads who has the instances.
    read: Option<JoinHandle<Result<Known, ClientError>>>,
    answered: Instant,
    troubled: bool,
}

/// How a Lease comes to be held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nobody has taken it meanwhile.
    Renewed,
    /// Somebody may have.
    Taken,
}

impl Keeper {
    async fn renew(&mut self) {
        let sent = boot();
        match within(LIMIT, self.hold()).await {
            Ok(way) => self.held(sent, way),
            Err(error) if error.is_conflict() || error.is_not_found() => {
                // The server gave up this edge, or the Lease was deleted. It is taken anew at once.
                self.lost();
                let sent = boot();
                match within(LIMIT, self.hold()).await {
                    Ok(way) => self.held(sent, way),
                    Err(error) => self.failed(&error),
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn held(&mut self, sent: Boot, way: Way) {
        let away = std::mem::replace(&mut self.answered, Instant::now()).elapsed() >= CUT;
        self.lease.send_modify(|lease| {
            lease.fence.renewed(sent);
            lease.renewed += 1;
            lease.cuts += u64::from(away);
            if way == Way::Taken {
                lease.known = None;
            }
        });
        if way == Way::Taken || self.troubled {
            info!(edge = self.own.edge, "the edge holds its lease");
        }
        self.troubled = false;
        if way == Way::Taken || (self.read.is_none() && self.lease.borrow().known.is_none()) {
            self.read();
        }
    }

    /// What this edge held is not its any more.
    fn lost(&mut self) {
        self.unanswered.clear();
        let had = self.version.take().is_some();
        if had {
            warn!(edge = self.own.edge, "the edge's lease was taken from it");
        }
        self.lease.send_modify(|lease| {
            lease.fence.lost();
            lease.losses += u64::from(had);
        });
    }

    fn failed(&mut self, error: &ClientError) {
        // The connection may be dead, or show a certificate that has ended.
        self.client.cut();
        let refused = error.code().is_some_and(|code| (400..500).contains(&code) && ![408, 429].contains(&code));
        if refused {
            self.lost();
        }
        self.lease.send_modify(|lease| lease.failed += 1);
        let lapsed = self.lease.borrow().fence.standing(boot()) != Standing::Leased;
        if self.troubled || !lapsed {
            debug!(edge = self.own.edge, error = %chain(error), "not renewed");
        } else {
            warn!(edge = self.own.edge, error = %chain(error), "the edge's lease cannot be renewed; trying on");
            self.troubled = true;
        }
    }

    /// Writes this edge's name into the Lease, in place of what it wrote last, or else of whatever is there.
    async fn hold(&mut self) -> Result<Way, ClientError> {
        let path = format!("{}/{}", leases(), name_of(&self.own.edge));
        let Some(last) = self.version.clone() else {
            let found = match self.client.get(&path).await {
                Ok(found) => Some(found),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
            let before = found.as_ref().and_then(|found| EdgeLease::read(found.to_string().as_bytes()));
            self.own.transitions = before.map_or(0, |before| before.transitions + i64::from(!before.held));
            let version = found.as_ref().and_then(version);
            self.write(&path, version).await?;
            return Ok(Way::Taken);
        };
        match self.write(&path, Some(last)).await {
            Err(error) if error.is_conflict() && !self.unanswered.is_empty() => {
                // One that was given up may have arrived all the same; then what is there is this edge's own word.
                let found = self.client.get(&path).await?;
                let lease = EdgeLease::read(found.to_string().as_bytes()).unwrap_or_default();
                if !lease.held || !self.unanswered.contains(&lease.renewed) {
                    return Err(error);
                }
                self.write(&path, version(&found)).await?;
            }
            other => other?,
        }
        Ok(Way::Renewed)
    }

    async fn write(&mut self, path: &str, version: Option<String>) -> Result<(), ClientError> {
        let object = self.own.object(Timestamp::now(), version.as_deref());
        self.unanswered.truncate(UNANSWERED - 1);
        self.unanswered.insert(0, object["spec"]["renewTime"].as_str().unwrap_or_default().to_owned());
        let written = match version {
            Some(_) => self.client.put(path, &object).await?,
            None => self.client.post(&leases(), &object).await?,
        };
        self.version = self::version(&written);
        self.unanswered.clear();
        Ok(())
    }

    /// Begins to read who has the instances; what was being read is worth nothing any more.
    fn read(&mut self) {
        if let Some(read) = self.read.take() {
            read.abort();
        }
        let (client, edge) = (self.client.clone(), self.own.edge.clone());
        self.read = Some(tokio::spawn(async move {
            let list = within(READ_LIMIT, client.get(&collection(model::Resource::LoadBalancers))).await?;
            Ok(known(&list, &edge))
        }));
    }

    fn learn(&mut self, read: Option<Result<Known, ClientError>>) {
        self.read = None;
        match read {
            Some(Ok(known)) => self.lease.send_modify(|lease| lease.known = Some(Arc::new(known))),
            // The next renewal begins anew.
            Some(Err(error)) => debug!(error = %chain(&error), "who has the instances cannot be read"),
            None => {}
        }
    }

    async fn leave(mut self) {
        self.own.held = false;
        self.lease.send_modify(|lease| lease.fence.leave());
        if self.version.is_none() {
            return;
        }
        match within(LIMIT, self.hold()).await {
            Ok(_) => info!(edge = self.own.edge, "the edge has given its lease back"),
            Err(error) => {
                warn!(edge = self.own.edge, error = %chain(&error), "the lease cannot be given back; it ends by itself");
            }
        }
    }
}

/// What was read; never, where nothing is.
async fn finished(read: &mut Option<JoinHandle<Result<Known, ClientError>>>) -> Option<Result<Known, ClientError>> {
    match read {
        Some(handle) => handle.await.ok(),
        None => std::future::pending().await,
    }
}

async fn within<T>(limit: Duration, request: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let silence = |_| ClientError::Timeout { what: "keeping the edge's lease", limit };
    tokio::time::timeout(limit, request).await.map_err(silence)?
}

fn leases() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases")
}

fn version(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

/// Who has each instance of a list.
fn known(list: &Value, edge: &str) -> Known {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let each = items.iter().filter_map(|item| {
        let (instance, holder) = (item["metadata"]["name"].as_str()?, &item["status"]["edge"]);
        let mine = holder["name"].as_str() == Some(edge);
        Some((instance.to_owned(), (holder["term"].as_u64().unwrap_or_default(), mine)))
    });
    each.collect()
}
