//! `/version`: which Kubernetes release the API follows, and which Portolan this is.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use crate::app::App;
use crate::encode::{self, Spelling};
use crate::negotiate::{self, Endpoint};
use crate::query::Query;
use crate::status::Status;

/// The release whose behaviour is followed. Clients decide by the minor number what they may ask for (and some pick
/// the kubectl that they run by it), so it must not promise more than is served.
const MINOR: u32 = 32;

/// The body of `/version`.
pub struct Version(Bytes);

impl Version {
    /// `portolan` is Portolan's own version, with or without a leading `v`.
    pub fn new(portolan: &str) -> Self {
        let own = portolan.trim_start_matches('v');
        // Go's clients parse gitVersion as a semantic version, whose build part takes these characters alone.
        let build: String =
            own.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' }).collect();
        let body = json!({
            "major": "1",
            "minor": MINOR.to_string(),
            "gitVersion": format!("v1.{MINOR}.0+portolan.{build}"),
            "gitCommit": "",
            "gitTreeState": "",
            "buildDate": "",
            "goVersion": "",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, platform()),
        });
        Self(Bytes::from(body.to_string()))
    }
}

/// The architecture by Go's name, which clients print.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /version`.
pub fn get(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Response, Status> {
    let accepted = negotiate::accept(headers, Endpoint::Documents)?;
    let pretty = negotiate::pretty(headers, &Query::parse(uri.query()));
    Ok(encode::response(StatusCode::OK, app.version.0.clone(), Spelling { format: accepted.format, pretty }))
}
