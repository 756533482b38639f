//! The kubeconfig that the server writes for its admin.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A kubeconfig with one context, `portolan`, for the server at `url`, the certificate authority's PEM text and a token.
pub fn admin(url: &str, ca_pem: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "portolan",
        "clusters": [{
            "name": "portolan",
            "cluster": { "server": url, "certificate-authority-data": STANDARD.encode(ca_pem) },
        }],
        "contexts": [{ "name": "portolan", "context": { "cluster": "portolan", "user": "admin", "namespace": "default" } }],
        "users": [{ "name": "admin", "user": { "token": token } }],
    })
}
