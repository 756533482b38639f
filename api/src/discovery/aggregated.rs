//! `APIGroupDiscoveryList` of `apidiscovery.k8s.io`, v2 and v2beta1, which differ in their name alone.

use model::{Resource, Review};
use serde_json::{Map, Value, json};

use super::{GroupVersion, verbs};
use crate::routes::own::Subresource;
use crate::routes::{BINDINGS, Special};

/// The list over these versions, which are sorted by group.
pub fn list(versions: &[GroupVersion], api: &str) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for gv in versions {
        let version = json!({
            "version": gv.version,
            "resources":
                gv.resources().flat_map(rows).chain(gv.reviews().map(review)).chain(parents(*gv)).collect::<Vec<_>>(),
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

fn rows(this: Resource) -> Vec<Value> {
    match Special::of(this) {
        Some(Special::Binding) => vec![bindings(), resource(this)],
        _ => vec![resource(this)],
    }
}

/// `bindings`, which stands in the list without being a resource.
fn bindings() -> Value {
    json!({
        "resource": BINDINGS,
        "responseKind": response_kind(Special::Binding),
        "scope": "Namespaced",
        "singularResource": Special::Binding.name(),
        "verbs": [Special::Binding.action().verb()],
    })
}

fn response_kind(special: Special) -> Value {
    let kind = special.kind();
    json!({ "group": kind.group(), "version": kind.version(), "kind": kind.name() })
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
    let mut subresources = Vec::new();
    if let Some(special) = Special::of(resource) {
        subresources.push(json!({
            "subresource": special.name(),
            "responseKind": response_kind(special),
            "verbs": [special.action().verb()],
        }));
    }
    if info.status {
        subresources.push(json!({ "subresource": "status", "responseKind": kind, "verbs": verbs(resource, true) }));
    }
    if !subresources.is_empty() {
        put("subresources", subresources.into());
    }
    Value::Object(out)
}

/// Subresources under a resource that another group has. The row above them says so by having no verbs and an empty kind,
/// which is what clients pass over (client-go's `convertAPIResource`); the older ones want it to be there.
fn parents(gv: GroupVersion) -> Vec<Value> {
    let all = gv.subresources();
    all.chunk_by(|a, b| a.of == b.of)
        .filter_map(|subs| {
            let info = subs.first()?.of.info();
            let subresource = |sub: &Subresource| {
                json!({
                    "subresource": sub.name,
                    "responseKind": { "group": gv.group, "version": gv.version, "kind": sub.kind },
                    "verbs": sub.verbs,
                })
            };
            Some(json!({
                "resource": info.plural,
                "responseKind": { "group": "", "version": "", "kind": "" },
                "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": "",
                "verbs": [],
                "subresources": subs.iter().map(subresource).collect::<Vec<_>>(),
            }))
        })
        .collect()
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
