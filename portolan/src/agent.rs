//! `portolan agent`: the node agent, and its clean-up.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;

use proxy_agent::{AgentError, Local, Ownership};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::Failure;
use crate::cli::AgentArgs;

/// Runs the agent until SIGTERM or SIGINT; the kernel keeps what was programmed.
pub fn run(args: AgentArgs) -> Result<(), Failure> {
    if args.cleanup {
        let found = proxy_agent::cleanup().map_err(|e| Failure::new("removing Portolan's nftables tables", &e))?;
        println!("{}", if found { "removed Portolan's nftables tables" } else { "nothing of Portolan's was there" });
        restore_resolver()?;
        return Ok(());
    }
    let (Some(kubeconfig), Some(node_name)) = (args.kubeconfig, args.node_name) else {
        return Err(Failure::text("--kubeconfig and --node-name are needed"));
    };
    let dns = args.dns.then(|| args.names.config(args.dns_port));
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
        resolver: args.resolver.config(),
    };
    // One thread: the work is a stream of small steps, and a node's processors belong to its workloads.
    until_stopped("running the agent", |stop| proxy_agent::run(config, stop))
}

/// Runs `work`, which is called `what`, on this thread alone; what it is given resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// When there can be no runtime or no handlers of signals, and with what `work` fails.
pub fn until_stopped<W>(what: &str, work: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>) -> W) -> Result<(), Failure>
where
    W: Future<Output = Result<(), AgentError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("starting the async runtime", &e))?;
    runtime.block_on(async {
        let stop = stop_signal().map_err(|e| Failure::new("listening for signals", &e))?;
        work(Box::pin(stop)).await.map_err(|e| Failure::new(what, &e))
    })
}

/// Takes back what `--configure-resolver` did, and says what it did and what it left alone.
///
/// # Errors
/// When a file cannot be written.
pub fn restore_resolver() -> Result<(), Failure> {
    let done = proxy_agent::resolver::restore(Path::new("/"));
    let done = done.map_err(|e| Failure::new("taking back what --configure-resolver did", &e))?;
    for line in done.changed.iter().chain(&done.left) {
        println!("{line}");
    }
    Ok(())
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
