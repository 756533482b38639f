//! Who signs the certificates of nodes. The authority's key belongs to whoever starts the server and never comes here.

use jiff::Timestamp;

/// The authority of the cluster, as far as nodes need it.
pub trait Issuer: Send + Sync {
    /// A client certificate for the machine of this name and role, for the public key of `request` (a PKCS #10 request in PEM). Nothing
    /// else in the request has a meaning: name, group, purpose and validity are the issuer's.
    ///
    /// # Errors
    /// When there is no key in the request that a certificate can be made for, or signing fails.
    fn issue(&self, role: MachineRole, name: &str, request: &str) -> Result<Issued, IssueError>;
}

/// As what a machine joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MachineRole {
    /// It runs workloads: `system:node:NAME` in `system:nodes`.
    Node,
    /// It holds the addresses of load balancers: `system:edge:NAME` in `portolan:edges`.
    Edge,
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// The authority's own certificate, PEM.
    pub ca: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The fault is in the request; says which.
    #[error("{0}")]
    Request(String),
    /// The fault is here.
    #[error("signing a certificate")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
