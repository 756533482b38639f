//! What the proxy is to do, as plain data: the listeners that packets alone cannot serve, with their backends and certificates.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::balancing::{Backend, relayed};
use model::types::{Listener, ListenerProtocol, SecretReference};

use super::tls::Material;
use crate::Active;

/// Where a listener is: what stays the same as long as its connections have reason to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub address: IpAddr,
    /// The first, of a range.
    pub port: u16,
    pub protocol: ListenerProtocol,
}

/// A listener that goes through the proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The name of the LoadBalancer.
    pub instance: Arc<str>,
    pub address: IpAddr,
    pub listener: Arc<Listener>,
    pub backends: Arc<[Backend]>,
    /// What its `tls` refers to, as far as it is there.
    pub material: BTreeMap<SecretReference, Arc<Material>>,
}

impl Route {
    pub fn place(&self) -> Place {
        Place { address: self.address, port: self.listener.port, protocol: self.listener.protocol }
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    pub(super) routes: Vec<Route>,
}

impl Routes {
    /// Those of `active` that are proxied. `material` is what is known of Secrets, by name.
    pub fn new(active: &[Active], material: &BTreeMap<SecretReference, Arc<Material>>) -> Self {
        let routes = active.iter().filter(|a| relayed(&a.listener)).map(|a| Route {
            instance: Arc::clone(&a.instance),
            address: a.address,
            listener: Arc::clone(&a.listener),
            backends: Arc::clone(&a.backends),
            material: references(&a.listener)
                .filter_map(|r| material.get(r).map(|m| (r.clone(), Arc::clone(m))))
                .collect(),
        });
        Self { routes: routes.collect() }
    }
}

/// Every Secret that a listener needs.
pub fn references(listener: &Listener) -> impl Iterator<Item = &SecretReference> {
    listener
        .tls
        .iter()
        .flat_map(|tls| tls.certificates.iter().chain(tls.domains.iter().map(|d| &d.secret)).chain(&tls.client_ca))
}

/// Something that keeps a listener from serving as it should, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub instance: Arc<str>,
    pub address: IpAddr,
    pub port: u16,
    pub protocol: ListenerProtocol,
    pub message: String,
}
