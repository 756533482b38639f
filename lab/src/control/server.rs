//! The answering side, in the supervisor.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proxy_agent::workloads::protocol::short;
use proxy_agent::{Dataplane, chain, programmed};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::{Answer, MAX_LINE, Namespace, Request, descriptors};
use crate::children::Children;
use crate::edges::EdgeNode;
use crate::kubelet::{HomeNode, Phase, Shared};
use crate::mounts::Mounts;
use crate::netns::Netns;
use crate::revisions;
use crate::unit::Unit;
use crate::{NodeStatus, PodStatus, ServerStatus, Status, addresses};

/// Conversations at a time; more wait.
const MAX_CONVERSATIONS: usize = 64;
/// Between two looks at agents that are not there yet.
const POLL: Duration = Duration::from_millis(50);
/// How long a caller may take to ask.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// What the answers are made of.
pub struct Cluster {
    pub dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub url: String,
    pub client: Arc<Netns>,
    pub server: Unit,
    /// Each node with its agent.
    pub nodes: Vec<(Arc<HomeNode>, Unit)>,
    pub edges: Vec<EdgeNode>,
    /// How files read on a node, for commands; its agent reads this machine's own.
    pub node_mounts: HashMap<String, Arc<Mounts>>,
    pub kubelet: Arc<Shared>,
    pub children: Children,
    /// The namespaces that everything of the lab shares, in the order in which to enter them.
    pub shared_namespaces: Vec<(Namespace, File)>,
}

/// Makes the socket, for its user alone. What lies there is stale: the caller holds the lab's lock.
pub fn bind(dir: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(super::socket_path(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_dir, path) = short(&super::socket_path(dir))?;
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers for ever. `down` is told when the lab is to end.
pub async fn serve(listener: UnixListener, cluster: Arc<Cluster>, down: mpsc::Sender<()>) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, as a rule: it may pass.
                tracing::warn!("accepting on the lab's socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (cluster, down) = (Arc::clone(&cluster), down.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &cluster, &down).await {
                tracing::debug!("a conversation on the lab's socket broke off: {error}");
            }
            drop(slot);
        });
    }
}

async fn converse(mut stream: UnixStream, cluster: &Cluster, down: &mpsc::Sender<()>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(MAX_LINE as u64));
    tokio::time::timeout(ASK_LIMIT, reader.read_until(b'\n', &mut line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    let mut room = None;
    let answer = match serde_json::from_slice::<Request>(&line)? {
        Request::Status => Answer::Status(Box::new(cluster.status().await)),
        Request::Wait { milliseconds } => cluster.wait(Duration::from_millis(milliseconds)).await,
        Request::Enter { name } => match cluster.find(&name) {
            Some(found) => {
                room = Some(found);
                Answer::Namespaces(
                    cluster.shared_namespaces.iter().map(|(kind, _)| *kind).chain([Namespace::Network]).collect(),
                )
            }
            None => Answer::Failed { reason: cluster.unknown(&name) },
        },
        Request::Stop { name } => match cluster.program(&name) {
            Ok(unit) => {
                unit.stop(&cluster.children).await;
                Answer::Done
            }
            Err(reason) => Answer::Failed { reason },
        },
        Request::Start { name, dataplane } => match cluster.start(&name, dataplane) {
            Ok(()) => Answer::Done,
            Err(reason) => Answer::Failed { reason },
        },
        Request::Cut { name } => cluster.connect(&name, false).await,
        Request::Heal { name } => cluster.connect(&name, true).await,
        Request::Down => {
            let _ = down.send(()).await;
            Answer::Done
        }
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    let mut fds: Vec<RawFd> = Vec::new();
    if let Some(Room { netns, mounts }) = &room {
        fds.extend(cluster.shared_namespaces.iter().map(|(kind, file)| match (kind, mounts) {
            (Namespace::Mount, Some(own)) => own.as_raw_fd(),
            _ => file.as_raw_fd(),
        }));
        fds.push(netns.as_raw_fd());
    }
    // From here on blocking: an answer is small, and the caller is waiting for it.
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(ASK_LIMIT))?;
    let sent = descriptors::send(&stream, &text, &fds)?;
    stream.write_all(text.get(sent..).unwrap_or_default())
}

/// Where a command of `lab exec` runs.
struct Room {
    netns: Arc<Netns>,
    /// In which its files read as they do there; None where they are this machine's.
    mounts: Option<Arc<Mounts>>,
}

impl Cluster {
    fn find(&self, name: &str) -> Option<Room> {
        if name == "client" {
            return Some(Room { netns: Arc::clone(&self.client), mounts: None });
        }
        if let Some((node, _)) = self.nodes.iter().find(|(n, _)| n.name == name) {
            let mounts = self.node_mounts.get(name).map(Arc::clone);
            return Some(Room { netns: Arc::clone(&node.net.netns), mounts });
        }
        if let Some(edge) = self.edges.iter().find(|edge| edge.net.name == name) {
            return Some(Room { netns: Arc::clone(&edge.net.netns), mounts: None });
        }
        let (namespace, pod) = name.split_once('/').unwrap_or(("default", name));
        self.kubelet.pods.find(namespace, pod).map(|p| Room { netns: p.netns, mounts: p.mounts })
    }

    /// `server`, a node's agent, or an edge node.
    fn program(&self, name: &str) -> Result<&Unit, String> {
        if name == "server" {
            return Ok(&self.server);
        }
        let agent = self.nodes.iter().find(|(node, _)| node.name == name).map(|(_, agent)| agent);
        let edge = || self.edges.iter().find(|edge| edge.net.name == name).map(|edge| &edge.unit);
        agent.or_else(edge).ok_or_else(|| {
            format!("{name:?} is no program of the lab; there are server, and those of {}", self.machines())
        })
    }

    /// Starts `server`, a node's agent, or an edge node; what runs cannot get another dataplane.
    fn start(&self, name: &str, dataplane: Option<Dataplane>) -> Result<(), String> {
        let unit = self.program(name)?;
        if let Some(dataplane) = dataplane {
            let node = self.nodes.iter().find(|(node, _)| node.name == name).map(|(node, _)| node);
            let node = node.ok_or_else(|| format!("{name} has no dataplane; nodes have"))?;
            if unit.pid().is_some() {
                return Err(format!("{} runs; stop it first", unit.name));
            }
            node.set_dataplane(dataplane);
        }
        unit.release();
        Ok(())
    }

    /// The nodes and edge nodes, in words.
    fn machines(&self) -> String {
        let range =
            |first: &str, last: &str| if first == last { first.to_owned() } else { format!("{first} to {last}") };
        let nodes = self.nodes.last().map(|(last, _)| range("node-1", &last.name));
        let edges = self.edges.last().map(|last| range("edge-1", &last.net.name));
        nodes.into_iter().chain(edges).collect::<Vec<_>>().join(", ")
    }

    async fn connect(&self, name: &str, connected: bool) -> Answer {
        let node = self.nodes.iter().find(|(node, _)| node.name == name).map(|(node, _)| &node.net.cable);
        let edge = || self.edges.iter().find(|edge| edge.net.name == name).map(|edge| &edge.net.cable);
        let Some(cable) = node.or_else(edge) else {
            let reason = format!("{name:?} is no machine of the lab; there are {}", self.machines());
            return Answer::Failed { reason };
        };
        match cable.connect(connected).await {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed { reason: chain(&error) },
        }
    }

    fn unknown(&self, name: &str) -> String {
        let machines = self.machines();
        let pods = self.kubelet.pods.list();
        let some: Vec<String> = pods.iter().take(5).map(|p| format!("{}/{}", p.namespace, p.name)).collect();
        let more = if pods.len() > some.len() { ", …" } else { "" };
        let pods = if some.is_empty() { "no pod runs".to_owned() } else { format!("pods: {}{more}", some.join(", ")) };
        format!("nothing in the lab is called {name:?}; there are {machines}, client, and {pods}")
    }

    async fn status(&self) -> Status {
        let pods = self.kubelet.pods.list();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (node, agent) in &self.nodes {
            let told = revisions::told(&node.net.netns).await.ok();
            nodes.push(NodeStatus {
                name: node.name.clone(),
                addresses: node.addresses.list(),
                dataplane: told.as_ref().and_then(|told| told.dataplane.clone()),
                agent_pid: agent.pid(),
                restarts: agent.restarts(),
                programmed_revision: told.and_then(|told| told.programmed.values().max().copied()),
                pods: pods.iter().filter(|p| p.node == node.name).count(),
            });
        }
        let mut edges = Vec::with_capacity(self.edges.len());
        for edge in &self.edges {
            edges.push(edge.status().await);
        }
        Status {
            dir: self.dir.clone(),
            kubeconfig: self.kubeconfig.clone(),
            server: ServerStatus { url: self.url.clone(), pid: self.server.pid(), restarts: self.server.restarts() },
            nodes,
            edges,
            client: addresses::client().list(),
            pods: pods
                .into_iter()
                .map(|p| PodStatus {
                    namespace: p.namespace,
                    name: p.name,
                    node: p.node,
                    addresses: p.addresses,
                    phase: phase_name(p.phase).to_owned(),
                    ready: p.ready,
                    terminating: p.terminating,
                })
                .collect(),
        }
    }

    async fn wait(&self, limit: Duration) -> Answer {
        let late = match self.caught_up(limit).await {
            Ok(late) if late.is_empty() => return Answer::Done,
            Ok(late) => late.join(", "),
            Err(reason) => reason,
        };
        let (limit, logs) = (limit.as_secs_f32(), self.dir.join("logs"));
        Answer::Failed { reason: format!("not programmed after {limit} s; see {}: {late}", logs.display()) }
    }

    /// Returns when every agent has programmed what the server holds now; or at the end of `limit`, and then with what is
    /// wrong with each that has not.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn caught_up(&self, limit: Duration) -> Result<Vec<String>, String> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let report = programmed::everything(&self.kubelet.client, left).await;
            let report = report.map_err(|e| format!("the server does not say what is programmed: {}", chain(&e)))?;
            let late = |(node, _): &(Arc<HomeNode>, Unit)| match report.nodes.iter().find(|n| n.name == node.name) {
                Some(node) if node.programmed => None,
                Some(node) if node.age_seconds.is_some() => Some(format!("{} is behind", node.name)),
                // One without an agent that speaks is not among the live nodes sooner or later.
                _ => Some(format!("the agent of {} does not answer", node.name)),
            };
            let late: Vec<String> = self.nodes.iter().filter_map(late).collect();
            if late.is_empty() || Instant::now() >= until {
                return Ok(late);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    }
}
