//! `portolan agent`: the node agent, and its clean-up.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;

use proxy_agent::join::Role;
use proxy_agent::{Local, Ownership};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::Failure;
use crate::cli::AgentArgs;
use crate::identity::{self, Told};
use crate::memory;

/// Runs the agent until SIGTERM or SIGINT; the kernel keeps what was programmed.
pub fn run(args: AgentArgs) -> Result<(), Failure> {
    if args.cleanup {
        return cleanup();
    }
    one_per_family(&args.node_ip)?;
    let told = Told {
        role: Role::Node,
        kubeconfig: args.kubeconfig.as_deref(),
        join: &args.join,
        data_dir: &args.data_dir,
        name: args.node_name.as_deref(),
    };
    let identity = identity::find(&told)?;
    let node_name = identity.name;
    let dns = args.dns.then(|| args.names.config(args.dns_port));
    let config = proxy_agent::Config {
        kubeconfig: identity.kubeconfig,
        join: identity.join,
        local: Local {
            node_ports: args.nodeport_addresses,
            localhost_node_ports: args.localhost_nodeports,
            cluster_cidrs: args.cluster_cidr,
            ..Local::new(&node_name)
        },
        node_ips: args.node_ip,
        node_labels: labels(args.zone, args.region, args.node_labels),
        dataplane: args.dataplane,
        ipvs_scheduler: args.ipvs_scheduler,
        metrics_addr: args.metrics_listen,
        health_addr: args.health_listen,
        ownership: if args.no_table_ownership { Ownership::Open } else { Ownership::Owned },
        dns,
        resolver: args.resolver.config(),
        workloads: args.workloads.config(),
        at_rest: Some(memory::give_back),
    };
    // One thread: the work is a stream of small steps, and a node's processors belong to its workloads.
    until_stopped("running the agent", |stop| proxy_agent::run(config, stop))
}

/// Removes what an agent left, and says what that was.
fn cleanup() -> Result<(), Failure> {
    let removed = proxy_agent::cleanup().map_err(|e| Failure::new("cleaning up", &e))?;
    if removed.is_empty() {
        println!("nothing of Portolan's was there");
    }
    for mode in removed {
        println!("removed what Portolan had in {mode}");
    }
    restore_resolver()
}

/// What the Node's labels are to say beside what every node's say.
fn labels(zone: Option<String>, region: Option<String>, more: Vec<(String, String)>) -> BTreeMap<String, String> {
    let zone = zone.map(|zone| ("topology.kubernetes.io/zone".to_owned(), zone));
    let region = region.map(|region| ("topology.kubernetes.io/region".to_owned(), region));
    zone.into_iter().chain(region).chain(more).collect()
}

/// A Node has at most one address of each family that counts.
fn one_per_family(addresses: &[IpAddr]) -> Result<(), Failure> {
    let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    if v4 > 1 || addresses.len() - v4 > 1 {
        return Err(Failure::text("--node-ip takes at most one address per family: one of IPv4, one of IPv6"));
    }
    Ok(())
}

/// Runs `work`, which is called `what`, on this thread alone; what it is given resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// When there can be no runtime or no handlers of signals, and with what `work` fails.
pub fn until_stopped<W, E>(what: &str, work: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>) -> W) -> Result<(), Failure>
where
    W: Future<Output = Result<(), E>>,
    E: std::error::Error,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_address_of_each_family() {
        let check = |list: &[&str]| one_per_family(&list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>());
        for good in [&[][..], &["192.0.2.1"], &["2001:db8::1"], &["2001:db8::1", "192.0.2.1"]] {
            check(good).unwrap();
        }
        for bad in [&["192.0.2.1", "192.0.2.2"][..], &["2001:db8::1", "2001:db8::2"], &["192.0.2.1", "192.0.2.1"]] {
            assert!(check(bad).unwrap_err().to_string().contains("--node-ip"), "{bad:?}");
        }
    }
}
