//! The gate that every write passes: defaults, then validation, for each served kind. Pure.
//!
//! The order is Kubernetes': what a client may not set is wiped, fields left empty are defaulted, then
//! metadata and spec are validated together so that one answer names every wrong field.

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::field::{FieldError, FieldErrorKind};
use crate::kinds::document::{Document, Errors, keep, number, object_mut};
use crate::object::Object;
use crate::protobuf;
use crate::resource::Resource;
use crate::types::Service;
use crate::{kinds, metadata, schema, service};

/// Which part of an object a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subresource {
    /// The main path: `status` is not the client's to write where the kind has a status subresource.
    None,
    /// `…/status`: nothing but `status` (and little of the metadata) is the client's to write.
    Status,
    /// `…/finalize` of a Namespace: everything but `status`, the finalizers of its spec too.
    Finalize,
}

/// An IP family, as `spec.ipFamilies` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Reads `IPv4` or `IPv6`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    /// `IPv4` or `IPv6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What admission must know of the cluster that an object comes into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The families that have a service range, the primary one first.
    pub families: Vec<Family>,
}

/// Defaults and validates an object that is to be created; returns warnings.
///
/// What a client may not set is taken away first: uid, times, generation, and `status` where the kind has it as a
/// subresource (a Node keeps it: the kubelet registers a Node together with its status). The name may be missing
/// when there is a `generateName`. After an error the object is left half-prepared.
///
/// `resource` is the one that was asked; the object has the form that it is stored in ([`Resource::stored`]).
///
/// # Errors
/// Every field that is wrong, in the order of the object.
pub fn prepare_create(
    resource: Resource,
    object: &mut Value,
    cluster: &Cluster,
) -> Result<Vec<String>, Vec<FieldError>> {
    if resource == Resource::Services {
        return prepare_create_service(object, cluster).map(|(_, warnings)| warnings);
    }
    let document = begin_create(resource, object)?;
    let mut errors = Errors::default();
    if let Some(metadata) = object_mut(document, "metadata")
        && let Some(metadata) = metadata::read(metadata, &mut errors)
    {
        metadata::validate_create(resource, &metadata, &mut errors);
    }
    kinds::create(resource, document);
    kinds::validate(resource, Subresource::None, None, document, &mut errors);
    if errors.0.is_empty() { Ok(kinds::warnings(resource)) } else { Err(errors.0) }
}

/// As [`prepare_create`], for a Service; returns it typed, too, for who goes on with it.
///
/// # Errors
/// As [`prepare_create`].
pub fn prepare_create_service(
    object: &mut Value,
    cluster: &Cluster,
) -> Result<(Service, Vec<String>), Vec<FieldError>> {
    let document = begin_create(Resource::Services, object)?;
    document.remove("status");
    let mut service: Service = decode(object)?;
    let mut errors = Errors::default();
    metadata::validate_create(Resource::Services, &service.metadata, &mut errors);
    let prepared = service::prepare_create(&mut service, cluster);
    let warnings = finish_service(object, errors, &service, prepared)?;
    Ok((service, warnings))
}

/// What all kinds have in common, before their metadata is validated.
fn begin_create(resource: Resource, object: &mut Value) -> Result<&mut Document, Vec<FieldError>> {
    let document = document(resource.stored(), object)?;
    if let Some(metadata) = object_mut(document, "metadata") {
        metadata::wipe(resource, metadata);
    }
    Ok(document)
}

/// Defaults and validates an object that is to replace `old`; returns warnings.
///
/// What this subresource does not write is taken from `old`: the main path writes metadata and everything but
/// `status`, the status path writes metadata and `status`. `old_value` is `old` as a value, which a caller that has
/// patched it has parsed already. After an error the object is left half-prepared.
///
/// `resource` is the one that was asked; both objects have the form that they are stored in ([`Resource::stored`]).
///
/// # Errors
/// Every field that is wrong or may not change.
pub fn prepare_update(
    resource: Resource,
    sub: Subresource,
    old: &Object,
    old_value: &Value,
    new: &mut Value,
    cluster: &Cluster,
) -> Result<Vec<String>, Vec<FieldError>> {
    if old.resource == Resource::Services {
        service::take_out_programmed(new);
    }
    let document = document(old.resource, new)?;
    let nothing = Document::new();
    let old_document = old_value.as_object().unwrap_or(&nothing);
    let old_metadata = old_document.get("metadata").and_then(Value::as_object).unwrap_or(&nothing);
    let mut errors = Errors::default();
    if let Some(metadata) = object_mut(document, "metadata") {
        metadata::carry_over(old_metadata, metadata);
        metadata::validate_update(old.meta(), metadata, &mut errors);
    }
    separate(resource, sub, old_document, document);
    if let Some(old) = old.service() {
        return update_service(sub, old, new, cluster, errors);
    }
    kinds::update(resource, sub, old_document, document);
    kinds::validate(resource, sub, Some(old_document), document, &mut errors);
    count_generation(resource, old_document, document);
    if errors.0.is_empty() { Ok(kinds::warnings(resource)) } else { Err(errors.0) }
}

/// The object as a document whose types are those of the schema, without `null`.
///
/// The API has refused wrong types already, with a 400; what is found here came of a patch.
fn document(resource: Resource, value: &mut Value) -> Result<&mut Document, Vec<FieldError>> {
    let mismatched = schema::check(resource, value).mismatched;
    if !mismatched.is_empty() {
        let error =
            |detail| FieldError { kind: FieldErrorKind::Invalid, path: "patch".to_owned(), value: None, detail };
        return Err(mismatched.into_iter().map(error).collect());
    }
    schema::settle(resource, value);
    value.as_object_mut().ok_or_else(|| vec![FieldError::required("metadata", "the object is empty")])
}

/// Takes from `old` what this subresource does not write.
fn separate(resource: Resource, sub: Subresource, old: &Document, new: &mut Document) {
    match sub {
        Subresource::None | Subresource::Finalize if resource.info().status => keep(old, new, "status"),
        Subresource::None | Subresource::Finalize => {}
        Subresource::Status => {
            let written = ["metadata", "status"].map(|field| (field, new.remove(field)));
            *new = old.clone();
            for (field, value) in written {
                match value {
                    Some(value) => new.insert(field.to_owned(), value),
                    None => new.remove(field),
                };
            }
        }
    }
}

/// One more when a client changed what it wrote: anything beside metadata and status.
fn count_generation(resource: Resource, old: &Document, new: &mut Document) {
    if !metadata::counts_generations(resource) {
        return;
    }
    if protobuf::same(resource, old, new, &["metadata", "status"]) {
        return;
    }
    if let Some(metadata) = object_mut(new, "metadata") {
        let generation = number(metadata, "generation").unwrap_or(0);
        metadata.insert("generation".to_owned(), generation.saturating_add(1).into());
    }
}

fn update_service(
    sub: Subresource,
    old: &Service,
    new: &mut Value,
    cluster: &Cluster,
    errors: Errors,
) -> Result<Vec<String>, Vec<FieldError>> {
    let mut service: Service = decode(new)?;
    let prepared = match sub {
        Subresource::None | Subresource::Finalize => service::prepare_update(old, &mut service, cluster),
        Subresource::Status => {
            service::default_status(&mut service);
            let wrong = service::validate_status_update(old, &service);
            if wrong.is_empty() { Ok(Vec::new()) } else { Err(wrong) }
        }
    };
    finish_service(new, errors, &service, prepared)
}

/// Writes the typed Service back, or reports what is wrong with it and with its metadata.
fn finish_service(
    value: &mut Value,
    mut errors: Errors,
    service: &Service,
    prepared: Result<Vec<String>, Vec<FieldError>>,
) -> Result<Vec<String>, Vec<FieldError>> {
    let warnings = prepared.unwrap_or_else(|wrong| {
        errors.0.extend(wrong);
        Vec::new()
    });
    if !errors.0.is_empty() {
        return Err(errors.0);
    }
    *value = serde_json::to_value(service).map_err(|e| vec![internal(&e)])?;
    Ok(warnings)
}

/// The schema has vouched for the types, so this fails only where the typed view disagrees with it.
fn decode<T: DeserializeOwned>(value: &mut Value) -> Result<T, Vec<FieldError>> {
    serde_json::from_value(value.take()).map_err(|e| vec![internal(&e)])
}

fn internal(error: &dyn std::error::Error) -> FieldError {
    let detail = std::iter::successors(error.source(), |e| e.source())
        .fold(error.to_string(), |text, source| format!("{text}: {source}"));
    FieldError { kind: FieldErrorKind::Internal, path: "metadata".to_owned(), value: None, detail }
}
