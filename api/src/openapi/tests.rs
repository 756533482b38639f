//! The documents against the table of routes, and against themselves.

use std::collections::BTreeSet;

use super::*;
use crate::routes;

type Lines = BTreeSet<String>;

/// `get /api/v1/nodes` for every operation of a document.
fn lines(document: &Value) -> Lines {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| {
        item.as_object().unwrap().keys().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

fn table() -> Lines {
    let resources = routes::all().into_iter().map(|r| format!("{} {}", r.action.method(), r.path));
    let reviews = Review::ALL.into_iter().map(|r| format!("POST {}", routes::review_path(r)));
    let own = Own::ALL.into_iter().map(|own| format!("{} {}", own.method(), own.path()));
    resources.chain(reviews).chain(own).map(lower).collect()
}

fn lower(line: String) -> String {
    let (method, path) = line.split_once(' ').unwrap();
    format!("{} {path}", method.to_ascii_lowercase())
}

fn pages() -> Lines {
    Page::all().into_iter().map(|page| format!("get {}", page.path())).collect()
}

#[test]
fn every_document_tells_of_the_same_routes() {
    let third: Lines = GroupVersion::all().into_iter().flat_map(|gv| lines(&v3::render(gv, "v0"))).collect();
    assert_eq!(third, table(), "/openapi/v3");
    assert_eq!(lines(&v2::render("v0")), table(), "/openapi/v2");
    let everything: Lines = table().union(&pages()).cloned().collect();
    assert_eq!(lines(&whole::render("v0")), everything, "/openapi.json");
}

#[test]
fn a_version_has_its_own_paths_and_no_others() {
    for gv in GroupVersion::all() {
        let root = format!(" /{}/", gv.path());
        for line in lines(&v3::render(gv, "v0")) {
            assert!(line.contains(&root), "{line} in the document of {}", gv.path());
        }
    }
}

/// A `$ref` without its schema breaks `kubectl explain` and every generator.
#[test]
fn every_reference_leads_somewhere() {
    let mut documents: Vec<(String, Value)> =
        GroupVersion::all().into_iter().map(|gv| (gv.path(), v3::render(gv, "v0"))).collect();
    documents.push(("v2".to_owned(), v2::render("v0")));
    documents.push(("whole".to_owned(), whole::render("v0")));
    for (name, document) in documents {
        let mut found = 0;
        references(&document, &mut |reference| {
            found += 1;
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{name}: {reference} leads nowhere");
        });
        assert!(found > 10, "{name} has {found} references");
    }
}

fn references(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                visit(reference);
            }
            map.values().for_each(|v| references(v, visit));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, visit)),
        _ => {}
    }
}

#[test]
fn the_patch_of_a_kind_says_that_the_server_validates() {
    let document = v3::render(GroupVersion { group: "", version: "v1" }, "v0");
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Service"}));
    let parameters = patch["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"));
    let types: Vec<&String> = patch["requestBody"]["content"].as_object().unwrap().keys().collect();
    assert!(types.contains(&&"application/strategic-merge-patch+json".to_owned()));
}

/// Nothing of a schema gets lost on its way through utoipa's types but what 3.1 spells otherwise.
#[test]
fn the_whole_document_has_the_schemas_as_they_are() {
    let document = whole::render("v0");
    for (name, expected) in model::schema::openapi_schemas(Kind::all()) {
        let mut expected = expected;
        respell(&mut expected);
        whole::name_kind(&mut expected);
        assert_eq!(document["components"]["schemas"][&name], expected, "{name}");
    }
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["components"]["securitySchemes"]["BearerToken"]["scheme"], "bearer");
    assert_eq!(document["paths"]["/livez"]["get"]["security"], json!([{}]));
}

/// 3.0 to 3.1, the other way of telling it than [`whole`]'s.
fn respell(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(all) = map.remove("allOf") {
                map.insert("$ref".to_owned(), all[0]["$ref"].clone());
            }
            if map.contains_key("oneOf") {
                map.remove("format");
            }
            map.values_mut().for_each(respell);
        }
        Value::Array(items) => items.iter_mut().for_each(respell),
        _ => {}
    }
}
