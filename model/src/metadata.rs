//! The rules of `metadata`, which all kinds share: what the server owns, and how names, labels, annotations,
//! owners and finalizers are written.
//!
//! Source: apimachinery `pkg/api/validation/objectmeta.go` and apiserver `registry/rest` (create.go, update.go);
//! paths and texts are theirs, also where the path has no index (`metadata.ownerReferences.uid`).

use serde::Deserialize;
use serde_json::Value;

use crate::field::FieldError;
use crate::kinds;
use crate::kinds::document::{Document, Errors, keep, text};
use crate::resource::Resource;
use crate::syntax;
use crate::types::{ObjectMeta, TextMap};

/// What the keys and values of all annotations together may be.
const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

const IMMUTABLE: &str = "field is immutable";

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Kinds whose `generation` counts the changes of what a client wrote.
pub(crate) fn counts_generations(resource: Resource) -> bool {
    matches!(resource, Resource::Pods | Resource::EndpointSlices | Resource::AddressPools | Resource::LoadBalancers)
}

/// Takes away what a client may not say of a new object.
pub(crate) fn wipe(resource: Resource, metadata: &mut Document) {
    for field in
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
    {
        metadata.remove(field);
    }
    if counts_generations(resource) {
        metadata.insert("generation".to_owned(), 1.into());
    }
}

/// Carries over what a client may not change. A name or uid that differs stays, for validation to name it.
pub(crate) fn carry_over(old: &Document, new: &mut Document) {
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        keep(old, new, field);
    }
    new.remove("selfLink");
    for field in ["name", "namespace", "uid"] {
        if text(new, field).is_empty() {
            keep(old, new, field);
        }
    }
}

/// Validates the metadata of a new object. A missing name passes when there is a `generateName`: the store makes
/// the name out of it.
pub(crate) fn validate_create(resource: Resource, metadata: &ObjectMeta, errors: &mut Errors) {
    let generate = metadata.generate_name.as_deref().unwrap_or("");
    if !generate.is_empty() {
        errors.texts("metadata.generateName", generate, name_problems(resource, &mask_trailing_dash(generate)));
    }
    let name = metadata.name();
    if name.is_empty() && generate.is_empty() {
        errors.required("metadata.name", "name or generateName is required");
    } else if !name.is_empty() {
        errors.texts("metadata.name", name, name_problems(resource, name));
    }
    let namespace = metadata.namespace();
    match (resource.info().namespaced, namespace.is_empty()) {
        (true, true) => errors.required("metadata.namespace", ""),
        (true, false) => errors.texts("metadata.namespace", namespace, syntax::dns1123_label(namespace)),
        (false, true) => {}
        (false, false) => errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
    }
    validate_content(metadata, errors);
}

/// The metadata of a document, typed.
pub(crate) fn read(metadata: &Document, errors: &mut Errors) -> Option<ObjectMeta> {
    let meta = ObjectMeta::deserialize(metadata).ok();
    if meta.is_none() {
        errors.push(FieldError::invalid("metadata", Value::Object(metadata.clone()), "is not an ObjectMeta"));
    }
    meta
}

/// Validates the metadata of an object that is to replace another.
pub(crate) fn validate_update(old: &ObjectMeta, metadata: &Document, errors: &mut Errors) {
    let immutable = [
        ("metadata.name", text(metadata, "name"), old.name()),
        ("metadata.namespace", text(metadata, "namespace"), old.namespace()),
        ("metadata.uid", text(metadata, "uid"), old.uid()),
    ];
    for (path, new, old) in immutable {
        if new != old {
            errors.push(FieldError::invalid(path, new, IMMUTABLE));
        }
    }
    if old.terminating() {
        let added: Vec<String> = crate::kinds::document::texts(metadata, "finalizers")
            .filter(|(_, finalizer)| !old.finalizers.iter().any(|f| f == finalizer))
            .map(|(_, finalizer)| format!("{finalizer:?}"))
            .collect();
        if !added.is_empty() {
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", text));
        }
    }
    if let Some(meta) = read(metadata, errors) {
        validate_content(&meta, errors);
    }
}

/// Problems of the name of an object of this kind.
pub(crate) fn name_problems(resource: Resource, name: &str) -> Vec<String> {
    match resource {
        Resource::Services => syntax::dns1035_label(name),
        Resource::Namespaces => syntax::dns1123_label(name),
        Resource::IpAddresses => syntax::canonical_ip_problems(name),
        Resource::Nodes
        | Resource::Pods
        | Resource::Endpoints
        | Resource::Events
        | Resource::EventsV1
        | Resource::EndpointSlices
        | Resource::ServiceCidrs
        | Resource::Leases
        | Resource::ServiceAccounts
        | Resource::AddressPools
        | Resource::AccessLists
        | Resource::Secrets => syntax::dns1123_subdomain(name),
        Resource::LoadBalancers => syntax::dns1123_label(name),
        Resource::Roles | Resource::RoleBindings | Resource::ClusterRoles | Resource::ClusterRoleBindings => {
            syntax::path_segment(name)
        }
        Resource::Tokens => kinds::token::name_problems(name),
    }
}

/// A `generateName` may end in a dash, because more follows.
fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(head) if !head.is_empty() => format!("{head}a"),
        _ => prefix.to_owned(),
    }
}

fn validate_content(meta: &ObjectMeta, errors: &mut Errors) {
    if let Some(generation) = meta.generation {
        errors.not_negative("metadata.generation", generation);
    }
    labels("metadata.labels", &meta.labels, errors);
    annotations(&meta.annotations, errors);
    owners(meta, errors);
    finalizers(&meta.finalizers, errors);
}

/// Validates a map of labels.
pub(crate) fn labels(path: &str, labels: &TextMap, errors: &mut Errors) {
    for (key, value) in labels {
        errors.texts(path, key, syntax::qualified_name(key));
        errors.texts(path, value, syntax::label_value(value));
    }
}

fn annotations(annotations: &TextMap, errors: &mut Errors) {
    for key in annotations.keys() {
        // The case of an annotation's domain does not matter.
        errors.texts("metadata.annotations", key, syntax::qualified_name(&key.to_lowercase()));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_MAX_BYTES {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_MAX_BYTES));
    }
}

fn owners(meta: &ObjectMeta, errors: &mut Errors) {
    const PATH: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in &meta.owner_references {
        // `v1` is a version without group, `apps/v1` has both, `apps/` has no version.
        let version = owner.api_version.rsplit('/').next().unwrap_or("");
        if version.is_empty() {
            let path = format!("{PATH}.apiVersion");
            errors.push(FieldError::invalid(path, owner.api_version.as_str(), "version must not be empty"));
        }
        for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                errors.push(FieldError::invalid(format!("{PATH}.{field}"), value.as_str(), "must not be empty"));
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            let value = serde_json::to_value(owner).unwrap_or_default();
            errors.push(FieldError::invalid(PATH, value, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            if let Some(first) = &controller {
                let text = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {this}"
                );
                let value = serde_json::to_value(&meta.owner_references).unwrap_or_default();
                errors.push(FieldError::invalid(PATH, value, text));
            } else {
                controller = Some(this);
            }
        }
    }
}

fn finalizers(finalizers: &[String], errors: &mut Errors) {
    const PATH: &str = "metadata.finalizers";
    for finalizer in finalizers {
        errors.texts(PATH, finalizer, syntax::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let text = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(PATH, finalizers.to_vec(), text));
    }
    for (index, finalizer) in finalizers.iter().enumerate() {
        qualified_finalizer(&format!("{PATH}[{index}]"), finalizer, errors);
    }
}

/// A finalizer is Kubernetes' own or has a domain.
pub(crate) fn qualified_finalizer(path: &str, finalizer: &str, errors: &mut Errors) {
    if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
        let text = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, finalizer, text));
    }
}
