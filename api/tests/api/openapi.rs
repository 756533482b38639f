//! OpenAPI documents and their caching.

use serde_json::Value;

use crate::app::App;

#[tokio::test]
async fn the_index_leads_to_documents_that_may_be_kept() {
    let app = App::new().await;
    let index = app.get("/openapi/v3?timeout=32s").await.json();
    let paths = index["paths"].as_object().unwrap();
    let names: Vec<&String> = paths.keys().collect();
    assert_eq!(
        names,
        [
            "api/v1",
            "apis/coordination.k8s.io/v1",
            "apis/discovery.k8s.io/v1",
            "apis/events.k8s.io/v1",
            "apis/networking.k8s.io/v1"
        ]
    );
    for (name, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let answer = app.get(&format!("{url}&timeout=32s")).await;
        assert_eq!(answer.code, 200);
        assert!(answer.header("Cache-Control").contains("immutable"));
        assert_eq!(answer.json()["openapi"], "3.0.0");

        let wrong = app.get(&format!("/openapi/v3/{name}?hash=0")).await;
        assert_eq!((wrong.code.as_u16(), wrong.header("Location")), (301, url));
        let none = app.get(&format!("/openapi/v3/{name}")).await;
        assert!(none.header("Cache-Control").contains("no-cache"));
    }
    assert_eq!(app.get("/openapi/v3/apis/apps/v1").await.code, 404);
    assert_eq!(app.get("/openapi/v2").await.status(), "404 NotFound: the server could not find the requested resource");
}

/// A `$ref` without its schema breaks `kubectl explain` and every generator.
#[tokio::test]
async fn every_reference_leads_somewhere() {
    let app = App::new().await;
    for path in ["api/v1", "apis/coordination.k8s.io/v1", "apis/discovery.k8s.io/v1", "apis/networking.k8s.io/v1"] {
        let document = app.get(&format!("/openapi/v3/{path}")).await.json();
        let mut found = 0;
        references(&document, &mut |reference| {
            found += 1;
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{path}: {reference} leads nowhere");
        });
        assert!(found > 10, "{path} has {found} references");
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
