//! What stands round every handler: authentication, the time limit, panics, metrics, and the spelling of errors.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use crate::app::App;
use crate::encode::{self, Spelling};
use crate::negotiate::{self, Endpoint, Format};
use crate::query::Query;
use crate::respond;
use crate::status::Status;

/// How long a request may take until its answer begins. A watch begins at once, so it is meant too.
const TIME_LIMIT: Duration = Duration::from_secs(60);

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

    let mut response = if app.token.admits(request.uri().path(), request.headers()) {
        let limit = time_limit(&query);
        match tokio::time::timeout(limit, catching(next.run(request))).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => {
                tracing::error!("a request handler panicked: {}", panic_text(panic.as_ref()));
                Status::internal("the request could not be completed because of a fault in the server").into_response()
            }
            Err(_) => Status::timeout(format!("request did not complete within {limit:?}")).into_response(),
        }
    } else {
        Status::unauthorized().into_response()
    };

    if let Some(status) = response.extensions_mut().remove::<Status>() {
        let headers = std::mem::take(response.headers_mut());
        let label = response.extensions_mut().remove::<Label>();
        response = spell(&status, headers, spelling);
        if let Some(label) = label {
            response.extensions_mut().insert(label);
        }
    }
    let label = response.extensions().get::<Label>().copied().unwrap_or(Label { verb: "other", resource: "" });
    app.metrics.request(label, response.status(), begun.elapsed());
    response
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

/// `?timeout=` shortens the limit (Go's durations: `32s`, `1m30s`, `500ms`); what cannot be read is ignored.
fn time_limit(query: &Query) -> Duration {
    query.get("timeout").and_then(go_duration).filter(|d| !d.is_zero()).map_or(TIME_LIMIT, |d| d.min(TIME_LIMIT))
}

fn go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = next;
    }
    Duration::try_from_secs_f64(total).ok()
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
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        assert_eq!(go_duration("32s"), Some(Duration::from_secs(32)));
        assert_eq!(go_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(go_duration("500ms"), Some(Duration::from_millis(500)));
        for bad in ["32", "s", "-1s", "1x", "1e400s"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
        assert_eq!(time_limit(&Query::parse(Some("timeout=1h"))), TIME_LIMIT);
        assert_eq!(time_limit(&Query::parse(Some("timeout=0s"))), TIME_LIMIT);
        assert_eq!(time_limit(&Query::parse(Some("timeout=2s"))), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_not_the_end() {
        let caught = catching(async { panic!("dropped {}", "a plate") }).await;
        assert_eq!(panic_text(caught.unwrap_err().as_ref()), "dropped a plate");
        assert_eq!(catching(async { 1 }).await.unwrap(), 1);
    }
}
