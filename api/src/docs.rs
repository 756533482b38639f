//! `/docs`: `/openapi.json` as a page for people. It is three files of our own, embedded: no framework, nothing fetched
//! from elsewhere, so that it works on a machine without a way out and shows a token to nobody.
//!
//! Rejected: Swagger UI. It adds five megabytes to the binary and two dozen crates to its build.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};

const PAGE: &str = include_str!("docs/page.html");
const SCRIPT: &str = include_str!("docs/page.js");
const STYLE: &str = include_str!("docs/page.css");

/// The browser may load what this server has, run what is in the script, and speak to this server alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /docs`.
pub fn page() -> Response {
    file("text/html; charset=utf-8", PAGE)
}

/// `GET /docs/page.js`.
pub fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /docs/page.css`.
pub fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

fn file(media: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (CONTENT_TYPE, media),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that fetched something would tell somebody of each of its readers.
    #[test]
    fn the_page_refers_to_nothing_outside() {
        for (name, text) in [("page.html", PAGE), ("page.js", SCRIPT), ("page.css", STYLE)] {
            for outside in ["http:", "https:", "//cdn", "\"//", "'//", "@import", ":url(", " url("] {
                assert!(!text.contains(outside), "{name} has {outside}");
            }
        }
        for attribute in ["src=\"", "href=\""] {
            for target in PAGE.split(attribute).skip(1) {
                assert!(target.starts_with("/docs/") || target.starts_with("data:,"), "{target:.40}");
            }
        }
    }
}
