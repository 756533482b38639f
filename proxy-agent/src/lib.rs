//! The node agent: watches the API, compiles a plan for its node, and programs the kernel.
//!
//! ```text
//! reflector (services) ──────┐
//! reflector (endpointslices) ┤  updates   ┌── core loop ──────────────────────┐
//! reflector (nodes) ─────────┼───────────▶│ state ─ dirty ─▶ compile ─▶ plan ─┼─▶ dataplane
//! reflector (servicecidrs) ──┤  (bounded) └──────────┬────────────────────────┘
//! reflector (namespaces) ────┘                       │        └─▶ names of the cluster (dns)
//!                                                    ▼
//!                          acknowledgements, answers ─▶ the server
//!
//!  node keeper ─▶ Node, Lease            metrics, health ─▶ :10249, :10256
//!  beat ─▶ the server, every second, on a thread of its own
//!                                        checks ─▶ every healthCheckNodePort; events ─▶ Events
//!                                        conntrack: what leads to nobody is removed
//!  names ─▶ DNS, on threads of its own   answering: where, and that the plan says so
//!  workloads ─▶ mirror Pods of what runs on this machine, with a watch of its own Pods while there are some
//!  join: credentials by a token, once ─▶ renewed, for every connection that comes
//! ```
//!
//! Decisions are pure and have no runtime: when to list and when to watch (`reflector::machine`), what changed
//! (`state`), what a change means (`dataplane::compile`). Around each is a thin task. All tasks are happy on one
//! thread: run the agent on a current-thread Tokio runtime and it needs no more.
//!
//! What the agent never does: it programs nothing before it has read every resource once, it does not go back to an
//! older plan, and it removes nothing when it ends, except that it answers DNS no more. While the server is away the kernel
//! keeps what it has.

mod acknowledge;
mod answering;
mod beat;
mod census;
mod checks;
pub mod client;
mod config;
mod conntrack;
mod core;
mod detours;
pub mod events;
pub mod follow;
mod health;
pub mod hollow;
pub mod http;
pub mod join;
mod kernel;
pub mod leaving;
mod leftovers;
mod lineage;
mod looked;
mod metrics;
mod mode;
pub mod names;
pub mod nameserver;
mod node;
mod objects;
pub mod pods;
pub mod probes;
mod program;
pub mod programmed;
mod questions;
mod reflector;
pub mod resolver;
pub mod routes;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod workloads;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use dataplane::local::LocalRoutes;
use dns::{Names, Server};
use model::Key;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

pub use dataplane::Refused;
pub use dataplane::nftables::Ownership;
pub use dataplane::plan::{Local, NodePortAddresses};

pub use config::{Config, DEFAULT_HEALTH_ADDRESS, DEFAULT_METRICS_ADDRESS, DnsConfig, ResolverConfig};
pub use kernel::{CleanupError, OpenError, cleanup};
pub use mode::{Dataplane, Mode, UnknownDataplane};
pub use node::resources;
pub use program::Program;

use crate::acknowledge::Programmed;
use crate::answering::Answering;
use crate::beat::Beat;
use crate::conntrack::Flows;
use crate::core::{Core, Ending, Links};
use crate::events::Recorder;
use crate::health::Health;
use crate::http::{Door, Site};
use crate::kernel::{Kernel, Options};
use crate::lineage::Lineage;
use crate::metrics::Metrics;
use crate::names::Keeper;
use crate::node::DnsPort;
use crate::node::shape::Shape;
use crate::objects::WATCHED;
use crate::reflector::News;
use crate::state::{OwnNode, State};
use crate::workloads::{Workloads, WorkloadsError};
use client::{Client, ClientError};
use join::JoinError;

/// Updates that wait for the core loop; reflectors stop reading when it is full.
const QUEUE: usize = 256;
/// Questions that wait for it.
const QUESTIONS: usize = 16;
/// How long an agent that answers DNS may take to end; for the Node object to say that it does not any more; and for the
/// endpoints that follow from that to come back.
const LEAVING: Duration = Duration::from_secs(1);
const TELLING: Duration = Duration::from_millis(500);
const LEARNING: Duration = Duration::from_millis(100);

/// Why an agent cannot begin or go on. Whatever fails on the way is tried again and is no error here.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the server cannot be used")]
    Client(#[from] ClientError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("listening on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("this machine's kernel cannot carry Services")]
    Open(#[from] OpenError),
    #[error("the kernel's routes cannot be used")]
    Routes(#[source] io::Error),
    /// The process lacks a right, or the kernel a part.
    #[error("programming the kernel")]
    Program(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("answering for the cluster's names")]
    Dns(#[from] dns::StartError),
    #[error("standing for this machine's workloads")]
    Workloads(#[from] WorkloadsError),
    /// A part of the agent panicked. It must be started anew; the kernel keeps forwarding meanwhile.
    #[error("a part of the agent ended unexpectedly")]
    Ended(#[source] Option<tokio::task::JoinError>),
}

/// Runs the agent until `shutdown` is done. The kernel keeps its tables afterwards: traffic goes on while an agent
/// is being replaced.
///
/// The dataplane is that of the network namespace of the calling thread.
///
/// # Errors
/// When the agent cannot begin: the kubeconfig cannot be used or the cluster not be joined, an address is taken, the kernel has no dataplane
/// that is wanted or the process no right to it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    // First of all, whether there is any use in it.
    let kernel = Kernel::open(Options {
        dataplane: config.dataplane,
        scheduler: config.ipvs_scheduler,
        ownership: config.ownership,
    })?;
    tokio::pin!(shutdown);
    let begun = join::begin::<AgentError>(config.join.clone(), &config.kubeconfig, shutdown.as_mut()).await?;
    let Some((client, renewal)) = begun else { return Ok(()) };
    tokio::select! {
        ended = run_with(config, client, kernel, shutdown) => ended,
        () = renewal => Err(AgentError::Ended(None)),
    }
}

/// As [`run`], with a client that is ready and any kernel.
///
/// # Errors
/// As [`run`].
pub async fn run_with<P: Program>(
    config: Config,
    client: Client,
    kernel: P,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let metrics_listener = listen(config.metrics_addr).await?;
    let health_listener = listen(config.health_addr).await?;
    let site = Site {
        metrics: Arc::new(Metrics::new(kernel.mode())),
        health: Arc::new(Health::default()),
        config: Arc::new(config.shown(kernel.mode())),
        mode: kernel.mode(),
    };
    let node_name = config.local.name.to_string();
    let state = State::new(&node_name, config.node_ips.clone());
    let (programmed, acknowledged) = watch::channel(Programmed::default());
    let (asked, questions) = mpsc::channel(QUESTIONS);
    let (checks, ports) = watch::channel(Arc::default());
    let (events, notes) = Recorder::new(site.metrics.dropped_events());
    let flows = Arc::new(Flows::default());
    let (dns_port_is, dns_port) = watch::channel(None);
    let (dns_port_told, dns_port_known) = watch::channel(None);
    let (end, ending) = watch::channel(Ending::No);
    let (own, own_node) = watch::channel(OwnNode::default());
    let workloads = config.workloads.map(Workloads::open).transpose()?;
    let names = config.dns.as_ref().map(|dns| Arc::new(RwLock::new(Names::new(dns.zone.clone()))));
    let named = names.clone().zip(config.resolver);
    let mut answering = None;
    if let Some((dns, names)) = config.dns.as_ref().zip(names.clone()) {
        let mut options = nameserver::options(dns, Vec::new());
        // Whoever is of the cluster may ask for any name, wherever its ranges are.
        options.allow.add(config.local.cluster_cidrs.iter().copied());
        let server = Server::start(options, names, site.metrics.dns())?;
        let routes = LocalRoutes::open().map_err(AgentError::Routes)?;
        let (service, events) = (dns.zone.service.clone(), events.clone());
        let (sockets, routes) = (Box::new(server), Box::new(routes));
        answering = Some(Answering::new(service, &node_name, dns.port, sockets, routes, dns_port_is, events));
    }
    let answers = answering.is_some();
    // Dropped on every way out, and its tasks with it.
    let mut tasks = JoinSet::new();
    let lineage = Lineage::default();
    let routing = kernel.detours();
    let detours = routing.map(|routing| detours::keep(&mut tasks, &client, &lineage, chance(), Box::new(routing)));
    let links = Links {
        programmed,
        questions,
        checks,
        events: events.clone(),
        flows: Arc::clone(&flows),
        names: names.map(Keeper::new),
        answering,
        detours,
        own,
        ending,
        at_rest: config.at_rest,
    };
    let clean = kernel.conntrack();
    let core = Core::new(state, config.local, kernel, Arc::clone(&site.metrics), Arc::clone(&site.health), links);

    let updates = watch_all(&mut tasks, &client, &lineage);
    let again = Arc::new(Notify::new());
    let agent = process_id();
    tasks.spawn(acknowledge::tell(
        client.clone(),
        node_name.clone(),
        agent,
        acknowledged,
        Arc::clone(&again),
        acknowledge::REPEAT,
    ));
    tasks.spawn(questions::listen(client.clone(), node_name.clone(), asked, again));
    let shape = Shape::new(&node_name, config.node_ips, config.node_labels);
    let dns_port = DnsPort { is: dns_port, told: dns_port_told };
    let (keeper, health) = (node::keep(client.clone(), lineage, shape, dns_port), Arc::clone(&site.health));
    let (beating, beating_name) = (client.clone(), node_name.clone());
    tasks.spawn(async move {
        // A node that forwards nothing must not call itself ready.
        health.programmed().await;
        let beat = Beat::start(&beating, &beating_name);
        if let Err(error) = &beat {
            warn!(%error, "this node cannot say that it lives; its Lease alone does");
        }
        let cuts = beat.as_ref().ok().map(Beat::cuts);
        tokio::join!(keeper, give_up(beating, cuts));
    });
    let workloads =
        workloads.map(|workloads| workloads.start(&mut tasks, client.clone(), &node_name, events.clone(), own_node));
    tasks.spawn(checks::serve(ports, Arc::clone(&site.health), events, node_name.clone(), checks::RETRY));
    tasks.spawn(events::write(client.clone(), node_name.clone(), site.metrics.dropped_events(), notes));
    if let Some(cleaner) = clean {
        let removed = site.metrics.removed_flows();
        tasks.spawn(conntrack::keep_clean(flows, move |index| cleaner.clean(index), removed, conntrack::RESTS));
    }
    if let Some((names, resolver)) = named {
        tasks.spawn(resolver::keep(names, None, resolver.search));
    }
    tasks.spawn(http::serve(metrics_listener, Door::Metrics, site.clone()));
    tasks.spawn(http::serve(health_listener, Door::Health, site));
    info!(node = node_name, server = client.server_url(), "the agent runs");

    let core = core.run(updates);
    tokio::pin!(core);
    tokio::select! {
        () = shutdown => {
            if let Some(workloads) = workloads {
                // That nobody is sent here any more is this node's to program, too.
                tokio::select! {
                    () = workloads.leave() => {}
                    _ = &mut core => {}
                }
            }
            if answers {
                leave(&end, dns_port_known, &mut core).await;
            }
            info!("the agent ends; the kernel keeps its tables");
            Ok(())
        }
        ended = &mut core => match ended {
            Ok(()) => Err(AgentError::Ended(None)),
            Err(cause) => Err(AgentError::Program(Box::new(cause))),
        },
        ended = tasks.join_next() => Err(AgentError::Ended(ended.and_then(Result::err))),
    }
}

/// Gives up the connections that are dead, each time that the server is heard again after it was not for long.
async fn give_up(client: Client, cuts: Option<watch::Receiver<u64>>) {
    let Some(mut cuts) = cuts else { return };
    while cuts.changed().await.is_ok() {
        client.cut_silent(beat::CUT).await;
    }
}

/// Lets other nodes answer DNS in place of this one, as far as that can be done in [`LEAVING`]: first nobody is to be sent
/// here, then this node's own queries go to the others that are left.
async fn leave<T>(end: &watch::Sender<Ending>, mut known: watch::Receiver<Option<u16>>, core: impl Future<Output = T>) {
    let steps = async {
        end.send_replace(Ending::Soon);
        // The core loop passes it on before anything can be known of it.
        tokio::task::yield_now().await;
        let _ = tokio::time::timeout(TELLING, known.wait_for(Option::is_none)).await;
        tokio::time::sleep(LEARNING).await;
        end.send_replace(Ending::Now);
        std::future::pending::<()>().await;
    };
    let _ = tokio::time::timeout(LEAVING, async {
        tokio::select! {
            _ = core => {}
            () = steps => {}
        }
    })
    .await;
}

/// Follows every watched resource; the updates of all come through one queue.
fn watch_all(tasks: &mut JoinSet<()>, client: &Client, lineage: &Lineage) -> mpsc::Receiver<News> {
    let (sender, updates) = mpsc::channel(QUEUE);
    for resource in WATCHED {
        tasks.spawn(reflector::follow(client.clone(), lineage.clone(), resource, sender.clone(), chance()));
    }
    updates
}

async fn listen(address: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })
}

/// A stream of numbers that differ from process to process. Nothing secret follows from them.
fn chance() -> impl FnMut() -> u64 {
    let random = RandomState::new();
    let mut count = 0_u64;
    move || {
        count = count.wrapping_add(1);
        random.hash_one(count)
    }
}

/// Tells this process from every other agent's.
fn process_id() -> String {
    let mut chance = chance();
    format!("{:016x}{:016x}", chance(), chance())
}

/// `namespace/name`, for logs.
fn path(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
