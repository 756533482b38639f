//! The annotations that say weights: of a Pod its own, of EndpointSlices and Endpoints those of their addresses.

use super::annotation::{path, written};
use super::document::{Document, Errors};
use crate::endpoints::weights::{self, WEIGHT, WEIGHTS};
use crate::field::FieldError;

/// Validates the weight of a Pod.
pub(super) fn validate_one(old: Option<&Document>, pod: &Document, errors: &mut Errors) {
    if let Some(text) = written(old, pod, WEIGHT)
        && weights::parse_one(text).is_none()
    {
        errors.push(FieldError::invalid(path(WEIGHT), text, "must be an integer from 0 to 100"));
    }
}

/// Validates the weights of addresses.
pub(super) fn validate_list(old: Option<&Document>, object: &Document, errors: &mut Errors) {
    if let Some(text) = written(old, object, WEIGHTS)
        && let Err(error) = weights::parse(text)
    {
        errors.push(FieldError::invalid(path(WEIGHTS), text, error.to_string()));
    }
}
