//! What an agent is told, once, at its start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use dataplane::Local;
use dataplane::nftables::Ownership;

/// Where kube-proxy serves its metrics; scrape configurations know the port.
pub const DEFAULT_METRICS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
/// Where kube-proxy serves its health checks.
pub const DEFAULT_HEALTH_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this machine's Node object, and what decides beside the API what is programmed.
    pub local: Local,
    /// Addresses of this node, in place of the InternalIPs of its Node object; empty: take those. When the agent
    /// creates the Node object it needs them.
    pub node_ips: Vec<IpAddr>,
    pub kubeconfig: PathBuf,
    /// Serves `/metrics`, `/healthz` and `/proxyMode`.
    pub metrics_addr: SocketAddr,
    /// Serves `/healthz` and `/livez`.
    pub health_addr: SocketAddr,
    /// How firmly the kernel's tables are held against others.
    pub ownership: Ownership,
}

impl Config {
    /// With Kubernetes' addresses for metrics and health, node addresses from the Node object, and tables that are owned.
    pub fn new(node_name: &str, kubeconfig: impl Into<PathBuf>) -> Self {
        Self {
            local: Local::new(node_name),
            node_ips: Vec::new(),
            kubeconfig: kubeconfig.into(),
            metrics_addr: DEFAULT_METRICS_ADDRESS,
            health_addr: DEFAULT_HEALTH_ADDRESS,
            ownership: Ownership::Owned,
        }
    }
}
