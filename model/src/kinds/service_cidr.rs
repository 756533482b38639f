//! networking.k8s.io/v1 ServiceCIDR. Source: `pkg/apis/networking/validation/validation.go`.

use super::document::{Document, Errors, items, object, texts};
use crate::field::FieldError;
use crate::syntax;

const PATH: &str = "spec.cidrs";

pub(super) fn validate(old: Option<&Document>, object: &Document, errors: &mut Errors) {
    let new = cidrs(object);
    match old.map(cidrs) {
        None => content(object, &new, errors),
        // A second family may come; nothing else may change.
        Some(old) if old.len() == 1 && new.len() == 2 => {
            immutable(&old, &new, errors);
            content(object, &new, errors);
        }
        Some(old) if old.len() == new.len() => immutable(&old, &new, errors),
        Some(_) => errors.push(FieldError::invalid(PATH, new, "field is immutable")),
    }
}

fn cidrs(cidr: &Document) -> Vec<String> {
    object(cidr, "spec").map(|spec| texts(spec, "cidrs").map(|(_, text)| text.to_owned()).collect()).unwrap_or_default()
}

fn immutable(old: &[String], new: &[String], errors: &mut Errors) {
    for (index, (old, new)) in old.iter().zip(new).enumerate() {
        if old != new {
            errors.push(FieldError::invalid(format!("{PATH}[{index}]"), new.as_str(), "field is immutable"));
        }
    }
}

fn content(cidr: &Document, new: &[String], errors: &mut Errors) {
    let spec = cidr.get("spec").cloned().unwrap_or_default();
    let count = object(cidr, "spec").map_or(0, |spec| items(spec, "cidrs").len());
    if count == 0 {
        errors.required(PATH, "at least one CIDR required");
        return;
    }
    if count > 2 {
        errors.push(FieldError::invalid(PATH, spec, "may only hold up to 2 values"));
        return;
    }
    let families: Vec<_> = new.iter().filter_map(|c| syntax::parse_cidr(c)).map(|c| c.address.is_ipv4()).collect();
    if count == 2 && !matches!(families.as_slice(), [true, false] | [false, true]) {
        let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(PATH, spec, text));
        return;
    }
    for (index, cidr) in new.iter().enumerate() {
        errors.texts(&format!("{PATH}[{index}]"), cidr, syntax::canonical_cidr_problems(cidr));
    }
}
