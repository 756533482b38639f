//! The kubeconfig that the server writes for its admin, and that others get with a token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The admin's.
pub fn admin(url: &str, ca_pem: &str, token: &str) -> Value {
    of(url, ca_pem, "admin", token)
}

/// A kubeconfig with one context, `portolan`, for the server at `url`, the certificate authority's PEM text, a user and
/// his token.
pub fn of(url: &str, ca_pem: &str, user: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "portolan",
        "clusters": [{
            "name": "portolan",
            "cluster": { "server": url, "certificate-authority-data": STANDARD.encode(ca_pem) },
        }],
        "contexts": [{ "name": "portolan", "context": { "cluster": "portolan", "user": user, "namespace": "default" } }],
        "users": [{ "name": user, "user": { "token": token } }],
    })
}
