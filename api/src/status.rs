//! Kubernetes' `Status`: the one shape of every failure, and the only place that knows HTTP codes and reasons.
//!
//! Messages follow apimachinery `pkg/api/errors` to the letter where a client shows or matches them. A `Status`
//! travels as a response extension and is spelled (JSON, indented JSON, YAML) by [`crate::rim`], which alone has
//! seen the request's headers.

mod refusal;
#[cfg(test)]
mod tests;

use access::{Attributes, What};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::{FieldError, Resource};
use serde::Serialize;

/// One answer of kind `Status`.
#[derive(Clone, Debug)]
pub struct Status {
    code: StatusCode,
    /// Kubernetes' `StatusReason`; empty on success.
    reason: &'static str,
    message: String,
    /// Boxed: errors are to be small on the way of success.
    details: Box<Details>,
    /// What is to be told besides, as `Warning` headers.
    warnings: Vec<String>,
    /// `metadata.continue`: how a list that has expired may go on; else empty.
    continuation: String,
}

/// `details` of a `Status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (`services`), except for Invalid, where it is the kind (`Service`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One cause in `details`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// The fields in the order in which Kubernetes writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata<'a>,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    code: u16,
}

/// `ListMeta`, as far as a `Status` has any.
#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "continue", skip_serializing_if = "str::is_empty")]
    continuation: &'a str,
}

impl Status {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Box::default(),
            warnings: Vec::new(),
            continuation: String::new(),
        }
    }

    fn about(mut self, resource: Resource, name: &str) -> Self {
        let info = resource.info();
        self.details.name = name.to_owned();
        self.details.group = info.group.to_owned();
        self.details.kind = info.plural.to_owned();
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds what was to be warned of before the request failed.
    pub fn with_warnings(mut self, warnings: &[String]) -> Self {
        self.warnings.extend_from_slice(warnings);
        self
    }

    /// The object is gone: what a DELETE of a kind answers that does not return the object itself.
    pub fn deleted(resource: Resource, name: &str, uid: &str) -> Self {
        let mut status = Self::new(StatusCode::OK, "", "").about(resource, name);
        status.details.uid = uid.to_owned();
        status
    }

    /// Something was done that there is no object of to show.
    pub fn created() -> Self {
        Self::new(StatusCode::CREATED, "", "")
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// Somebody may not do something (apiserver `pkg/endpoints/handlers/responsewriters`).
    pub fn may_not(user: &str, wish: &Attributes<'_>) -> Self {
        let sentence = format!("User {} cannot {wish}", quoted(user));
        let What::Resource(item) = wish.what else {
            return Self::new(StatusCode::FORBIDDEN, "Forbidden", format!("forbidden: {sentence}"));
        };
        let mut resource = item.resource.to_owned();
        if !item.group.is_empty() {
            resource = format!("{resource}.{}", item.group);
        }
        if !item.name.is_empty() {
            resource = format!("{resource} {}", quoted(item.name));
        }
        let message = format!("{resource} is forbidden: {sentence}");
        let mut status = Self::new(StatusCode::FORBIDDEN, "Forbidden", message);
        status.details.name = item.name.to_owned();
        status.details.group = item.group.to_owned();
        status.details.kind = item.resource.to_owned();
        status
    }

    /// What is asked for does not go with what is there.
    pub fn conflict(resource: Resource, name: &str, detail: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {}: {detail}", resource.info().qualified(), quoted(name));
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(resource, name)
    }

    pub fn not_found(resource: Resource, name: &str) -> Self {
        let message = format!("{} {} not found", resource.info().qualified(), quoted(name));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(resource, name)
    }

    /// The name of a node belongs to another machine.
    pub fn node_taken(name: &str, message: String) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(Resource::Nodes, name)
    }

    /// A path that nothing is served on.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// A path of a resource that does not take this method; `verb` is Kubernetes' name for what was tried.
    pub fn verb_not_supported(resource: Resource, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {}", quoted(&resource.info().qualified()));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).about(resource, "")
    }

    /// A path that is no resource's and does not take this method.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {list}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// `old` is before what the history still has; `oldest` is the first revision that a watch may start from.
    pub fn expired(old: u64, oldest: u64) -> Self {
        Self::new(StatusCode::GONE, "Expired", format!("too old resource version: {old} ({oldest})"))
    }

    /// A list at exactly a revision that memory no longer has.
    pub fn expired_list() -> Self {
        Self::new(StatusCode::GONE, "Expired", "The resourceVersion for the provided list is too old.")
    }

    /// A further page at a revision that memory no longer has; the token goes on with what there is now.
    pub fn expired_page(token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                       list without the continue parameter, or use the continue token in this response to retrieve the \
                       remainder of the results. Continuing with the provided token results in an inconsistent list - \
                       objects that were created, modified, or deleted between the time the first chunk was returned \
                       and now may show up in the list.";
        Self { continuation: token, ..Self::new(StatusCode::GONE, "Expired", message) }
    }

    /// A revision that was not handed out yet: the client speaks of another store, or of a later one.
    pub fn future_revision(requested: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        let mut status = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).retry_after(1);
        status.details.causes.push(Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        });
        status
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("Timeout: {}", message.into()))
    }

    /// More of something than there is room for; there may be room soon.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(1)
    }

    /// An answer to a question that nobody waits for.
    pub fn nobody_asks(id: &str) -> Self {
        let message = format!("nobody waits for the answer to question {}", quoted(id));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The server cannot serve now, and may soon: it starts, or stops.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).retry_after(1)
    }

    pub fn internal(message: impl AsRef<str>) -> Self {
        let message = format!("Internal error occurred: {}", message.as_ref());
        let mut status = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message.clone());
        let text = message.split_once(": ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        status.details.causes.push(Cause { reason: String::new(), message: text, field: String::new() });
        status
    }

    /// The object's fields are wrong: 422, with one cause for each.
    pub fn invalid(resource: Resource, name: &str, errors: &[FieldError]) -> Self {
        let info = resource.info();
        Self::invalid_kind(info.group, info.kind, name, errors)
    }

    /// As [`Status::invalid`], for kinds that are no resource: `ListOptions` of `meta.k8s.io` and its like.
    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = match texts.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let message = format!("{qualified} {} is invalid{text}", quoted(name));
        let mut status = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        status.details.name = name.to_owned();
        status.details.group = group.to_owned();
        status.details.kind = kind.to_owned();
        status.details.causes = errors
            .iter()
            .map(|e| Cause { reason: e.kind.reason().to_owned(), message: e.message(), field: e.path.clone() })
            .collect();
        status
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Kubernetes' word for the failure; empty on success.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// Compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let empty = *self.details == Details::default();
        let wire = Wire {
            kind: "Status",
            api_version: "v1",
            metadata: Metadata { continuation: &self.continuation },
            status: if self.code.is_success() { "Success" } else { "Failure" },
            message: &self.message,
            reason: self.reason,
            details: if empty { None } else { Some(&self.details) },
            code: self.code.as_u16(),
        };
        // Strings and numbers alone: serialising them has no way to fail.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// What the `Retry-After` header says, in seconds.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.retry_after_seconds
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code;
        response.extensions_mut().insert(self);
        response
    }
}

/// As Go's `%q` writes a string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
