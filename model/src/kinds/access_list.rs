//! portolan.dev/v1alpha1 AccessList: addresses that listeners admit or turn away.

use super::document::{Document, Errors, items, object, objects, readable, text};
use crate::field::FieldError;
use crate::syntax;
use crate::types::AccessListSpec;

/// Entries that one list may have, as in the cloud's quota.
const ENTRIES_MAX: usize = 300;

pub(super) fn validate(list: &Document, errors: &mut Errors) {
    let Some(spec) = object(list, "spec") else { return };
    let count = items(spec, "entries").len();
    if count > ENTRIES_MAX {
        errors.push(FieldError::too_many("spec.entries", count, ENTRIES_MAX));
    }
    for (index, entry) in objects(spec, "entries") {
        let (path, cidr) = (format!("spec.entries[{index}].cidr"), text(entry, "cidr"));
        if cidr.is_empty() {
            errors.required(path, "");
        } else if syntax::parse_ip(cidr).is_none() && syntax::parse_cidr(cidr).is_none() {
            let detail = "must be an IP address or a CIDR, (e.g. 10.9.8.7 or 2001:db8::/64)";
            errors.push(FieldError::invalid(path, cidr, detail));
        }
    }
    readable::<AccessListSpec>(list, "spec", errors);
}
