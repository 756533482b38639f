//! portolan.dev/v1alpha1 Token: what lets a machine join, or somebody in, as long as it lasts.
//!
//! The object holds a hash of the secret and never the secret: whoever reads the store, a backup of it or the API can
//! use none of them. Secrets are long and random, so a plain digest is enough; there is nothing to guess.

#[cfg(test)]
mod tests;

use super::document::{Document, Errors, items, object, text, texts};
use crate::field::FieldError;

/// What a token may be for.
const PURPOSES: [&str; 3] = ["Access", "EdgeJoin", "NodeJoin"];
const HASH: &str = "must be sha256: and 64 lower-case hexadecimal digits";
const NAME: &str = "must be 6 to 16 lower-case letters and digits";

/// Problems of a token's name, which is the part before the dot of what its holder shows.
pub(crate) fn name_problems(name: &str) -> Vec<String> {
    let fits = (6..=16).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits { Vec::new() } else { vec![NAME.to_owned()] }
}

pub(super) fn validate(old: Option<&Document>, token: &Document, errors: &mut Errors) {
    let nothing = Document::new();
    let spec = object(token, "spec").unwrap_or(&nothing);
    let purpose = text(spec, "purpose");
    if purpose.is_empty() {
        errors.required("spec.purpose", "");
    } else {
        errors.supported("spec.purpose", purpose, &PURPOSES);
    }
    match text(spec, "hash") {
        "" => errors.required("spec.hash", HASH),
        hash if !is_hash(hash) => errors.push(FieldError::invalid("spec.hash", hash, HASH)),
        _ => {}
    }
    match purpose {
        "NodeJoin" | "EdgeJoin" => {
            if text(spec, "expiresAt").is_empty() {
                errors.required("spec.expiresAt", "a token for joining must have an end");
            }
            for field in ["user", "groups"] {
                if spec.contains_key(field) {
                    let detail = "may only be specified when `purpose` is Access";
                    errors.push(FieldError::forbidden(format!("spec.{field}"), detail));
                }
            }
        }
        "Access" => {
            if text(spec, "user").is_empty() {
                errors.required("spec.user", "must be specified when `purpose` is Access");
            }
            for (index, group) in texts(spec, "groups").filter(|(_, group)| group.is_empty()) {
                errors.push(FieldError::invalid(format!("spec.groups[{index}]"), group, "must not be empty"));
            }
            if items(spec, "groups").len() > GROUPS_MAX {
                errors.push(FieldError::too_many("spec.groups", items(spec, "groups").len(), GROUPS_MAX));
            }
        }
        _ => {}
    }
    if let Some(before) = old.and_then(|old| object(old, "spec")) {
        for field in ["purpose", "hash", "user", "groups"] {
            if before.get(field) != spec.get(field) {
                let value = spec.get(field).cloned().unwrap_or_default();
                errors.push(FieldError::invalid(format!("spec.{field}"), value, "field is immutable"));
            }
        }
    }
}

/// Groups that one token may name.
const GROUPS_MAX: usize = 64;

fn is_hash(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or("");
    digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
