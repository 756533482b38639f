//! PID 1 of the lab. It ends when it is told to, or when it cannot go on; the kernel does the rest.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::dup3_raw;
use proxy_agent::client::{Client, ClientError};
use proxy_agent::join::Role;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::addresses::{self, API_PORT};
use crate::children::Children;
use crate::control::{self, Cluster, Namespace};
use crate::edges::{self, EdgeNode};
use crate::joining::{self, Invitation};
use crate::kubelet::{self, HomeNode, NameService, Shared};
use crate::launch::{Report, SELF, Spec};
use crate::network::{Network, NetworkError};
use crate::unit::Unit;
use crate::{Ready, kubeconfig, remote};
use proxy_agent::chain;

/// Where systemd's protocol, and so `portolan server`, expects the first inherited socket.
const LISTEN_FD: RawFd = 3;
/// How long the server, and then the agents, may take to come up.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// How long pods of an earlier run may take to be there again before the lab is called ready without them.
const PODS_LIMIT: Duration = Duration::from_secs(20);
/// How often a program may end before the lab is up; it would not come up by being started again.
const PATIENCE: u32 = 3;
/// How long pods and agents may take to end by themselves when the lab ends. They keep nothing that the lab needs again.
const END_LIMIT: Duration = Duration::from_secs(1);
/// How long the server may take then: it has a database to close.
const SERVER_END_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How long agents are waited for before a look at whether they run at all.
const ROUND: Duration = Duration::from_millis(500);
/// Open files of the supervisor: room for every pod of the largest lab.
const MAX_FILES: u64 = 65_536;

/// What made the lab give up.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("{name} does not start: {last_words}")]
    Unit { name: String, last_words: String },
    #[error("{name} is not ready after {} s", limit.as_secs())]
    Slow {
        name: String,
        limit: Duration,
        #[source]
        source: Option<ClientError>,
    },
    #[error("making a token for the nodes")]
    Token(#[source] ClientError),
    #[error("making the pools of external addresses")]
    Pools(#[source] ClientError),
    #[error("writing the nodes")]
    Nodes(#[source] ClientError),
    #[error("{0}")]
    Silent(String),
}

impl Failure {
    fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}

/// Runs the lab; gives the exit code.
pub(crate) fn supervise(spec: &str) -> i32 {
    let spec: Spec = match serde_json::from_str(spec) {
        Ok(spec) => spec,
        Err(error) => {
            tracing::error!("this command is for `portolan lab up` alone: {error}");
            return 2;
        }
    };
    // Run as /proc/self/exe, the process would be listed as "exe".
    let _ = prctl::set_name(c"portolan");
    let mut reporter = Reporter(None);
    match run(&spec, &mut reporter) {
        Ok(()) => 0,
        Err(failure) => {
            let reason = chain(&failure);
            if !reporter.send(&Report::Failed { reason: reason.clone() }) {
                tracing::error!("the lab ends: {reason}");
            }
            1
        }
    }
}

/// Tells the waiting `lab up`, once.
struct Reporter(Option<File>);

impl Reporter {
    /// False when the report was sent before.
    fn send(&mut self, report: &Report) -> bool {
        let Some(mut pipe) = self.0.take() else { return false };
        // Nobody may be waiting any more.
        let _ = serde_json::to_vec(report).map(|text| pipe.write_all(&text));
        true
    }
}

/// What must happen while this process has one thread.
fn run(spec: &Spec, reporter: &mut Reporter) -> Result<(), Failure> {
    let (lock, report) = settle_descriptors(spec).map_err(Failure::system("taking over the descriptors"))?;
    reporter.0 = Some(report.into());
    mount_proc()?;
    allow_many_files();
    let socket = control::bind(&spec.dir).map_err(Failure::system("making the lab's socket"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::system("starting the supervisor's runtime"))?;
    let outcome = runtime.block_on(supervise_until_told(spec, socket, reporter));
    // Held to the very end.
    drop(lock);
    outcome
}

/// Puts the API's socket where its heir expects it, and keeps every inherited descriptor from all other children.
fn settle_descriptors(spec: &Spec) -> io::Result<(OwnedFd, OwnedFd)> {
    // The other two move out of the way first.
    let lock = take(spec.lock)?;
    let report = take(spec.report)?;
    if spec.listener == LISTEN_FD {
        // SAFETY: the descriptor was inherited and stays open for the life of this process.
        let listener = unsafe { BorrowedFd::borrow_raw(LISTEN_FD) };
        fcntl(listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    } else {
        let listener = take(spec.listener)?;
        // SAFETY: descriptor 3 is not owned by anything in this process: it has only just begun, and what it inherited
        // was moved above.
        unsafe { dup3_raw(&listener, LISTEN_FD, nix::fcntl::OFlag::O_CLOEXEC) }
            .map(std::os::fd::IntoRawFd::into_raw_fd)?;
    }
    Ok((lock, report))
}

/// Moves an inherited descriptor to a number above the usual ones.
fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor was inherited for this process alone, and its number is used nowhere else.
    let old = unsafe { OwnedFd::from_raw_fd(fd) };
    let new = fcntl(&old, FcntlArg::F_DUPFD_CLOEXEC(10))?;
    // SAFETY: fcntl has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// A /proc of this PID namespace, seen by the lab alone.
fn mount_proc() -> Result<(), Failure> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Failure::system("keeping the lab's mounts to itself"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(Failure::system(
        "mounting /proc (a container with a masked /proc does not allow it to an ordinary user: run there as root)",
    ))
}

/// Each pod costs a descriptor or two, and the usual soft limit is 1,024. What cannot be had is done without.
fn allow_many_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(MAX_FILES);
        if soft < wanted {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
        }
    }
}

/// Brings the lab up and keeps it until it is told to end; then ends it.
async fn supervise_until_told(spec: &Spec, socket: UnixListener, reporter: &mut Reporter) -> Result<(), Failure> {
    let signals = Failure::system::<io::Error>;
    let children = Children::new().map_err(signals("watching for child processes"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals("watching for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals("watching for signals"))?;
    let (down, mut told) = mpsc::channel(1);
    let server = OnceCell::new();
    let lab = async {
        // Dropped, and thereby ended, with this future: nothing is started again, and no status is written, while the
        // lab ends.
        let mut tasks = JoinSet::new();
        let cluster = bring_up(spec, &children, &mut tasks, &server, socket, down).await?;
        if spec.detach {
            // From here on the lab does not depend on the process that started it. This runs on the main thread, whose
            // setting it is.
            prctl::set_pdeathsig(None).map_err(Failure::system("letting the parent go"))?;
        }
        let nodes = cluster.nodes.iter().map(|(n, _)| n.name.clone()).collect();
        let edges = cluster.edges.iter().map(|edge| edge.net.name.clone()).collect();
        let ready = Ready { kubeconfig: cluster.kubeconfig.clone(), server: cluster.url.clone(), nodes, edges };
        reporter.send(&Report::Ready(ready));
        std::future::pending().await
    };
    let outcome = tokio::select! {
        outcome = lab => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = told.recv() => Ok(()),
    };
    if outcome.is_ok() {
        // Unless it is up, and `lab up` has been told so.
        reporter.send(&Report::Failed { reason: "it was told to end before it was up".to_owned() });
    }
    let _ = fs::remove_file(control::socket_path(&spec.dir));
    // The server last, so that the others find it until their end. What is left is killed with this process.
    let server = server.get().and_then(Unit::pid);
    children.signal_all(Signal::SIGTERM, server);
    children.all_ended(server, END_LIMIT).await;
    if let Some(server) = server {
        children.signal(server, Signal::SIGTERM);
        children.signal_all(Signal::SIGKILL, Some(server));
        children.all_ended(None, SERVER_END_LIMIT).await;
    }
    outcome
}

async fn bring_up(
    spec: &Spec,
    children: &Children,
    tasks: &mut JoinSet<()>,
    started: &OnceCell<Unit>,
    socket: UnixListener,
    down: mpsc::Sender<()>,
) -> Result<Arc<Cluster>, Failure> {
    let logs = spec.dir.join("logs");
    let network = Network::build(spec.nodes, spec.edges).await?;
    tracing::info!("the network is there; starting the server");

    let server = started.get_or_init(|| keep_server(spec, tasks, children, &logs)).clone();
    let data = spec.dir.join("server");
    let (admin, inside) = (data.join("admin.kubeconfig"), spec.dir.join("inside.kubeconfig"));
    let client = await_server(&server, &admin, &inside).await?;

    let nodes: Vec<Arc<HomeNode>> =
        network.nodes.into_iter().map(|n| Arc::new(HomeNode::new(n, spec.dataplane))).collect();
    kubelet::register(&client, &nodes).await.map_err(Failure::Nodes)?;
    let invitation = joining::invite(&client, &spec.dir, Role::Node).await.map_err(Failure::Token)?;
    tracing::info!("the server answers; starting {} agents", nodes.len());
    let agents: Vec<(Arc<HomeNode>, Unit)> = nodes
        .iter()
        .map(|node| (Arc::clone(node), keep_agent(spec, tasks, children, &logs, node, &invitation)))
        .collect();

    let edges = if network.edges.is_empty() {
        Vec::new()
    } else {
        edges::make_pools(&client).await.map_err(Failure::Pools)?;
        let invitation = joining::invite(&client, &spec.dir, Role::Edge).await.map_err(Failure::Token)?;
        network.edges.into_iter().map(|net| EdgeNode::keep(net, tasks, children, &logs, &invitation)).collect()
    };

    let program = PathBuf::from(SELF);
    let names = NameService::find(&client, spec.dir.clone()).await;
    let node_mounts = nodes.iter().filter_map(|node| Some((node.name.clone(), names.of_node(&node.name)?))).collect();
    let shared = Shared::new(client, children.clone(), program, logs, names);
    let shared = Arc::new(shared.map_err(Failure::system("starting the prober"))?);
    tasks.spawn(kubelet::run(Arc::clone(&shared), nodes));
    let cluster = Arc::new(Cluster {
        dir: spec.dir.clone(),
        kubeconfig: admin,
        url: format!("https://{}", spec.listen),
        client: network.client,
        server,
        nodes: agents,
        edges,
        node_mounts,
        kubelet: shared,
        children: children.clone(),
        shared_namespaces: shared_namespaces(spec.user_namespace)
            .map_err(Failure::system("opening the lab's namespaces"))?,
    });
    let serving = control::serve(socket, Arc::clone(&cluster), down);
    tasks.spawn(async {
        if let Err(error) = serving.await {
            tracing::error!("the lab's socket is lost: {error}");
        }
    });
    await_pods(&cluster).await;
    await_agents(&cluster).await?;
    await_edges(&cluster).await?;
    Ok(cluster)
}

/// The server gets two ways in: the socket that was opened on the host, and the bridge for the agents.
fn keep_server(spec: &Spec, tasks: &mut JoinSet<()>, children: &Children, logs: &Path) -> Unit {
    let data = spec.dir.join("server");
    let inside = std::net::SocketAddr::new(addresses::bridge().v4.into(), API_PORT);
    let more = spec.server_args.clone();
    Unit::keep("the server", tasks, children, logs.join("server.log"), move || {
        let mut command = Command::new(SELF);
        command.arg0("portolan").arg("server").arg("--data-dir").arg(&data);
        command.args(["--listen", &inside.to_string(), "--tls-san", &inside.ip().to_string()]).args(&more);
        command.env("LISTEN_FDS", "1");
        // SAFETY: fcntl is a bare system call; descriptor 3 stays open for the life of this process.
        unsafe {
            command.pre_exec(|| {
                fcntl(BorrowedFd::borrow_raw(LISTEN_FD), FcntlArg::F_SETFD(FdFlag::empty()))?;
                Ok(())
            })
        };
        Ok(command)
    })
}

fn keep_agent(
    spec: &Spec,
    tasks: &mut JoinSet<()>,
    children: &Children,
    logs: &Path,
    node: &Arc<HomeNode>,
    invitation: &Invitation,
) -> Unit {
    let name = format!("the agent of {}", node.name);
    let log = logs.join(format!("agent-{}.log", node.name));
    let (node, invitation) = (Arc::clone(node), invitation.clone());
    let more = spec.agent_args.clone();
    let socket = remote::agent_socket(&spec.dir, &node.name);
    let lock = logs.join(format!("{}.xtables.lock", node.name));
    Unit::keep(&name, tasks, children, log, move || {
        let mut command = Command::new(SELF);
        command.arg0("portolan").arg("agent");
        invitation.tell(&mut command, &node.name);
        command.args(["--node-name", &node.name, "--dataplane", &node.dataplane().to_string()]);
        for address in node.addresses.list() {
            command.arg("--node-ip").arg(address.to_string());
        }
        command.arg("--socket").arg(&socket);
        // The machine's own, which legacy iptables takes otherwise, is root's, and nothing that the lab's nodes wait for.
        command.env("XTABLES_LOCKFILE", &lock);
        command.args(&more);
        let netns = Arc::clone(&node.net.netns);
        // SAFETY: setns is a bare system call on a descriptor that the closure keeps open.
        unsafe {
            command.pre_exec(move || {
                setns(&*netns, CloneFlags::CLONE_NEWNET)?;
                Ok(())
            })
        };
        Ok(command)
    })
}

/// Waits until the server answers, and gives a client for it. Writes the administrator's kubeconfig that works inside the lab.
async fn await_server(server: &Unit, admin: &Path, inside: &Path) -> Result<Client, Failure> {
    let url = format!("https://{}:{API_PORT}", addresses::bridge().v4);
    let until = Instant::now() + UP_LIMIT;
    let mut last = None;
    while Instant::now() < until {
        if server.restarts() >= PATIENCE {
            return Err(Failure::Unit { name: server.name.clone(), last_words: server.last_words() });
        }
        if let Some(text) = fs::read_to_string(admin).ok().and_then(|text| kubeconfig::with_server(&text, &url)) {
            write_private(inside, text.as_bytes()).map_err(Failure::system("writing the kubeconfig for inside"))?;
            let answered = match Client::from_kubeconfig(inside) {
                Ok(client) => client.get_text("/readyz").await.map(|_| client),
                Err(error) => Err(error),
            };
            match answered {
                Ok(client) => return Ok(client),
                Err(error) => last = Some(error),
            }
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::Slow { name: server.name.clone(), limit: UP_LIMIT, source: last })
}

/// Waits for the pods of an earlier run; what does not come up in time is no reason to fail.
async fn await_pods(cluster: &Cluster) {
    let until = Instant::now() + PODS_LIMIT;
    while !cluster.kubelet.pods.settled() {
        if Instant::now() >= until {
            tracing::warn!("not every pod of the earlier run is up again; going on without");
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn await_agents(cluster: &Cluster) -> Result<(), Failure> {
    let until = Instant::now() + UP_LIMIT;
    loop {
        if cluster.caught_up(ROUND).await.map_err(Failure::Silent)?.is_empty() {
            return Ok(());
        }
        if let Some((_, agent)) = cluster.nodes.iter().find(|(_, agent)| agent.restarts() >= PATIENCE) {
            return Err(Failure::Unit { name: agent.name.clone(), last_words: agent.last_words() });
        }
        if Instant::now() >= until {
            return Err(Failure::Slow { name: "an agent".into(), limit: UP_LIMIT, source: None });
        }
    }
}

async fn await_edges(cluster: &Cluster) -> Result<(), Failure> {
    let until = Instant::now() + UP_LIMIT;
    for edge in &cluster.edges {
        while !edge.is_ready().await {
            if edge.unit.restarts() >= PATIENCE {
                return Err(Failure::Unit { name: edge.unit.name.clone(), last_words: edge.unit.last_words() });
            }
            if Instant::now() >= until {
                return Err(Failure::Slow { name: edge.unit.name.clone(), limit: UP_LIMIT, source: None });
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// This process's own, which everything in the lab has in common.
fn shared_namespaces(user: bool) -> io::Result<Vec<(Namespace, File)>> {
    let mut kinds = vec![(Namespace::Ipc, "ipc"), (Namespace::Pid, "pid"), (Namespace::Mount, "mnt")];
    if user {
        kinds.insert(0, (Namespace::User, "user"));
    }
    let open = |(kind, name): (Namespace, &str)| {
        File::open(Path::new("/proc/self/ns").join(OsStr::new(name))).map(|f| (kind, f))
    };
    kinds.into_iter().map(open).collect()
}

/// Replaces a file by one that only its user may read.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(content)?;
    fs::rename(next, path)
}
