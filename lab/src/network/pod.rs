//! A pod's network: a namespace with `eth0`, the other end of the veth pair in the node, and host routes between them.
//!
//! There is no bridge on the node on purpose. Between two pods of one node a bridge would carry replies straight from
//! the server to the client, past the node's connection tracking, and the client would get an answer from an address
//! that it never asked. Routed, every packet passes the node's hooks.
//!
//! Both ends know each other's hardware address by permanent entries, so no ARP or neighbour discovery takes place
//! and the first packet leaves at once.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::links::{End, LO, LinkError, Links, Mac};
use super::{COMMON, ETH0, NetworkError, NodeNet, in_link};
use crate::addresses::{self, POD_GATEWAY_V4, POD_GATEWAY_V6, Pair};
use crate::netns::Netns;

/// The node's end of the link to pod X has index `PODS + X`.
const PODS: u32 = 2000;

/// A pod's namespace and its place on the node.
#[derive(Debug)]
pub struct Sandbox {
    pub host: u8,
    pub addresses: Pair,
    pub netns: Arc<Netns>,
}

/// Gives pod `host` of `node` its namespace and its addresses. On failure nothing of it is left.
pub async fn add_pod(node: &NodeNet, host: u8) -> Result<Sandbox, NetworkError> {
    let addresses = addresses::pod(node.number, host);
    let name = format!("the pod with address {}", addresses.v4);
    let netns = Netns::create().map_err(|source| NetworkError::Namespace { name: name.clone(), source })?;
    netns.sysctl(COMMON).map_err(|source| NetworkError::Sysctl { name: name.clone(), source })?;
    let linked = link(node, host, addresses, &netns).await;
    if linked.is_err() {
        // The pair may or may not exist; what matters is that it does not afterwards.
        let _ = node.links.delete(PODS + u32::from(host)).await;
    }
    linked.map_err(in_link(&name))?;
    Ok(Sandbox { host, addresses, netns: Arc::new(netns) })
}

impl NodeNet {
    /// Takes a pod's link, routes and namespace away. The namespace lives on while a process is inside.
    pub async fn remove_pod(&self, sandbox: Sandbox) -> Result<(), NetworkError> {
        let name = format!("the pod with address {}", sandbox.addresses.v4);
        self.links.delete(PODS + u32::from(sandbox.host)).await.map_err(in_link(&name))
    }
}

async fn link(node: &NodeNet, host: u8, addresses: Pair, netns: &Netns) -> Result<(), LinkError> {
    let node_end = PODS + u32::from(host);
    let (node_mac, pod_mac) = (mac(1, node.number, host), mac(0, node.number, host));
    let here = End { name: &format!("pod-{host}"), index: node_end, mac: node_mac };
    let there = End { name: "eth0", index: ETH0, mac: pod_mac };
    node.links.veth(here, there, netns).await?;

    node.links.address(node_end, POD_GATEWAY_V6.into(), 64).await?;
    for address in addresses.list() {
        node.links.neighbour(node_end, address, pod_mac).await?;
        node.links.route(IpNet::from(address), None, node_end).await?;
    }

    let links = Links::open(netns)?;
    links.up(LO).await?;
    links.up(ETH0).await?;
    links.neighbour(ETH0, POD_GATEWAY_V4.into(), node_mac).await?;
    links.neighbour(ETH0, POD_GATEWAY_V6.into(), node_mac).await?;
    for (address, via) in [(addresses.v4.into(), POD_GATEWAY_V4.into()), (addresses.v6.into(), POD_GATEWAY_V6.into())] {
        let len = IpNet::from(address).prefix_len();
        links.address(ETH0, address, len).await?;
        links.route(everything(via), Some(via), ETH0).await?;
    }
    Ok(())
}

fn everything(family_of: IpAddr) -> IpNet {
    match family_of {
        IpAddr::V4(_) => IpNet::V4(Default::default()),
        IpAddr::V6(_) => IpNet::V6(Default::default()),
    }
}

/// A locally administered hardware address; `side` 1 is the node's end.
fn mac(side: u8, node: u8, host: u8) -> Mac {
    [0x02, 0x44, side, 0, node, host]
}
