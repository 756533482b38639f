//! The cluster's own Services: `default/kubernetes`, which leads to the API, and `kube-system/kube-dns`, which leads to DNS.
//!
//! They are objects like any other: allocated, watched, changed by whoever may, and written by nobody but this writer. What
//! is fixed is that they exist, and where: at the first and at the tenth address of each service range, as everywhere in
//! Kubernetes, where certificates and resolv.conf files name them. So deleting one is not refused and does not last: in the
//! same transaction it is made anew, as it was at first. (Kubernetes' server brings `kubernetes` back within ten seconds and
//! kube-dns never; here every pod's resolv.conf names it.) What a user changes in one of them stays; deleting it is the way
//! back. The ports of `kubernetes` follow the server's at each start.
//!
//! Their slices follow from what the server is told of itself and from the Nodes ([`model::endpoints::dns_slices`]), derived
//! with those of other Services and put right like them. No kind of object says that an address is kept for them: where
//! another Service has it, from before there was a DNS, they take any free one, and the log says how to change that.

use std::net::{IpAddr, SocketAddr};

use allocator::AddressRange;
use model::endpoints::{
    DnsNode, ENDPOINTS_MANAGED_BY, OWN, advertised_endpoints, advertised_slices, dns_slices, renew_endpoints,
};
use model::types::Service;
use model::{Key, Object, Resource, View};
use serde_json::{Value, json};

use super::Engine;
use super::derive::managed_slices;
use super::owners::Owners;
use super::stamp::{Managers, broken};
use super::start::DEFAULT_CIDR;
use super::state::nets;
use crate::config::Api;
use crate::error::Refusal;

/// Namespace and name of the API's Service.
const API: (&str, &str) = ("default", "kubernetes");
/// Namespace and name of the DNS Service.
const DNS: (&str, &str) = ("kube-system", "kube-dns");

/// The DNS Service's number among the addresses of a range; the API has the first.
const DNS_NUMBER: u64 = 10;

/// The port on a node that DNS is at unless its annotation says another.
const DNS_NODE_PORT: u16 = 10053;

/// What the cluster's own Services say.
#[derive(Clone, Debug)]
pub(super) struct Own {
    api: Vec<SocketAddr>,
    port: u16,
}

impl Own {
    pub(super) fn new(api: &Api) -> Self {
        let at = |address: &IpAddr| SocketAddr::new(*address, api.port);
        Self { api: api.addresses.iter().map(at).collect(), port: api.port }
    }

    fn api_ports(&self) -> Value {
        json!([{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": self.port }])
    }

    fn api_service(&self) -> Value {
        json!({
            "metadata": { "labels": { "component": "apiserver", "provider": "kubernetes" } },
            "spec": { "ports": self.api_ports() },
        })
    }
}

fn dns_service() -> Value {
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol, "targetPort": DNS_NODE_PORT });
    json!({
        "metadata": { "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        } },
        "spec": { "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")] },
    })
}

/// Whether this is one of the cluster's own Services.
pub(super) fn is_own(key: &Key) -> bool {
    [API, DNS].contains(&(&*key.namespace, &*key.name))
}

pub(super) fn dns_key() -> Key {
    Key::new(DNS.0, DNS.1)
}

impl Engine {
    /// Makes the cluster's own Services where they are missing. What fails is logged: no other write waits for them.
    pub(super) fn keep_own_services(&mut self) {
        let Some(own) = self.own.clone() else { return };
        for (place, number, service) in [(API, 1, own.api_service()), (DNS, DNS_NUMBER, dns_service())] {
            if self.state.get(Resource::Services, place.0, place.1).is_none()
                && let Err(error) = self.make_own_service(place, number, service)
            {
                let (namespace, name) = place;
                tracing::warn!(namespace, name, %error, "this Service of the cluster's own could not be made");
            }
        }
        if let Err(error) = self.renew_api_ports(&own) {
            tracing::warn!(%error, "the ports of default/kubernetes could not be brought up to date");
        }
    }

    /// At its address in each range; where that is taken, at any.
    fn make_own_service(&mut self, place: (&str, &str), number: u64, mut service: Value) -> Result<(), Refusal> {
        let (namespace, name) = place;
        let info = Resource::Services.info();
        service["apiVersion"] = info.api_version().into();
        service["kind"] = info.kind.into();
        service["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
        let wanted = self.fixed_addresses(number);
        let mut fixed: &[IpAddr] = &wanted;
        loop {
            let mut attempt = service.clone();
            if let Some(first) = fixed.first() {
                attempt["spec"]["clusterIP"] = first.to_string().into();
                attempt["spec"]["clusterIPs"] = fixed.iter().map(IpAddr::to_string).collect();
            }
            let mark = self.state.mark();
            let created = self.create(Resource::Services, namespace, name, attempt, Owners::Nobody);
            match (created, fixed.split_last()) {
                (Ok(created), _) => {
                    if fixed.len() < wanted.len() {
                        let has = created.object.service().map(|service| service.spec.cluster_ips.join(", "));
                        let wanted = wanted.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
                        tracing::warn!(
                            "another Service has an address that is meant for {namespace}/{name} ({wanted}), which has \
                             {} instead; delete that Service, then {namespace}/{name}, which is made anew at once",
                            has.unwrap_or_default()
                        );
                    }
                    return Ok(());
                }
                (Err(_), Some((_, fewer))) => {
                    self.state.undo(mark);
                    fixed = fewer;
                }
                (Err(error), None) => {
                    self.state.undo(mark);
                    return Err(error);
                }
            }
        }
    }

    /// The addresses with this number in the cluster's own ranges, the primary family first.
    fn fixed_addresses(&self, number: u64) -> Vec<IpAddr> {
        let Some(stored) = self.state.get(Resource::ServiceCidrs, "", DEFAULT_CIDR) else { return Vec::new() };
        let View::ServiceCidr(cidr) = &stored.view else { return Vec::new() };
        let ranges = nets(cidr).into_iter().filter_map(|net| AddressRange::new(net).ok());
        ranges.map(|range| range.nth(number)).collect()
    }

    /// The server may have been started at another port.
    fn renew_api_ports(&mut self, own: &Own) -> Result<(), Refusal> {
        let Some(stored) = self.state.get(Resource::Services, API.0, API.1).cloned() else { return Ok(()) };
        let Some(service) = stored.service().filter(|service| service.spec.selector.is_empty()) else { return Ok(()) };
        let mut renewed = service.clone();
        for port in renewed.spec.ports.iter_mut().filter(|port| port.port == 443) {
            port.target_port = Some(model::types::IntOrString::Int(own.port.into()));
        }
        self.replace_service(&stored, renewed, Managers::Keep)?;
        Ok(())
    }

    /// The slices of one of the cluster's own Services, and of the API the Endpoints object.
    pub(super) fn derive_own(&mut self, key: &Key, service: &Service) -> Result<(), Refusal> {
        let Some(own) = self.own.clone().filter(|_| is_own(key)) else { return Ok(()) };
        let (state, chance) = (&self.state, &mut self.chance);
        let existing = managed_slices(state, key, OWN);
        if *key == dns_key() {
            let nodes = state.shelf(Resource::Nodes).all().filter_map(|node| node.node()).filter_map(DnsNode::of);
            let changes = dns_slices(service, nodes.collect(), &existing, &mut || chance.suffix());
            return self.apply(key, changes);
        }
        let changes = advertised_slices(service, &own.api, &existing);
        self.apply(key, changes)?;
        self.advertise_endpoints(key, service, &own)
    }

    fn advertise_endpoints(&mut self, key: &Key, service: &Service, own: &Own) -> Result<(), Refusal> {
        let resource = Resource::Endpoints;
        let stored = self.state.get(resource, &key.namespace, &key.name).cloned();
        match (advertised_endpoints(service, &own.api), stored) {
            (Some(wanted), stored) => {
                let value = stored.as_ref().map(|stored| stored.value()).transpose().map_err(broken)?;
                let Some(mut value) = renew_endpoints(value.as_ref(), wanted) else { return Ok(()) };
                if stored.is_none() {
                    self.stamp_new(resource, &mut value);
                }
                self.put(resource, value, stored.as_ref())?;
            }
            (None, Some(stored)) if is_ours(&stored) => {
                self.remove_with_contents(&stored)?;
            }
            (None, _) => {}
        }
        Ok(())
    }
}

/// Whether an Endpoints object was written here, and not by a user.
fn is_ours(endpoints: &Object) -> bool {
    endpoints.labels().get(ENDPOINTS_MANAGED_BY).is_some_and(|manager| manager == OWN)
}
