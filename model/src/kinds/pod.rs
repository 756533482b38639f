//! core/v1 Pod: what Portolan needs of Kubernetes' rules, with its field paths and texts.
//!
//! Relaxed where a machine without a container runtime has no use for a rule: a container's `image` may be
//! missing, and sections that only a kubelet reads (security contexts, resources, affinity) are taken as the
//! schema lets them in. Source: `pkg/apis/core/v1/defaults.go`, `pkg/registry/core/pod/strategy.go`,
//! `ValidatePod*`.

mod change;
mod containers;
mod defaults;
mod probes;
mod status;
#[cfg(test)]
mod tests;
mod validate;

use super::document::{Document, Errors, keep, object, object_mut};
use super::weights;
use crate::admission::Subresource;

/// The lists of containers in a Pod's spec.
const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults the spec and begins the status: Pending, with its quality of service.
pub(super) fn create(pod: &mut Document) {
    if let Some(spec) = object_mut(pod, "spec") {
        defaults::spec(spec);
        let status = serde_json::json!({ "phase": "Pending", "qosClass": status::qos_class(spec) });
        pod.insert("status".to_owned(), status);
    }
}

pub(super) fn update(sub: Subresource, old: &Document, new: &mut Document) {
    match sub {
        Subresource::None | Subresource::Finalize => {
            let nothing = Document::new();
            let old_spec = object(old, "spec").unwrap_or(&nothing);
            if let Some(spec) = object_mut(new, "spec") {
                keep(old_spec, spec, "ephemeralContainers");
                defaults::spec(spec);
            }
        }
        Subresource::Status => {
            if let Some(status) = object_mut(new, "status") {
                keep(object(old, "status").unwrap_or(&Document::new()), status, "qosClass");
                status::mirror_addresses(status);
            }
            // Who owns a Pod is not for its node to say.
            let owners = object(old, "metadata").cloned().unwrap_or_default();
            if let Some(metadata) = object_mut(new, "metadata") {
                keep(&owners, metadata, "ownerReferences");
            }
        }
    }
}

pub(super) fn validate(sub: Subresource, old: Option<&Document>, pod: &Document, errors: &mut Errors) {
    weights::validate_one(old, pod, errors);
    let nothing = Document::new();
    let spec = object(pod, "spec").unwrap_or(&nothing);
    match sub {
        Subresource::Status => status::validate(object(pod, "status").unwrap_or(&nothing), errors),
        Subresource::None | Subresource::Finalize => {
            validate::spec(spec, errors);
            if let Some(old) = old {
                change::validate(object(old, "spec").unwrap_or(&nothing), spec, errors);
            }
        }
    }
}
