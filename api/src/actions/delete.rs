//! Deletion of one object.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::Resource;
use store::{Outcome, Verb};

use crate::call::Call;
use crate::options::Deletion;
use crate::respond;
use crate::status::Status;

/// `DELETE` of one object.
///
/// A Service or a Pod answers with the object (Python's client parses it as one), and so does whatever is not gone
/// yet; the rest answer with a `Status` that carries the uid, by which kubectl knows what to wait for. A Namespace is
/// never gone at once in Kubernetes, so its clients expect the object, terminating, which is its last state here. 202
/// rather than 200 says that it is not gone yet, but only to clients that said `orphanDependents: false`: the others are
/// too old to know (apiserver `pkg/endpoints/handlers/delete.go`).
pub async fn delete(call: Call, body: Body) -> Result<Response, Status> {
    let Deletion { options, dry_run, cascades } = call.delete_options(body).await?;
    let written = call.write(&call.name, Verb::Delete { options }, String::new(), dry_run).await?;

    let returns_object = matches!(call.resource, Resource::Services | Resource::Pods | Resource::Namespaces);
    let gone = written.outcome == Outcome::Deleted;
    let code = if cascades && !gone { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = if returns_object || !gone {
        respond::object(&call, code, &written.object)?
    } else {
        let status = Status::deleted(call.resource, &call.name, written.object.meta().uid());
        return Ok(status.with_warnings(&written.warnings).into_response());
    };
    respond::warn(response.headers_mut(), &written.warnings);
    Ok(response)
}
