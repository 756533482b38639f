//! What HTTP leaves open: methods, spellings of paths, formats, and warnings.

use axum::body::Body;
use expect_test::expect;
use serde_json::{Value, json};

use crate::app::{App, SERVICES, service};

#[tokio::test]
async fn head_is_get_without_its_body() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    for path in [SERVICES.to_owned(), format!("{SERVICES}/web"), "/api".to_owned(), "/livez".to_owned()] {
        let get = app.get(&path).await;
        let head = app.send(App::request("HEAD", &path).body(Body::empty()).unwrap()).await;
        assert_eq!((head.code, head.body.len()), (get.code, 0), "{path}");
        assert_eq!(head.header("Content-Type"), get.header("Content-Type"), "{path}");
    }
}

#[tokio::test]
async fn methods_that_a_path_does_not_take() {
    let app = App::new().await;
    let mut lines = Vec::new();
    for (method, path) in [
        ("OPTIONS", SERVICES),
        ("OPTIONS", "/api"),
        ("PATCH", SERVICES),
        ("POST", "/livez"),
        ("DELETE", "/apis/discovery.k8s.io/v1"),
        ("TRACE", "/api/v1/namespaces/default"),
        ("BREW", "/nope"),
    ] {
        let answer = app.send(App::request(method, path).body(Body::empty()).unwrap()).await;
        lines.push(format!("{method} {path}\n    {}\n    Allow: {}", answer.status(), answer.header("Allow")));
    }
    expect![[r#"
        OPTIONS /api/v1/namespaces/default/services
            405 MethodNotAllowed: OPTIONS is not supported on resources of kind "services"
            Allow: GET,HEAD,POST,DELETE
        OPTIONS /api
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            Allow: GET,HEAD
        PATCH /api/v1/namespaces/default/services
            405 MethodNotAllowed: patch is not supported on resources of kind "services"
            Allow: GET,HEAD,POST,DELETE
        POST /livez
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            Allow: GET,HEAD
        DELETE /apis/discovery.k8s.io/v1
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            Allow: GET,HEAD
        TRACE /api/v1/namespaces/default
            405 MethodNotAllowed: TRACE is not supported on resources of kind "namespaces"
            Allow: GET,HEAD,PUT,PATCH,DELETE
        BREW /nope
            404 NotFound: the server could not find the requested resource
            Allow: "#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn slashes_at_the_end_do_not_matter() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    for path in ["/api", "/apis", "/api/v1", "/version", SERVICES, &format!("{SERVICES}/web"), "/openapi/v3"] {
        let plain = app.get(path).await;
        assert_eq!(plain.code, 200, "{path}");
        for slashes in ["/", "//", "/?timeout=32s"] {
            let answer = app.get(&format!("{path}{slashes}")).await;
            assert_eq!((answer.code, answer.body), (plain.code, plain.body.clone()), "{path}{slashes}");
        }
    }
    let created = app.post(&format!("{SERVICES}/?dryRun=All"), &service("other", json!({}))).await;
    assert_eq!(created.code, 201, "{}", created.text());
    assert_eq!(app.get(&format!("{SERVICES}/other")).await.code, 404);
    for path in ["/nope/", "//", "/api/v1//services"] {
        assert_eq!(
            app.get(path).await.status(),
            "404 NotFound: the server could not find the requested resource",
            "{path}"
        );
    }
}

#[tokio::test]
async fn escapes_in_a_path_are_resolved() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    assert_eq!(app.get("/api/v1/namespaces/default/%73ervices/%77eb").await.code, 404);
    assert_eq!(app.get("/api/v1/namespaces/def%61ult/services/%77eb").await.json()["metadata"]["name"], "web");
    assert_eq!(app.get(&format!("{SERVICES}/a%2Fb")).await.status(), "404 NotFound: services \"a/b\" not found");
    let broken = "400 BadRequest: the path is not UTF-8 when its escapes are resolved";
    assert_eq!(app.get(&format!("{SERVICES}/%ff")).await.status(), broken);
    for path in ["/apis/%ff", "/apis/%ff/v1", "/openapi/v3/api/%ff"] {
        let unknown = "404 NotFound: the server could not find the requested resource";
        assert_eq!(app.get(path).await.status(), unknown, "{path}");
    }
}

#[tokio::test]
async fn accept_is_read_in_its_order() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let path = format!("{SERVICES}/web");
    for (accept, content_type) in [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json, */*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/yaml,application/json", "application/yaml"),
        ("application/json,application/yaml", "application/json"),
        ("application/json;as=Nothing;g=meta.k8s.io;v=v1,application/yaml", "application/yaml"),
        ("APPLICATION/JSON", "application/json"),
    ] {
        let answer = app.get_as(&path, accept).await;
        assert_eq!((answer.code.as_u16(), answer.header("Content-Type")), (200, content_type), "{accept}");
    }
    // Several headers are one list.
    let request = App::request("GET", &path).header("Accept", "text/html").header("Accept", "application/yaml");
    assert_eq!(app.send(request.body(Body::empty()).unwrap()).await.header("Content-Type"), "application/yaml");
    // Refused before anything is done.
    let request = App::request("DELETE", &path).header("Accept", "text/html").body(Body::empty()).unwrap();
    assert_eq!(app.send(request).await.code, 406);
    assert_eq!(app.get(&path).await.code, 200);
}

#[tokio::test]
async fn pretty_is_for_people() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let path = format!("{SERVICES}/web");
    let text = async |query: &str, agent: &str| {
        let request = App::request("GET", &format!("{path}{query}")).header("User-Agent", agent);
        app.send(request.body(Body::empty()).unwrap()).await.text()
    };
    let plain = text("", "kubectl/v1.32.0").await;
    assert!(!plain.contains('\n'));
    for (query, agent, pretty) in [
        ("?pretty=true", "kubectl/v1.32.0", true),
        ("?pretty=1", "", true),
        ("?pretty=false", "curl/8.5.0", false),
        ("?pretty=0", "Wget/1.2", false),
        ("", "curl/8.5.0", true),
        ("", "Wget/1.21", true),
        ("", "Mozilla/5.0 (X11)", true),
    ] {
        let answer = text(query, agent).await;
        assert_eq!(answer.starts_with("{\n  \""), pretty, "{query} {agent}");
        let (a, b): (Value, Value) = (serde_json::from_str(&answer).unwrap(), serde_json::from_str(&plain).unwrap());
        assert_eq!(a, b);
    }
}

/// Kubernetes takes YAML by either way in; a JSON body is YAML too.
#[tokio::test]
async fn every_body_may_be_yaml() {
    let app = App::new().await;
    let yaml = "application/yaml; charset=utf-8";
    let text = "metadata: {name: web}\nspec:\n  ports:\n  - port: 80\n";
    assert_eq!(app.with_body("POST", SERVICES, yaml, text).await.code, 201);
    let path = format!("{SERVICES}/web");
    let text = "metadata: {name: web}\nspec:\n  ports:\n  - port: 81\n";
    let answer = app.with_body("PUT", &path, yaml, text).await;
    assert_eq!(answer.json()["spec"]["ports"][0]["port"], 81, "{}", answer.text());
    let answer = app.with_body("DELETE", &path, yaml, "propagationPolicy: Foreground\ndryRun: [All]\n").await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(app.get(&path).await.code, 200);
}

#[tokio::test]
async fn warnings_are_headers() {
    let app = App::new().await;
    let odd = json!({
        "metadata": {"name": "odd"},
        "spec": {"clusterIP": "None", "externalIPs": ["192.0.02.1"], "externalName": "x", "selectr": {}, "ports": [{"port": 80}]},
    });
    let answer = app.post(&format!("{SERVICES}?dryRun=All"), &odd).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    expect![[r#"
        299 - "unknown field \"spec.selectr\""
        299 - "spec.externalIPs is ignored for headless services"
        299 - "spec.externalIPs[0]: non-standard IP address \"192.0.02.1\" will be considered invalid in a future Kubernetes release: use \"192.0.2.1\""
        299 - "spec.externalName is ignored when spec.type is not \"ExternalName\"""#]].assert_eq(&answer.warnings().join("\n"));
    // A request that fails warns of what it found before.
    let failed = app.post(SERVICES, &json!({"metadata": {"name": "x"}, "spec": {"selectr": {}, "ports": []}})).await;
    assert_eq!((failed.code.as_u16(), failed.warnings()), (422, vec![r#"299 - "unknown field \"spec.selectr\"""#]));
    let endpoints = json!({"metadata": {"name": "e"}, "subsets": []});
    let answer = app.post("/api/v1/namespaces/default/endpoints", &endpoints).await;
    assert_eq!(
        answer.warnings(),
        [r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#]
    );
    let many: serde_json::Map<String, Value> = (0..200).map(|n| (format!("field{n:03}"), Value::Null)).collect();
    let mut crowded = service("crowded", json!({}));
    crowded["spec"].as_object_mut().unwrap().extend(many);
    assert!(app.post(SERVICES, &crowded).await.warnings().len() <= 64);
}
