//! Portolan's own kinds, in the words of the definitions that Kubernetes' kinds have. What may stand in a field beyond
//! its type is decided in `src/kinds`.

use serde_json::{Map, Value, json};

use crate::definitions::REFERENCE;

/// Before the name of a kind, as the names of custom resources' definitions are made.
const PREFIX: &str = "dev.portolan.v1alpha1.";

/// The reference to an own kind's definition.
pub fn reference(kind: &str) -> String {
    format!("{REFERENCE}{PREFIX}{kind}")
}

/// Every own definition by its name.
pub fn definitions() -> Map<String, Value> {
    let mut all = Map::new();
    all.insert(format!("{PREFIX}Token"), token());
    all.insert(format!("{PREFIX}TokenSpec"), token_spec());
    all
}

fn text(description: &str) -> Value {
    json!({ "description": description, "type": "string" })
}

fn token() -> Value {
    let meta = format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    json!({
        "description": "Token lets its holder in: a machine that wants to join, or somebody who asks as a certain user. \
    The holder shows `NAME.SECRET`, where NAME is the name of this object and SECRET is what its hash was made from; the \
    secret itself is stored nowhere. A token that is deleted opens nothing any more.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": text("Version of this representation, `portolan.dev/v1alpha1`."),
            "kind": text("`Token`."),
            "metadata": {
                "description": "The name is 6 to 16 lower-case letters and digits.",
                "allOf": [{ "$ref": meta }],
            },
            "spec": {
                "description": "What the token is for, and how it is known. Only description and expiresAt may be changed.",
                "allOf": [{ "$ref": reference("TokenSpec") }],
            },
        },
    })
}

fn token_spec() -> Value {
    let time = format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.Time");
    json!({
        "description": "TokenSpec says what a token is for, and how it is known.",
        "type": "object",
        "required": ["hash", "purpose"],
        "properties": {
            "description": text("What people want to remember of it."),
            "expiresAt": {
                "description": "When it ends. A NodeJoin token must have an end; an Access token without one holds until \
    it is deleted.",
                "allOf": [{ "$ref": time }],
            },
            "groups": {
                "description": "Access only: groups that the holder is in, beside system:authenticated.",
                "type": "array",
                "items": { "type": "string" },
            },
            "hash": text("`sha256:` and the SHA-256 of the secret as 64 lower-case hexadecimal digits."),
            "purpose": text("`NodeJoin`: its holder may get a certificate for a node, and nothing else. `Access`: its \
    holder asks as `user`."),
            "user": text("Access only, and required there: the name that the holder asks by."),
        },
    })
}
