//! What stands round every handler: authentication, the request's turn, authorization, the time limit, the bounds of its
//! body, panics, what is left of a body, metrics, and the spelling of errors.

mod bounded;
mod leftover;

pub use bounded::Exceeded;

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use access::User;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::body::SizeHint;

use crate::app::App;
use crate::asked::Asked;
use crate::audit::{Audit, Ending, Record, Stage};
use crate::auth;
use crate::encode::{self, Spelling};
use crate::fair;
use crate::holding::Holding;
use crate::negotiate::{self, Endpoint, Format};
use crate::own;
use crate::peer::Peer;
use crate::query::Query;
use crate::respond;
use crate::routes::Own;
use crate::serve::Standing;
use crate::status::{Status, quoted};

/// How long a request may take until its answer begins (Kubernetes' numbers): one that reads, and one that writes. A
/// watch begins at once, so it is meant too.
const READING_LONGEST: Duration = Duration::from_secs(60);
const WRITING_LONGEST: Duration = Duration::from_secs(34);

/// What a request was, for metrics; left in the response by the dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    pub verb: &'static str,
    pub resource: &'static str,
}

/// The middleware.
pub async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let query = Query::parse(request.uri().query());
    let spelling = spelling(request.headers(), &query);

    let mut record = app.audit.as_ref().map(|_| Record::begin(&request, (app.clock)()));

    // What its body brings later is no leftover, and its bounds are the handler's to set.
    let converses = Own::converses(request.uri().path()) && negotiate::has_lines(request.headers());
    let (mut request, leftover) = if converses { (request, None) } else { leftover::lend(request) };

    let mut response = match identify(&app, &request) {
        Ok(Identity { user, other }) => {
            if let Some(record) = &mut record {
                record.user(&user);
                other.iter().for_each(|other| record.impersonated(other));
            }
            // Whoever acts for others has one share, not theirs.
            let turn = Turn { converses, ..Turn::of(&user, &request) };
            let user = other.unwrap_or(user);
            let asked = Arc::new(Asked::read(request.method(), request.uri().path(), &query));
            request.extensions_mut().insert(Arc::clone(&user));
            request.extensions_mut().insert(Arc::clone(&asked));
            match time_limit(request.method(), request.uri().path(), &query) {
                Ok(limit) => within(limit, in_turn(&app, turn, &user, &asked, &query, request, next)).await,
                Err(status) => status.into_response(),
            }
        }
        Err(status) => {
            let standing = request.extensions().get::<Arc<Standing>>();
            if let Some(standing) = standing.filter(|_| status.code() == StatusCode::UNAUTHORIZED) {
                standing.failed();
            }
            status.into_response()
        }
    };
    if let Some(leftover) = leftover {
        leftover.discard().await;
    }

    let mut reason = "";
    if let Some(status) = response.extensions_mut().remove::<Status>() {
        reason = status.reason();
        let headers = std::mem::take(response.headers_mut());
        let label = response.extensions_mut().remove::<Label>();
        response = spell(&status, headers, spelling);
        if let Some(label) = label {
            response.extensions_mut().insert(label);
        }
    }
    let label = response.extensions().get::<Label>().copied().unwrap_or(Label { verb: "other", resource: "" });
    app.metrics.request(label, response.status(), begun.elapsed());
    match (&app.audit, record) {
        (Some(audit), Some(record)) => recorded(&app, audit, record, reason, response),
        _ => response,
    }
}

/// The answer, once it is recorded. A watch is recorded when it begins and when it ends.
fn recorded(app: &App, audit: &Audit, record: Record, reason: &'static str, mut response: Response) -> Response {
    if let Some(id) = record.id() {
        response.headers_mut().insert(HeaderName::from_static("audit-id"), id);
    }
    let code = response.status().as_u16();
    // Alone a stream has no length.
    let watch = response.extensions().get::<Label>().is_some_and(|label| label.verb == "watch");
    if !watch || response.body().size_hint().exact().is_some() {
        audit.record(record.answered(Stage::ResponseComplete, code, reason, (app.clock)()));
        return response;
    }
    let record = record.answered(Stage::ResponseStarted, code, reason, (app.clock)());
    audit.record(record.clone());
    let ending = Ending::new(audit, record, app.clock);
    response.map(|body| Body::new(Holding::new(body, ending)))
}

/// Who a request is from.
struct Identity {
    user: Arc<User>,
    /// Whom it is to be taken for, where that is somebody else.
    other: Option<Arc<User>>,
}

/// Who sends the request, and who it is sent for. A page that is open to all is shown whatever is shown for it: a probe
/// does not fail for an old token.
///
/// # Errors
/// 401 for credentials that are worth nothing, 403 for who may not act for somebody else.
fn identify(app: &App, request: &Request) -> Result<Identity, Status> {
    let headers = request.headers();
    let user = match app.authenticator.authenticate(headers, request.extensions().get::<Peer>(), (app.clock)()) {
        Ok(user) => user,
        Err(_) if app.open.contains(request.uri().path()) => {
            return Ok(Identity { user: app.authenticator.anonymous(), other: None });
        }
        Err(_) => return Err(Status::unauthorized()),
    };
    let other = auth::impersonated(headers, |wish| app.authorizer.admit_wish(&user, wish))?;
    Ok(Identity { user, other: other.map(Arc::new) })
}

/// What the handler answers to who may ask it.
async fn permitted(app: &App, user: &User, asked: &Asked, request: Request, next: Next) -> Response {
    if !app.open.contains(request.uri().path())
        && let Err(status) = app.authorizer.admit(user, asked)
    {
        return status.into_response();
    }
    next.run(request).await
}

/// Whose turn it is to be.
struct Turn {
    name: Arc<str>,
    anonymous: bool,
    node: bool,
    /// Its body goes on beside the answer, for as long as a watch.
    converses: bool,
}

impl Turn {
    fn of(user: &User, request: &Request) -> Self {
        let anonymous = user.is_anonymous();
        let address = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        Self {
            name: fair::name(user, anonymous, address),
            anonymous,
            node: user.node_name().is_some(),
            converses: false,
        }
    }
}

/// What the handler answers when it is the request's turn.
async fn in_turn(
    app: &App,
    turn: Turn,
    user: &User,
    asked: &Asked,
    query: &Query,
    request: Request,
    next: Next,
) -> Response {
    let Turn { name, anonymous, node, converses } = turn;
    if let Some(standing) = request.extensions().get::<Arc<Standing>>().filter(|_| !anonymous)
        && !standing.known(&name, node)
    {
        return Status::too_many("too many connections of this user are open").into_response();
    }
    let path = request.uri().path();
    let count = || asked.known().map_or(0, |resource| app.store.size(resource, asked.within()));
    let mut demand = fair::demand(asked, path, query, anonymous, count);
    demand.lasts |= converses;
    let length = if converses { SizeHint::with_exact(0) } else { request.body().size_hint() };
    match app.fair.admit(&name, node, demand, &length).await {
        Ok(held) => {
            let request = if converses { request } else { bounded::bound(request, &app.limits) };
            held.until_sent(permitted(app, user, asked, request, next).await)
        }
        Err(status) => status.into_response(),
    }
}

/// What the handler answers, or why it does not.
async fn within(limit: Duration, handler: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(limit, catching(handler)).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!("a request handler panicked: {}", panic_text(panic.as_ref()));
            Status::internal("the request could not be completed because of a fault in the server").into_response()
        }
        Err(_) => Status::timeout("request did not complete within the allotted timeout").into_response(),
    }
}

/// A `Status` as a response; keeps headers that the handler had set, such as `Allow`.
fn spell(status: &Status, headers: HeaderMap, spelling: Spelling) -> Response {
    let mut response = encode::response(status.code(), Bytes::from(status.to_json()), spelling);
    if let Some(allow) = headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    respond::warn(response.headers_mut(), status.warnings());
    if let Some(seconds) = status.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// How errors to this request are spelled; a client that reads nothing we write gets JSON.
fn spelling(headers: &HeaderMap, query: &Query) -> Spelling {
    let format = negotiate::accept(headers, Endpoint::Objects).map_or(Format::Json, |accepted| accepted.format);
    Spelling { format, pretty: negotiate::pretty(headers, query) }
}

/// How long this request may take. `?timeout=` shortens the limit (Go's durations: `32s`, `1m30s`, `500ms`), but not that
/// of a watch, which is long by its nature. One that is meant to wait may do so besides.
///
/// # Errors
/// 400 for what is no duration.
fn time_limit(method: &Method, path: &str, query: &Query) -> Result<Duration, Status> {
    let longest = if method.is_safe() { READING_LONGEST } else { WRITING_LONGEST };
    let waits = if Own::waits(path) { own::patience(query)?.unwrap_or_default() } else { Duration::ZERO };
    let longest = longest + waits;
    let Some(text) = query.text("timeout").filter(|_| !(method.is_safe() && query.flag("watch"))) else {
        return Ok(longest);
    };
    let asked = go_duration(text)
        .map_err(|problem| Status::bad_request(format!("invalid timeout specified in the request URL - {problem}")))?;
    Ok(if asked.is_zero() { longest } else { asked.min(longest) })
}

/// Reads what Go's `time.ParseDuration` reads, and refuses the rest in its words. Less than nothing is nothing.
fn go_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let mut total = 0.0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !is_digit(c)).unwrap_or(rest.len()));
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let (unit, next) = tail.split_at(tail.find(is_digit).unwrap_or(tail.len()));
        let seconds = match unit {
            "" => return Err(format!("time: missing unit in duration {}", quoted(text))),
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            other => return Err(format!("time: unknown unit {} in duration {}", quoted(other), quoted(text))),
        };
        total += number * seconds;
        rest = next;
    }
    if text.starts_with('-') {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

/// Runs a future and catches a panic in it: one broken request must not take its connection's other streams along.
async fn catching<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else {
        panic.downcast_ref::<String>().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests;
