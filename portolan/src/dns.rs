//! `portolan dns`: the cluster's names on a machine that is no node.

use proxy_agent::nameserver;

use crate::Failure;
use crate::agent::{restore_resolver, until_stopped};
use crate::cli::ServeDnsArgs;

/// Answers until SIGTERM or SIGINT.
pub fn run(args: ServeDnsArgs) -> Result<(), Failure> {
    if args.cleanup {
        return restore_resolver();
    }
    let Some(kubeconfig) = args.kubeconfig else { return Err(Failure::text("--kubeconfig is needed")) };
    let config = nameserver::Config {
        kubeconfig,
        // Of no node: it has no port of a node's.
        dns: args.names.config(0),
        listen: args.listen,
        metrics_addr: args.metrics_listen,
        health_addr: args.health_listen,
        resolver: args.resolver.config(),
    };
    // For the API alone; names are answered by threads of their own.
    until_stopped("running the DNS", |stop| nameserver::run(config, stop))
}
