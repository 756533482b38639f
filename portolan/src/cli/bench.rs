//! The command line of `portolan bench`. A server has to be named: neither a kubeconfig nor the environment chooses one.

use std::path::PathBuf;
use std::time::Duration;

use bench::hollow::Lists;
use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::Output;

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Make Services and Pods on a server, change them at a steady rate, and tell how long it took others to know.
    Load(LoadArgs),
    /// Be many nodes, with everything but their kernels.
    Hollow(HollowArgs),
}

/// Whom to put load on.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The server, as https://192.0.2.1:6443. It has to be named: load is put on no server that was not.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// By what the server is known, and what is shown to it; its own server is not asked. Default: $KUBECONFIG, else
    /// ~/.kube/config.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// The namespace that everything is made in. It is made, and goes again at the end; one that is there already must have
    /// been made by this command (--keep), and then what it has counts.
    #[arg(short, long, default_value = "portolan-load")]
    pub namespace: String,
    /// How many Services.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(0..=100_000))]
    pub services: u32,
    /// How many Pods each of them has; a million in all at most.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(0..=1_000))]
    pub pods: u32,
    /// Bind so many of the Pods to the Nodes that there are, in turn. The others are bound to none, and endpoints all the
    /// same.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = value_parser!(u8).range(0..=100))]
    pub bind: u8,
    /// Requests at the same time, each on a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u16).range(1..=4_096))]
    pub clients: u16,
    /// Changes per second when all are there. Each is sent when it is due, whatever became of those before it, as long as one
    /// of the clients is free; a time counts from when it was due.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// For how many seconds; 0: nothing is changed.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = value_parser!(u32).range(0..=3_600))]
    pub seconds: u32,
    /// Of the changes, those that delete a Pod and make it anew; all others turn the readiness of a Pod.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = value_parser!(u8).range(0..=100))]
    pub replace_pods: u8,
    /// Of the changes, those that delete a Service and make it anew.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = value_parser!(u8).range(0..=100))]
    pub replace_services: u8,
    /// Watches of all EndpointSlices, by which the lag is measured.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(0..=1_000))]
    pub watchers: u16,
    /// Where agents of the cluster serve their metrics, as http://192.0.2.7:10249: how long it took until their kernels had a
    /// change. They are asked every 5 ms while there are changes.
    #[arg(long, value_name = "URL[,URL]", value_delimiter = ',')]
    pub agent_metrics: Vec<String>,
    /// Write the revision of every change and when it was sent (a line each: REVISION MICROSECONDS-SINCE-1970), for
    /// `bench hollow --record`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Leave what was made.
    #[arg(long)]
    pub keep: bool,
    /// When it ends at the latest; what was made is taken away after that.
    #[arg(long, value_name = "TIME", value_parser = crate::wait::duration, default_value = "1h")]
    pub timeout: Duration,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

/// How hollow nodes get to know what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListsFlag {
    Shared,
    Own,
}

#[derive(Debug, Args)]
pub struct HollowArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// How many nodes: hollow-1 and so on.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=20_000))]
    pub nodes: u32,
    /// The number of the first, where several processes are to be nodes of one server.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=100_000))]
    pub first: u32,
    /// For how many seconds once all are there; default: until SIGINT or SIGTERM.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=86_400))]
    pub seconds: Option<u32>,
    /// Whether the nodes of a process share one list of each resource and watch from there ("shared"), or each makes its own, as
    /// agents do ("own"): what a list costs the server, it costs for each node then, and thousands take long.
    #[arg(long, value_enum, default_value = "shared")]
    pub lists: ListsFlag,
    /// What `bench load --record` has written by the end: the lag is that of its changes.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

impl From<ListsFlag> for Lists {
    fn from(flag: ListsFlag) -> Self {
        match flag {
            ListsFlag::Shared => Lists::Shared,
            ListsFlag::Own => Lists::Own,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn a_server_has_to_be_named() {
        for command in [&["load"][..], &["hollow", "--nodes=3"], &["load", "--kubeconfig=k"]] {
            let line = ["portolan", "bench"].iter().chain(command);
            let error = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(error.contains("--server <URL>"), "{error}");
            let line = ["portolan", "bench"].iter().chain(command).chain(&["--server=https://192.0.2.1:6443"]);
            Cli::try_parse_from(line).unwrap();
        }
    }
}
