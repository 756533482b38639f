//! The rules of a Service: what is filled in, what is refused, what a change keeps or releases.
//!
//! A write goes `prepare_create` or `prepare_update` (defaults, carry-over, families, validation), then
//! [`needs`] tells the allocators what to hand out and to take back, then the `fill_…` functions write what was
//! handed out into the object. [`holds`] is the inverse: what a stored Service occupies. The whole chain is pure;
//! it never looks at the ranges, so "taken", "out of range" and "full" are the allocators' words.
//!
//! Sources: Kubernetes' `SetDefaults_Service`, `ValidateService`, `ValidateServiceUpdate`, the Service strategy
//! (`dropTypeDependentFields`) and the Service storage (`normalizeClusterIPs`, `patchAllocatedValues`,
//! `initIPFamilyFields`). One order differs on purpose: Kubernetes allocates first and validates afterwards, and
//! gives back what it took; here nothing is taken for an object that is wrong, so one answer names every wrong
//! field and a taken address is reported only for an otherwise good object.

mod address;
mod defaults;
mod families;
mod needs;
pub mod scheduler;
mod update;
mod validate;
mod warnings;

#[cfg(test)]
mod tests;

pub use needs::{
    AddressNeed, Held, Needs, NodePortNeed, fill_address, fill_dry_run, fill_health_check_node_port, fill_node_port,
    holds, needs,
};

use serde_json::Value;

use crate::admission::Cluster;
use crate::field::FieldError;
use crate::types::{Service, TextMap};

/// The condition that says whether every node has programmed a Service. It is put into what is read and never stored, so
/// it goes out of what is written ([`take_out_programmed`]).
pub const PROGRAMMED: &str = "portolan.dev/Programmed";

/// `spec.clusterIP` of a headless Service.
pub const NONE: &str = "None";

/// `spec.type`, read. `None` of [`ServiceType::of`] is a type that Kubernetes does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl ServiceType {
    /// Reads a type; empty is ClusterIP, as it is defaulted.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "ClusterIP" => Some(Self::ClusterIp),
            "NodePort" => Some(Self::NodePort),
            "LoadBalancer" => Some(Self::LoadBalancer),
            "ExternalName" => Some(Self::ExternalName),
            _ => None,
        }
    }

    /// The type of a Service.
    pub fn of(service: &Service) -> Option<Self> {
        Self::parse(&service.spec.type_)
    }

    /// Whether Services of this type get node ports.
    pub fn has_node_ports(self) -> bool {
        matches!(self, Self::NodePort | Self::LoadBalancer)
    }
}

/// Defaults and validates a Service that is to be created; returns warnings. Metadata that every kind shares is
/// the caller's to validate; so is emptying `status`.
///
/// # Errors
/// Every wrong field, in the order of Kubernetes' `ValidateService`.
pub fn prepare_create(service: &mut Service, cluster: &Cluster) -> Result<Vec<String>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let warnings = warnings::warnings(service);
    defaults::apply(service);
    address::canonicalize(service);
    families::mirror_cluster_ip(service, None);
    defaults::share_node_ports(service);
    families::settle(service, None, cluster, &mut errors);
    validate::service(service, &mut errors);
    scheduler::validate(None, service, &mut errors);
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

/// Defaults and validates a Service that is to replace `old`; returns warnings. Values that the client left empty
/// are carried over, and what a change of type makes meaningless is dropped.
///
/// # Errors
/// Every field that is wrong, or may not change.
pub fn prepare_update(old: &Service, new: &mut Service, cluster: &Cluster) -> Result<Vec<String>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let warnings = warnings::warnings(new);
    defaults::apply(new);
    address::canonicalize(new);
    families::mirror_cluster_ip(new, Some(old));
    update::carry_over(old, new);
    update::drop_dependent(old, new);
    defaults::share_node_ports(new);
    let settled = families::settle(new, Some(old), cluster, &mut errors);
    validate::change(old, new, settled, &mut errors);
    validate::service(new, &mut errors);
    scheduler::validate(Some(old), new, &mut errors);
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

/// Defaults a status that a client wrote (`ipMode` is VIP where an address is given).
pub fn default_status(service: &mut Service) {
    defaults::apply_status(&mut service.status);
}

/// Validates a write to `…/status`, defaulted before with [`default_status`]. `old` is the stored Service, whose
/// spec stays.
pub fn validate_status_update(old: &Service, new: &Service) -> Vec<FieldError> {
    validate::status(old, new)
}

/// Takes the condition [`PROGRAMMED`] out of a Service, which a client may have read and sends back.
pub fn take_out_programmed(service: &mut Value) {
    let Some(status) = service.get_mut("status").and_then(Value::as_object_mut) else { return };
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else { return };
    let before = conditions.len();
    conditions.retain(|condition| condition.get("type").and_then(Value::as_str) != Some(PROGRAMMED));
    if conditions.is_empty() && before > 0 {
        status.remove("conditions");
    }
}

/// Whether this Service's endpoints are derived from Pods: it has a selector and is no ExternalName.
pub fn has_derived_endpoints(service: &Service) -> bool {
    !service.spec.selector.is_empty() && ServiceType::of(service) != Some(ServiceType::ExternalName)
}

/// Whether this Service's endpoints are derived from Pods, and a Pod with these labels is one of them.
/// An empty selector selects nothing.
pub fn selects(service: &Service, labels: &TextMap) -> bool {
    has_derived_endpoints(service) && service.spec.selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

/// Whether traffic from outside the cluster is let in by this Service (Kubernetes' `ExternallyAccessible`).
fn externally_accessible(service: &Service) -> bool {
    match ServiceType::of(service) {
        Some(ServiceType::NodePort | ServiceType::LoadBalancer) => true,
        Some(ServiceType::ClusterIp) => !service.spec.external_ips.is_empty(),
        Some(ServiceType::ExternalName) | None => false,
    }
}

/// Whether entries of this Service that name no node port get one. A load balancer may do without, and such a
/// Service lets go of a node port when the client leaves it out.
fn allocates_node_ports(service: &Service) -> bool {
    match ServiceType::of(service) {
        Some(ServiceType::NodePort) => true,
        Some(ServiceType::LoadBalancer) => service.spec.allocate_load_balancer_node_ports.unwrap_or(true),
        Some(ServiceType::ClusterIp | ServiceType::ExternalName) | None => false,
    }
}

/// Whether this Service has a health check port on every node (Kubernetes' `NeedsHealthCheck`).
fn needs_health_check(service: &Service) -> bool {
    ServiceType::of(service) == Some(ServiceType::LoadBalancer)
        && service.spec.external_traffic_policy.as_deref() == Some("Local")
}

/// Headless as validation sees it: the list holds `None` alone.
fn headless(service: &Service) -> bool {
    matches!(service.spec.cluster_ips.as_slice(), [only] if only == NONE)
}
