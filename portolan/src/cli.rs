//! The command line, as data. What a flag means and defaults to is said here, once, and shown by `--help`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use model::service::scheduler::Scheduler;
use proxy_agent::{Dataplane, NodePortAddresses};

mod balancers;
mod bench;
mod controllers;
mod dns;
mod edge;
mod join;
mod limits;
mod nodes;
mod token;
mod workloads;

pub use self::balancers::BalancerArgs;
pub use self::bench::{BenchArgs, BenchCommand, HollowArgs, LoadArgs, TargetArgs};
pub use self::controllers::{Controller, ControllerArgs};
pub use self::dns::{DnsArgs, ResolverArgs, ServeDnsArgs};
pub use self::edge::EdgeArgs;
pub use self::join::JoinArgs;
pub use self::limits::{AuditArgs, LimitArgs};
pub use self::nodes::NodesArgs;
pub use self::token::{CreateToken, Print, TokenArgs, TokenCommand};
pub use self::workloads::{RegisterArgs, WorkloadArgs};

/// Kubernetes Services for plain Linux machines, without Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, propagate_version = true)]
pub struct Cli {
    /// How logs are written to stderr.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the control plane: the Kubernetes API over one SQLite file.
    Server(ServerArgs),
    /// Run the node agent: program this machine's dataplane from the server's Services.
    Agent(Box<AgentArgs>),
    /// Run an edge node: hold addresses of load balancers, and balance what comes to them.
    Edge(Box<EdgeArgs>),
    /// Register what runs on this machine as a Pod, for as long as this or the COMMAND runs.
    Register(RegisterArgs),
    /// Answer for the cluster's names on a machine that is no node. Nodes do it in their agent.
    Dns(ServeDnsArgs),
    /// Tokens for machines that join, and for whoever uses the API.
    Token(TokenArgs),
    /// Wait until every live node has programmed a Service as it is now.
    Wait(WaitArgs),
    /// A cluster of network namespaces on this machine. Needs no root.
    Lab(LabArgs),
    /// Answer on TCP and UDP ports with who and where we are (what the lab's pods run).
    Echo(EchoArgs),
    /// Send requests to an address and count who answered.
    Probe(ProbeArgs),
    /// Explain where a packet goes, or why it does not, and whether the nodes' kernels agree. Sends nothing.
    Trace(TraceArgs),
    /// Compare what the nodes' kernels have with what they should have, for every Service. Sends nothing.
    Check(CheckArgs),
    /// Put load on a server, or hollow nodes, and measure what that takes.
    Bench(Box<BenchArgs>),
}

#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Where the database, keys, admin.kubeconfig and admin.token are kept. Made if missing.
    #[arg(long, value_name = "DIR", default_value = "./portolan-data")]
    pub data_dir: PathBuf,
    /// Address and port for TLS; may be given more than once. A socket passed by systemd is used beside them.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Plain HTTP without TLS, still with the token; loopback addresses only.
    #[arg(long, value_name = "ADDR:PORT")]
    pub insecure_listen: Option<SocketAddr>,
    /// Ranges for ClusterIPs, one or one per family; the first family is the default.
    #[arg(long, value_name = "CIDR[,CIDR6]", value_delimiter = ',', default_value = "10.96.0.0/16,fd00:10:96::/112")]
    pub service_cidr: Vec<IpNet>,
    /// The ranges of all pods, one or one per family: each Node gets a part of them (spec.podCIDRs). Without it Nodes have
    /// what they say themselves.
    #[arg(long, value_name = "CIDR[,CIDR6]", value_delimiter = ',', value_parser = cidr)]
    pub cluster_cidr: Vec<IpNet>,
    /// How many bits the mask of a Node's part has, of IPv4.
    #[arg(long, value_name = "BITS", default_value_t = 24, requires = "cluster_cidr")]
    pub node_cidr_mask_size_ipv4: u8,
    /// The same, of IPv6.
    #[arg(long, value_name = "BITS", default_value_t = 64, requires = "cluster_cidr")]
    pub node_cidr_mask_size_ipv6: u8,
    /// Range for node ports.
    #[arg(long, value_name = "A-B", value_parser = port_range, default_value = "30000-32767")]
    pub node_port_range: std::ops::RangeInclusive<u16>,
    /// Changes of each resource that are kept for watches to resume from; a watch from before gets 410 and lists again.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub history_events: u32,
    /// Seconds after which a change is forgotten all the same, also on disk.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    pub history_seconds: u32,
    /// A further DNS name or address for the server's certificate; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// An address at which nodes and pods reach this server, at most one per family: where the Service default/kubernetes
    /// leads. Default: those it listens on, save loopback; where it listens on every address, the one that packets to the
    /// outside leave from.
    #[arg(long, value_name = "IP")]
    pub advertise_address: Vec<IpAddr>,
    /// How long the certificates of nodes hold, as 720h; agents renew them when some two thirds of that are over.
    #[arg(long, value_name = "TIME", value_parser = signing_duration, default_value = "720h")]
    pub cluster_signing_duration: Duration,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub audit: AuditArgs,
    #[command(flatten)]
    pub nodes: NodesArgs,
    #[command(flatten)]
    pub balancers: BalancerArgs,
    #[command(flatten)]
    pub controllers: ControllerArgs,
}

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// How to reach the server, where somebody else sees to it. Without it this machine joins the cluster: once by --server,
    /// --token and --ca-hash, as `portolan token create --node-join` prints them, and then by what --data-dir holds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "ca_hash"])]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub join: JoinArgs,
    /// Where the node's certificate and key are kept, for its owner alone. Made if missing.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/portolan/agent")]
    pub data_dir: PathBuf,
    /// The name of this machine's Node object; default: the one that it has joined by, else the machine's own.
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,
    /// The zone that this machine is in (topology.kubernetes.io/zone), for a Node that the agent registers.
    #[arg(long, value_name = "ZONE", value_parser = label_value)]
    pub zone: Option<String>,
    /// The region (topology.kubernetes.io/region).
    #[arg(long, value_name = "REGION", value_parser = label_value)]
    pub region: Option<String>,
    /// Further labels of the Node, as disk=ssd,rack=r1.
    #[arg(long, value_name = "KEY=VALUE[,…]", value_delimiter = ',', value_parser = label)]
    pub node_labels: Vec<(String, String)>,
    /// An address of this node, at most one per family; default: the Node object's InternalIPs.
    #[arg(long, value_name = "IP")]
    pub node_ip: Vec<IpAddr>,
    /// What of the kernel carries the Services. "auto": nftables where it can be used, else ipvs, else iptables; the log says
    /// which and why. What an agent with another one left is removed once this one is programmed.
    #[arg(long, value_name = "auto|nftables|ipvs|iptables", value_parser = dataplane(), default_value = "auto")]
    pub dataplane: Dataplane,
    /// How IPVS chooses an endpoint for the Services that do not say it themselves (portolan.dev/scheduler); default: in turn
    /// (rr, and wrr for endpoints of different weights). Nothing with another dataplane.
    #[arg(long, value_name = "rr|wrr|lc|wlc|sh|mh", value_parser = scheduler())]
    pub ipvs_scheduler: Option<Scheduler>,
    /// Where metrics are served.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10249")]
    pub metrics_listen: SocketAddr,
    /// Where health is served.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10256")]
    pub health_listen: SocketAddr,
    /// On which of this machine's addresses node ports answer: on the node's own ("primary": its --node-ip, else its
    /// InternalIPs), or on every address of the machine in one of these ranges. Loopback addresses have a flag of their own.
    #[arg(long, value_name = "primary|CIDR[,CIDR]", value_parser = node_port_addresses, default_value = "primary")]
    pub nodeport_addresses: NodePortAddresses,
    /// Whether node ports answer processes of this machine on 127.0.0.1 and ::1, too.
    #[arg(long, value_name = "true|false", action = ArgAction::Set, default_value_t = true)]
    pub localhost_nodeports: bool,
    /// The ranges of all pods and nodes of the cluster. Clients from elsewhere that ask a ClusterIP through this node are
    /// hidden behind its address, so that the answer comes back through it; without the flag nobody is.
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', value_parser = cidr)]
    pub cluster_cidr: Vec<IpNet>,
    /// Let other programs change the agent's nftables tables; what they break is repaired at once. Without it the kernel
    /// keeps others out, if it is Linux 6.9 or newer.
    #[arg(long)]
    pub no_table_ownership: bool,
    /// Whether this node answers for the cluster's names itself: for its pods and for itself on the ClusterIPs of
    /// kube-system/kube-dns, for machines without a DNS of their own on its own addresses.
    #[arg(long, value_name = "true|false", action = ArgAction::Set, default_value_t = true)]
    pub dns: bool,
    /// The port on the node's own addresses.
    #[arg(long, value_name = "PORT", default_value_t = 10053, value_parser = clap::value_parser!(u16).range(1..))]
    pub dns_port: u16,
    #[command(flatten)]
    pub names: DnsArgs,
    #[command(flatten)]
    pub resolver: ResolverArgs,
    #[command(flatten)]
    pub workloads: WorkloadArgs,
    /// Remove everything that an agent left in this machine's kernel, whatever its dataplane, take back what --configure-resolver did, and exit.
    #[arg(long, conflicts_with_all = ["kubeconfig", "node_name"])]
    pub cleanup: bool,
}

#[derive(Debug, Args)]
pub struct LabArgs {
    #[command(subcommand)]
    pub command: LabCommand,
}

#[derive(Debug, Args)]
pub struct LabDir {
    /// The lab's own directory: state, logs, kubeconfig.
    #[arg(long, value_name = "DIR", default_value = "./portolan-lab")]
    pub dir: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Bring up a server, nodes, edge nodes and a client, each machine and pod in a network namespace of its own.
    Up {
        #[command(flatten)]
        dir: LabDir,
        /// Number of nodes, 1 to 64.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
        nodes: u16,
        /// Number of edge nodes, 0 to 8: they hold the addresses of Services of type LoadBalancer.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=8))]
        edges: u16,
        /// The dataplane of the nodes' agents.
        #[arg(long, value_name = "auto|nftables|ipvs|iptables", value_parser = dataplane(), default_value = "auto")]
        dataplane: Dataplane,
        /// A further argument for every node's agent, such as --agent-arg=--cluster-cidr=10.244.0.0/16; may be given more
        /// than once. What there is, `portolan agent --help` tells.
        #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
        agent_arg: Vec<String>,
        /// A further argument for the server, such as --server-arg=--max-load-balancers=100; may be given more than once.
        /// What there is, `portolan server --help` tells.
        #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
        server_arg: Vec<String>,
        /// Return when every node has programmed its dataplane; the lab goes on in the background.
        #[arg(long)]
        detach: bool,
        /// Where the API listens on this machine.
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
        listen: SocketAddr,
    },
    /// Show nodes, pods and what each node has programmed.
    Status {
        #[command(flatten)]
        dir: LabDir,
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Run a command in the network namespace of a node, of an edge node, of `client`, or of a pod (namespace/pod).
    Exec {
        #[command(flatten)]
        dir: LabDir,
        /// node-1, edge-1, client, or namespace/pod.
        name: String,
        /// The command and its arguments, after `--`.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<String>,
    },
    /// Wait until every node has programmed what the server holds now.
    Wait {
        #[command(flatten)]
        dir: LabDir,
        /// Give up after so many seconds.
        #[arg(long, default_value_t = 30)]
        timeout: u64,
    },
    /// Stop the server, a node's agent, or an edge node, until `lab start`: to see what goes on without it.
    Stop {
        #[command(flatten)]
        dir: LabDir,
        /// server, node-1 for its agent, or edge-1.
        name: String,
    },
    /// Start what `lab stop` has stopped.
    Start {
        #[command(flatten)]
        dir: LabDir,
        /// server, node-1 for its agent, or edge-1.
        name: String,
        /// The dataplane that the agent of a node has from now on.
        #[arg(long, value_name = "auto|nftables|ipvs|iptables", value_parser = dataplane())]
        dataplane: Option<Dataplane>,
    },
    /// Pull the network cable of a node or edge node, as if it had lost its power: to see that nobody sends to it any more.
    Cut {
        #[command(flatten)]
        dir: LabDir,
        /// node-1, or edge-1.
        node: String,
    },
    /// Plug in what `lab cut` has pulled.
    Heal {
        #[command(flatten)]
        dir: LabDir,
        /// node-1, or edge-1.
        node: String,
    },
    /// Stop the lab and everything in it.
    Down {
        #[command(flatten)]
        dir: LabDir,
        /// Remove the lab's directory too.
        #[arg(long)]
        purge: bool,
    },
    /// Internal: the first process inside the lab's namespaces.
    #[command(hide = true)]
    Supervise { spec: String },
}

#[derive(Debug, Args)]
pub struct EchoArgs {
    /// TCP port to answer on with HTTP; may be given more than once.
    #[arg(long, value_name = "PORT")]
    pub tcp: Vec<u16>,
    /// UDP port to answer on; may be given more than once.
    #[arg(long, value_name = "PORT")]
    pub udp: Vec<u16>,
    /// The pod's name in the answers.
    #[arg(long, env = "PORTOLAN_POD", default_value = "", hide_env_values = true)]
    pub pod: String,
    /// The node's name in the answers.
    #[arg(long, env = "PORTOLAN_NODE", default_value = "", hide_env_values = true)]
    pub node: String,
    /// The namespace in the answers.
    #[arg(long, env = "PORTOLAN_NAMESPACE", default_value = "", hide_env_values = true)]
    pub namespace: String,
    /// Milliseconds to go on answering after SIGTERM, until everybody has stopped sending.
    #[arg(long, env = "PORTOLAN_DRAIN_MS", default_value_t = 2000)]
    pub drain_ms: u64,
    /// Internal: a descriptor to write to when every port is bound.
    #[arg(long, hide = true)]
    pub ready_fd: Option<i32>,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// What to wait for: service/NAME.
    #[arg(value_name = "service/NAME")]
    pub service: String,
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Give up after so long, as 30s, 1m30s, or a number of seconds.
    #[arg(long, value_name = "TIME", value_parser = crate::wait::duration, default_value = "30s")]
    pub timeout: Duration,
    /// How to reach the server; default: $KUBECONFIG, else ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbeProtocol {
    Tcp,
    Udp,
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    #[arg(value_enum)]
    pub protocol: ProbeProtocol,
    /// Where to, e.g. 10.96.0.17:80 or [fd00:10:96::5]:80.
    pub destination: SocketAddr,
    /// How many requests, each on a new connection.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// How many at a time.
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// So many requests in each second instead, each begun when it is due, whatever becomes of the others.
    #[arg(long, value_name = "N", requires = "seconds", conflicts_with_all = ["count", "concurrency"])]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub rate: Option<u16>,
    /// For how many seconds.
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub seconds: Option<u16>,
    /// Send all requests on one connection (or from one UDP socket), one after the other; --rate is then the highest rate.
    #[arg(long, conflicts_with = "concurrency")]
    pub keep: bool,
    /// Milliseconds until a request counts as failed.
    #[arg(long, default_value_t = 2000)]
    pub timeout_ms: u64,
    /// The source address to send from.
    #[arg(long, value_name = "IP")]
    pub source: Option<IpAddr>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[arg(value_enum)]
    pub protocol: Transport,
    /// Where to: a Service (name, name.namespace, ….svc.cluster.local), a node, namespace/pod or an address; then :PORT,
    /// by number or by the Service's name for it, unless there is only one.
    #[arg(value_name = "DEST[:PORT]")]
    pub destination: String,
    /// Who sends: a node, [namespace/]pod, or an address.
    #[arg(long, value_name = "NODE|POD|IP")]
    pub from: String,
    /// The node at which the packet comes in; default: the sender's own, or the one that has the address.
    #[arg(long, value_name = "NODE")]
    pub at: Option<String>,
    /// Where names without a namespace are looked for.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// How to reach the server; default: ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only this node; default: all that live.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// How to reach the server; default: ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

/// Reads the name of a dataplane.
fn dataplane() -> impl TypedValueParser<Value = Dataplane> {
    PossibleValuesParser::new(Dataplane::NAMES).try_map(|name| name.parse::<Dataplane>())
}

/// Reads the name of a scheduler of IPVS.
fn scheduler() -> impl TypedValueParser<Value = Scheduler> {
    let unknown = |name: String| Scheduler::parse(&name).ok_or("it is none of IPVS's schedulers");
    PossibleValuesParser::new(Scheduler::ALL.map(Scheduler::name)).try_map(unknown)
}

/// A label that a node may give itself: what is under kubernetes.io says what others rely on, and what is under
/// node-restriction.kubernetes.io is for admins alone (Kubernetes' NodeRestriction).
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no label; write it as key=value"))?;
    if let Some(problem) = model::syntax::qualified_name(key).into_iter().next() {
        return Err(format!("{key:?}: {problem}"));
    }
    if let Some(problem) = model::syntax::label_value(value).into_iter().next() {
        return Err(format!("{value:?}: {problem}"));
    }
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let under = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let free = ["node.kubernetes.io", "kubelet.kubernetes.io"];
    if (under("kubernetes.io") || under("k8s.io")) && !free.iter().any(|domain| under(domain)) {
        return Err(format!("a node cannot give itself {key}; zone and region have flags of their own"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn label_value(text: &str) -> Result<String, String> {
    match model::syntax::label_value(text).into_iter().next() {
        None => Ok(text.to_owned()),
        Some(problem) => Err(problem),
    }
}

fn node_name(text: &str) -> Result<String, String> {
    match model::syntax::dns1123_subdomain(text).into_iter().next() {
        None => Ok(text.to_owned()),
        Some(problem) => Err(problem),
    }
}

/// Long enough for an agent to renew it, short enough to be a date.
fn signing_duration(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    let duration = crate::wait::duration(text)?;
    if (SHORTEST..=LONGEST).contains(&duration) { Ok(duration) } else { Err("it must be 10s to 87600h".to_owned()) }
}

fn port_range(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is no range of ports; write it as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last): (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first == 0 || first > last {
        return Err(wrong());
    }
    Ok(first..=last)
}

/// A range of addresses. What stands after the prefix is left out, as Kubernetes does it.
fn cidr(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Err(format!("{text} is an address and no range; write {text}/{bits} for it alone"));
    }
    let example = "write it as 10.0.0.0/8 or fd00::/8";
    text.parse::<IpNet>()
        .map(|range| range.trunc())
        .map_err(|_| format!("{text:?} is no range of addresses; {example}"))
}

fn node_port_addresses(text: &str) -> Result<NodePortAddresses, String> {
    if text == "primary" {
        return Ok(NodePortAddresses::Primary);
    }
    let mut ranges = Vec::new();
    for part in text.split(',') {
        if part == "primary" {
            return Err("primary stands alone: give it, or ranges".into());
        }
        let range = cidr(part)?;
        let loopback = if range.addr().is_ipv4() { "127.0.0.0/8" } else { "::1/128" };
        if loopback.parse::<IpNet>().is_ok_and(|loopback| loopback.contains(&range)) {
            return Err(format!("{part} is the machine itself: that is --localhost-nodeports"));
        }
        ranges.push(range);
    }
    Ok(NodePortAddresses::Ranges(ranges))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use proxy_agent::Mode;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        for wrong in ["", "30000", "2-1", "0-5", "a-b", "1-70000"] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
    }

    fn agent(arguments: &[&str]) -> Result<AgentArgs, String> {
        let line = ["portolan", "agent", "--kubeconfig=k", "--node-name=n"].iter().chain(arguments);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Agent(args) => Ok(*args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn an_agents_defaults() {
        let args = agent(&[]).unwrap();
        assert_eq!(args.nodeport_addresses, NodePortAddresses::Primary);
        assert!(args.localhost_nodeports && args.cluster_cidr.is_empty() && !args.no_table_ownership);
        assert!(args.dns && args.dns_port == 10053);
        assert_eq!(args.dataplane, Dataplane::Auto);
        assert_eq!(args.names.config(0).zone.domain.to_string(), "cluster.local.");
    }

    #[test]
    fn an_agents_flags() {
        let args = agent(&[
            "--nodeport-addresses=192.0.2.7/24,2001:db8::/64",
            "--localhost-nodeports=false",
            "--cluster-cidr=10.244.0.0/16,fd00:244::/48",
            "--no-table-ownership",
            "--dataplane=iptables",
            "--ipvs-scheduler=mh",
        ])
        .unwrap();
        let nets = |text: &[&str]| text.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        assert_eq!(args.nodeport_addresses, NodePortAddresses::Ranges(nets(&["192.0.2.0/24", "2001:db8::/64"])));
        assert_eq!(args.cluster_cidr, nets(&["10.244.0.0/16", "fd00:244::/48"]));
        assert!(!args.localhost_nodeports && args.no_table_ownership);
        assert_eq!(args.dataplane, Dataplane::Just(Mode::Iptables));
        assert_eq!(args.ipvs_scheduler, Some(Scheduler::MaglevHashing));
    }

    #[test]
    fn an_agent_joins_by_three_flags() {
        let line = |arguments: &[&str]| {
            let line = ["portolan", "agent"].iter().chain(arguments);
            Cli::try_parse_from(line).map(|_| ()).map_err(|error| error.to_string())
        };
        let hash = format!("--ca-hash=sha256:{}", "0a".repeat(32));
        line(&["--server=https://192.0.2.1:6443", "--token=abcdef.0123", &hash]).unwrap();
        line(&["--data-dir=/d", "--zone=a", "--region=b", "--node-labels=disk=ssd,node.kubernetes.io/x="]).unwrap();
        for (arguments, hint) in [
            (&["--ca-hash=sha256:12"][..], "64 hexadecimal"),
            (&["--server=https://192.0.2.1", "--kubeconfig=k"], "cannot be used with"),
            (&["--node-name=Web"], "lower case"),
            (&["--node-labels=disk"], "key=value"),
            (&["--node-labels=-x=y"], "must consist of"),
            (&["--node-labels=kubernetes.io/hostname=x"], "cannot give itself"),
            (&["--node-labels=a.node-restriction.kubernetes.io/x=y"], "cannot give itself"),
            (&["--cleanup", "--kubeconfig=k"], "cannot be used with"),
        ] {
            let error = line(arguments).unwrap_err();
            assert!(error.contains(hint), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn wrong_flags_are_told_what_is_right() {
        for (argument, hint) in [
            ("--nodeport-addresses=192.0.2.7", "write 192.0.2.7/32"),
            ("--nodeport-addresses=primary,192.0.2.0/24", "primary stands alone"),
            ("--nodeport-addresses=127.0.0.0/8", "--localhost-nodeports"),
            ("--nodeport-addresses=::1/128", "--localhost-nodeports"),
            ("--nodeport-addresses=", "10.0.0.0/8"),
            ("--cluster-cidr=10.244.0.0/33", "10.0.0.0/8"),
            ("--cluster-cidr=fd00::1", "write fd00::1/128"),
            ("--localhost-nodeports=maybe", "true, false"),
            ("--dataplane=ebpf", "auto, nftables, ipvs, iptables"),
            ("--ipvs-scheduler=sed", "rr, wrr, lc, wlc, sh, mh"),
        ] {
            let error = agent(&[argument]).unwrap_err();
            assert!(error.contains(hint), "{argument}: {error}");
        }
    }
}
