//! `/livez`, `/readyz` and `/healthz`: plain text, with the single checks on `?verbose`.
//!
//! Alive is a process that answers. Ready is one that is not about to stop: the store was opened before the first
//! socket, so there is no state in which this server listens and cannot read.

use std::fmt::Write;

use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};

use crate::query::Query;
use crate::serve::Draining;

pub async fn livez(uri: Uri) -> Response {
    report("livez", &[("ping", true)], &uri)
}

pub async fn readyz(uri: Uri, draining: Option<Extension<Draining>>) -> Response {
    report("readyz", &[("ping", true), ("shutdown", !stopping(draining))], &uri)
}

/// What probes asked before there were the other two; the same as ready.
pub async fn healthz(uri: Uri, draining: Option<Extension<Draining>>) -> Response {
    report("healthz", &[("ping", true), ("shutdown", !stopping(draining))], &uri)
}

fn stopping(draining: Option<Extension<Draining>>) -> bool {
    draining.is_some_and(|Extension(draining)| draining.is_on())
}

fn report(name: &str, checks: &[(&str, bool)], uri: &Uri) -> Response {
    let healthy = checks.iter().all(|(_, passed)| *passed);
    let mut lines = String::new();
    for (check, passed) in checks {
        // Writing to a String cannot fail.
        let _ = match passed {
            true => writeln!(lines, "[+]{check} ok"),
            false => writeln!(lines, "[-]{check} failed"),
        };
    }
    match healthy {
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("{lines}{name} check failed\n")).into_response(),
        true if Query::parse(uri.query()).get("verbose").is_some() => {
            (StatusCode::OK, format!("{lines}{name} check passed\n")).into_response()
        }
        true => (StatusCode::OK, "ok").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_stops_is_alive_and_not_ready() {
        let (switch, draining) = Draining::pair();
        let extension = Some(Extension(draining));
        assert_eq!(readyz(Uri::from_static("/readyz"), extension.clone()).await.status(), StatusCode::OK);
        switch.send_replace(true);
        assert_eq!(
            readyz(Uri::from_static("/readyz"), extension.clone()).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(healthz(Uri::from_static("/healthz"), extension).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(livez(Uri::from_static("/livez")).await.status(), StatusCode::OK);
    }
}
