//! Discovery through the API; everything that is advertised is asked for.

use axum::body::Body;
use serde_json::json;

use crate::app::App;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

#[tokio::test]
async fn the_aggregated_form_is_told_by_its_content_type() {
    let app = App::new().await;
    let accept = format!("{V2},{V2BETA1},application/json");
    for path in ["/api?timeout=32s", "/apis?timeout=32s"] {
        let answer = app.get_as(path, &accept).await;
        assert_eq!(answer.header("Content-Type"), V2);
        assert_eq!(answer.json()["apiVersion"], "apidiscovery.k8s.io/v2");
        let old = app.get_as(path, &format!("{V2BETA1},application/json")).await;
        assert_eq!(old.header("Content-Type"), V2BETA1);
        assert_eq!(old.json()["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        let legacy = app.get_as(path, "application/json").await;
        assert_eq!(legacy.header("Content-Type"), "application/json");
        assert_eq!(legacy.header("Vary"), "Accept");
    }
}

#[tokio::test]
async fn a_client_that_has_it_gets_it_not_again() {
    let app = App::new().await;
    let first = app.get("/apis").await;
    let etag = first.header("ETag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'));
    let request = App::request("GET", "/apis").header("If-None-Match", &etag).body(Body::empty()).unwrap();
    let second = app.send(request).await;
    assert_eq!((second.code.as_u16(), second.body.len()), (304, 0));
    assert_eq!(second.header("ETag"), etag);
    let request = App::request("GET", "/apis").header("If-None-Match", "\"other\"").body(Body::empty()).unwrap();
    assert_eq!(app.send(request).await.code, 200);
}

#[tokio::test]
async fn every_advertised_resource_is_served() {
    let app = App::new().await;
    let mut roots = vec!["/api/v1".to_owned()];
    for group in app.get("/apis").await.json()["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        assert_eq!(app.get(&format!("/apis/{name}")).await.json()["kind"], "APIGroup");
        roots.push(format!("/apis/{}", group["preferredVersion"]["groupVersion"].as_str().unwrap()));
    }
    assert_eq!(roots.len(), 4);
    for root in roots {
        let list = app.get(&root).await.json();
        assert_eq!(list["kind"], "APIResourceList");
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            if !name.contains('/') {
                let answer = app.get(&format!("{root}/{name}")).await;
                assert_eq!(answer.code, 200, "{root}/{name}");
                assert_eq!(answer.json()["kind"], format!("{}List", resource["kind"].as_str().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn version_and_root() {
    let app = App::new().await;
    for path in ["/version", "/version/", "/version?timeout=5s"] {
        let value = app.get(path).await.json();
        assert_eq!(
            (&value["major"], &value["minor"], &value["gitVersion"]),
            (&json!("1"), &json!("32"), &json!("v1.32.0+portolan.0.1.0"))
        );
    }
    assert!(app.get("/").await.json()["paths"].as_array().unwrap().contains(&json!("/apis/discovery.k8s.io/v1")));
}
