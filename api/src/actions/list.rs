//! Lists, and the selection that watches and collective deletes share with them.

use std::sync::Arc;

use axum::response::Response;
use model::{Object, Revision};

use crate::call::Call;
use crate::options::{Bounds, ListOptions};
use crate::respond;
use crate::status::Status;

/// `GET` of a collection. `limit` is accepted and the answer is whole: Kubernetes lets a server return more than the
/// limit as long as it hands out no continue token.
pub fn list(call: Call) -> Result<Response, Status> {
    let options = ListOptions::read(call.resource, &call.query)?;
    let (revision, objects) = select(&call, &options)?;
    respond::list(&call, revision, objects)
}

/// The objects that the options ask for, in key order, and the revision at which this was so.
pub fn select(call: &Call, options: &ListOptions) -> Result<(Revision, Vec<Arc<Object>>), Status> {
    let store = &call.app.store;
    options.admit(Bounds { current: store.revision(), last_change: store.last_change(call.resource) })?;
    let (revision, mut objects) = store.list(call.resource, call.namespace.as_deref().filter(|ns| !ns.is_empty()));
    if !options.selects_all() {
        objects.retain(|object| options.selects(object));
    }
    Ok((revision, objects))
}
