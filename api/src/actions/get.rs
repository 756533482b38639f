//! Reading one object.

use axum::response::Response;
use http::StatusCode;

use crate::call::Call;
use crate::options;
use crate::respond;
use crate::status::Status;

/// `GET` of one object (or of its status, which is the object too).
pub fn get(call: Call) -> Result<Response, Status> {
    if let Some(requested) = options::revision(&call.query)? {
        options::at_least(requested, call.app.store.revision())?;
    }
    let object = call.app.store.get(call.resource, call.namespace(), &call.name);
    match object {
        Some(object) => respond::object(&call, StatusCode::OK, &object),
        None => Err(Status::not_found(call.resource, &call.name)),
    }
}
