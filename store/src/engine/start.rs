//! What every cluster has from its first start on.

use ipnet::IpNet;
use model::Resource;
use model::types::ServiceCidr;
use serde_json::{Value, json};

use super::Engine;
use super::namespaces::BOOTSTRAP;
use super::own::Own;
use super::owners::Owners;
use super::state::nets;
use crate::config::Api;
use crate::error::Refusal;
use model::View;

/// The ServiceCIDR that is made from the command line.
pub(super) const DEFAULT_CIDR: &str = "kubernetes";

impl Engine {
    /// Creates the four namespaces, the default ServiceCIDR and, with an API in front, the cluster's own Services where they
    /// are missing, then repairs what disagrees.
    pub(crate) fn start(&mut self, service_cidrs: &[IpNet], api: Option<&Api>) -> Result<(), Refusal> {
        for name in BOOTSTRAP {
            if self.state.get(Resource::Namespaces, "", name).is_none() {
                let namespace = object(Resource::Namespaces, name, json!({}));
                self.create(Resource::Namespaces, "", name, namespace, Owners::Nobody)?;
            }
        }
        let differs = self.default_cidr(service_cidrs)?;
        self.settle_families();
        self.own = api.map(Own::new);
        self.keep_own_services();
        self.repair(differs)
    }

    /// Makes the default ServiceCIDR, or adds a second family to it. A range that it has already stays: addresses have been
    /// given from it. True if it says something else than the command line.
    fn default_cidr(&mut self, service_cidrs: &[IpNet]) -> Result<bool, Refusal> {
        let cidrs: Vec<String> = service_cidrs.iter().map(|net| net.trunc().to_string()).collect();
        let Some(stored) = self.state.get(Resource::ServiceCidrs, "", DEFAULT_CIDR).cloned() else {
            let cidr = object(Resource::ServiceCidrs, DEFAULT_CIDR, json!({ "spec": { "cidrs": cidrs } }));
            self.create(Resource::ServiceCidrs, "", DEFAULT_CIDR, cidr, Owners::Nobody)?;
            return Ok(false);
        };
        let View::ServiceCidr(current) = &stored.view else { return Ok(true) };
        if current.spec.cidrs == cidrs {
            return Ok(false);
        }
        if let [first] = current.spec.cidrs.as_slice()
            && cidrs.first() == Some(first)
        {
            let mut wider: ServiceCidr = (**current).clone();
            wider.spec.cidrs = cidrs;
            wider.metadata.generation = current.metadata.generation.map(|generation| generation + 1);
            self.put_whole(Resource::ServiceCidrs, wider, Some(&stored))?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The families of the default ServiceCIDR, which is what Services are admitted by.
    fn settle_families(&mut self) {
        let Some(stored) = self.state.get(Resource::ServiceCidrs, "", DEFAULT_CIDR) else { return };
        if let View::ServiceCidr(cidr) = &stored.view {
            let families: Vec<_> = nets(cidr).iter().map(|net| model::admission::Family::of(net.addr())).collect();
            if !families.is_empty() {
                self.cluster.families = families;
            }
        }
    }
}

fn object(resource: Resource, name: &str, mut body: Value) -> Value {
    let info = resource.info();
    body["apiVersion"] = info.api_version().into();
    body["kind"] = info.kind.into();
    body["metadata"] = json!({ "name": name });
    body
}
