//! The handlers of Portolan's own group ([`crate::routes::Own`]): a request in, JSON or a `Status` out. What is decided is
//! decided in [`crate::programmed`], [`crate::questions`] and [`crate::joining`].

mod acknowledge;
mod beat;
mod certificate;
mod programmed;
mod questions;

use std::sync::Arc;
use std::time::Duration;

use access::User;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::App;
use crate::body;
use crate::encode::{self, Spelling};
use crate::negotiate::{self, Accepted, Endpoint, Format, JSON};
use crate::path::PathValues;
use crate::query::Query;
use crate::rim::Label;
use crate::routes::Own;
use crate::serve::Draining;
use crate::status::Status;

pub use beat::Heartbeats;

/// The longest that a request may ask to wait.
pub const WAIT_LONGEST: Duration = Duration::from_secs(300);

/// Bytes of a body.
const BODY_MOST: usize = 1024 * 1024;

/// Bytes of a node's name, as of any (RFC 1123).
const NAME_MOST: usize = 253;

/// One request to the group.
struct Call {
    app: Arc<App>,
    /// What stands in the path, in its order.
    values: Vec<String>,
    query: Query,
    headers: HeaderMap,
    accepted: Accepted,
    draining: Option<Draining>,
    user: Option<Arc<User>>,
}

/// Answers a request on this route.
pub async fn serve(app: Arc<App>, own: Own, parameters: PathValues, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = match negotiate::accept(&parts.headers, Endpoint::Documents) {
        Err(status) => Err(status),
        Ok(accepted) => {
            let call = Call {
                app,
                values: parameters.iter().map(str::to_owned).collect(),
                query: Query::parse(parts.uri.query()),
                draining: parts.extensions.get::<Draining>().cloned(),
                user: parts.extensions.get::<Arc<User>>().cloned(),
                headers: parts.headers,
                accepted,
            };
            match own {
                Own::Acknowledge => acknowledge::acknowledge(call, body).await,
                Own::Beat if negotiate::has_lines(&call.headers) => beat::beats(call, body),
                Own::Beat => beat::beat(&call),
                Own::ServiceProgrammed => programmed::service(call).await,
                Own::Programmed => programmed::everything(call).await,
                Own::Listen => questions::listen(call).await,
                Own::Ask => questions::ask(call, body).await,
                Own::Answer => questions::answer(call, body).await,
                Own::Certificate => certificate::create(call, body).await,
            }
        }
    };
    let mut response = answer.into_response();
    response.extensions_mut().insert(Label { verb: own.action().verb(), resource: own.label() });
    response
}

/// What `timeoutSeconds` says, within the bound; None where it is not said.
///
/// # Errors
/// 400 for what is no number, or is less than nothing.
pub fn patience(query: &Query) -> Result<Option<Duration>, Status> {
    let Some(text) = query.text("timeoutSeconds") else { return Ok(None) };
    let seconds: u64 = text.parse().map_err(|_| {
        Status::bad_request(format!("invalid timeoutSeconds: {} is no number of seconds", crate::status::quoted(text)))
    })?;
    Ok(Some(Duration::from_secs(seconds).min(WAIT_LONGEST)))
}

impl Call {
    fn value(&self, index: usize) -> &str {
        self.values.get(index).map_or("", String::as_str)
    }

    /// The node in the path.
    fn node(&self) -> Result<&str, Status> {
        let name = self.value(0);
        if name.len() <= NAME_MOST {
            return Ok(name);
        }
        Err(Status::bad_request(format!("the name of a node has at most {NAME_MOST} bytes")))
    }

    /// Until when the request may wait; `default` is for one that does not say.
    fn until(&self, default: Duration) -> Result<Instant, Status> {
        Ok(Instant::now() + patience(&self.query)?.unwrap_or(default))
    }

    /// Reads a body of JSON.
    async fn body(&self, body: Body) -> Result<Bytes, Status> {
        match negotiate::body_format(&self.headers) {
            Ok(Format::Json) => body::read_most(&self.headers, body, BODY_MOST).await,
            _ => Err(Status::unsupported_media_type(&[JSON])),
        }
    }

    fn answer(&self, code: StatusCode, value: &Value) -> Response {
        self.text(code, Bytes::from(value.to_string()))
    }

    /// An answer that is JSON already.
    fn text(&self, code: StatusCode, json: Bytes) -> Response {
        let pretty = negotiate::pretty(&self.headers, &self.query);
        encode::response(code, json, Spelling { format: self.accepted.format, pretty })
    }
}
