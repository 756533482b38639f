//! Replacement of an object or of its status.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use store::{Outcome, Verb};

use crate::call::Call;
use crate::incoming::{self, Target};
use crate::respond;
use crate::status::Status;

/// `PUT` on an object or its status: 200 and the object, 201 where the kind lets an update create.
pub async fn update(call: Call, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let (bytes, format) = call.read_body(body).await?;
    let target = Target { kind: call.resource.into(), namespace: call.namespace(), name: &call.name };
    let incoming = incoming::read(&bytes, format, target, options.field_validation)?;
    let verb = Verb::Update { object: incoming.value, subresource: call.subresource() };
    let written = call
        .write(&call.name, verb, options.manager, options.dry_run)
        .await
        .map_err(|status| status.with_warnings(&incoming.warnings))?;

    let code = if written.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = respond::named(&call, code, &written.object)?;
    respond::warn(response.headers_mut(), &incoming.warnings);
    respond::warn(response.headers_mut(), &written.warnings);
    Ok(response)
}
