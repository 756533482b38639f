//! Load balancing as pure rules: who the backends of a listener are.

use std::net::SocketAddr;

/// Where a listener may send a connection or request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Node and node port, or Pod and target port.
    pub address: SocketAddr,
    /// Its share beside the other backends of the listener; 0: it gets nothing new.
    pub weight: u16,
    /// The Node, or the Node that the Pod is on; empty where nobody knows.
    pub node: Box<str>,
    /// Node mode with policy Local: the node's answer at this port says whether it has endpoints.
    pub health_check_node_port: Option<u16>,
}
