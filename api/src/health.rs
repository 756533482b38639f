//! `/livez`, `/readyz` and `/healthz`: plain text, with the single checks on `?verbose`.
//!
//! Alive is a process that answers. Ready is one that is not about to stop and whose store takes writes: it was opened
//! before the first socket, so there is no state in which this server listens and cannot read.

use std::fmt::Write;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};

use crate::app::App;
use crate::query::Query;
use crate::serve::Draining;

pub fn livez(uri: &Uri) -> Response {
    report("livez", &[("ping", true)], uri)
}

pub fn readyz(app: &App, uri: &Uri, draining: Option<&Draining>) -> Response {
    ready("readyz", app.store.is_open(), uri, draining)
}

/// What probes asked before there were the other two; the same as ready.
pub fn healthz(app: &App, uri: &Uri, draining: Option<&Draining>) -> Response {
    ready("healthz", app.store.is_open(), uri, draining)
}

fn ready(name: &str, store: bool, uri: &Uri, draining: Option<&Draining>) -> Response {
    report(name, &[("ping", true), ("store", store), ("shutdown", !stopping(draining))], uri)
}

fn stopping(draining: Option<&Draining>) -> bool {
    draining.is_some_and(Draining::is_on)
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

    #[test]
    fn a_server_that_stops_or_has_lost_its_store_is_alive_and_not_ready() {
        let (switch, draining) = Draining::pair();
        let uri = Uri::from_static("/readyz");
        assert_eq!(ready("readyz", true, &uri, Some(&draining)).status(), StatusCode::OK);
        assert_eq!(ready("readyz", false, &uri, Some(&draining)).status(), StatusCode::SERVICE_UNAVAILABLE);
        switch.send_replace(true);
        assert_eq!(ready("readyz", true, &uri, Some(&draining)).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(livez(&Uri::from_static("/livez")).status(), StatusCode::OK);
    }
}
