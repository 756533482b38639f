//! What an agent is told, once, at its start.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use dataplane::nftables::Ownership;
use dataplane::{Local, NodePortAddresses};
use dns::{PodRecords, Zone};
use ipnet::IpNet;
use model::service::scheduler::Scheduler;
use serde_json::{Value, json};

use crate::join;
use crate::mode::{Dataplane, Mode};
use crate::workloads::WorkloadsConfig;

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
    /// Labels of the Node, for one that the agent registers, beside those of every machine.
    pub node_labels: BTreeMap<String, String>,
    /// How to reach the server; of a machine that joins, where its credentials will stand.
    pub kubeconfig: PathBuf,
    /// How this machine becomes a node and keeps its certificate; `None`: the kubeconfig is somebody else's business.
    pub join: Option<join::Options>,
    /// What is to carry the Services.
    pub dataplane: Dataplane,
    /// How IPVS chooses an endpoint where a Service does not say it; `None`: in turn.
    pub ipvs_scheduler: Option<Scheduler>,
    /// Serves `/metrics`, `/healthz`, `/proxyMode` and `/configz`.
    pub metrics_addr: SocketAddr,
    /// Serves `/healthz` and `/livez`.
    pub health_addr: SocketAddr,
    /// How firmly the kernel's tables are held against others.
    pub ownership: Ownership,
    /// `None`: others answer for the cluster's names.
    pub dns: Option<DnsConfig>,
    /// Whether this machine's own resolver is to ask for the cluster's names here; nothing without `dns`.
    pub resolver: Option<ResolverConfig>,
    /// `None`: what runs on this machine is others' business.
    pub workloads: Option<WorkloadsConfig>,
    /// What is called once when nothing has been programmed for half a minute: for what only a busy agent needs.
    pub at_rest: Option<fn()>,
}

/// How a machine's own resolver is to ask for the cluster's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverConfig {
    /// The namespace whose Services can be called by their names alone; a machine has none of its own.
    pub search: Option<String>,
}

/// How a node answers for the cluster's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    pub zone: Zone,
    /// On the node's InternalIPs; on the ClusterIPs of the zone's Service it is 53.
    pub port: u16,
    /// Who knows all other names; empty: the machine's own resolvers.
    pub upstream: Vec<SocketAddr>,
    /// Whether every query is logged.
    pub log: bool,
    /// Queries of one client that are answered in a second; 0: all.
    pub rate_limit: u32,
    /// Who may ask for other names, beside those that may anyhow.
    pub allow: Vec<IpNet>,
}

impl Config {
    /// With Kubernetes' addresses for metrics and health, node addresses from the Node object, tables that are owned, and
    /// no DNS.
    pub fn new(node_name: &str, kubeconfig: impl Into<PathBuf>) -> Self {
        Self {
            local: Local::new(node_name),
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            kubeconfig: kubeconfig.into(),
            join: None,
            dataplane: Dataplane::Auto,
            ipvs_scheduler: None,
            metrics_addr: DEFAULT_METRICS_ADDRESS,
            health_addr: DEFAULT_HEALTH_ADDRESS,
            ownership: Ownership::Owned,
            dns: None,
            resolver: None,
            workloads: None,
            at_rest: None,
        }
    }
}

impl Config {
    /// What `/configz` shows of an agent whose dataplane is `mode`: the part of a `KubeProxyConfiguration` that has a meaning here,
    /// in its words.
    pub fn shown(&self, mode: Mode) -> Value {
        let join = |ranges: &[IpNet]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
        let node_ports = match &self.local.node_ports {
            NodePortAddresses::Primary => vec!["primary".to_owned()],
            NodePortAddresses::Ranges(ranges) => join(ranges),
        };
        let dns = self.dns.as_ref().map(|dns| {
            json!({
                "clusterDomain": dns.zone.domain.to_string(),
                "port": dns.port,
                "ttl": dns.zone.ttl,
                "pods": match dns.zone.pods {
                    PodRecords::Disabled => "disabled",
                    PodRecords::Insecure => "insecure",
                },
                "upstream": dns.upstream,
                "log": dns.log,
                "rateLimit": dns.rate_limit,
                "allow": join(&dns.allow),
            })
        });
        json!({
            "kubeproxy.config.k8s.io": {
                "mode": mode.name(),
                "hostnameOverride": &*self.local.name,
                "clientConnection": {"kubeconfig": self.kubeconfig.display().to_string()},
                "clusterCIDR": join(&self.local.cluster_cidrs).join(","),
                "nodePortAddresses": node_ports,
                "healthzBindAddress": self.health_addr.to_string(),
                "metricsBindAddress": self.metrics_addr.to_string(),
                "ipvs": {"scheduler": self.ipvs_scheduler.map_or("", Scheduler::name)},
            },
            "portolan.dev": {
                "nodeIPs": self.node_ips,
                "dataplane": self.dataplane.to_string(),
                "localhostNodePorts": self.local.localhost_node_ports,
                "tableOwnership": self.ownership == Ownership::Owned,
                "dns": dns,
                "configureResolver": self.resolver.is_some(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown() {
        let mut config = Config::new("node-1", "/etc/portolan/kubeconfig");
        config.local.node_ports = NodePortAddresses::Ranges(vec!["192.0.2.0/24".parse().unwrap()]);
        config.local.cluster_cidrs = ["10.244.0.0/16", "fd00:244::/48"].iter().map(|c| c.parse().unwrap()).collect();
        config.dns = Some(DnsConfig {
            zone: Zone {
                domain: "cluster.local.".parse().unwrap(),
                ttl: 5,
                pods: PodRecords::Insecure,
                service: model::Key::new("kube-system", "kube-dns"),
            },
            port: 10053,
            upstream: vec!["192.0.2.53:53".parse().unwrap()],
            log: false,
            rate_limit: 0,
            allow: Vec::new(),
        });
        let shown = config.shown(Mode::Nftables);
        let kube_proxy = &shown["kubeproxy.config.k8s.io"];
        assert_eq!(kube_proxy["mode"], "nftables");
        assert_eq!(kube_proxy["clusterCIDR"], "10.244.0.0/16,fd00:244::/48");
        assert_eq!(kube_proxy["nodePortAddresses"], json!(["192.0.2.0/24"]));
        assert_eq!(shown["portolan.dev"]["tableOwnership"], true);
        assert_eq!(shown["portolan.dev"]["dataplane"], "auto");
        let dns = &shown["portolan.dev"]["dns"];
        assert_eq!((&dns["clusterDomain"], &dns["upstream"][0]), (&json!("cluster.local."), &json!("192.0.2.53:53")));
    }
}
