//! The beginning of a watch: what can be refused is refused here, with a code; after that only events follow.
//!
//! A revision that has been forgotten is no refusal but an event: kube-apiserver answers it with 200 and an ERROR line, and
//! kube-rs' watcher lists again after that line alone; after a 410 it asks for the same revision for ever.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use store::Place;
use tokio::time::Instant;

use super::list;
use crate::call::Call;
use crate::frames::Frames;
use crate::negotiate::{Format, JSON, Shape};
use crate::options::ListOptions;
use crate::status::Status;
use crate::table::{Include, Table};
use crate::watch::{Conditioned, Render, Stream, error_event};

/// How long a watch lasts when the client does not say: between these bounds, drawn anew for each, so that the
/// clients of a restarted server do not come back all at once for ever (kube-apiserver's `--min-request-timeout`).
const SHORTEST: Duration = Duration::from_secs(30 * 60);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What a watch in protobuf calls itself; one in JSON is plain JSON.
const PROTOBUF_STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// `GET` of a collection with `watch=true`: a stream of events that begins at once.
pub async fn watch(call: Call) -> Result<Response, Status> {
    let options = ListOptions::read(call.resource, &call.query)?;
    let store = &call.app.store;

    let begins_with_state = options.begins_with_state();
    let (from, initial) = if begins_with_state {
        list::gather(&call, &options, Place::default(), usize::MAX).await?
    } else {
        let revision = options.revision.unwrap_or(0);
        call.reach(revision).await?;
        // No revision and no state: from now on.
        (if revision == 0 { store.revision() } else { revision }, Vec::new())
    };
    // Changes of other namespaces are not even looked at.
    let within = call.within().or_else(|| options.selectors.fields.exact("metadata.namespace"));
    let watch = match store.watch(call.resource, within, from) {
        Ok(watch) => watch,
        Err(expired) => {
            let format = call.accepted.format;
            return Ok(streamed(format, Body::from(error_event(format, &expired.into()))));
        }
    };
    let render = match call.accepted.shape {
        Shape::Plain | Shape::Discovery(_) => Render::Plain,
        Shape::Slim => Render::Slim,
        Shape::Metadata(version) => Render::Metadata(version),
        Shape::Table(version) => {
            Render::Table(Table { resource: call.resource, version, include: Include::read(&call.query)? })
        }
    };
    let condition = list::one_service(&call, &options.selectors).map(|(namespace, name)| {
        // What has changed after the revision that the client names will come by itself.
        let known =
            store.get(call.resource, namespace, name).filter(|known| !begins_with_state && known.revision <= from);
        Conditioned::new(&call.app.programming, known.filter(|known| options.selectors.matches(known)))
    });
    let now = Instant::now();
    let stream = Stream::new(
        watch,
        initial,
        from,
        crate::watch::Settings {
            resource: call.resource,
            render,
            format: call.accepted.format,
            bookmarks: options.bookmarks,
            mark_initial_end: begins_with_state && options.bookmarks,
            deadline: now + options.timeout.unwrap_or_else(|| lifetime(chance())),
            clock: call.app.clock,
            draining: call.draining,
            version: call.version,
            guard: call.app.metrics.watcher(call.resource),
            selectors: options.selectors,
            condition,
        },
    );

    Ok(streamed(call.accepted.format, Body::new(Frames::new(stream))))
}

fn streamed(format: Format, body: Body) -> Response {
    let content_type = match format {
        Format::Protobuf => PROTOBUF_STREAM,
        Format::Json | Format::Yaml => JSON,
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // For proxies that would gather a response before passing it on.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A lifetime between the bounds for a number drawn by chance.
fn lifetime(chance: u64) -> Duration {
    let span = (LONGEST - SHORTEST).as_secs();
    SHORTEST + Duration::from_secs(chance % span)
}

/// A number nobody can foresee and nothing depends on: the standard library's hash keys are random.
fn chance() -> u64 {
    RandomState::new().hash_one(0)
}
