//! Patches: which kind it is and whether it can be one is asked here; it is applied by the store's writer, to the newest
//! state, so that a patch without a resourceVersion never conflicts.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use model::FieldError;
use model::patch::PatchKind;
use model::schema::json_kind;
use serde_json::Value;
use store::Verb;

use crate::body::Document;
use crate::call::Call;
use crate::negotiate::{self, Format};
use crate::options::FieldValidation;
use crate::respond;
use crate::status::{Status, quoted};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// The content types of patches, in the order in which OpenAPI and error messages name them.
pub const CONTENT_TYPES: [&str; 4] = [JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH];

/// Kubernetes' limit for the operations of a JSON patch.
const OPERATIONS_MOST: usize = 10_000;

/// `PATCH` on an object or its status: 200 and the object; 201 for an apply that makes one.
pub async fn patch(call: Call, body: Body) -> Result<Response, Status> {
    let content_type = negotiate::content_type(&call.headers);
    if content_type.as_deref() == Some(APPLY_PATCH) {
        return super::apply::apply(call, body).await;
    }
    let options = call.write_options()?;
    let kind = kind(content_type.as_deref())?;
    if call.query.get("force").is_some() {
        let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::invalid_kind("meta.k8s.io", "PatchOptions", "", &[error]));
    }
    let bytes = crate::body::read(&call.headers, body).await?;
    let document = crate::body::decode(&bytes, Format::Json)
        .map_err(|e| Status::bad_request(format!("error decoding patch: json parse error: {e}")))?;
    shape(kind, &document.value)?;

    let strict = options.field_validation == FieldValidation::Strict;
    let findings = findings(kind, &document);
    if strict && !findings.is_empty() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let error = FieldError::invalid("patch", text, format!("strict decoding error: {}", findings.join(", ")));
        return Err(Status::invalid(call.resource, &call.name, &[error]));
    }
    let verb = Verb::Patch { kind, patch: document.value, subresource: call.subresource(), strict };
    let written = call.write(&call.name, verb, options.manager, options.dry_run).await?;

    let mut response = respond::named(&call, StatusCode::OK, &written.object)?;
    let quiet = options.field_validation == FieldValidation::Ignore;
    let warnings: Vec<String> = (findings.into_iter().chain(written.warnings))
        .filter(|w| !(quiet && FINDINGS.iter().any(|finding| w.starts_with(finding))))
        .collect();
    respond::warn(response.headers_mut(), &warnings);
    Ok(response)
}

fn kind(content_type: Option<&str>) -> Result<PatchKind, Status> {
    match content_type {
        Some(JSON_PATCH) => Ok(PatchKind::Json),
        Some(MERGE_PATCH) => Ok(PatchKind::Merge),
        Some(STRATEGIC_MERGE_PATCH) => Ok(PatchKind::StrategicMerge),
        _ => Err(Status::unsupported_media_type(&CONTENT_TYPES)),
    }
}

/// How a warning about a field begins; `Ignore` keeps these back.
const FINDINGS: [&str; 4] =
    ["unknown field ", "duplicate field ", "json patch unknown field ", "json patch duplicate field "];

/// What is odd about the patch itself: keys that stand twice, and members of a JSON patch's operations that mean nothing.
/// Whether the patched object knows its fields is found out where it is patched.
fn findings(kind: PatchKind, document: &Document) -> Vec<String> {
    let json = kind == PatchKind::Json;
    let prefix = if json { "json patch " } else { "" };
    let duplicates = document.duplicates.iter().map(|field| format!("{prefix}duplicate field {}", quoted(field)));
    let operations = if json { document.value.as_array().map(Vec::as_slice) } else { None };
    let members = operations.unwrap_or_default().iter().enumerate().flat_map(|(index, operation)| {
        let names = operation.as_object().into_iter().flat_map(|operation| operation.keys());
        names.filter(|name| !OPERATION_MEMBERS.contains(&name.as_str())).map(move |name| format!("[{index}].{name}"))
    });
    duplicates.chain(members.map(|field| format!("{prefix}unknown field {}", quoted(&field)))).collect()
}

/// What an operation of a JSON patch may say.
const OPERATION_MEMBERS: [&str; 4] = ["op", "path", "from", "value"];

/// Whether the document can be a patch of its kind at all.
fn shape(kind: PatchKind, patch: &Value) -> Result<(), Status> {
    match (kind, patch) {
        (PatchKind::Json, Value::Array(operations)) if operations.len() > OPERATIONS_MOST => Err(Status::too_large(
            format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MOST}, got {}", operations.len()),
        )),
        (PatchKind::Json, Value::Array(_)) | (PatchKind::Merge | PatchKind::StrategicMerge, Value::Object(_)) => Ok(()),
        (PatchKind::Json, other) => Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type jsonpatch.Patch",
            json_kind(other)
        ))),
        (_, other) => Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_kind(other)
        ))),
    }
}
