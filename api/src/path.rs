//! The parameters of a path, percent-decoded.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use crate::status::Status;

/// What stands at the path's parameters, in their order. Refuses in a `Status` what axum would refuse in plain text.
pub struct PathValues(RawPathParams);

impl PathValues {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathValues {
    type Rejection = Status;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Status> {
        let values = RawPathParams::from_request_parts(parts, state).await;
        values.map(Self).map_err(|_| Status::bad_request("the path is not UTF-8 when its escapes are resolved"))
    }
}
