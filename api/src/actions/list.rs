//! Lists, and the selection that watches and collective deletes share with them.
//!
//! A page is filled with objects that match, however many do not, and the next one begins after the last that was given.
//! Where nothing more matches there is no token: a client never comes back for nothing.

use std::sync::Arc;

use axum::response::Response;
use model::{Object, Resource, Revision};
use store::Place;

use crate::call::Call;
use crate::negotiate::Shape;
use crate::options::{Continuation, ListOptions, Selectors, State};
use crate::respond::{self, ListMeta};
use crate::status::Status;

/// Objects that are looked at in one go for a page of those that match a selector.
const STRIDE: usize = 2048;

/// `GET` of a collection.
pub async fn list(call: Call) -> Result<Response, Status> {
    let options = ListOptions::read(call.resource, &call.query)?;
    let (meta, mut objects) = select(&call, &options).await?;
    if one_service(&call, &options.selectors).is_some() {
        objects.iter_mut().for_each(|service| *service = call.app.programming.shown(service, service).0);
    }
    respond::list(&call, &meta, objects)
}

/// The namespace and name of the one Service that is asked for, where it is shown whole: then it tells whether it is
/// programmed.
pub fn one_service<'a>(call: &'a Call, selectors: &'a Selectors) -> Option<(&'a str, &'a str)> {
    let whole = call.resource == Resource::Services && call.accepted.shape == Shape::Plain;
    let namespace = call.within().or_else(|| selectors.fields.exact("metadata.namespace")).filter(|_| whole)?;
    Some((namespace, selectors.fields.exact("metadata.name")?))
}

/// The page that the options ask for, in the order of lists, and what it says of itself.
pub async fn select(call: &Call, options: &ListOptions) -> Result<(ListMeta, Vec<Arc<Object>>), Status> {
    let all_namespaces = call.namespace.is_none();
    let start = match &options.continuation {
        Some(continuation) => continuation.place((!all_namespaces).then(|| call.namespace())),
        None => Place::default(),
    };
    let limit = options.limit.unwrap_or(usize::MAX);
    // One more tells whether there is a next page.
    let wanted = limit.saturating_add(1);
    let (revision, mut objects) = gather(call, options, start, wanted).await?;
    if objects.len() <= limit {
        return Ok((ListMeta::whole(revision), objects));
    }
    objects.truncate(limit);
    let mut meta = ListMeta::whole(revision);
    if let Some(last) = objects.last() {
        let next = Place::after(&last.key);
        meta.continuation = Some(Continuation::new(Some(revision), &next, all_namespaces).encode());
        if options.selectors.is_empty() {
            meta.remaining = call.app.store.count(call.resource, call.within(), revision, &next);
        }
    }
    Ok((meta, objects))
}

/// What matches from a place on, in the state that the options ask for, and the revision of that; once there are as
/// many as `wanted` no more are looked for.
pub async fn gather(
    call: &Call,
    options: &ListOptions,
    start: Place,
    wanted: usize,
) -> Result<(Revision, Vec<Arc<Object>>), Status> {
    let store = &call.app.store;
    let (least, at) = match options.state() {
        State::AtLeast(revision) => (revision, None),
        State::At(revision) => (revision, Some(revision)),
    };
    call.reach(least).await?;

    let selectors = &options.selectors;
    let within = call.within().or_else(|| selectors.fields.exact("metadata.namespace"));
    // One name in one namespace: the first object from its place on is the one, or there is none.
    let name =
        selectors.fields.exact("metadata.name").filter(|_| call.namespace.is_some() && start == Place::default());
    let (mut from, stride) = match name {
        Some(name) => (Place { namespace: call.namespace().to_owned(), name: name.to_owned() }, 1),
        _ if selectors.is_empty() => (start, wanted),
        _ if wanted == usize::MAX => (start, usize::MAX),
        _ => (start, STRIDE.max(wanted)),
    };
    let (mut revision, mut objects) = (at, Vec::new());
    loop {
        let page = store.page(call.resource, within, revision, &from, stride).map_err(|_| expired(options))?;
        revision = Some(page.revision);
        let mut more = page.objects;
        if !selectors.is_empty() {
            more.retain(|object| selectors.matches(object));
        }
        if objects.is_empty() {
            objects = more;
        } else {
            objects.append(&mut more);
        }
        match page.next {
            Some(next) if objects.len() < wanted && name.is_none() => from = next,
            _ => return Ok((page.revision, objects)),
        }
    }
}

/// The answer to a list of a state that is forgotten.
fn expired(options: &ListOptions) -> Status {
    match &options.continuation {
        Some(continuation) => Status::expired_page(continuation.inconsistent().encode()),
        None => Status::expired_list(),
    }
}
