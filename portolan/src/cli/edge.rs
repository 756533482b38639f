//! The flags of `portolan edge`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{JoinArgs, label_value, node_name};

#[derive(Debug, Args)]
pub struct EdgeArgs {
    /// How to reach the server, where somebody else sees to it. Without it this machine joins the cluster: once by
    /// --server, --token and --ca-hash, as `portolan token create --edge-join` prints them, and then by what
    /// --data-dir holds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "ca_hash"])]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub join: JoinArgs,
    /// Where the edge node's certificate and key are kept, for their owner alone. Made if missing.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/portolan/edge")]
    pub data_dir: PathBuf,
    /// What the edge node is called; default: the name that it has joined by, else the machine's own.
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub edge_name: Option<String>,
    /// An address of this machine on the network that it shares with the nodes, at most one per family; default: those
    /// of the interface.
    #[arg(long, value_name = "IP")]
    pub edge_ip: Vec<IpAddr>,
    /// The interface on which the addresses of load balancers are answered for; default: the one with --edge-ip, else
    /// the one by which the server is reached.
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// The zone that this machine is in.
    #[arg(long, value_name = "ZONE", value_parser = label_value)]
    pub zone: Option<String>,
    /// Where metrics and health are served.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = edge::DEFAULT_METRICS_ADDRESS)]
    pub metrics_listen: SocketAddr,
    /// How long requests that are under way may take when the edge node is told to end.
    #[arg(long, value_name = "TIME", value_parser = crate::wait::duration, default_value = "30s")]
    pub grace: Duration,
    /// Remove everything that an edge node left in this machine's kernel, and exit.
    #[arg(long, conflicts_with_all = ["kubeconfig", "edge_name"])]
    pub cleanup: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    #[test]
    fn an_edge_nodes_flags() {
        let line = |arguments: &[&str]| {
            let line = ["portolan", "edge"].iter().chain(arguments);
            match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
                Command::Edge(args) => Ok(*args),
                other => Err(format!("{other:?}")),
            }
        };
        let args = line(&[]).unwrap();
        assert_eq!((args.metrics_listen.to_string().as_str(), args.grace.as_secs()), ("127.0.0.1:10247", 30));
        let args = line(&["--edge-ip=192.0.2.1", "--edge-ip=2001:db8::1", "--interface=eth1", "--zone=a"]).unwrap();
        assert_eq!((args.edge_ip.len(), args.interface.as_deref(), args.zone.as_deref()), (2, Some("eth1"), Some("a")));
        for (arguments, hint) in [
            (&["--server=https://192.0.2.1", "--kubeconfig=k"][..], "cannot be used with"),
            (&["--cleanup", "--edge-name=e"], "cannot be used with"),
            (&["--edge-name=Web"], "lower case"),
            (&["--edge-ip=eth0"], "invalid IP address"),
        ] {
            let error = line(arguments).unwrap_err();
            assert!(error.contains(hint), "{arguments:?}: {error}");
        }
    }
}
