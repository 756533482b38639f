//! Reading one object.

use axum::response::Response;
use http::StatusCode;

use crate::call::Call;
use crate::options;
use crate::respond;
use crate::status::Status;

/// `GET` of one object (or of its status, which is the object too).
pub async fn get(call: Call) -> Result<Response, Status> {
    call.reach(options::revision(&call.query)?.unwrap_or(0)).await?;
    let object = call.app.store.get(call.resource, call.namespace(), &call.name);
    match object {
        Some(object) => respond::named(&call, StatusCode::OK, &object),
        None => Err(Status::not_found(call.resource, &call.name)),
    }
}
