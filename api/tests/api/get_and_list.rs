//! Reading through the API.

use expect_test::expect;
use serde_json::{Value, json};

use crate::app::{Answer, App, SERVICES};

fn names(answer: &Answer) -> String {
    let value = answer.json();
    let items = value["items"].as_array().unwrap_or_else(|| panic!("{value}"));
    items.iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn lists_are_in_order_and_carry_a_revision() {
    let app = App::new().await;
    let empty = app.get(SERVICES).await;
    let revision = app.store.revision();
    assert_eq!(
        empty.json(),
        json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": revision.to_string()}, "items": []})
    );
    for name in ["b", "a", "c"] {
        app.service(name, json!({"name": name})).await;
    }
    assert_eq!(names(&app.get(&format!("{SERVICES}?limit=2")).await), "a b");
    assert_eq!(names(&app.get("/api/v1/services").await), "a b c");
    assert_eq!(names(&app.get("/api/v1/namespaces/kube-system/services").await), "");
    assert_eq!(names(&app.get(&format!("{SERVICES}?labelSelector=name+in+(a,c)")).await), "a c");
    assert_eq!(names(&app.get(&format!("{SERVICES}?fieldSelector=metadata.name%3Db")).await), "b");
    assert_eq!(
        names(&app.get(&format!("{SERVICES}?labelSelector=name!%3Da&fieldSelector=spec.type%3DClusterIP")).await),
        "b c"
    );
}

#[tokio::test]
async fn bad_options_of_a_list() {
    let app = App::new().await;
    let mut lines = Vec::new();
    for query in
        ["labelSelector=a+in+b", "fieldSelector=spec.color%3Dred", "resourceVersion=99999", "continue=abc", "limit=x"]
    {
        lines.push(app.get(&format!("{SERVICES}?{query}")).await.status());
    }
    lines.push(app.get(&format!("{SERVICES}/web?resourceVersion=99999")).await.status());
    expect![[r#"
        400 BadRequest: unable to parse requirement: found 'b' expected: '('
        400 BadRequest: field label not supported: spec.color
        504 Timeout: Timeout: Too large resource version: 99999, current: 5
        400 BadRequest: invalid continue token: continue key is not valid: expected value at line 1 column 1
        400 BadRequest: strconv.ParseInt: parsing "x": invalid syntax
        504 Timeout: Timeout: Too large resource version: 99999, current: 5"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn metadata_alone_can_be_had() {
    let app = App::new().await;
    app.service("web", json!({"a": "b"})).await;
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = app.get_as(SERVICES, accept).await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(list["items"][0].get("spec"), None);
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let object = app.get_as(&format!("{SERVICES}/web"), accept).await.json();
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1")));
}

#[tokio::test]
async fn people_get_indented_lists() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let request = App::request("GET", SERVICES).header("User-Agent", "curl/8").body(axum::body::Body::empty()).unwrap();
    let text = app.send(request).await.text();
    assert!(text.starts_with("{\n  \"kind\": \"ServiceList\",\n"), "{text}");
    let compact: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(compact, app.get(SERVICES).await.json());
}

#[tokio::test]
async fn what_is_not_there() {
    let app = App::new().await;
    let mut lines = Vec::new();
    for path in [
        "/api/v1/namespaces/default/services/nope",
        "/api/v1/namespaces/nope",
        "/nope",
        "/api/v1/configmaps",
        "/api/v2",
        "/apis/apps/v1",
    ] {
        lines.push(format!("{path}\n    {}", app.get(path).await.status()));
    }
    for (method, path) in
        [("POST", "/api/v1/services"), ("DELETE", "/api/v1/namespaces"), ("PUT", SERVICES), ("POST", "/version")]
    {
        let answer = app.with_body(method, path, "application/json", "{}").await;
        lines.push(format!("{method} {path}\n    {}", answer.status()));
    }
    expect![[r#"
        /api/v1/namespaces/default/services/nope
            404 NotFound: services "nope" not found
        /api/v1/namespaces/nope
            404 NotFound: namespaces "nope" not found
        /nope
            404 NotFound: the server could not find the requested resource
        /api/v1/configmaps
            404 NotFound: the server could not find the requested resource
        /api/v2
            404 NotFound: the server could not find the requested resource
        /apis/apps/v1
            404 NotFound: the server could not find the requested resource
        POST /api/v1/services
            405 MethodNotAllowed: create is not supported on resources of kind "services"
        DELETE /api/v1/namespaces
            405 MethodNotAllowed: deletecollection is not supported on resources of kind "namespaces"
        PUT /api/v1/namespaces/default/services
            405 MethodNotAllowed: update is not supported on resources of kind "services"
        POST /version
            405 MethodNotAllowed: the server does not allow this method on the requested resource"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn large_lists_are_compressed_on_request() {
    let app = App::new().await;
    for n in 0..15 {
        let annotations = json!({"padding": "0123456789".repeat(1000)});
        let node = json!({"metadata": {"name": format!("n{n:02}"), "annotations": annotations}});
        assert_eq!(app.post("/api/v1/nodes", &node).await.code, 201);
    }
    let ask = async |path: &str, accept: &str| {
        let request = App::request("GET", path).header("Accept-Encoding", "gzip").header("Accept", accept);
        app.send(request.body(axum::body::Body::empty()).unwrap()).await
    };
    for accept in ["application/json", "application/yaml", "application/json;as=Table;v=v1;g=meta.k8s.io"] {
        let plain = app.get_as("/api/v1/nodes", accept).await;
        assert_eq!((plain.header("Content-Encoding"), plain.header("Vary")), ("", "Accept-Encoding"));
        let packed = ask("/api/v1/nodes", accept).await;
        assert_eq!((packed.header("Content-Encoding"), packed.header("Vary")), ("gzip", "Accept-Encoding"));
        assert_eq!(packed.header("Content-Type"), plain.header("Content-Type"));
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut unpacked).unwrap();
        assert!(unpacked == plain.body);
    }
    let watch = ask("/api/v1/nodes?watch=1&timeoutSeconds=1", "application/json").await;
    assert_eq!((watch.header("Content-Encoding"), watch.text().lines().count()), ("", 15));
    assert_eq!(ask("/api/v1/nodes/n00", "application/json").await.header("Content-Encoding"), "");
}
