//! What is checked at every start: allocations against Services, derived objects against what they are derived from.
//!
//! In this store a Service and its addresses are written together, so there is nothing to find unless the file was edited,
//! restored in part, or written by a version with a fault. What can be mended is; what only a user can decide (two Services
//! with one address) is reported. Reasons and texts are those of Kubernetes' repair controllers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::admission::Family;
use model::endpoints::{DERIVED, MANAGED_BY, MIRRORED, SERVICE_NAME};
use model::service::holds;
use model::types::Service;
use model::{Key, Object, Resource, View};

use super::Engine;
use super::derive::is_derived;
use super::report::Report;
use super::services::{ADDRESS_MANAGED_BY, ADDRESS_MANAGER, parent_is};
use super::stale::Stale;
use super::start::DEFAULT_CIDR;
use super::state::State;
use crate::error::Refusal;

/// So many Services are shared out among the processors; fewer take no longer than the threads for that, and no heaps of theirs.
const SHARED: usize = 256;

/// Events that one start writes at most; a database in ruins needs no more of them.
const EVENT_LIMIT: usize = 100;

/// Something that was found.
struct Finding {
    about: Arc<Object>,
    reason: &'static str,
    note: String,
}

impl Engine {
    /// Compares, mends, and reports with Events.
    pub(super) fn repair(&mut self, default_cidr_differs: bool) -> Result<(), Refusal> {
        let mut findings = Vec::new();
        if default_cidr_differs && let Some(about) = self.state.get(Resource::ServiceCidrs, "", DEFAULT_CIDR).cloned() {
            let note =
                "The default ServiceCIDR differs from the server's --service-cidr; the stored one is used".to_owned();
            findings.push(Finding { about, reason: "KubernetesDefaultServiceCIDRInconsistent", note });
        }
        let services: Vec<Arc<Object>> = self.state.shelf(Resource::Services).all().cloned().collect();
        for object in &services {
            if let Some(service) = object.service() {
                self.check_service_addresses(object, service, &mut findings)?;
            }
        }
        self.check_node_ports(&services, &mut findings);
        self.check_addresses(&mut findings)?;
        self.check_terminating()?;
        self.touch_all(&services);
        for finding in &findings {
            tracing::warn!(reason = finding.reason, object = &*finding.about.key.name, "{}", finding.note);
        }
        for Finding { about, reason, note } in findings.into_iter().take(EVENT_LIMIT) {
            self.report(&Report { about: &about, reason, note, warns: true, component: "portolan-repair" }, None)?;
        }
        Ok(())
    }

    fn check_service_addresses(
        &mut self,
        object: &Arc<Object>,
        service: &Service,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Refusal> {
        let mut find = |reason, note| findings.push(Finding { about: Arc::clone(object), reason, note });
        for address in holds(service).addresses {
            let family = Family::of(address);
            let stored = self.state.get(Resource::IpAddresses, "", &address.to_string()).cloned();
            if !self.state.addresses().covers(address) {
                let note = format!(
                    "Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service"
                );
                find("ClusterIPOutOfRange", note);
            }
            let Some(stored) = stored else {
                find("ClusterIPNotAllocated", format!("Cluster IP [{family}]: {address} is not allocated; repairing"));
                self.create_address(address, service)?;
                continue;
            };
            if parent_is(&stored, service) {
                continue;
            }
            if self.parent_holds(&stored, address) {
                let note = format!(
                    "Cluster IP [{family}]: {address} was assigned to multiple services; please recreate service"
                );
                find("ClusterIPAlreadyAllocated", note);
                continue;
            }
            find(
                "ClusterIPNotAllocated",
                format!("the ClusterIP [{family}]: {address} has a wrong reference; repairing"),
            );
            self.remove(&stored)?;
            self.create_address(address, service)?;
        }
        Ok(())
    }

    /// Whether the Service that an IPAddress names is there and has the address.
    fn parent_holds(&self, object: &Object, address: IpAddr) -> bool {
        let View::IpAddress(stored) = &object.view else { return false };
        let Some(parent) = &stored.spec.parent_ref else { return false };
        parent.group.is_empty()
            && parent.resource == Resource::Services.info().plural
            && self
                .state
                .get(Resource::Services, &parent.namespace, &parent.name)
                .and_then(|object| object.service())
                .is_some_and(|service| holds(service).addresses.contains(&address))
    }

    fn check_node_ports(&self, services: &[Arc<Object>], findings: &mut Vec<Finding>) {
        let mut holders: BTreeMap<u16, Vec<&Arc<Object>>> = BTreeMap::new();
        for object in services {
            for port in object.service().map(holds).unwrap_or_default().node_ports {
                holders.entry(port).or_default().push(object);
            }
        }
        for (port, objects) in holders {
            if !self.state.ports().covers(port) {
                let note = format!("Port {port} is not within the port range; please recreate service");
                let about = objects.iter().map(|object| Arc::clone(object));
                findings.extend(about.map(|about| Finding { about, reason: "PortOutOfRange", note: note.clone() }));
            }
            for about in objects.into_iter().skip(1) {
                let note = format!("Port {port} was assigned to multiple services; please recreate service");
                findings.push(Finding { about: Arc::clone(about), reason: "PortAlreadyAllocated", note });
            }
        }
    }

    /// Removes the addresses that this allocator once gave to a Service which does not have them.
    fn check_addresses(&mut self, findings: &mut Vec<Finding>) -> Result<(), Refusal> {
        let managed: Vec<Arc<Object>> = self
            .state
            .shelf(Resource::IpAddresses)
            .all()
            .filter(|object| object.labels().get(ADDRESS_MANAGED_BY).is_some_and(|manager| manager == ADDRESS_MANAGER))
            .cloned()
            .collect();
        for about in managed {
            let Ok(address) = about.key.name.parse::<IpAddr>() else { continue };
            if !self.parent_holds(&about, address) {
                let note = format!("IPAddress: {address} appears to have leaked: cleaning up");
                self.remove(&about)?;
                findings.push(Finding { about, reason: "IPAddressNotAllocated", note });
            }
        }
        Ok(())
    }

    /// Ends the deletions that wait for nothing any more, and finds the objects whose owners are gone.
    fn check_terminating(&mut self) -> Result<(), Refusal> {
        self.find_owed();
        self.settle_cidrs()?;
        let namespaces: Vec<Arc<Object>> = self.state.shelf(Resource::Namespaces).all().cloned().collect();
        for namespace in namespaces {
            self.settle_namespace(&namespace.key.name)?;
        }
        Ok(())
    }

    /// Has the endpoints of every Service derived, and of every name that derived slices are left of, but for those that
    /// say already what they would.
    fn touch_all(&mut self, services: &[Arc<Object>]) {
        let ours = |object: &&Arc<Object>| {
            object.labels().get(MANAGED_BY).is_some_and(|manager| manager == DERIVED || manager == MIRRORED)
        };
        let mut keys: BTreeSet<Key> = stale(&self.state, services).into_iter().collect();
        for slice in self.state.shelf(Resource::EndpointSlices).all().filter(ours) {
            if let Some(service) = slice.labels().get(SERVICE_NAME)
                && self.state.get(Resource::Services, &slice.key.namespace, service).is_none()
            {
                keys.insert(Key::new(&slice.key.namespace, service));
            }
        }
        for key in keys {
            self.state.touch(key, Stale::beyond_pods());
        }
    }
}

/// The Services whose endpoints are to be derived. To compare them all takes a good part of a start, so every processor
/// takes its share.
fn stale(state: &State, services: &[Arc<Object>]) -> Vec<Key> {
    let threads = if services.len() < SHARED { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let of = |services: &[Arc<Object>]| -> Vec<Key> {
        let stale = services.iter().filter(|service| !is_derived(state, service));
        stale.map(|service| service.key.clone()).collect()
    };
    let (own, others) = services.split_at(services.len().div_ceil(threads));
    std::thread::scope(|scope| {
        let begin = |share| std::thread::Builder::new().spawn_scoped(scope, move || of(share)).ok();
        let begun: Vec<_> = others.chunks(own.len().max(1)).map(|share| (share, begin(share))).collect();
        let mut keys = of(own);
        // Where there is no thread for them, or it has failed, all are derived.
        let all = |share: &[Arc<Object>]| share.iter().map(|service| service.key.clone()).collect();
        for (share, thread) in begun {
            keys.extend(thread.and_then(|thread| thread.join().ok()).unwrap_or_else(|| all(share)));
        }
        keys
    })
}
