//! `portolan edge`: an edge node, and its clean-up.

use proxy_agent::join::Role;

use crate::Failure;
use crate::agent::until_stopped;
use crate::cli::EdgeArgs;
use crate::identity::{self, Told};

/// Runs the edge node until SIGTERM or SIGINT; the kernel keeps what was programmed.
pub fn run(args: EdgeArgs) -> Result<(), Failure> {
    if args.cleanup {
        let found = edge::cleanup().map_err(|e| Failure::new("removing the edge node's nftables tables", &e))?;
        println!(
            "{}",
            if found { "removed the edge node's nftables tables" } else { "no edge node had left anything" }
        );
        return Ok(());
    }
    let told = Told {
        role: Role::Edge,
        kubeconfig: args.kubeconfig.as_deref(),
        join: &args.join,
        data_dir: &args.data_dir,
        name: args.edge_name.as_deref(),
    };
    let identity = identity::find(&told)?;
    let v4 = args.edge_ip.iter().filter(|address| address.is_ipv4()).count();
    if v4 > 1 || args.edge_ip.len() - v4 > 1 {
        return Err(Failure::text("--edge-ip takes at most one address per family: one of IPv4, one of IPv6"));
    }
    let config = edge::Config {
        kubeconfig: identity.kubeconfig,
        join: identity.join,
        name: identity.name,
        addresses: args.edge_ip,
        interface: args.interface,
        zone: args.zone,
        metrics_addr: args.metrics_listen,
        grace: args.grace,
    };
    // The proxy and the Lease have threads of their own.
    until_stopped("running the edge node", |stop| edge::run(config, stop))
}
