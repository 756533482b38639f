//! Services: addresses and node ports are given and taken back with the object that holds them, and the IPAddress objects
//! that show it are written in the same transaction.

use std::net::IpAddr;
use std::sync::Arc;

use allocator::{AddressRefusal, PortRefusal};
use model::admission::Family;
use model::service::{Needs, fill_address, fill_dry_run, fill_health_check_node_port, fill_node_port, holds, needs};
use model::types::{IpAddress, IpAddressSpec, ObjectMeta, ParentReference, Service};
use model::{FieldError, Object, Resource, View};

use super::stamp::Managers;
use super::{Engine, written};
use crate::error::Refusal;
use crate::request::{Outcome, Written};

pub(super) const ADDRESS_MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const ADDRESS_MANAGER: &str = "ipallocator.k8s.io";
const ADDRESS_FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// What has been taken for a Service before it is stored, to be given back right after.
#[derive(Default)]
struct Taken {
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Engine {
    pub(super) fn create_service(&mut self, mut service: Service, managers: Managers) -> Result<Arc<Object>, Refusal> {
        self.allocate(None, &mut service)?;
        service.metadata.generation = Some(1);
        let object = self.put_whole_managed(Resource::Services, service, None, managers)?;
        self.follow_addresses(None, &object)?;
        Ok(object)
    }

    /// None if nothing changes.
    pub(super) fn replace_service(
        &mut self,
        old: &Arc<Object>,
        mut service: Service,
        managers: Managers,
    ) -> Result<Option<Arc<Object>>, Refusal> {
        let Some(before) = old.service() else { return Ok(None) };
        self.allocate(Some(before), &mut service)?;
        service.metadata.resource_version = before.metadata.resource_version.clone();
        if service == *before && !matches!(managers, Managers::Set(_)) {
            return Ok(None);
        }
        if service.spec != before.spec {
            service.metadata.generation = Some(before.metadata.generation.unwrap_or(0) + 1);
        }
        let object = self.put_whole_managed(Resource::Services, service, Some(old), managers)?;
        self.follow_addresses(Some(before), &object)?;
        Ok(Some(object))
    }

    /// Chooses what `service` needs and writes it into the object. What is chosen is held by the stored object only.
    fn allocate(&mut self, old: Option<&Service>, service: &mut Service) -> Result<(), Refusal> {
        let needs = needs(old, service);
        self.check_requests(service, &needs)?;
        if self.dry_run {
            let pool = self.state.addresses();
            fill_dry_run(
                service,
                &needs,
                |family| pool.base(family == Family::V4).unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
                self.state.ports().first(),
            );
            return Ok(());
        }
        let mut taken = Taken::default();
        let result = self.take(service, &needs, &mut taken);
        let (addresses, ports) = self.state.pools();
        taken.addresses.into_iter().for_each(|address| addresses.release(address));
        taken.ports.into_iter().for_each(|port| ports.release(port));
        result
    }

    /// Everything that is asked for by name must be free.
    fn check_requests(&self, service: &Service, needs: &Needs) -> Result<(), Refusal> {
        for address in needs.addresses.iter().filter_map(|need| need.requested) {
            self.state.addresses().check(address).map_err(|error| {
                let value = serde_json::Value::from(service.spec.cluster_ips.clone());
                let detail = format!("failed to allocate IP {address}: {error}");
                Refusal::Invalid(vec![FieldError::invalid("spec.clusterIPs", value, detail)])
            })?;
        }
        for need in &needs.node_ports {
            if let Some(port) = need.requested {
                let path = format!("spec.ports[{}].nodePort", need.index);
                self.check_port(port, path, |error| error.to_string())?;
            }
        }
        if let Some(Some(port)) = needs.health_check_node_port {
            self.check_port(port, "spec.healthCheckNodePort".to_owned(), |error| {
                format!("failed to allocate requested HealthCheck NodePort {port}: {error}")
            })?;
        }
        Ok(())
    }

    fn check_port(&self, port: u16, path: String, detail: impl Fn(PortRefusal) -> String) -> Result<(), Refusal> {
        let checked = self.state.ports().check(port);
        checked.map_err(|error| Refusal::Invalid(vec![FieldError::invalid(path, port, detail(error))]))
    }

    /// What is asked for by name first, so that a choice does not fall on it.
    fn take(&mut self, service: &mut Service, needs: &Needs, taken: &mut Taken) -> Result<(), Refusal> {
        let chance = &mut self.chance;
        let (addresses, ports) = self.state.pools();
        for address in needs.addresses.iter().filter_map(|need| need.requested) {
            addresses.hold(address);
            taken.addresses.push(address);
        }
        let named = needs.node_ports.iter().filter_map(|need| need.requested);
        for port in named.chain(needs.health_check_node_port.flatten()) {
            ports.hold(port);
            taken.ports.push(port);
        }
        for need in needs.addresses.iter().filter(|need| need.requested.is_none()) {
            let address = addresses.choose(need.family == Family::V4, chance.next()).map_err(no_address)?;
            addresses.hold(address);
            taken.addresses.push(address);
            fill_address(service, need.index, address);
        }
        let mut choose = |what: &str| {
            let port = ports.choose(chance.next()).map_err(|error| Refusal::Full(format!("{what}: {error}")))?;
            ports.hold(port);
            taken.ports.push(port);
            Ok(port)
        };
        for need in needs.node_ports.iter().filter(|need| need.requested.is_none()) {
            let port = choose("failed to allocate a nodePort")?;
            fill_node_port(service, need.index, port);
        }
        if needs.health_check_node_port == Some(None) {
            let port = choose("failed to allocate a HealthCheck NodePort")?;
            fill_health_check_node_port(service, port);
        }
        Ok(())
    }

    /// Writes the IPAddress objects that a changed Service calls for, and removes those that it has let go of.
    fn follow_addresses(&mut self, before: Option<&Service>, object: &Arc<Object>) -> Result<(), Refusal> {
        let Some(service) = object.service() else { return Ok(()) };
        let (held, holding) = (before.map(holds).unwrap_or_default(), holds(service));
        for address in held.addresses.iter().filter(|address| !holding.addresses.contains(address)) {
            self.remove_address(*address, service)?;
        }
        for address in holding.addresses.iter().filter(|address| !held.addresses.contains(address)) {
            self.create_address(*address, service)?;
        }
        Ok(())
    }

    /// The IPAddress object by which Kubernetes shows that `service` has `address`.
    pub(super) fn create_address(&mut self, address: IpAddr, service: &Service) -> Result<(), Refusal> {
        let info = Resource::IpAddresses.info();
        let mut metadata = ObjectMeta {
            name: Some(address.to_string()),
            labels: [
                (ADDRESS_FAMILY.to_owned(), Family::of(address).to_string()),
                (ADDRESS_MANAGED_BY.to_owned(), ADDRESS_MANAGER.to_owned()),
            ]
            .into(),
            ..ObjectMeta::default()
        };
        self.stamp_new_meta(&mut metadata);
        let parent = ParentReference {
            group: String::new(),
            name: service.metadata.name().to_owned(),
            namespace: service.metadata.namespace().to_owned(),
            resource: Resource::Services.info().plural.to_owned(),
        };
        let object = IpAddress {
            api_version: info.api_version(),
            kind: info.kind.to_owned(),
            metadata,
            spec: IpAddressSpec { parent_ref: Some(parent) },
        };
        self.put_whole(Resource::IpAddresses, object, None)?;
        Ok(())
    }

    fn remove_address(&mut self, address: IpAddr, service: &Service) -> Result<(), Refusal> {
        let Some(object) = self.state.get(Resource::IpAddresses, "", &address.to_string()).cloned() else {
            return Ok(());
        };
        if parent_is(&object, service) {
            self.remove(&object)?;
        }
        Ok(())
    }

    /// Deletes an IPAddress. That of a Service which still has the address comes back at once, as Kubernetes' repair
    /// controller would have it.
    pub(super) fn delete_address(&mut self, old: &Arc<Object>, finalizers: Vec<String>) -> Result<Written, Refusal> {
        let answer = self.delete_or_mark(old, finalizers, 0)?;
        let parent = match (&old.view, answer.outcome) {
            (View::IpAddress(address), Outcome::Deleted) => address.spec.parent_ref.clone(),
            _ => None,
        };
        if let Some(parent) = parent.filter(|parent| parent.group.is_empty() && parent.resource == "services")
            && let Some(object) = self.state.get(Resource::Services, &parent.namespace, &parent.name).cloned()
            && let (Some(service), Ok(address)) = (object.service(), old.key.name.parse::<IpAddr>())
            && holds(service).addresses.contains(&address)
        {
            self.create_address(address, service)?;
        }
        Ok(written(answer.object, answer.outcome, answer.warnings))
    }

    /// What goes with a Service: its addresses, the Endpoints of its name, and the slices that are derived from it or that
    /// name it as their owner.
    pub(super) fn remove_service_contents(&mut self, old: &Arc<Object>, service: &Service) -> Result<(), Refusal> {
        for address in holds(service).addresses {
            self.remove_address(address, service)?;
        }
        let (namespace, name) = (&*old.key.namespace, &*old.key.name);
        if let Some(endpoints) = self.state.get(Resource::Endpoints, namespace, name).cloned() {
            self.remove(&endpoints)?;
            self.remove_owned_slices(&endpoints)?;
        }
        self.remove_owned_slices(old)
    }

    /// Removes the EndpointSlices of a Service or Endpoints that name it as their owner. Finalizers of slices are honoured.
    pub(super) fn remove_owned_slices(&mut self, owner: &Arc<Object>) -> Result<(), Refusal> {
        let (namespace, name, uid) = (&*owner.key.namespace, &*owner.key.name, owner.meta().uid());
        let owned: Vec<Arc<Object>> = self
            .state
            .slices_of(namespace, name)
            .filter(|slice| slice.meta().owner_references.iter().any(|reference| reference.uid == uid))
            .cloned()
            .collect();
        for slice in owned {
            if !slice.meta().terminating() {
                self.delete_at_once(&slice)?;
            }
        }
        Ok(())
    }
}

fn no_address(error: AddressRefusal) -> Refusal {
    Refusal::Full(format!("failed to allocate a serviceIP: {error}"))
}

/// Whether an IPAddress says that it belongs to this Service.
pub(super) fn parent_is(address: &Object, service: &Service) -> bool {
    let View::IpAddress(address) = &address.view else { return false };
    address.spec.parent_ref.as_ref().is_some_and(|parent| {
        parent.group.is_empty()
            && parent.resource == Resource::Services.info().plural
            && parent.namespace == service.metadata.namespace()
            && parent.name == service.metadata.name()
    })
}
