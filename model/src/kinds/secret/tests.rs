use serde_json::{Value, json};

use crate::admission::Subresource;
use crate::kinds::document::{Document, Errors};
use crate::resource::Resource;

fn document(value: Value) -> Document {
    value.as_object().cloned().unwrap_or_default()
}

fn problems(old: Option<Value>, mut new: Document) -> Vec<String> {
    let mut errors = Errors::default();
    super::default(&mut new);
    let old = old.map(document);
    crate::kinds::validate(Resource::Secrets, Subresource::None, old.as_ref(), &new, &mut errors);
    errors.0.iter().map(|error| format!("{}: {}", error.path, error.message())).collect()
}

#[test]
fn string_data_becomes_data() {
    let mut secret = document(json!({ "data": { "a": "eA==", "b": "eA==" }, "stringData": { "b": "yz" } }));
    super::default(&mut secret);
    assert_eq!(Value::Object(secret), json!({ "type": "Opaque", "data": { "a": "eA==", "b": "eXo=" } }));
}

#[test]
fn what_a_type_needs() {
    let of = |type_: &str, data: Value| problems(None, document(json!({ "type": type_, "data": data })));
    assert_eq!(
        of("kubernetes.io/tls", json!({ "tls.crt": "eA==" })),
        ["data[tls.key]: Required value"],
        "a certificate needs its key"
    );
    assert!(of("kubernetes.io/tls", json!({ "tls.crt": "eA==", "tls.key": "" })).is_empty());
    assert!(of("kubernetes.io/basic-auth", json!({ "username": "eA==" })).is_empty());
    assert_eq!(of("kubernetes.io/basic-auth", json!({})), ["data[password]: Required value"]);
}

#[test]
fn a_secret_that_is_no_base64_is_refused_and_not_repeated() {
    let wrong = problems(None, document(json!({ "data": { "a": "hunter2!" } })));
    assert_eq!(wrong, ["data[a]: Invalid value: \"…\": must be base64 (RFC 4648)"]);
}

#[test]
fn an_immutable_secret_stays() {
    let old = json!({ "type": "Opaque", "data": { "a": "eA==" }, "immutable": true });
    let new = document(json!({ "type": "kubernetes.io/tls", "data": { "tls.crt": "", "tls.key": "" } }));
    let wrong = problems(Some(old), new);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}
