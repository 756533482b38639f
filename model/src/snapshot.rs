//! What a node knows of the cluster at one revision: the input of the pure functions that decide for a node.
//!
//! Everything is shared by reference count, so taking a snapshot copies maps of pointers and no objects.
//! EndpointSlices are held by their Service, because every reader asks for "the slices of this Service";
//! the label `kubernetes.io/service-name` says whose they are, not the owner reference, which slices made by
//! hand do not have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::object::{Key, Revision};
use crate::types::{AccessList, EndpointSlice, LoadBalancer, Node, Service};

/// The Services, endpoints and nodes of a cluster as of `revision`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The newest revision that is in here.
    pub revision: Revision,
    pub services: BTreeMap<Key, Arc<Service>>,
    /// By namespace and name of the *Service*, then by the slice's own name.
    pub slices: BTreeMap<Key, BTreeMap<String, Arc<EndpointSlice>>>,
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// The names of all Namespaces.
    pub namespaces: BTreeSet<Box<str>>,
    /// The ranges that ClusterIPs come from, of every ServiceCIDR object.
    pub service_cidrs: Vec<IpNet>,
    /// Load-balancer instances by name.
    pub balancers: BTreeMap<String, Arc<LoadBalancer>>,
    /// By name. Only edge nodes need them.
    pub access_lists: BTreeMap<String, Arc<AccessList>>,
}
