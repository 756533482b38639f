//! The lab's network: a bridge in the supervisor's namespace, and on it one namespace per node, per edge node, and for the client.
//! Pods hang off their node by a routed veth pair each ([`pod`]).
//!
//! Nothing here is read back from the kernel: names, interface indexes and hardware addresses are chosen, so building
//! is a straight line of requests, and deleting a pod's link needs nothing but its number.

mod links;
mod pod;

use std::io;
use std::sync::Arc;

use ipnet::IpNet;

use crate::addresses::{self, EDGE_HOSTS, Pair, SUBNET_LEN_V4, SUBNET_LEN_V6};
use crate::netns::{Netns, SysctlError};

pub use links::LinkError;
use links::{End, LO, Links, Mac};
pub use pod::{Sandbox, add_pod};

/// Node N is machine `NODE_HOSTS + N` of the subnet.
const NODE_HOSTS: u8 = 10;
const CLIENT_HOST: u8 = 100;

/// The index of `eth0` everywhere: above those of the tunnel devices that some kernels put into every new namespace.
const ETH0: u32 = 100;
const BRIDGE: u32 = 100;
/// The bridge's port of the machine with number N on the subnet has index `PORTS + N`.
const PORTS: u32 = 1000;

/// The network could not be built.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("making the network namespace of {name}")]
    Namespace {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("preparing {name}")]
    Sysctl {
        name: String,
        #[source]
        source: SysctlError,
    },
    #[error("connecting {name}")]
    Link {
        name: String,
        #[source]
        source: LinkError,
    },
}

/// The bridge and every machine on it.
#[derive(Debug)]
pub struct Network {
    pub nodes: Vec<Arc<NodeNet>>,
    pub edges: Vec<EdgeNet>,
    pub client: Arc<Netns>,
}

/// A node's namespace. `number` counts from 1.
#[derive(Debug)]
pub struct NodeNet {
    pub number: u8,
    pub netns: Arc<Netns>,
    pub cable: Cable,
    links: Links,
}

/// An edge node's namespace.
#[derive(Debug)]
pub struct EdgeNet {
    pub name: String,
    pub addresses: Pair,
    pub netns: Arc<Netns>,
    pub cable: Cable,
}

/// What connects a machine with the bridge.
#[derive(Debug)]
pub struct Cable {
    /// The namespace with the bridge, and the port there.
    hub: Arc<Links>,
    port: u32,
}

impl Cable {
    /// Pulls the cable, or plugs it in again: the port on the bridge goes down, and with it the carrier of the machine's own
    /// end. Nobody is told anything, as when the power fails. A node's pods go on, and reach each other.
    pub async fn connect(&self, connected: bool) -> Result<(), LinkError> {
        if connected { self.hub.up(self.port).await } else { self.hub.down(self.port).await }
    }
}

/// For every namespace: IPv6 addresses that are there at once, and nothing that learns routes by itself.
const COMMON: &[(&str, &str)] = &[
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    // A reply may come back on another way than the request went: source validation would drop it.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// For namespaces that forward. A node sends packets back out of the interface they came by (NodePort to a pod
/// elsewhere); a redirect would tell the client to go round the translation.
const FORWARDING: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];

/// For the bridge's namespace: it has a route to the subnet alone, and says so each time somebody sends it anything else,
/// such as a ClusterIP from outside the cluster.
const CANDID: &[(&str, &str)] = &[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")];

impl Network {
    /// Builds the whole network for `nodes` nodes and `edges` edge nodes. The calling thread must be in the namespace that
    /// gets the bridge.
    pub async fn build(nodes: u8, edges: u8) -> Result<Self, NetworkError> {
        let hub = Hub::build().await?;
        let client = hub.machine("client", CLIENT_HOST, addresses::client()).await?;
        set_default_routes(&client.links).await.map_err(in_link("client"))?;
        let mut built = Vec::with_capacity(usize::from(nodes));
        for number in 1..=nodes {
            let name = node_name(number);
            let machine = hub.machine(&name, number + NODE_HOSTS, addresses::node(number)).await?;
            let others = (1..=nodes).filter(|other| *other != number);
            machine.forward(others).await.map_err(|trouble| trouble.of(&name))?;
            let Machine { netns, links, cable } = machine;
            built.push(Arc::new(NodeNet { number, netns: Arc::new(netns), cable, links }));
        }
        let mut edge_nets = Vec::with_capacity(usize::from(edges));
        for number in 1..=edges {
            let (name, addresses) = (edge_name(number), addresses::edge(number));
            let machine = hub.machine(&name, number + EDGE_HOSTS, addresses).await?;
            machine.forward(1..=nodes).await.map_err(|trouble| trouble.of(&name))?;
            let Machine { netns, cable, .. } = machine;
            edge_nets.push(EdgeNet { name, addresses, netns: Arc::new(netns), cable });
        }
        Ok(Self { nodes: built, edges: edge_nets, client: Arc::new(client.netns) })
    }
}

/// `node-1`, …
pub fn node_name(number: u8) -> String {
    format!("node-{number}")
}

/// `edge-1`, …
pub fn edge_name(number: u8) -> String {
    format!("edge-{number}")
}

/// The namespace with the bridge.
struct Hub {
    links: Arc<Links>,
}

struct Machine {
    netns: Netns,
    links: Links,
    cable: Cable,
}

/// What went wrong with a machine that forwards.
enum Trouble {
    Sysctl(SysctlError),
    Link(LinkError),
}

impl Trouble {
    fn of(self, name: &str) -> NetworkError {
        let name = name.to_owned();
        match self {
            Self::Sysctl(source) => NetworkError::Sysctl { name, source },
            Self::Link(source) => NetworkError::Link { name, source },
        }
    }
}

impl Machine {
    /// Makes it forward, to the pods of these nodes by the nodes and to all else by the bridge.
    async fn forward(&self, nodes: impl Iterator<Item = u8>) -> Result<(), Trouble> {
        self.netns.sysctl(FORWARDING).map_err(Trouble::Sysctl)?;
        let routes = async {
            set_default_routes(&self.links).await?;
            for node in nodes {
                let ((v4, v6), via) = (addresses::pod_range(node), addresses::node(node));
                self.links.route(IpNet::V4(v4), Some(via.v4.into()), ETH0).await?;
                self.links.route(IpNet::V6(v6), Some(via.v6.into()), ETH0).await?;
            }
            Ok(())
        };
        routes.await.map_err(Trouble::Link)
    }
}

impl Hub {
    async fn build() -> Result<Self, NetworkError> {
        let name = "the bridge";
        let netns = Netns::current().map_err(|source| NetworkError::Namespace { name: name.into(), source })?;
        let sysctl = |source| NetworkError::Sysctl { name: name.into(), source };
        netns.sysctl(COMMON).map_err(sysctl)?;
        netns.sysctl(FORWARDING).map_err(sysctl)?;
        netns.sysctl(CANDID).map_err(sysctl)?;
        let links = Links::open(&netns).map_err(in_link(name))?;
        let address = addresses::bridge();
        let build = async {
            links.up(LO).await?;
            links.bridge("portolan0", BRIDGE, mac(0, 1)).await?;
            links.address(BRIDGE, address.v4.into(), SUBNET_LEN_V4).await?;
            links.address(BRIDGE, address.v6.into(), SUBNET_LEN_V6).await
        };
        build.await.map_err(in_link(name))?;
        Ok(Self { links: Arc::new(links) })
    }

    /// A namespace with `eth0` on the bridge; `host` is its number on the subnet.
    async fn machine(&self, name: &str, host: u8, address: Pair) -> Result<Machine, NetworkError> {
        let netns = Netns::create().map_err(|source| NetworkError::Namespace { name: name.into(), source })?;
        netns.sysctl(COMMON).map_err(|source| NetworkError::Sysctl { name: name.into(), source })?;
        let cable = Cable { hub: Arc::clone(&self.links), port: PORTS + u32::from(host) };
        let build = async {
            let port = End { name: &format!("to-{name}"), index: cable.port, mac: mac(1, host) };
            let eth0 = End { name: "eth0", index: ETH0, mac: mac(0, host) };
            self.links.veth(port, eth0, &netns).await?;
            self.links.enslave(cable.port, BRIDGE).await?;
            let links = Links::open(&netns)?;
            links.up(LO).await?;
            links.up(ETH0).await?;
            links.address(ETH0, address.v4.into(), SUBNET_LEN_V4).await?;
            links.address(ETH0, address.v6.into(), SUBNET_LEN_V6).await?;
            Ok(links)
        };
        let links = build.await.map_err(in_link(name))?;
        Ok(Machine { netns, links, cable })
    }
}

async fn set_default_routes(links: &Links) -> Result<(), LinkError> {
    let via = addresses::bridge();
    links.route(IpNet::V4(Default::default()), Some(via.v4.into()), ETH0).await?;
    links.route(IpNet::V6(Default::default()), Some(via.v6.into()), ETH0).await
}

fn in_link(name: &str) -> impl FnOnce(LinkError) -> NetworkError + use<> {
    let name = name.to_owned();
    move |source| NetworkError::Link { name, source }
}

/// A locally administered hardware address for the machine `host` of the subnet; `side` 1 is its port on the bridge.
fn mac(side: u8, host: u8) -> Mac {
    [0x02, 0x31, side, 0, 0, host]
}

#[cfg(test)]
mod tests;
