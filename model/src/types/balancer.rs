//! portolan.dev/v1alpha1 AddressPool, LoadBalancer and AccessList: where external addresses come from, what a load
//! balancer listens for, and who may ask.
//!
//! A [`LoadBalancer`] is one *instance*: some addresses with listeners. Everything that annotations of Services say has
//! been read and checked when it stands here, with every default filled in, so an edge node needs nothing else to know
//! what a listener does. Who the backends are does not stand here: it follows from the Services' slices and the Nodes.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::meta::{Condition, ObjectMeta, list, nullable};
use super::service::Protocol;
use super::text_map::TextMap;

/// portolan.dev/v1alpha1 `AddressPool`, whole. Cluster-scoped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressPool {
    pub api_version: String,
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "nullable")]
    pub spec: AddressPoolSpec,
    #[serde(deserialize_with = "nullable")]
    pub status: AddressPoolStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressPoolSpec {
    /// Each a CIDR (`192.0.2.0/28`) or a range with both ends in it (`192.0.2.10-192.0.2.20`), of either family. Of an IPv4
    /// CIDR shorter than /31 the first and last address are not given out; of a range all are.
    #[serde(deserialize_with = "list")]
    pub addresses: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub address_type: AddressType,
    /// Whether addresses are taken from here for whoever names neither pool nor address. Absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Where several pools fit, the lowest is drawn from first; the same: by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Only for Services of these Namespaces, or of those that the selector fits; both absent: of all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub namespaces: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Only for Services with these labels; absent: for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
}

/// What the writer keeps: counts, and where the next search begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddressPoolStatus {
    #[serde(rename = "ipv4", skip_serializing_if = "Option::is_none")]
    pub v4: Option<PoolUse>,
    #[serde(rename = "ipv6", skip_serializing_if = "Option::is_none")]
    pub v6: Option<PoolUse>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolUse {
    /// Addresses that may be given out; 2^63 − 1 where there are more.
    pub total: i64,
    pub assigned: i64,
    /// The address that was given out last. The search for a free one goes on behind it and wraps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<IpAddr>,
    /// Addresses that were freed of late, the earliest first: they are given out when there is no other.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub freed: Vec<IpAddr>,
}

/// meta/v1 `LabelSelector`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    #[serde(skip_serializing_if = "TextMap::is_empty", deserialize_with = "nullable")]
    pub match_labels: TextMap,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorRequirement {
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub values: Vec<String>,
}

/// Which side an address faces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressType {
    #[default]
    Internet,
    Intranet,
}

/// portolan.dev/v1alpha1 `LoadBalancer`, whole: one instance. Cluster-scoped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    pub api_version: String,
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "nullable")]
    pub spec: LoadBalancerSpec,
    #[serde(deserialize_with = "nullable")]
    pub status: BalancerStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerSpec {
    /// What people call it.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub display_name: String,
    /// Immutable.
    #[serde(deserialize_with = "nullable")]
    pub address_type: AddressType,
    /// `IPv4`, `IPv6` or both. Immutable.
    #[serde(deserialize_with = "list")]
    pub ip_families: Vec<String>,
    /// Take addresses from this pool and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// One per family, in the order of `ip_families`: those asked for, and once the writer has completed them, those held.
    /// No two instances have the same. Immutable once complete.
    #[serde(deserialize_with = "list")]
    pub addresses: Vec<IpAddr>,
    /// The Service that it was made for; absent: somebody made it by hand, and it is never deleted with a Service. Immutable,
    /// except that it may be taken away (preserve-lb-on-delete).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<ServiceReference>,
    /// The edge node that holds it as long as that one lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_edge: Option<String>,
    /// By `port`, then `protocol`'s transport, which are unique together.
    #[serde(deserialize_with = "list")]
    pub listeners: Vec<Listener>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceReference {
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub uid: String,
}

/// What is done with connections to one port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    pub port: u16,
    /// The last port of a range that begins with `port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
    pub protocol: ListenerProtocol,
    /// A listener that somebody made by hand, for Services to join by this name (`vgroup-port`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whose endpoints serve it.
    #[serde(deserialize_with = "list")]
    pub backends: Vec<BackendSource>,
    pub scheduler: Scheduler,
    /// Backends see the client's own address: L4 without masquerading. Nodes and edge share a network for it.
    pub keep_client_address: bool,
    /// A client stays with its backend for so many seconds after its last new connection (L4); 0: not.
    pub persistence_seconds: u32,
    /// A silent connection is forgotten after so many seconds (TCP). 0: 900.
    pub established_seconds: u32,
    /// Connections to a backend that has gone may go on for so many seconds. Absent: they are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u32>,
    /// PROXY protocol v2 towards the backends.
    pub proxy_protocol: bool,
    /// New connections per second that are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_second: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessControl>,
    /// `loadBalancerSourceRanges`: who may ask. None: everybody. Both this and `access` must allow.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub source_ranges: Vec<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckSpec>,
    /// For HTTP and HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
    /// For HTTPS and TCPSSL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ListenerProtocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
    /// TLS ends here, what is inside goes to the backends as TCP.
    #[serde(rename = "TCPSSL")]
    TcpSsl,
}

impl ListenerProtocol {
    /// What it stands on: two listeners of an instance may share a port only if this differs.
    pub fn transport(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Tcp | Self::Http | Self::Https | Self::TcpSsl => Protocol::Tcp,
        }
    }

    /// Whether requests are balanced, and not connections.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

impl fmt::Display for ListenerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::TcpSsl => "TCPSSL",
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// In turn; weights do not count.
    #[default]
    Rr,
    /// In turn, in proportion to the weights.
    Wrr,
    /// The fewest connections, or requests, in proportion to the weights.
    Wlc,
    /// By the client's address (Maglev).
    Sch,
}

/// A Service port whose endpoints are backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendSource {
    pub namespace: String,
    pub name: String,
    /// The Service's port.
    pub port: u16,
    pub protocol: Protocol,
    pub mode: BackendMode,
    /// Node mode: only nodes with all of these labels.
    #[serde(skip_serializing_if = "TextMap::is_empty", deserialize_with = "nullable")]
    pub node_labels: TextMap,
    /// Node mode: without nodes that are cordoned.
    pub skip_unschedulable: bool,
    /// Of each backend, 0 to 100, where its share does not follow from its Pods. Absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_weight: Option<u8>,
    /// The weight of all backends of this Service together, 0 to 100, beside other Services of the same listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendMode {
    /// The nodes, at the Service's node port.
    #[default]
    Node,
    /// The Pods, at their own addresses and target ports.
    Eni,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessControl {
    #[serde(rename = "type")]
    pub type_: AccessType,
    /// Names of AccessLists; one that does not exist is empty.
    #[serde(deserialize_with = "list")]
    pub lists: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessType {
    /// Only who stands in one of the lists. Empty lists admit nobody.
    #[default]
    White,
    /// Everybody but who stands in one of the lists.
    Black,
}

/// How it is found out whether a backend can be used. All times in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheckSpec {
    pub kind: CheckKind,
    /// Absent: the backend's own port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub interval_seconds: u32,
    pub timeout_seconds: u32,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
    /// HTTP: the path, with a leading slash.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub path: String,
    /// HTTP: the Host. Absent: the backend's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP: `HEAD` or `GET`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub method: String,
    /// HTTP: the first digits of the codes that count as healthy, as `2`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub codes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "HTTP")]
    Http,
    /// A datagram that is answered by an ICMP error fails; silence passes.
    #[serde(rename = "UDP")]
    Udp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpSettings {
    /// A client's connection without a request is closed after so many seconds.
    pub idle_seconds: u32,
    /// A backend has so many seconds to begin its answer; then 504.
    pub request_seconds: u32,
    /// HTTP/2 towards clients (HTTPS only).
    pub http2: bool,
    /// `X-Forwarded-Proto`.
    pub forwarded_proto: bool,
    /// `X-Forwarded-Port`: the listener's.
    pub forwarded_port: bool,
    /// `X-Forwarded-Client-srcport`.
    pub forwarded_client_port: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickySession>,
    /// Every request is answered with a redirect to https at this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StickySession {
    pub kind: StickyKind,
    /// The cookie's name. With `insert`, absent: `SERVERID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// `insert`: how many seconds the cookie lasts; 0: as long as the browser runs.
    pub timeout_seconds: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StickyKind {
    /// The load balancer makes a cookie of its own.
    #[default]
    Insert,
    /// The application makes the cookie, and the load balancer writes the backend into it.
    Server,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsSettings {
    /// The first is shown to clients that name no host, or one that no other certificate fits.
    #[serde(deserialize_with = "list")]
    pub certificates: Vec<SecretReference>,
    /// Certificates for the clients that ask for this very name, or one that the wildcard fits.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub domains: Vec<DomainCertificate>,
    /// A `tls_cipher_policy_…` of the cloud's list. Empty: the default.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub cipher_policy: String,
    /// Clients must show a certificate of an authority in this Secret (`ca.crt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<SecretReference>,
    /// TCPSSL: `HTTP1Only`, `HTTP2Only`, `HTTP2Preferred`, `HTTP2Optional`. Absent: no ALPN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn_policy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretReference {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DomainCertificate {
    pub domain: String,
    pub secret: SecretReference,
}

/// Of a [`LoadBalancer`]. The server writes `edge` and `conditions`, the edge node that holds it the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BalancerStatus {
    /// Who holds the addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeAssignment>,
    /// What the holder has carried out last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programmed: Option<ProgrammedBy>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub listeners: Vec<ListenerStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EdgeAssignment {
    /// Of the edge node.
    pub name: String,
    /// Counts owners: each new one has the next number.
    pub term: u64,
    /// RFC 3339.
    pub since: String,
    /// Where the edge is, for the way back of connections that keep their client's address.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub addresses: Vec<EdgeAddress>,
}

/// An address of an edge node on the network that it shares with the nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EdgeAddress {
    pub ip: IpAddr,
    /// Its link-layer address there, as `02:00:5e:00:53:01`.
    pub mac: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgrammedBy {
    pub edge: String,
    pub term: u64,
    /// `metadata.generation` of what was carried out.
    pub generation: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerStatus {
    pub port: u16,
    pub protocol: ListenerProtocol,
    pub backends: u32,
    pub healthy: u32,
    /// What keeps it from serving; empty: nothing.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub message: String,
}

/// portolan.dev/v1alpha1 `AccessList`, whole. Cluster-scoped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessList {
    pub api_version: String,
    pub kind: String,
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "nullable")]
    pub spec: AccessListSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessListSpec {
    #[serde(deserialize_with = "list")]
    pub entries: Vec<AccessListEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessListEntry {
    /// A CIDR or an address.
    pub cidr: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub description: String,
}
