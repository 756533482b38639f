//! The flags of whoever answers for the cluster's names: nodes' agents, and machines that are no nodes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dns::{PodRecords, Zone};
use ipnet::IpNet;
use model::syntax::dns1123_label;
use proxy_agent::{DnsConfig, ResolverConfig, nameserver};

/// Where other resolvers are asked.
const DNS_PORT: u16 = 53;

#[derive(Clone, Debug, Args)]
pub struct DnsArgs {
    /// The domain that the cluster's names end in.
    #[arg(long, value_name = "NAME", value_parser = Zone::new, default_value = "cluster.local")]
    pub cluster_domain: Zone,
    /// A resolver to ask for all other names; may be given more than once. Default: those of this machine's resolv.conf.
    #[arg(long, value_name = "IP[:PORT]", value_parser = upstream)]
    pub dns_upstream: Vec<SocketAddr>,
    /// Whether 1-2-3-4.NAMESPACE.pod.cluster.local is the address that it says, without a look whether there is such a pod.
    #[arg(long, value_enum, default_value = "insecure")]
    pub dns_pods: DnsPods,
    /// Log every query.
    #[arg(long)]
    pub dns_log: bool,
    /// Queries of one client that are answered in a second, so that no loop takes the machine; 0: all.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub dns_rate_limit: u32,
    /// Who may ask for names outside of the cluster, beside private, loopback and link-local addresses and this machine's
    /// own networks; others get REFUSED.
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', value_parser = super::cidr)]
    pub dns_allow: Vec<IpNet>,
}

/// What whoever answers for the cluster's names does about the resolver of its own machine.
#[derive(Clone, Debug, Args)]
pub struct ResolverArgs {
    /// Have this machine's own programs ask here for the cluster's names, and keep it so: through systemd-resolved where it
    /// runs, else by /etc/resolv.conf. --cleanup takes it back.
    #[arg(long)]
    pub configure_resolver: bool,
    /// A namespace whose Services this machine's programs can call by their names alone.
    #[arg(long, value_name = "NAMESPACE", requires = "configure_resolver", value_parser = namespace)]
    pub resolver_search: Option<String>,
}

impl ResolverArgs {
    pub fn config(self) -> Option<ResolverConfig> {
        self.configure_resolver.then_some(ResolverConfig { search: self.resolver_search })
    }
}

/// `portolan dns`.
#[derive(Debug, Args)]
pub struct ServeDnsArgs {
    /// How to reach the server.
    #[arg(long, value_name = "FILE", required_unless_present = "cleanup")]
    pub kubeconfig: Option<PathBuf>,
    /// Where to answer, by UDP and TCP; may be given more than once.
    #[arg(long, value_name = "ADDR:PORT", required_unless_present = "cleanup")]
    pub listen: Vec<SocketAddr>,
    #[command(flatten)]
    pub names: DnsArgs,
    #[command(flatten)]
    pub resolver: ResolverArgs,
    /// Where metrics are served; the port is CoreDNS'.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = nameserver::METRICS_ADDRESS)]
    pub metrics_listen: SocketAddr,
    /// Where /ready and /health are served; the port is that of CoreDNS' /ready.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = nameserver::HEALTH_ADDRESS)]
    pub health_listen: SocketAddr,
    /// Take back what --configure-resolver did to this machine, and exit.
    #[arg(long, conflicts_with_all = ["kubeconfig", "listen"])]
    pub cleanup: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DnsPods {
    Disabled,
    Insecure,
}

impl DnsArgs {
    /// What whoever answers is told; `port` is a node's.
    pub fn config(self, port: u16) -> DnsConfig {
        let pods = match self.dns_pods {
            DnsPods::Disabled => PodRecords::Disabled,
            DnsPods::Insecure => PodRecords::Insecure,
        };
        DnsConfig {
            zone: Zone { pods, ..self.cluster_domain },
            port,
            upstream: self.dns_upstream,
            log: self.dns_log,
            rate_limit: self.dns_rate_limit,
            allow: self.dns_allow,
        }
    }
}

/// A DNS label, which the name of a namespace is.
fn namespace(text: &str) -> Result<String, String> {
    match dns1123_label(text).as_slice() {
        [] => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no name of a namespace")),
    }
}

/// An address, with port 53 unless it says another.
fn upstream(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    address
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is no address; write it as 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams() {
        assert_eq!(upstream("192.0.2.1"), Ok("192.0.2.1:53".parse().unwrap()));
        assert_eq!(upstream("2001:db8::1"), Ok("[2001:db8::1]:53".parse().unwrap()));
        assert_eq!(upstream("[2001:db8::1]:5353"), Ok("[2001:db8::1]:5353".parse().unwrap()));
        assert!(upstream("resolver.example").unwrap_err().contains("192.0.2.1"));
    }
}
