//! Deletion by selector.

use axum::body::Body;
use axum::response::Response;
use store::{Refusal, Verb, Write};

use super::list;
use crate::call::Call;
use crate::options::{Deletion, ListOptions};
use crate::respond;
use crate::status::Status;

/// `DELETE` of a collection: every object that a list with the same options shows (with a limit, the first ones), each in
/// a write of its own and with the same options, preconditions included, as Kubernetes does; the answer is the list of
/// what was deleted, or is about to be. An object that went in the meantime is passed over; another refusal ends it, and
/// what was deleted before stays deleted.
pub async fn delete_collection(call: Call, body: Body) -> Result<Response, Status> {
    let selection = ListOptions::read(call.resource, &call.query)?;
    let Deletion { options, dry_run, .. } = call.delete_options(body).await?;
    let (meta, objects) = list::select(&call, &selection).await?;

    let mut deleted = Vec::with_capacity(objects.len());
    for object in objects {
        let write = Write {
            resource: call.resource,
            namespace: object.key.namespace.to_string(),
            name: object.key.name.to_string(),
            verb: Verb::Delete { options: options.clone() },
            manager: String::new(),
            dry_run,
        };
        match call.app.store.write_guarded(write, call.guard.clone()).await {
            Ok(written) => deleted.push(written.object),
            Err(Refusal::NotFound { resource, .. }) if resource == call.resource => {}
            Err(refusal) => return Err(Status::refused(call.resource, &object.key.name, &refusal)),
        }
    }
    respond::list(&call, &meta, deleted)
}
