//! A stored object: its bytes as they go out on the wire, and the typed view that the logic reads.
//!
//! The bytes are the object; the view is derived from them by one function and holds only what the logic
//! needs, so memory stays near the size of the JSON. A `serde_json::Value` is made on demand, for patches.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::managed_fields;
use crate::protobuf::{self, EncodeError};
use crate::resource::Resource;
use crate::types::{
    AccessList, AddressPool, EndpointSlice, IpAddress, LoadBalancer, Node, ObjectMeta, Pod, Service, ServiceCidr,
    TextMap,
};

/// The store-wide counter that is `metadata.resourceVersion`. 0 is before the first write.
pub type Revision = u64;

/// Namespace and name; the namespace is empty for cluster-scoped resources.
///
/// The order is by namespace, then by name, in bytes. (Lists put the namespace `a-b` before `a`: see `store`'s shelf.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// The typed view of the kinds whose content the logic reads.
#[derive(Clone, Debug)]
pub enum View {
    Service(Box<Service>),
    Pod(Box<Pod>),
    Node(Box<Node>),
    EndpointSlice(Box<EndpointSlice>),
    ServiceCidr(Box<ServiceCidr>),
    IpAddress(Box<IpAddress>),
    AddressPool(Box<AddressPool>),
    LoadBalancer(Box<LoadBalancer>),
    AccessList(Box<AccessList>),
    /// Kinds that the logic treats as documents: only their metadata is read.
    Document(Box<ObjectMeta>),
}

/// An object at one revision. Immutable; shared by reference count.
#[derive(Clone, Debug)]
pub struct Object {
    pub resource: Resource,
    pub key: Key,
    pub revision: Revision,
    /// Compact JSON with `kind`, `apiVersion` and `metadata.resourceVersion`.
    pub bytes: Bytes,
    pub view: View,
    /// See [`Object::protobuf`].
    envelope: OnceLock<Bytes>,
}

/// The bytes are not an object of this resource.
#[derive(Debug, thiserror::Error)]
#[error("decoding a stored object of resource {resource}")]
pub struct DecodeError {
    pub resource: Resource,
    #[source]
    pub source: serde_json::Error,
}

impl Object {
    /// An object of parts that belong together: `view` is what `bytes` say, and so are key and revision.
    pub fn new(resource: Resource, key: Key, revision: Revision, bytes: Bytes, view: View) -> Self {
        Self { resource, key, revision, bytes, view, envelope: OnceLock::new() }
    }

    /// Reads an object from its JSON. Key and revision are taken from its metadata.
    ///
    /// # Errors
    /// When the bytes are not JSON, or a field that the view reads has another type than the schema says.
    pub fn decode(resource: Resource, bytes: Bytes) -> Result<Self, DecodeError> {
        let view = View::decode(resource, &bytes).map_err(|source| DecodeError { resource, source })?;
        let meta = view.meta();
        let key = Key::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
        let revision = meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0);
        Ok(Self::new(resource, key, revision, bytes, view))
    }

    pub fn meta(&self) -> &ObjectMeta {
        self.view.meta()
    }

    pub fn labels(&self) -> &TextMap {
        &self.meta().labels
    }

    /// The whole object as a value, parsed anew at each call.
    ///
    /// # Errors
    /// Never for bytes that `decode` took; kept as an error because a running server does not panic.
    pub fn value(&self) -> Result<Value, DecodeError> {
        serde_json::from_slice(&self.bytes).map_err(|source| DecodeError { resource: self.resource, source })
    }

    /// As [`value`](Self::value), but for `metadata.managedFields`, which are given as the text that they are.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn value_and_managers(&self) -> Result<(Value, Option<&str>), DecodeError> {
        let Some((rest, managers)) = managed_fields::split(&self.bytes) else { return Ok((self.value()?, None)) };
        let value = serde_json::from_slice(&rest).map_err(|source| DecodeError { resource: self.resource, source })?;
        Ok((value, Some(managers)))
    }

    /// The text of `metadata.managedFields`, brackets included.
    pub fn managers(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(managed_fields::find(&self.bytes)?)?).ok()
    }

    /// The object in Kubernetes' protobuf, with its envelope. Made when somebody first asks and kept as long as the
    /// object: a thousand watchers, and every list after them, share these bytes. It is smaller than the JSON.
    ///
    /// # Errors
    /// When a value does not fit its field; never for an object that passed the schema's check.
    pub fn protobuf(&self) -> Result<Bytes, EncodeError> {
        if let Some(envelope) = self.envelope.get() {
            return Ok(envelope.clone());
        }
        let value = self.value().map_err(|_| EncodeError::NotJson)?;
        let envelope = Bytes::from(protobuf::encode(&value)?);
        Ok(self.envelope.get_or_init(|| envelope).clone())
    }

    pub fn service(&self) -> Option<&Service> {
        if let View::Service(v) = &self.view { Some(v) } else { None }
    }

    pub fn pod(&self) -> Option<&Pod> {
        if let View::Pod(v) = &self.view { Some(v) } else { None }
    }

    pub fn node(&self) -> Option<&Node> {
        if let View::Node(v) = &self.view { Some(v) } else { None }
    }

    pub fn address_pool(&self) -> Option<&AddressPool> {
        if let View::AddressPool(v) = &self.view { Some(v) } else { None }
    }

    pub fn load_balancer(&self) -> Option<&LoadBalancer> {
        if let View::LoadBalancer(v) = &self.view { Some(v) } else { None }
    }

    pub fn access_list(&self) -> Option<&AccessList> {
        if let View::AccessList(v) = &self.view { Some(v) } else { None }
    }

    pub fn endpoint_slice(&self) -> Option<&EndpointSlice> {
        if let View::EndpointSlice(v) = &self.view { Some(v) } else { None }
    }
}

impl View {
    fn decode(resource: Resource, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct OnlyMeta {
            #[serde(default)]
            metadata: ObjectMeta,
        }
        Ok(match resource {
            Resource::Services => View::Service(serde_json::from_slice(bytes)?),
            Resource::Pods => View::Pod(serde_json::from_slice(bytes)?),
            Resource::Nodes => View::Node(serde_json::from_slice(bytes)?),
            Resource::EndpointSlices => View::EndpointSlice(serde_json::from_slice(bytes)?),
            Resource::ServiceCidrs => View::ServiceCidr(serde_json::from_slice(bytes)?),
            Resource::IpAddresses => View::IpAddress(serde_json::from_slice(bytes)?),
            Resource::AddressPools => View::AddressPool(serde_json::from_slice(bytes)?),
            Resource::LoadBalancers => View::LoadBalancer(serde_json::from_slice(bytes)?),
            Resource::AccessLists => View::AccessList(serde_json::from_slice(bytes)?),
            Resource::Namespaces
            | Resource::Endpoints
            | Resource::Events
            | Resource::EventsV1
            | Resource::Leases
            | Resource::ServiceAccounts
            | Resource::Roles
            | Resource::RoleBindings
            | Resource::ClusterRoles
            | Resource::ClusterRoleBindings
            | Resource::Tokens
            | Resource::Secrets => View::Document(Box::new(serde_json::from_slice::<OnlyMeta>(bytes)?.metadata)),
        })
    }

    pub fn meta(&self) -> &ObjectMeta {
        match self {
            View::Service(v) => &v.metadata,
            View::Pod(v) => &v.metadata,
            View::Node(v) => &v.metadata,
            View::EndpointSlice(v) => &v.metadata,
            View::ServiceCidr(v) => &v.metadata,
            View::IpAddress(v) => &v.metadata,
            View::AddressPool(v) => &v.metadata,
            View::LoadBalancer(v) => &v.metadata,
            View::AccessList(v) => &v.metadata,
            View::Document(v) => v,
        }
    }
}
