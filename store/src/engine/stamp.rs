//! From a value to an object: system metadata, the revision, the bytes, the view.

use std::sync::Arc;

use bytes::Bytes;
use model::types::{
    AccessList, AddressPool, EndpointSlice, IpAddress, LoadBalancer, Node, ObjectMeta, Opaque, Pod, Service,
    ServiceCidr,
};
use model::{Key, Object, Resource, Revision, View};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Engine;
use crate::error::Refusal;
use crate::event::{Event, EventKind, SUFFIX};

/// A kind whose type is whole: written from the type, read without a detour.
pub(super) trait Whole: Serialize + Clone {
    fn metadata(&mut self) -> &mut ObjectMeta;
    fn view(self) -> View;
}

macro_rules! whole {
    ($($kind:ident => $view:ident),*) => {$(
        impl Whole for $kind {
            fn metadata(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
            fn view(self) -> View {
                View::$view(Box::new(self))
            }
        }
    )*};
}

whole!(
    Service => Service, EndpointSlice => EndpointSlice, IpAddress => IpAddress, ServiceCidr => ServiceCidr,
    AddressPool => AddressPool, LoadBalancer => LoadBalancer, AccessList => AccessList
);

/// What becomes of an object's `managedFields` with a write.
#[derive(Debug)]
pub(super) enum Managers {
    /// They stay.
    Keep,
    /// These take their place.
    Set(Option<Box<RawValue>>),
    /// These take their place if anything else changes.
    IfChanged(Option<Box<RawValue>>),
}

impl Managers {
    /// Those of an object that is made.
    pub(super) fn of_new(&self) -> Option<&RawValue> {
        match self {
            Self::Set(managers) | Self::IfChanged(managers) => managers.as_deref(),
            Self::Keep => None,
        }
    }
}

/// A value with `managedFields`, which it has none of itself, among its metadata.
struct WithManagers<'a>(&'a Value, Option<&'a RawValue>);

impl Serialize for WithManagers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (Value::Object(object), Some(managers)) = (self.0, self.1) else { return self.0.serialize(serializer) };
        let mut out = serializer.serialize_map(Some(object.len()))?;
        for (name, value) in object {
            match value {
                Value::Object(metadata) if name == "metadata" => {
                    out.serialize_entry(name, &MetadataWithManagers(metadata, managers))?;
                }
                other => out.serialize_entry(name, other)?,
            }
        }
        out.end()
    }
}

struct MetadataWithManagers<'a>(&'a Map<String, Value>, &'a RawValue);

impl Serialize for MetadataWithManagers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const NAME: &str = "managedFields";
        let Self(metadata, managers) = self;
        let mut out = serializer.serialize_map(Some(metadata.len() + 1))?;
        for (name, value) in metadata.iter().take_while(|(name, _)| name.as_str() < NAME) {
            out.serialize_entry(name, value)?;
        }
        out.serialize_entry(NAME, managers)?;
        for (name, value) in metadata.iter().skip_while(|(name, _)| name.as_str() <= NAME) {
            out.serialize_entry(name, value)?;
        }
        out.end()
    }
}

/// A change that is about to be recorded.
struct Draft<'a> {
    resource: Resource,
    kind: EventKind,
    revision: Revision,
    previous: Option<&'a Arc<Object>>,
}

impl Engine {
    /// The time of this group as metadata has it: RFC 3339, whole seconds, UTC.
    pub(super) fn timestamp(&self) -> String {
        timestamp(self.now)
    }

    /// `metadata.resourceVersion` of the write at hand. A dry run shows what is stored, or nothing.
    fn version(&self, revision: Revision, previous: Option<&Arc<Object>>) -> Option<String> {
        if self.dry_run {
            return previous.map(|object| object.revision.to_string());
        }
        Some(revision.to_string())
    }

    /// Records `value` as the new state of its key.
    pub(super) fn put(
        &mut self,
        resource: Resource,
        mut value: Value,
        previous: Option<&Arc<Object>>,
    ) -> Result<Arc<Object>, Refusal> {
        let draft = self.draft(resource, previous);
        self.set_version(&mut value, &draft);
        let (frame, bytes) = encode(draft.kind, &value)?;
        let view = view(resource, &value)?;
        Ok(self.record(draft, frame, bytes, view))
    }

    /// As [`put`](Self::put), for a new object whose `managedFields` come apart from it.
    pub(super) fn put_managed(
        &mut self,
        resource: Resource,
        mut value: Value,
        managers: Option<&RawValue>,
    ) -> Result<Arc<Object>, Refusal> {
        let draft = self.draft(resource, None);
        self.set_version(&mut value, &draft);
        let (frame, bytes) = encode(draft.kind, &WithManagers(&value, managers))?;
        let view = view(resource, &value)?;
        Ok(self.record(draft, frame, bytes, view))
    }

    /// As [`put`](Self::put), for a value without `managedFields`, and unless nothing but the revision would change: then
    /// None.
    pub(super) fn put_changed(
        &mut self,
        mut value: Value,
        previous: &Arc<Object>,
        managers: &Managers,
    ) -> Result<Option<Arc<Object>>, Refusal> {
        let resource = previous.resource;
        let draft = self.draft(resource, Some(previous));
        self.set_version(&mut value, &draft);
        let (mut frame, mut bytes) = match managers {
            Managers::Set(new) => encode(draft.kind, &WithManagers(&value, new.as_deref()))?,
            Managers::Keep | Managers::IfChanged(_) => {
                let kept = previous.managers().map(serde_json::from_str).transpose().map_err(broken)?;
                encode(draft.kind, &WithManagers(&value, kept))?
            }
        };
        if same_but_revision(&previous.bytes, &bytes) {
            return Ok(None);
        }
        if let Managers::IfChanged(new) = managers {
            (frame, bytes) = encode(draft.kind, &WithManagers(&value, new.as_deref()))?;
        }
        let view = view(resource, &value)?;
        Ok(Some(self.record(draft, frame, bytes, view)))
    }

    /// As [`put`](Self::put), for a whole type; `managedFields` stay those of the state before.
    pub(super) fn put_whole<T: Whole>(
        &mut self,
        resource: Resource,
        object: T,
        previous: Option<&Arc<Object>>,
    ) -> Result<Arc<Object>, Refusal> {
        self.put_whole_managed(resource, object, previous, Managers::Keep)
    }

    /// As [`put`](Self::put), for a whole type.
    pub(super) fn put_whole_managed<T: Whole>(
        &mut self,
        resource: Resource,
        object: T,
        previous: Option<&Arc<Object>>,
        managers: Managers,
    ) -> Result<Arc<Object>, Refusal> {
        let draft = self.draft(resource, previous);
        let (frame, bytes, view) = self.encode_whole(&draft, object, managers)?;
        Ok(self.record(draft, frame, bytes, view))
    }

    /// Records that an object is gone; returns its last state, with the revision of the deletion.
    pub(super) fn remove(&mut self, last: &Arc<Object>) -> Result<Arc<Object>, Refusal> {
        let mut draft = self.draft(last.resource, Some(last));
        draft.kind = EventKind::Deleted;
        let (frame, bytes, view) = match &last.view {
            View::Service(service) => self.encode_whole(&draft, (**service).clone(), Managers::Keep)?,
            View::EndpointSlice(slice) => self.encode_whole(&draft, (**slice).clone(), Managers::Keep)?,
            View::IpAddress(address) => self.encode_whole(&draft, (**address).clone(), Managers::Keep)?,
            View::ServiceCidr(cidr) => self.encode_whole(&draft, (**cidr).clone(), Managers::Keep)?,
            View::AddressPool(pool) => self.encode_whole(&draft, (**pool).clone(), Managers::Keep)?,
            View::LoadBalancer(balancer) => self.encode_whole(&draft, (**balancer).clone(), Managers::Keep)?,
            View::AccessList(list) => self.encode_whole(&draft, (**list).clone(), Managers::Keep)?,
            View::Pod(_) | View::Node(_) | View::Document(_) => {
                let mut value = last.value().map_err(broken)?;
                self.set_version(&mut value, &draft);
                let (frame, bytes) = encode(draft.kind, &value)?;
                let view = view(last.resource, &value)?;
                (frame, bytes, view)
            }
        };
        Ok(self.record(draft, frame, bytes, view))
    }

    fn encode_whole<T: Whole>(
        &self,
        draft: &Draft<'_>,
        mut object: T,
        managers: Managers,
    ) -> Result<(Bytes, Bytes, View), Refusal> {
        let managers = match managers {
            Managers::Set(new) | Managers::IfChanged(new) => new,
            Managers::Keep => {
                let kept = draft.previous.and_then(|previous| previous.managers());
                kept.map(serde_json::from_str).transpose().map_err(broken)?
            }
        };
        object.metadata().resource_version = self.version(draft.revision, draft.previous);
        object.metadata().managed_fields = Opaque::new(managers);
        let (frame, bytes) = encode(draft.kind, &object)?;
        // The view does not keep what its object's bytes have.
        object.metadata().managed_fields = Opaque::default();
        Ok((frame, bytes, object.view()))
    }

    fn draft<'a>(&self, resource: Resource, previous: Option<&'a Arc<Object>>) -> Draft<'a> {
        let kind = if previous.is_some() { EventKind::Modified } else { EventKind::Added };
        Draft { resource, kind, revision: self.state.revision() + 1, previous }
    }

    fn set_version(&self, value: &mut Value, draft: &Draft<'_>) {
        let version = self.version(draft.revision, draft.previous);
        edit_metadata(value, |metadata| {
            match version {
                Some(version) => metadata.insert("resourceVersion".to_owned(), version.into()),
                None => metadata.remove("resourceVersion"),
            };
        });
    }

    fn record(&mut self, draft: Draft<'_>, frame: Bytes, bytes: Bytes, view: View) -> Arc<Object> {
        let meta = view.meta();
        let key = Key::new(meta.namespace(), meta.name());
        let object = Arc::new(Object::new(draft.resource, key, draft.revision, bytes, view));
        let event = Event::new(draft.kind, Arc::clone(&object), draft.previous.cloned(), frame);
        self.state.record(Arc::new(event));
        object
    }

    /// What every new object gets from the server, beside what admission has set.
    pub(super) fn stamp_new(&mut self, resource: Resource, value: &mut Value) {
        let (uid, now) = (self.chance.uid(), self.timestamp());
        let info = resource.info();
        if let Value::Object(object) = value {
            object.insert("kind".to_owned(), info.kind.into());
            object.insert("apiVersion".to_owned(), info.api_version().into());
        }
        edit_metadata(value, |metadata| {
            metadata.insert("uid".to_owned(), uid.into());
            metadata.insert("creationTimestamp".to_owned(), now.into());
        });
    }

    /// As [`stamp_new`](Self::stamp_new), for metadata that is typed.
    pub(super) fn stamp_new_meta(&mut self, metadata: &mut ObjectMeta) {
        metadata.uid = Some(self.chance.uid());
        metadata.creation_timestamp = Some(self.timestamp());
    }
}

pub(super) fn timestamp(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Edits `metadata` of a value, made if it is not there. A value that is no object stays as it is: validation has its name.
pub(super) fn edit_metadata(value: &mut Value, edit: impl FnOnce(&mut Map<String, Value>)) {
    let Value::Object(object) = value else { return };
    if let Value::Object(metadata) = object.entry("metadata").or_insert_with(|| Value::Object(Map::new())) {
        edit(metadata);
    }
}

/// A text field of `metadata`; absent, null and empty are None.
pub(super) fn metadata_text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get("metadata")?.get(field)?.as_str().filter(|text| !text.is_empty())
}

/// Bytes of the largest object, as etcd has it by default: patches could make one grow without end, and every reader must
/// take in a whole one.
const OBJECT_LIMIT: usize = 1536 * 1024;

/// The watch frame, and the object's bytes as a slice of it.
///
/// It is written where there is room enough for most, and then copied to where there is no more than it needs: an allocator
/// that is asked to make a place smaller leaves it as it is, up to twice too large, for as long as the object lives.
fn encode(kind: EventKind, value: &impl Serialize) -> Result<(Bytes, Bytes), Refusal> {
    let prefix = kind.prefix();
    let mut buffer = Vec::with_capacity(4096);
    buffer.extend_from_slice(prefix);
    serde_json::to_writer(&mut buffer, value).map_err(broken)?;
    let end = buffer.len();
    // What is there can always be deleted.
    if end - prefix.len() > OBJECT_LIMIT && kind != EventKind::Deleted {
        return Err(Refusal::TooLarge(format!("the object would be larger than {OBJECT_LIMIT} bytes")));
    }
    buffer.extend_from_slice(SUFFIX);
    let frame = Bytes::copy_from_slice(&buffer);
    let bytes = frame.slice(prefix.len()..end);
    Ok((frame, bytes))
}

/// The typed view of a value. Validation has passed, so a failure names a type that a client got wrong.
fn view(resource: Resource, value: &Value) -> Result<View, Refusal> {
    let view = match resource {
        Resource::Services => Service::deserialize(value).map(Whole::view),
        Resource::EndpointSlices => EndpointSlice::deserialize(value).map(Whole::view),
        Resource::ServiceCidrs => ServiceCidr::deserialize(value).map(Whole::view),
        Resource::IpAddresses => IpAddress::deserialize(value).map(Whole::view),
        Resource::Pods => Pod::deserialize(value).map(|pod| View::Pod(Box::new(pod))),
        Resource::Nodes => Node::deserialize(value).map(|node| View::Node(Box::new(node))),
        Resource::AddressPools => AddressPool::deserialize(value).map(Whole::view),
        Resource::LoadBalancers => LoadBalancer::deserialize(value).map(Whole::view),
        Resource::AccessLists => AccessList::deserialize(value).map(Whole::view),
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
        | Resource::Secrets => {
            let metadata = value.get("metadata").unwrap_or(&Value::Null);
            ObjectMeta::deserialize(metadata).map(|meta| View::Document(Box::new(meta)))
        }
    };
    view.map_err(|error| cannot_handle(resource, &error))
}

/// Kubernetes' words for a body that does not decode.
pub(super) fn cannot_handle(resource: Resource, error: &serde_json::Error) -> Refusal {
    let info = resource.info();
    Refusal::BadRequest(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: {error}",
        kind = info.kind,
        version = info.version
    ))
}

/// Our own bytes do not do what they always do.
pub(super) fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::Unavailable(error.to_string())
}

/// Whether two serialised states of one object differ in nothing but `metadata.resourceVersion`.
///
/// The revisions always differ, so if the texts differ in one place only, and this is the number after
/// `"resourceVersion":"`, that is the one; any other difference would widen the place beyond digits.
fn same_but_revision(old: &[u8], new: &[u8]) -> bool {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let digits = |rest: &[u8]| rest[..rest.len() - end].iter().all(u8::is_ascii_digit);
    if !digits(old_rest) || !digits(new_rest) {
        return false;
    }
    let before = &old[..start];
    let number = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    before[..start - number].ends_with(b"\"resourceVersion\":\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(old: &str, new: &str) -> bool {
        same_but_revision(old.as_bytes(), new.as_bytes())
    }

    #[test]
    fn nothing_but_the_revision() {
        let text = |annotation: &str, version: &str, phase: &str| {
            format!(
                r#"{{"metadata":{{"annotations":{{"resourceVersion":"{annotation}"}},"resourceVersion":"{version}","uid":"u"}},"status":"{phase}"}}"#
            )
        };
        assert!(same(&text("1", "9", "a"), &text("1", "10", "a")));
        assert!(same(&text("1", "19", "a"), &text("1", "199", "a")));
        assert!(same(&text("1", "123", "a"), &text("1", "133", "a")));
        assert!(!same(&text("1", "9", "a"), &text("1", "10", "b")));
        assert!(!same(&text("1", "9", "a"), &text("2", "10", "a")));
        assert!(!same(r#"{"n":1,"resourceVersion":"5"}"#, r#"{"n":2,"resourceVersion":"6"}"#));
        assert!(!same(r#"{"n":1}"#, r#"{"n":2}"#));
    }
}
