//! `portolan agent`: the node agent, and its clean-up.

use std::future::Future;
use std::io;

use proxy_agent::{Local, Ownership};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::Failure;
use crate::cli::AgentArgs;

/// Runs the agent until SIGTERM or SIGINT; the kernel keeps what was programmed.
pub fn run(args: AgentArgs) -> Result<(), Failure> {
    if args.cleanup {
        let found = proxy_agent::cleanup().map_err(|e| Failure::new("removing Portolan's nftables tables", &e))?;
        println!("{}", if found { "removed Portolan's nftables tables" } else { "nothing of Portolan's was there" });
        return Ok(());
    }
    let (Some(kubeconfig), Some(node_name)) = (args.kubeconfig, args.node_name) else {
        return Err(Failure::text("--kubeconfig and --node-name are needed"));
    };
    let dns = match args.dns {
        true => Some(proxy_agent::DnsConfig {
            zone: args.names.zone().ok_or_else(|| Failure::text("--cluster-domain is no domain"))?,
            port: args.dns_port,
            upstream: args.names.dns_upstream,
            log: args.names.dns_log,
            rate_limit: args.names.dns_rate_limit,
            allow: args.names.dns_allow,
        }),
        false => None,
    };
    let config = proxy_agent::Config {
        kubeconfig,
        local: Local {
            node_ports: args.nodeport_addresses,
            localhost_node_ports: args.localhost_nodeports,
            cluster_cidrs: args.cluster_cidr,
            ..Local::new(&node_name)
        },
        node_ips: args.node_ip,
        metrics_addr: args.metrics_listen,
        health_addr: args.health_listen,
        ownership: if args.no_table_ownership { Ownership::Open } else { Ownership::Owned },
        dns,
    };
    // One thread: the work is a stream of small steps, and a node's processors belong to its workloads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("starting the async runtime", &e))?;
    runtime.block_on(async {
        let stop = stop_signal().map_err(|e| Failure::new("listening for signals", &e))?;
        proxy_agent::run(config, stop).await.map_err(|e| Failure::new("running the agent", &e))
    })
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
    })
}
