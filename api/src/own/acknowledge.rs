//! An agent says what its kernel has.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::Call;
use crate::programmed::{Acknowledgement, Unfit};
use crate::routes::{API_VERSION, Own};
use crate::status::Status;

/// `PUT …/nodes/{name}/acknowledgement`: 200, and when the next may come.
pub async fn acknowledge(call: Call, body: Body) -> Result<Response, Status> {
    let node = call.node()?;
    let body = call.body(body).await?;
    let kind = Own::Acknowledge.kind();
    let acknowledgement: Acknowledgement<'_> = serde_json::from_slice(&body)
        .map_err(|e| Status::bad_request(format!("{kind} in version \"v1alpha1\" cannot be handled: {e}")))?;
    for (field, told, expected) in
        [("apiVersion", &acknowledgement.api_version, API_VERSION), ("kind", &acknowledgement.kind, kind)]
    {
        if !told.is_empty() && told != expected {
            return Err(Status::bad_request(format!("the {field} in the data ({told}) is not {expected}")));
        }
    }
    let interval = call.app.programming.acknowledge(node, &acknowledgement).map_err(|unfit| match unfit {
        Unfit::Field { field, problem } => Status::bad_request(format!("{kind} is invalid: {field}: {problem}")),
        Unfit::Full(nodes) => Status::too_many(format!("{nodes} nodes acknowledge, more than there are Node objects")),
    })?;
    let answer = json!({
        "kind": "AcknowledgementResponse",
        "apiVersion": API_VERSION,
        "intervalMilliseconds": u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
    });
    Ok(call.answer(StatusCode::OK, &answer))
}
