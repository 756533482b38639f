//! `APIVersions`, `APIGroupList`, `APIGroup` and `APIResourceList`.

use model::{Resource, ResourceInfo, Review};
use serde_json::{Map, Value, json};

use super::{GroupVersion, verbs};
use crate::routes::{BINDINGS, Special};

/// `/api`. The address list is left empty: a client keeps the address that it came by.
pub fn versions(core: &[GroupVersion]) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": core.iter().map(|gv| gv.version).collect::<Vec<_>>(),
        "serverAddressByClientCIDRs": [],
    })
}

/// `/apis`.
pub fn groups(versions: &[GroupVersion]) -> Value {
    let mut names: Vec<&str> = versions.iter().map(|gv| gv.group).collect();
    names.dedup();
    let groups: Vec<Value> = names.into_iter().map(|name| group(name, versions, false)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/{group}`, or one entry of `/apis`, which carries no kind.
pub fn group(name: &str, versions: &[GroupVersion], with_kind: bool) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .filter(|gv| gv.group == name)
        .map(|gv| json!({ "groupVersion": gv.api_version(), "version": gv.version }))
        .collect();
    let mut out = Map::new();
    if with_kind {
        out.insert("kind".to_owned(), "APIGroup".into());
        out.insert("apiVersion".to_owned(), "v1".into());
    }
    out.insert("name".to_owned(), name.into());
    out.insert("preferredVersion".to_owned(), versions.first().cloned().unwrap_or_default());
    out.insert("versions".to_owned(), versions.into());
    Value::Object(out)
}

/// `/api/v1` or `/apis/{group}/{version}`.
pub fn resources(gv: GroupVersion) -> Value {
    let mut list = Vec::new();
    for resource in gv.resources() {
        let info = resource.info();
        let special = Special::of(resource);
        if special == Some(Special::Binding) {
            list.push(special_row(Special::Binding, BINDINGS.to_owned(), "binding"));
        }
        list.push(row(resource, info, info.plural.to_owned(), false));
        if let Some(special) = special {
            list.push(special_row(special, format!("{}/{}", info.plural, special.name()), ""));
        }
        if info.status {
            list.push(row(resource, info, format!("{}/status", info.plural), true));
        }
    }
    for review in gv.reviews().map(Review::info) {
        list.push(json!({
            "name": review.plural,
            "singularName": review.singular,
            "namespaced": review.namespaced,
            "kind": review.kind,
            "verbs": ["create"],
        }));
    }
    for sub in gv.subresources() {
        list.push(json!({
            "name": format!("{}/{}", sub.of, sub.name),
            "singularName": "",
            "namespaced": sub.of.info().namespaced,
            "kind": sub.kind,
            "verbs": sub.verbs,
        }));
    }
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv.api_version(), "resources": list })
}

/// Both are namespaced exactly if what they are about is.
fn special_row(special: Special, name: String, singular: &str) -> Value {
    let mut row = json!({
        "name": name,
        "singularName": singular,
        "namespaced": special != Special::Finalize,
        "kind": special.kind().name(),
        "verbs": [special.action().verb()],
    });
    // Said only where it is another than the list's.
    if special == Special::Token {
        row["group"] = special.kind().group().into();
        row["version"] = special.kind().version().into();
    }
    row
}

fn row(resource: Resource, info: &ResourceInfo, name: String, status: bool) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("name", name.into());
    put("singularName", if status { "" } else { info.singular }.into());
    put("namespaced", info.namespaced.into());
    put("kind", info.kind.into());
    put("verbs", verbs(resource, status).into());
    if !status && !info.short_names.is_empty() {
        put("shortNames", info.short_names.into());
    }
    if !status && !info.categories.is_empty() {
        put("categories", info.categories.into());
    }
    Value::Object(out)
}
