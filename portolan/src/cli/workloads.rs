//! The flags of `portolan register`, and those by which an agent stands for workloads.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use proxy_agent::workloads::protocol::DEFAULT_SOCKET;
use proxy_agent::workloads::{SocketConfig, WorkloadsConfig};

use crate::register::flags::{Label, Port, Probe};

/// Where an agent listens that shall listen nowhere.
const NO_SOCKET: &str = "none";

#[derive(Debug, Args)]
pub struct WorkloadArgs {
    /// A folder of Pod manifests (.yaml, .yml, .json) for what runs on this machine: each becomes a mirror Pod
    /// NAME-NODE.
    #[arg(long, value_name = "DIR")]
    pub pod_dir: Option<PathBuf>,
    /// Where processes of this machine register themselves, with `portolan register`; none: nowhere. If it cannot be
    /// made at its default place, the agent goes on without.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// The group whose members may register, beside the agent's own user; default: the agent's own group.
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Take all Pods of this machine's workloads back before the agent ends, and wait so long until nobody is sent
    /// there. Without it they stay: an agent that is replaced changes nothing.
    #[arg(long, value_name = "TIME", value_parser = crate::wait::duration)]
    pub deregister_on_exit: Option<Duration>,
}

impl WorkloadArgs {
    /// What the agent is told.
    pub fn config(self) -> Option<WorkloadsConfig> {
        let needed = self.socket != Path::new(DEFAULT_SOCKET);
        let socket = SocketConfig { path: self.socket, group: self.socket_group, needed };
        let socket = (socket.path != Path::new(NO_SOCKET)).then_some(socket);
        (socket.is_some() || self.pod_dir.is_some()).then_some(WorkloadsConfig {
            pod_dir: self.pod_dir,
            socket,
            leave_within: self.deregister_on_exit,
            ..WorkloadsConfig::default()
        })
    }
}

#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The name of what runs here. Its Pod is called NAME-NODE.
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub name: Option<String>,
    /// The Pod's namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = "default", conflicts_with = "file")]
    pub namespace: String,
    /// Labels by which Services select it.
    #[arg(long, value_name = "KEY=VALUE[,…]", value_delimiter = ',', conflicts_with = "file")]
    pub labels: Vec<Label>,
    /// Annotations; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "file")]
    pub annotation: Vec<Label>,
    /// A port on which it answers, as 8080, http=8080, 53/udp or dns=53/udp; may be given more than once.
    #[arg(long, value_name = "[NAME=]PORT[/PROTOCOL]", conflicts_with = "file")]
    pub port: Vec<Port>,
    /// Whether it can take requests: http:8080/healthz, https:8443/, tcp:8080, grpc:9090[/SERVICE] or "exec:COMMAND
    /// ARG…". Ports may be named. Without it, it is ready from the beginning.
    #[arg(long, value_name = "PROBE", conflicts_with = "file")]
    pub readiness: Option<Probe>,
    /// Whether it works at all; that it does not is told in Events, and nothing is done about it.
    #[arg(long, value_name = "PROBE", conflicts_with = "file")]
    pub liveness: Option<Probe>,
    /// Whether it has started; until then the other two are not asked.
    #[arg(long, value_name = "PROBE", conflicts_with = "file")]
    pub startup: Option<Probe>,
    /// The time between two probes, in whole seconds.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "10s", conflicts_with = "file")]
    pub probe_period: u32,
    /// How long a probe may take.
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "1s", conflicts_with = "file")]
    pub probe_timeout: u32,
    /// How many probes in a row must fail.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(conflicts_with = "file")]
    pub probe_failures: u32,
    /// An address of its own, at most one per family, for something that does not share the node's.
    #[arg(long, value_name = "IP[,IP6]", value_delimiter = ',', conflicts_with = "file")]
    pub pod_ip: Vec<IpAddr>,
    /// Takes the Pods from manifests instead; - is the standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How long nodes may take to learn that nobody is to be sent here any more, before the command is told to end.
    #[arg(long, value_name = "TIME", value_parser = crate::wait::duration, default_value = "30s")]
    pub grace: Duration,
    /// Where this machine's agent listens.
    #[arg(long, value_name = "PATH", env = "PORTOLAN_SOCKET", hide_env_values = true)]
    #[arg(default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// What to run, after `--`. Without it the registration lasts until this is told to end.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// A time in whole seconds, one at least.
fn seconds(text: &str) -> Result<u32, String> {
    let time = crate::wait::duration(text)?;
    match u32::try_from(time.as_secs()) {
        Ok(seconds @ 1..=86_400) if time.subsec_nanos() == 0 => Ok(seconds),
        _ => Err(format!("{text:?} is no whole number of seconds from 1 s to one day")),
    }
}
