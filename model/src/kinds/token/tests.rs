use expect_test::expect;
use serde_json::{Value, json};

use crate::admission::Subresource;
use crate::admission::tests::{create, refused, update};
use crate::resource::Resource;

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn token(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn joining() -> Value {
    token("k3x9qa", json!({ "purpose": "NodeJoin", "hash": HASH, "expiresAt": "2026-01-01T00:00:00Z" }))
}

#[test]
fn what_a_token_must_say() {
    assert!(create(Resource::Tokens, joining()).is_ok());
    let access = json!({ "purpose": "Access", "hash": HASH, "user": "alice", "groups": ["devs"] });
    assert!(create(Resource::Tokens, token("k3x9qa", access)).is_ok());
    let wrong: String = [
        token("K3", json!({})),
        token("k3x9qa", json!({ "purpose": "NodeJoin", "hash": "sha256:abc", "user": "alice", "groups": [] })),
        token("k3x9qa", json!({ "purpose": "Access", "hash": HASH.to_uppercase(), "groups": [""] })),
        token("k3x9qa", json!({ "purpose": "Everything", "hash": HASH })),
    ]
    .into_iter()
    .map(|token| refused(Resource::Tokens, token))
    .collect();
    expect![[r#"
        metadata.name: Invalid value: "K3": must be 6 to 16 lower-case letters and digits
        spec.purpose: Required value
        spec.hash: Required value: must be sha256: and 64 lower-case hexadecimal digits
        spec.hash: Invalid value: "sha256:abc": must be sha256: and 64 lower-case hexadecimal digits
        spec.expiresAt: Required value: a token for joining must have an end
        spec.user: Forbidden: may only be specified when `purpose` is Access
        spec.hash: Invalid value: "SHA256:9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08": must be sha256: and 64 lower-case hexadecimal digits
        spec.user: Required value: must be specified when `purpose` is Access
        spec.groups[0]: Invalid value: "": must not be empty
        spec.purpose: Unsupported value: "Everything": supported values: "Access", "EdgeJoin", "NodeJoin"
    "#]].assert_eq(&wrong);
}

#[test]
fn only_the_end_and_the_description_change() {
    let old = create(Resource::Tokens, joining()).expect("a Token");
    let mut new = old.clone();
    new["spec"]["expiresAt"] = "2027-01-01T00:00:00Z".into();
    new["spec"]["description"] = "the east hall".into();
    assert!(update(Resource::Tokens, Subresource::None, &old, new.clone()).is_ok());
    new["spec"]["hash"] = HASH.replace('9', "8").into();
    new["spec"]["purpose"] = "Access".into();
    new["spec"]["user"] = "alice".into();
    let wrong = update(Resource::Tokens, Subresource::None, &old, new).expect_err("must be refused");
    expect![[r#"
        spec.purpose: Invalid value: "Access": field is immutable
        spec.hash: Invalid value: "sha256:8f86d081884c7d658a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08": field is immutable
        spec.user: Invalid value: "alice": field is immutable
    "#]].assert_eq(&wrong);
}
