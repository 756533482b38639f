//! core/v1 Secret. Source: `pkg/apis/core/validation/validation.go` (ValidateSecret, ValidateSecretUpdate),
//! `pkg/apis/core/v1/conversion.go` (stringData).

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::document::{Document, Errors, default_text, flag, object, object_mut, text};
use crate::field::FieldError;

/// Bytes of all values together.
const DATA_MAX: usize = 1 << 20;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";
const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
    'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const KEY_MAX: usize = 253;

/// What `stringData` says is put into `data`, encoded, and goes.
pub(super) fn default(secret: &mut Document) {
    default_text(secret, "type", "Opaque");
    let Some(Value::Object(texts)) = secret.remove("stringData") else { return };
    if let Some(data) = object_mut(secret, "data") {
        for (key, value) in texts {
            data.insert(key, STANDARD.encode(value.as_str().unwrap_or("")).into());
        }
    }
}

pub(super) fn validate(old: Option<&Document>, secret: &Document, errors: &mut Errors) {
    let nothing = Document::new();
    let data = object(secret, "data").unwrap_or(&nothing);
    let mut size = 0;
    for (key, value) in data {
        let path = format!("data[{key}]");
        key_problems(&path, key, errors);
        match STANDARD.decode(value.as_str().unwrap_or("")) {
            Ok(bytes) => size += bytes.len(),
            // A secret is not repeated in an error.
            Err(_) => errors.push(FieldError::invalid(path, "…", "must be base64 (RFC 4648)")),
        }
    }
    if size > DATA_MAX {
        errors.push(FieldError::too_long("data", DATA_MAX));
    }
    content(secret, data, errors);
    let Some(old) = old else { return };
    if text(old, "type") != text(secret, "type") {
        errors.push(FieldError::invalid("type", text(secret, "type"), "field is immutable"));
    }
    if flag(old, "immutable") {
        if !flag(secret, "immutable") {
            errors.push(FieldError::forbidden("immutable", IMMUTABLE));
        }
        if object(old, "data").unwrap_or(&nothing) != data {
            errors.push(FieldError::forbidden("data", IMMUTABLE));
        }
    }
}

fn key_problems(path: &str, key: &str, errors: &mut Errors) {
    let fits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if key.len() > KEY_MAX {
        errors.push(FieldError::invalid(path, key, crate::syntax::max_length(KEY_MAX)));
    }
    if !fits {
        errors.push(FieldError::invalid(path, key, KEY));
    }
    if key == "." || key == ".." || key.starts_with("..") {
        errors.push(FieldError::invalid(path, key, "may not start with '..', nor be '.'"));
    }
}

/// What a type needs.
fn content(secret: &Document, data: &Document, errors: &mut Errors) {
    let mut needs = |key: &str| {
        if !data.contains_key(key) {
            errors.required(format!("data[{key}]"), "");
        }
    };
    match text(secret, "type") {
        "kubernetes.io/tls" => {
            needs("tls.crt");
            needs("tls.key");
        }
        "kubernetes.io/ssh-auth" => needs("ssh-privatekey"),
        "kubernetes.io/dockercfg" => needs(".dockercfg"),
        "kubernetes.io/dockerconfigjson" => needs(".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !data.contains_key("username") => needs("password"),
        "kubernetes.io/service-account-token" => {
            let named = object(secret, "metadata")
                .and_then(|meta| object(meta, "annotations"))
                .is_some_and(|all| !text(all, "kubernetes.io/service-account.name").is_empty());
            if !named {
                errors.required("metadata.annotations[kubernetes.io/service-account.name]", "");
            }
        }
        _ => {}
    }
}
