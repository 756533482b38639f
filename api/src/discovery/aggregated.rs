//! `APIGroupDiscoveryList` of `apidiscovery.k8s.io`, v2 and v2beta1, which differ in their name alone.

use model::{Resource, Review};
use serde_json::{Map, Value, json};

use super::{GroupVersion, verbs};

/// The list over these versions, which are sorted by group.
pub fn list(versions: &[GroupVersion], api: &str) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for gv in versions {
        let version = json!({
            "version": gv.version,
            "resources": gv.resources().map(resource).chain(gv.reviews().map(review)).collect::<Vec<_>>(),
            "freshness": "Current",
        });
        let last = items.last_mut().filter(|item| item["metadata"]["name"].as_str().unwrap_or("") == gv.group);
        match last.and_then(|item| item["versions"].as_array_mut()) {
            Some(list) => list.push(version),
            None => {
                let mut metadata = Map::new();
                // The core group is one without a name.
                if !gv.group.is_empty() {
                    metadata.insert("name".to_owned(), gv.group.into());
                }
                metadata.insert("creationTimestamp".to_owned(), Value::Null);
                items.push(json!({ "metadata": metadata, "versions": [version] }));
            }
        }
    }
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{api}"),
        "metadata": {},
        "items": items,
    })
}

fn resource(resource: Resource) -> Value {
    let info = resource.info();
    let kind = json!({ "group": info.group, "version": info.version, "kind": info.kind });
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("resource", info.plural.into());
    put("responseKind", kind.clone());
    put("scope", if info.namespaced { "Namespaced" } else { "Cluster" }.into());
    put("singularResource", info.singular.into());
    put("verbs", verbs(resource, false).into());
    if !info.short_names.is_empty() {
        put("shortNames", info.short_names.into());
    }
    if !info.categories.is_empty() {
        put("categories", info.categories.into());
    }
    if info.status {
        let status = json!({ "subresource": "status", "responseKind": kind, "verbs": verbs(resource, true) });
        put("subresources", json!([status]));
    }
    Value::Object(out)
}

fn review(review: Review) -> Value {
    let info = review.info();
    json!({
        "resource": info.plural,
        "responseKind": { "group": info.group, "version": info.version, "kind": info.kind },
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": ["create"],
    })
}
