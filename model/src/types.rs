//! The typed views. `Service`, `EndpointSlice`, `IPAddress`, `ServiceCIDR` and our own are whole: every field that
//! Kubernetes' schema has is here, and writing one back loses nothing. `Pod` and `Node` are views: they hold
//! the fields that the logic reads, are never written back, and ignore the rest.

mod balancer;
mod endpoint_slice;
mod ip;
mod meta;
mod node;
mod pod;
mod service;
mod text_map;

pub use balancer::{
    AccessControl, AccessList, AccessListEntry, AccessListSpec, AccessType, AddressPool, AddressPoolSpec,
    AddressPoolStatus, AddressType, BackendMode, BackendSource, BalancerStatus, CheckKind, DomainCertificate,
    EdgeAddress, EdgeAssignment, HealthCheckSpec, HttpSettings, LabelSelector, LabelSelectorRequirement, Listener,
    ListenerProtocol, ListenerStatus, LoadBalancer, LoadBalancerSpec, PoolUse, ProgrammedBy, Scheduler,
    SecretReference, ServiceReference, StickyKind, StickySession, TlsSettings,
};
pub use endpoint_slice::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone, ObjectReference,
};
pub use ip::{IpAddress, IpAddressSpec, ParentReference, ServiceCidr, ServiceCidrSpec, ServiceCidrStatus};
pub use meta::{Condition, ObjectMeta, Opaque, OwnerReference};
pub use node::{Node, NodeAddress, NodeCondition, NodeResources, NodeSpec, NodeStatus, Taint};
pub use pod::{Container, ContainerPort, Pod, PodCondition, PodIp, PodSpec, PodStatus};
pub use service::{
    ClientIpConfig, IntOrString, LoadBalancerIngress, LoadBalancerStatus, PortStatus, Protocol, Service, ServicePort,
    ServiceSpec, ServiceStatus, SessionAffinityConfig,
};
pub use text_map::TextMap;
