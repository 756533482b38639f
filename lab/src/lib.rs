//! A cluster of network namespaces on one machine, brought up by one binary, with or without root.
//!
//! `up` opens the API's listening socket in the host's network namespace, moves into namespaces of its own
//! (user, unless it is root; mount, network, PID), and starts the supervisor there as PID 1. Everything of the
//! lab lives below that PID 1 and inside those namespaces. So the kernel itself takes the whole lab away when the
//! supervisor ends, however it ends, and nothing on the host was touched in the first place.
//!
//! The supervisor builds the bridge, the nodes and the client (`network`), runs one server and an agent per
//! node, plays scheduler and kubelet (`kubelet`), and answers on a socket in the lab's directory (`control`).
//!
//! What the command line calls is in this file. [`up`], [`supervise`] and [`exec`] change the namespaces of the
//! calling process: call them from `main` before any thread or runtime exists.

mod addresses;
mod children;
mod control;
pub mod echo;
mod edges;
mod error;
mod joining;
mod kubeconfig;
mod kubelet;
mod launch;
mod mounts;
mod netns;
mod network;
pub mod probe;
mod remote;
mod revisions;
mod supervisor;
mod table;
mod unit;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxy_agent::Dataplane;
use serde::{Deserialize, Serialize};

pub use error::LabError;

/// The most nodes of a lab: their addresses must fit between .11 and .99.
pub const MAX_NODES: usize = 64;
/// The most edge nodes of a lab.
pub const MAX_EDGES: usize = 8;

/// What `lab up` was asked for.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Holds everything the lab writes: the server's data, logs, the control socket.
    pub dir: PathBuf,
    /// 1 to [`MAX_NODES`].
    pub nodes: usize,
    /// 0 to [`MAX_EDGES`].
    pub edges: usize,
    /// What is to carry the Services of its nodes.
    pub dataplane: Dataplane,
    /// Further arguments of every node's agent.
    pub agent_args: Vec<String>,
    /// Further arguments of the server.
    pub server_args: Vec<String>,
    /// Return when the lab is ready and leave it running.
    pub detach: bool,
    /// Where the API listens on the host.
    pub listen: SocketAddr,
    /// The program that becomes supervisor, server, agents and echo; `None` is this one.
    pub exe: Option<PathBuf>,
}

/// A lab whose every node has programmed its dataplane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// For `kubectl` on the host; absolute.
    pub kubeconfig: PathBuf,
    /// The API's URL on the host.
    pub server: String,
    pub nodes: Vec<String>,
    pub edges: Vec<String>,
}

/// What `lab status` shows. `Display` is the table; the serialised form is that of `-o json|yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub server: ServerStatus,
    pub nodes: Vec<NodeStatus>,
    pub edges: Vec<EdgeStatus>,
    pub client: Vec<IpAddr>,
    pub pods: Vec<PodStatus>,
}

/// The API server of a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    pub url: String,
    /// As the host counts processes; absent while it is being restarted.
    pub pid: Option<i32>,
    pub restarts: u32,
}

/// One node of a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// What carries the Services, as the agent says; absent when it does not answer.
    pub dataplane: Option<String>,
    /// The agent's process, as the host counts them; absent while it is being restarted.
    pub agent_pid: Option<i32>,
    pub restarts: u32,
    /// The newest revision that the agent has in the kernel; absent when it does not answer.
    pub programmed_revision: Option<u64>,
    pub pods: usize,
}

/// One edge node of a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeStatus {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// The process, as the host counts them; absent while it is being restarted.
    pub pid: Option<i32>,
    pub restarts: u32,
    /// The addresses of load balancers that it answers for; absent when it does not say.
    pub holds: Option<Vec<IpAddr>>,
}

/// One pod that runs in a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    pub namespace: String,
    pub name: String,
    pub node: String,
    pub addresses: Vec<IpAddr>,
    pub phase: String,
    pub ready: bool,
    pub terminating: bool,
}

/// Brings up a lab. Calls `ready` once, when every node has programmed its dataplane; then returns when detached,
/// and otherwise when the lab has ended: after SIGINT, SIGTERM or `lab down`.
///
/// The process must have one thread: it moves into other namespaces and stays there.
///
/// # Errors
/// Each says what to do; nothing is left running.
pub fn up(options: &UpOptions, ready: &mut dyn FnMut(&Ready)) -> Result<(), LabError> {
    launch::up(options, ready)
}

/// The hidden command `portolan lab supervise SPEC` that [`up`] starts: the lab's PID 1. Runs until the lab ends, and
/// gives the exit code; whatever went wrong has been told to [`up`] or to the log. The process must have one thread
/// and no runtime.
pub fn supervise(spec: &str) -> i32 {
    supervisor::supervise(spec)
}

/// What runs in the lab of `dir`.
///
/// # Errors
/// When no lab runs there.
pub fn status(dir: &Path) -> Result<Status, LabError> {
    remote::status(dir)
}

/// Returns when every agent has programmed everything that the server has acknowledged up to now.
///
/// # Errors
/// When no lab runs there, or `timeout` passed first.
pub fn wait(dir: &Path, timeout: Duration) -> Result<(), LabError> {
    remote::wait(dir, timeout)
}

/// Runs a command inside the namespaces of a node, of an edge node, of `client`, or of a pod (`namespace/name`, or `name` in
/// `default`), with this process's stdio, and returns its exit code (128 + the signal that ended it).
///
/// The process must have one thread: it moves into the lab's namespaces.
///
/// # Errors
/// When no lab runs there, it has no such name, or the command cannot be started.
pub fn exec(dir: &Path, name: &str, command: &[OsString]) -> Result<i32, LabError> {
    remote::exec(dir, name, command)
}

/// Stops `server`, the agent of a node, or an edge node, and returns when it has ended. It stays so until [`start`].
///
/// # Errors
/// When no lab runs there, or it has no such program.
pub fn stop(dir: &Path, name: &str) -> Result<(), LabError> {
    remote::stop(dir, name)
}

/// Starts what [`stop`] has stopped; changes nothing if it runs. The agent of a node gets `dataplane` from now on, if there is any
/// given.
///
/// # Errors
/// When no lab runs there, it has no such program, or this runs and is to have another dataplane.
pub fn start(dir: &Path, name: &str, dataplane: Option<Dataplane>) -> Result<(), LabError> {
    remote::start(dir, name, dataplane)
}

/// Pulls the cable of a node or edge node: nothing that it sends arrives anywhere, nothing arrives there, and nobody is told. It stays so
/// until [`heal`].
///
/// # Errors
/// When no lab runs there, or it has no such node.
pub fn cut(dir: &Path, node: &str) -> Result<(), LabError> {
    remote::cut(dir, node)
}

/// Plugs in what [`cut`] has pulled; changes nothing if it is in.
///
/// # Errors
/// When no lab runs there, or it has no such node.
pub fn heal(dir: &Path, node: &str) -> Result<(), LabError> {
    remote::heal(dir, node)
}

/// Stops the lab of `dir` and returns when nothing of it runs any more. `purge` removes its files too.
///
/// # Errors
/// When no lab runs there (unless `purge` found files to remove), or it would not stop.
pub fn down(dir: &Path, purge: bool) -> Result<(), LabError> {
    remote::down(dir, purge)
}
