//! The store's refusals as `Status`: which code and reason each becomes. The words are the store's own `Display`.

use http::StatusCode;
use model::Resource;
use model::managed_fields::Conflict;
use store::{Existing, Expired, Refusal};

use super::{Cause, Status};

impl Status {
    /// A refusal of a write to this object. `name` is what the client called it; it may be empty (generateName).
    pub fn refused(resource: Resource, name: &str, refusal: &Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NotFound { resource, name } => Self::not_found(*resource, name),
            Refusal::NamespaceMissing { namespace } => Self::not_found(Resource::Namespaces, namespace),
            Refusal::AlreadyExists { resource, name, existing } => {
                let status = Self::new(StatusCode::CONFLICT, "AlreadyExists", text).about(*resource, name);
                if *existing == Existing::Generated { status.retry_after(1) } else { status }
            }
            Refusal::NamespaceTerminating { resource, name, namespace } => {
                let mut status = Self::new(StatusCode::FORBIDDEN, "Forbidden", text).about(*resource, name);
                status.details.causes.push(Cause {
                    reason: "NamespaceTerminating".to_owned(),
                    message: format!("namespace {namespace} is being terminated"),
                    field: "metadata.namespace".to_owned(),
                });
                status
            }
            Refusal::Conflict { resource, name, .. } => {
                Self::new(StatusCode::CONFLICT, "Conflict", text).about(*resource, name)
            }
            // Kubernetes does not name the object here either.
            Refusal::ApplyConflicts(conflicts) => {
                let mut status = Self::new(StatusCode::CONFLICT, "Conflict", text);
                let cause = |conflict: &Conflict| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.path.clone(),
                };
                status.details.causes = conflicts.0.iter().map(cause).collect();
                status
            }
            Refusal::NotBindable { name, .. } => {
                let mut status = Self::new(StatusCode::CONFLICT, "Conflict", text);
                status.details.name = name.clone();
                status.details.kind = "pods/binding".to_owned();
                status
            }
            Refusal::Forbidden { resource, name, .. } => {
                Self::new(StatusCode::FORBIDDEN, "Forbidden", text).about(*resource, name)
            }
            Refusal::Invalid(errors) => Self::invalid(resource, name, errors),
            Refusal::BadRequest(message) => Self::bad_request(message),
            Refusal::TooLarge(message) => Self::too_large(message),
            Refusal::Full(message) | Refusal::Unavailable(message) => Self::internal(message),
            Refusal::Closed => Self::unavailable(text),
            Refusal::Busy => Self::too_many(text),
        }
    }
}

impl From<Expired> for Status {
    fn from(expired: Expired) -> Self {
        Self::expired(expired.requested, expired.oldest)
    }
}
