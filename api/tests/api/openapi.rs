//! The documents through the API: their caching, and whether what they say is what is served.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::StatusCode;
use serde_json::{Value, json};

use crate::app::App;
use crate::schema::Schemas;

const METHODS: [&str; 5] = ["DELETE", "GET", "PATCH", "POST", "PUT"];

#[tokio::test]
async fn the_index_leads_to_documents_that_may_be_kept() {
    let app = App::new().await;
    let index = app.get("/openapi/v3?timeout=32s").await.json();
    let paths = index["paths"].as_object().unwrap();
    for group in ["api/v1", "apis/authorization.k8s.io/v1", "apis/discovery.k8s.io/v1"] {
        assert!(paths.contains_key(group), "{group}");
    }
    for (name, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let answer = app.get(&format!("{url}&timeout=32s")).await;
        assert_eq!(answer.code, 200);
        assert_eq!(answer.header("Cache-Control"), "public, immutable");
        let expires = answer.header("Expires");
        assert!(expires.ends_with(" GMT") && expires.len() == 29, "{expires}");
        assert_eq!(answer.json()["openapi"], "3.0.0");

        let wrong = app.get(&format!("/openapi/v3/{name}?hash=0")).await;
        assert_eq!((wrong.code.as_u16(), wrong.header("Location")), (301, url));
        let none = app.get(&format!("/openapi/v3/{name}")).await;
        assert!(none.header("Cache-Control").contains("no-cache"));
        assert_eq!(none.header("Expires"), "");

        let request = App::request("GET", url).header("If-None-Match", answer.header("ETag"));
        assert_eq!(app.send(request.body(Body::empty()).unwrap()).await.code, 304);
    }
    assert_eq!(app.get("/openapi/v3/apis/apps/v1").await.code, 404);
}

#[tokio::test]
async fn swagger_comes_as_text_or_protobuf() {
    const SENT_BY_KUBECTL: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let app = App::new().await;
    let json = app.get_as("/openapi/v2", "application/json").await;
    assert_eq!((json.header("Content-Type"), &json.json()["swagger"]), ("application/json", &json!("2.0")));
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    for media in [SENT_BY_KUBECTL, PROTOBUF] {
        let answer = app.get_as("/openapi/v2?timeout=32s", &format!("{media},application/json")).await;
        assert_eq!(answer.header("Content-Type"), PROTOBUF);
        // The field `swagger` and its three letters.
        assert!(answer.body.windows(5).any(|bytes| bytes == b"\x0a\x032.0"));
        let request = App::request("GET", "/openapi/v2").header("Accept", media);
        let again = request.header("If-None-Match", answer.header("ETag")).body(Body::empty()).unwrap();
        assert_eq!(app.send(again).await.code, 304);
    }
    let text = app.get_as("/openapi/v2", &format!("application/json,{SENT_BY_KUBECTL}")).await;
    assert_eq!(text.header("Content-Type"), "application/json");
    assert_eq!(app.get_as("/openapi/v2", "text/html").await.code, 406);
}

/// `(path, its methods in capitals)` of the whole document.
fn served(document: &Value) -> BTreeMap<&str, BTreeSet<String>> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| item.as_object().unwrap().keys().map(|m| m.to_ascii_uppercase()).collect();
    paths.iter().map(|(path, item)| (path.as_str(), methods(item))).collect()
}

fn filled(path: &str) -> String {
    let path = path.replace("{namespace}", "default").replace("{name}", "nobody").replace("{id}", "1");
    // Who listens for questions waits, unless they say for how long.
    if path.ends_with("/questions") { path + "?timeoutSeconds=0" } else { path }
}

/// What the document has is served, and what it has not is refused as a method or a path that does not exist.
#[tokio::test]
async fn the_router_serves_what_the_document_says_and_nothing_else() {
    let app = App::new().await;
    let document = app.get("/openapi.json").await.json();
    let served = served(&document);
    for (path, methods) in &served {
        for method in METHODS {
            let request = App::request(method, &filled(path)).header("Content-Type", "text/plain");
            let answer = app.send(request.body(Body::from("?")).unwrap()).await;
            let missing = answer.text().contains("the server could not find the requested resource");
            assert!(!missing, "{method} {path} is not served");
            let refused = answer.code == StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(refused, !methods.contains(method), "{method} {path}: {}", answer.code);
        }
    }
    // Every path that the server itself lists, and one below each path.
    for path in app.get("/").await.json()["paths"].as_array().unwrap() {
        assert!(served.contains_key(path.as_str().unwrap()), "{path} is listed and not described");
    }
    for path in served.keys().filter(|path| **path != "/" && !path.ends_with("/namespaces/{name}")) {
        let below = format!("{}/nowhere", filled(path).split('?').next().unwrap());
        let known = served.keys().any(|path| matches(path, &below));
        assert_eq!(app.get(&below).await.text().contains("could not find the requested resource"), !known, "{below}");
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(a, b)| a.starts_with('{') || *a == b)
}

/// Discovery's verbs are the actions of the paths below the resource's name.
#[tokio::test]
async fn discovery_and_the_document_agree() {
    let app = App::new().await;
    let document = app.get("/openapi.json").await.json();
    let mut described: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let Some(action) = operation["x-kubernetes-action"].as_str() else { continue };
            let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            let root = parts.drain(..if parts[0] == "api" { 2 } else { 3 }).collect::<Vec<_>>().join("/");
            if parts.starts_with(&["namespaces", "{namespace}"]) {
                parts.drain(..2);
            }
            parts.retain(|part| !part.starts_with('{'));
            let verbs = described.entry(format!("{root} {}", parts.join("/"))).or_default();
            verbs.insert(match action {
                "post" => "create".to_owned(),
                "put" => "update".to_owned(),
                other => other.to_owned(),
            });
            if action == "list" {
                verbs.insert("watch".to_owned());
            }
        }
    }
    let mut discovered = BTreeMap::new();
    let groups = app.get("/apis").await.json();
    let groups = groups["groups"].as_array().unwrap().iter();
    let versions = groups.map(|group| format!("apis/{}", group["preferredVersion"]["groupVersion"].as_str().unwrap()));
    for root in versions.chain(["api/v1".to_owned()]) {
        for resource in app.get(&format!("/{root}")).await.json()["resources"].as_array().unwrap() {
            let verbs = resource["verbs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned());
            discovered.insert(format!("{root} {}", resource["name"].as_str().unwrap()), verbs.collect());
        }
    }
    assert_eq!(described, discovered);
}

/// Sends what every kind needs at least, and compares each answer with the schema that its operation promises.
#[tokio::test]
async fn answers_fit_their_schemas() {
    let app = App::new().await;
    let document = app.get("/openapi.json").await.json();
    let kind = |item: &Value, method: &str| item[method]["x-kubernetes-group-version-kind"]["kind"].clone();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if item.get("post").is_some() {
            // Questions and answers are of no kind.
            let mut body = least(kind(item, "post").as_str().unwrap_or("Question"));
            body["metadata"]["name"] = "nobody".into();
            // For a certificate, which nobody signs here.
            body["request"] = "a key".into();
            // A Binding may come before its Pod, and nobody listens for questions.
            check(&app, &document, "POST", path, Some(&body), &[201, 404, 405, 409, 504]).await;
            asked += 1;
        }
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        if item.get("get").is_some() {
            check(&app, &document, "GET", path, None, &[200]).await;
            asked += 1;
        }
        for method in ["PATCH", "PUT"] {
            if item.get(method.to_ascii_lowercase()).is_some() {
                // Not the right content type for one, not the right name for the other: a Status.
                let wrong = json!({"metadata": {"name": "somebody-else"}});
                // A heartbeat has no body that could be wrong.
                let codes: &[u16] = if path.ends_with("/heartbeat") { &[200, 404] } else { &[400, 415, 404] };
                check(&app, &document, method, path, Some(&wrong), codes).await;
            }
        }
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        if item.get("delete").is_some() && path.ends_with("{name}") && kind(item, "delete") != "Namespace" {
            // The two groups of Events are one store.
            check(&app, &document, "DELETE", path, None, &[200, 404]).await;
            asked += 1;
        }
    }
    assert!(asked > 80, "only {asked} answers were looked at");
}

/// The least that makes an object of a kind.
fn least(kind: &str) -> Value {
    match kind {
        "Service" => json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}}),
        "Pod" => json!({"spec": {"containers": [{"name": "main", "image": "x"}]}}),
        "Endpoints" => json!({"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}),
        // Both forms at once: each takes its own fields and passes over the other's.
        "Event" => json!({
            "involvedObject": {"kind": "Service", "namespace": "default", "name": "x"},
            "regarding": {"kind": "Service", "namespace": "default", "name": "x"},
            "eventTime": "2024-05-01T12:00:00.000000Z",
            "action": "Tested", "reason": "Testing", "type": "Normal",
            "reportingComponent": "a/b", "reportingController": "a/b", "reportingInstance": "c",
        }),
        "EndpointSlice" => {
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"port": 80}]})
        }
        "Binding" => json!({"target": {"kind": "Node", "name": "x"}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["198.51.100.0/24"]}}),
        "IPAddress" => json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "x"}}}),
        "Lease" => json!({"spec": {"holderIdentity": "x", "leaseDurationSeconds": 15}}),
        "Role" | "ClusterRole" => json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        "RoleBinding" | "ClusterRoleBinding" => json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "x"}],
        }),
        "AddressPool" => json!({"spec": {"addresses": ["192.0.2.0/28"]}}),
        "LoadBalancer" => json!({"spec": {"addresses": ["192.0.2.3"]}}),
        "AccessList" => json!({"spec": {"entries": [{"cidr": "192.0.2.1"}]}}),
        "Token" => json!({"spec": {"purpose": "Access", "user": "x", "hash": format!("sha256:{}", "0".repeat(64))}}),
        "SelfSubjectAccessReview" => json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}),
        "SubjectAccessReview" => json!({"spec": {"user": "x", "nonResourceAttributes": {"verb": "get", "path": "/"}}}),
        "LocalSubjectAccessReview" => {
            json!({"spec": {"user": "x", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}})
        }
        "SelfSubjectRulesReview" => json!({"spec": {"namespace": "default"}}),
        _ => json!({}),
    }
}

async fn check(app: &App, document: &Value, method: &str, path: &str, body: Option<&Value>, codes: &[u16]) {
    let request = App::request(method, &filled(path).replace("ipaddresses/nobody", "ipaddresses/203.0.113.9"));
    let request = request.header("Content-Type", "application/json");
    let mut body = body.cloned();
    if path.ends_with("/ipaddresses")
        && let Some(body) = &mut body
    {
        body["metadata"]["name"] = "203.0.113.9".into();
    }
    let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
    let answer = app.send(request.body(body).unwrap()).await;
    let code = answer.code.as_u16();
    assert!(codes.contains(&code), "{method} {path}: {} {}", answer.code, answer.text());
    let operation = &document["paths"][path][method.to_ascii_lowercase()];
    let media = answer.header("Content-Type").split(';').next().unwrap();
    let content = &operation["responses"][code.to_string()]["content"];
    let schema = content.get(media).unwrap_or_else(|| panic!("{method} {path}: {code} as {media} is not described"));
    if media == "application/json" {
        let problems = Schemas(document).problems(&schema["schema"], &answer.json());
        assert_eq!(problems, Vec::<String>::new(), "{method} {path} {code}");
    }
}

/// The documents for people are there without a token; those of clients are not.
#[tokio::test]
async fn people_need_no_token_to_read() {
    let app = App::new().await;
    let without = |path: &str| http::Request::builder().uri(path).body(Body::empty()).unwrap();
    for (path, media) in [
        ("/openapi.json", "application/json"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/", "text/html; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
    ] {
        let answer = app.send(without(path)).await;
        assert_eq!((answer.code.as_u16(), answer.header("Content-Type")), (200, media), "{path}");
    }
    assert!(app.send(without("/docs")).await.header("Content-Security-Policy").contains("default-src 'none'"));
    for path in ["/openapi/v2", "/openapi/v3", "/api", "/docs/nowhere"] {
        assert_eq!(app.send(without(path)).await.code, 401, "{path}");
    }
}
