//! portolan.dev/v1alpha1 AddressPool: where load balancers get their addresses from.
//!
//! Whether pools overlap each other, or addresses in use leave one, is no question of the object alone: the writer asks
//! it of all of them (`store`).

use super::document::{
    Document, Errors, default_text, default_value, items, object, object_mut, readable, text, texts,
};
use super::rbac::label_selector;
use crate::field::FieldError;
use crate::syntax;
use crate::types::{AddressPoolSpec, AddressPoolStatus};

const ADDRESSES: &str = "spec.addresses";
/// CIDRs and ranges that one pool may have.
const ADDRESSES_MAX: usize = 64;
pub(super) const ADDRESS_TYPES: [&str; 2] = ["internet", "intranet"];

/// What a client may not say of a new pool goes, what it left out comes.
pub(super) fn create(pool: &mut Document) {
    pool.remove("status");
    default(pool);
}

pub(super) fn default(pool: &mut Document) {
    if let Some(spec) = object_mut(pool, "spec") {
        default_text(spec, "addressType", "internet");
        default_value(spec, "autoAssign", true);
    }
}

pub(super) fn validate(pool: &Document, errors: &mut Errors) {
    let nothing = Document::new();
    let spec = object(pool, "spec").unwrap_or(&nothing);
    match items(spec, "addresses").len() {
        0 => errors.required(ADDRESSES, "at least one CIDR or range required"),
        count if count > ADDRESSES_MAX => errors.push(FieldError::too_many(ADDRESSES, count, ADDRESSES_MAX)),
        _ => {}
    }
    for (index, part) in texts(spec, "addresses") {
        if let Err(detail) = range(part) {
            errors.push(FieldError::invalid(format!("{ADDRESSES}[{index}]"), part, detail));
        }
    }
    errors.supported("spec.addressType", text_or(spec, "addressType", "internet"), &ADDRESS_TYPES);
    for (index, namespace) in texts(spec, "namespaces") {
        errors.texts(&format!("spec.namespaces[{index}]"), namespace, syntax::dns1123_label(namespace));
    }
    for field in ["namespaceSelector", "serviceSelector"] {
        if let Some(selector) = object(spec, field) {
            label_selector(&format!("spec.{field}"), selector, errors);
        }
    }
    readable::<AddressPoolSpec>(pool, "spec", errors);
    readable::<AddressPoolStatus>(pool, "status", errors);
}

fn text_or<'a>(object: &'a Document, name: &str, default: &'a str) -> &'a str {
    match text(object, name) {
        "" => default,
        set => set,
    }
}

/// A CIDR, or `FIRST-LAST` of one family.
fn range(part: &str) -> Result<(), &'static str> {
    const FORM: &str = "must be a CIDR or a range of addresses, (e.g. 192.0.2.0/28 or 192.0.2.10-192.0.2.20)";
    if let Some(cidr) = syntax::parse_cidr(part) {
        let usable = !(cidr.address.is_loopback() || cidr.address.is_unspecified() || cidr.address.is_multicast());
        return usable.then_some(()).ok_or("must be addresses that machines can have");
    }
    let (first, last) = part.split_once('-').ok_or(FORM)?;
    let first = syntax::parse_ip(first.trim()).ok_or(FORM)?;
    let last = syntax::parse_ip(last.trim()).ok_or(FORM)?;
    if first.is_ipv4() != last.is_ipv4() {
        return Err("both ends must be of one family");
    }
    if first > last {
        return Err("the first address must not be behind the last");
    }
    if [first, last].iter().any(|a| a.is_loopback() || a.is_unspecified() || a.is_multicast()) {
        return Err("must be addresses that machines can have");
    }
    Ok(())
}
