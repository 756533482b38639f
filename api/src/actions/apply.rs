//! Server-side apply: a `PATCH` with `application/apply-patch+yaml`. Merging, ownership and conflicts are the model's; here
//! is asked what Kubernetes asks of the request itself.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use model::{FieldError, Resource};
use store::{Outcome, Verb};

use crate::call::Call;
use crate::incoming;
use crate::negotiate::Format;
use crate::options::FieldValidation;
use crate::respond;
use crate::status::Status;

/// 200 and the object, 201 if it was not there.
///
/// # Errors
/// 422 on PatchOptions without `fieldManager`; 400 for what is no configuration of this kind; 409 for conflicts.
pub async fn apply(call: Call, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    if call.query.text("fieldManager").is_none() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid_kind("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let bytes = crate::body::read(&call.headers, body).await?;
    // JSON is YAML, and what kubectl sends is JSON, which is read faster by its own parser.
    let json = if bytes.first() == Some(&b'{') { crate::body::decode(&bytes, Format::Json).ok() } else { None };
    let document = match json {
        Some(document) => document,
        None => crate::body::decode(&bytes, Format::Yaml)
            .map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?,
    };
    let mut config = document.value;
    if !config.is_object() {
        return Err(Status::bad_request("error decoding YAML: a configuration is an object"));
    }
    let duplicates: Vec<String> =
        document.duplicates.iter().map(|f| format!("duplicate field {}", crate::status::quoted(f))).collect();
    if options.field_validation == FieldValidation::Strict && !duplicates.is_empty() {
        return Err(Status::bad_request(format!("error strict decoding YAML: {}", duplicates.join(", "))));
    }
    let target = incoming::Target { kind: call.resource.into(), namespace: call.namespace(), name: &call.name };
    incoming::place(&mut config, target)?;
    if call.resource == Resource::Services {
        // What is not stored has no manager.
        model::service::take_out_programmed(&mut config);
    }

    let force = call.query.flag("force");
    let verb = Verb::Apply { config, force, subresource: call.subresource() };
    let written = call.write(&call.name, verb, options.manager, options.dry_run).await?;
    let code = if written.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = respond::named(&call, code, &written.object)?;
    if options.field_validation == FieldValidation::Warn {
        respond::warn(response.headers_mut(), &duplicates);
    }
    respond::warn(response.headers_mut(), &written.warnings);
    Ok(response)
}
