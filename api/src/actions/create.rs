//! Creation.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use store::Verb;

use crate::call::Call;
use crate::incoming::{self, Target};
use crate::respond;
use crate::status::Status;

/// `POST` on a collection: 201 and the object.
pub async fn create(call: Call, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let (bytes, format) = call.read_body(body).await?;
    let target = Target { kind: call.resource.into(), namespace: call.namespace(), name: "" };
    let mut incoming = incoming::read(&bytes, format, target, options.field_validation)?;
    let metadata = |field: &str| incoming.value["metadata"][field].as_str().unwrap_or("").to_owned();
    if !matches!(metadata("resourceVersion").as_str(), "" | "0") {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let name = metadata("name");
    let object = std::mem::take(&mut incoming.value);
    let written = call
        .write(&name, Verb::Create { object }, options.manager, options.dry_run)
        .await
        .map_err(|status| status.with_warnings(&incoming.warnings))?;

    let mut response = respond::object(&call, StatusCode::CREATED, &written.object)?;
    respond::warn(response.headers_mut(), &incoming.warnings);
    respond::warn(response.headers_mut(), &written.warnings);
    Ok(response)
}
