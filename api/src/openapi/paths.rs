//! The `paths` of an OpenAPI document: every route as an operation.

use model::{Resource, ResourceInfo};
use serde_json::{Map, Value, json};

use crate::actions::PATCH_CONTENT_TYPES;
use crate::negotiate::{JSON, YAML};
use crate::routes::{self, Action, Route, Scope};

/// The paths of these resources.
pub fn of(resources: &[Resource]) -> Map<String, Value> {
    let mut paths: Map<String, Value> = Map::new();
    for route in resources.iter().flat_map(|resource| routes::of(*resource)) {
        let method = route.action.method().as_str().to_ascii_lowercase();
        let item = paths.entry(route.path.clone()).or_insert_with(|| json!({ "parameters": path_parameters(&route) }));
        if let Some(item) = item.as_object_mut() {
            item.insert(method, operation(&route));
        }
    }
    paths
}

fn operation(route: &Route) -> Value {
    let info = route.resource.info();
    let mut operation = Map::new();
    let mut put = |name: &str, value: Value| operation.insert(name.to_owned(), value);
    put("operationId", operation_id(route, info).into());
    put("description", description(route, info).into());
    put("tags", json!([tag(info)]));
    put("parameters", query_parameters(route.action).into());
    if let Some(body) = request_body(route, info) {
        put("requestBody", body);
    }
    put("responses", responses(route, info));
    // kubectl finds the operations of a kind by these two.
    put("x-kubernetes-action", x_action(route.action).into());
    put("x-kubernetes-group-version-kind", json!({ "group": info.group, "version": info.version, "kind": info.kind }));
    Value::Object(operation)
}

/// The component name of a kind: `io.k8s.api.core.v1.Service`.
fn schema_name(info: &ResourceInfo) -> String {
    let group = match info.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("io.k8s.api.{group}.{}.{}", info.version, info.kind)
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(types: &[&str], schema: &Value) -> Value {
    Value::Object(types.iter().map(|t| ((*t).to_owned(), json!({ "schema": schema }))).collect())
}

fn request_body(route: &Route, info: &ResourceInfo) -> Option<Value> {
    match route.action {
        Action::Create | Action::Update => {
            Some(json!({ "required": true, "content": content(&[JSON, YAML], &reference(&schema_name(info))) }))
        }
        Action::Patch => {
            let patch = json!({ "type": "object", "description": "A patch, as its content type says." });
            Some(json!({ "required": true, "content": content(&PATCH_CONTENT_TYPES, &patch) }))
        }
        Action::Delete | Action::DeleteCollection => {
            let options = json!({ "type": "object", "description": "DeleteOptions." });
            Some(json!({ "content": content(&[JSON, YAML], &options) }))
        }
        Action::Get | Action::List => None,
    }
}

fn responses(route: &Route, info: &ResourceInfo) -> Value {
    let name = schema_name(info);
    let object =
        |text: &str, name: &str| json!({ "description": text, "content": content(&[JSON, YAML], &reference(name)) });
    let mut out = Map::new();
    match route.action {
        Action::Create => out.insert("201".to_owned(), object("Created", &name)),
        Action::List | Action::DeleteCollection => out.insert("200".to_owned(), object("OK", &format!("{name}List"))),
        Action::Get | Action::Patch | Action::Update => out.insert("200".to_owned(), object("OK", &name)),
        Action::Delete => out.insert("200".to_owned(), json!({ "description": "OK" })),
    };
    if route.action == Action::Update && info.create_on_update {
        out.insert("201".to_owned(), object("Created", &name));
    }
    out.insert("default".to_owned(), json!({ "description": "A Status that says what is wrong." }));
    Value::Object(out)
}

fn path_parameters(route: &Route) -> Value {
    let mut parameters = Vec::new();
    if route.named() {
        parameters.push(parameter("name", "path", "string", "Name of the object."));
    }
    if route.scope == Scope::Namespace {
        parameters.push(parameter("namespace", "path", "string", "Namespace of the object."));
    }
    parameters.push(parameter("pretty", "query", "string", "If 'true', JSON is indented."));
    parameters.into()
}

fn query_parameters(action: Action) -> Vec<Value> {
    let query = |name, type_, text| parameter(name, "query", type_, text);
    let dry_run = || query("dryRun", "string", "All: do everything but store.");
    let selection = || {
        vec![
            query("fieldSelector", "string", "Fields that the objects must have."),
            query("labelSelector", "string", "Labels that the objects must have."),
            query("limit", "integer", "Accepted; every list is whole."),
            query("resourceVersion", "string", "The least revision of the answer; for a watch, where it begins."),
            query("resourceVersionMatch", "string", "NotOlderThan or Exact."),
            query("timeoutSeconds", "integer", "How long a watch lasts."),
        ]
    };
    match action {
        Action::Create | Action::Update | Action::Patch => vec![
            dry_run(),
            query("fieldManager", "string", "Who makes the change."),
            query("fieldValidation", "string", "Strict, Warn or Ignore: what unknown and duplicate fields lead to."),
        ],
        Action::Delete => delete_parameters(dry_run()),
        Action::DeleteCollection => {
            let mut all = selection();
            all.extend(delete_parameters(dry_run()));
            all
        }
        Action::Get => vec![query("resourceVersion", "string", "The least revision of the answer.")],
        Action::List => {
            let mut all = selection();
            all.extend([
                query("watch", "boolean", "Stream changes instead of listing."),
                query("allowWatchBookmarks", "boolean", "Let the stream tell how far it has come."),
                query("sendInitialEvents", "boolean", "Begin the stream with the objects that there are."),
            ]);
            all
        }
    }
}

fn delete_parameters(dry_run: Value) -> Vec<Value> {
    vec![
        dry_run,
        parameter("gracePeriodSeconds", "query", "integer", "How long a pod may take to end."),
        parameter("propagationPolicy", "query", "string", "Background, Foreground or Orphan."),
    ]
}

fn parameter(name: &str, place: &str, type_: &str, description: &str) -> Value {
    let mut parameter = json!({ "name": name, "in": place, "description": description, "schema": { "type": type_ } });
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

fn x_action(action: Action) -> &'static str {
    match action {
        Action::Create => "post",
        Action::Update => "put",
        other => other.verb(),
    }
}

/// `core_v1`, `discovery_v1`: how Kubernetes tags operations.
fn tag(info: &ResourceInfo) -> String {
    let group = if info.group.is_empty() { "core" } else { info.group.split('.').next().unwrap_or("") };
    format!("{group}_{}", info.version)
}

/// Unique in all documents, and the name of the method in a generated client: `createCoreV1NamespacedService`.
fn operation_id(route: &Route, info: &ResourceInfo) -> String {
    let verb = match route.action {
        Action::Create => "create",
        Action::Delete => "delete",
        Action::DeleteCollection => "deleteCollection",
        Action::Get => "read",
        Action::List => "list",
        Action::Patch => "patch",
        Action::Update => "replace",
    };
    let group: String = tag(info).split('_').map(capitalized).collect();
    let scope = if route.scope == Scope::Namespace { "Namespaced" } else { "" };
    let rest = match (route.scope, route.status) {
        (Scope::AllNamespaces, _) => "ForAllNamespaces",
        (_, true) => "Status",
        _ => "",
    };
    format!("{verb}{group}{scope}{}{rest}", info.kind)
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn description(route: &Route, info: &ResourceInfo) -> String {
    let what = if route.status { format!("the status of a {}", info.kind) } else { format!("a {}", info.kind) };
    match route.action {
        Action::Create => format!("Create {what}."),
        Action::Delete => format!("Delete {what}."),
        Action::DeleteCollection => format!("Delete every {} that the selectors match.", info.kind),
        Action::Get => format!("Read {what}."),
        Action::List => format!("List or watch objects of kind {}.", info.kind),
        Action::Patch => format!("Change parts of {what}."),
        Action::Update => format!("Replace {what}."),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut seen = BTreeSet::new();
        for route in routes::all() {
            let id = operation_id(&route, route.resource.info());
            assert!(seen.insert(id.clone()), "{id} stands twice");
        }
        assert!(seen.contains("replaceDiscoveryV1NamespacedEndpointSlice"));
        assert!(seen.contains("listCoreV1ServiceForAllNamespaces"));
        assert!(seen.contains("patchCoreV1NamespaceStatus"));
    }

    #[test]
    fn the_patch_of_a_kind_says_that_the_server_validates() {
        let paths = of(&[Resource::Services]);
        let patch = &paths["/api/v1/namespaces/{namespace}/services/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Service"}));
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"));
        let types: Vec<&String> = patch["requestBody"]["content"].as_object().unwrap().keys().collect();
        assert!(types.contains(&&"application/strategic-merge-patch+json".to_owned()));
    }
}
