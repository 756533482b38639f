//! The table of who may what, over the real router: every operation that the server documents is sent by everybody, and is
//! refused exactly where `access/tests/matrix.golden` has a `-`.
//!
//! Bodies are nonsense, so nothing is changed by what is allowed: it is answered with another failure than 403.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use access::{Certificate, User};
use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::access::{app, bind, created, join_token, token};
use crate::app::{Answer, App};

const TABLE: &str = include_str!("../../../access/tests/matrix.golden");

/// By heading (`view in namespace bank`): what is allowed, as `verb group resource`.
fn table() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut table: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut heading = "";
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with(' ') {
            heading = line;
            table.insert(heading, BTreeSet::new());
            continue;
        }
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let named = words.len() > 8 && words[0].contains('.');
        let group = if named { words.remove(0) } else { "" };
        let resource = words.remove(0);
        for verb in words.into_iter().filter(|word| *word != "-") {
            table.get_mut(heading).unwrap().insert(format!("{verb} {group} {resource}"));
        }
    }
    table
}

/// What a documented path is, in the words of the table; None for what is no resource's.
fn named(path: &str) -> Option<(String, String)> {
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let group = match parts[0] {
        "api" => "",
        "apis" if parts.len() > 3 => parts.remove(1),
        _ => return None,
    };
    let mut rest = parts.get(2..)?;
    if let ["namespaces", "{namespace}", inner @ ..] = rest {
        rest = inner;
    }
    match rest {
        [resource] | [resource, "{name}"] => Some((group.to_owned(), (*resource).to_owned())),
        [resource, "{name}", subresource, ..] => Some((group.to_owned(), format!("{resource}/{subresource}"))),
        _ => None,
    }
}

/// How somebody shows who they are.
enum Shown {
    Token(String),
    Certificate(User),
    Nothing,
}

async fn ask(app: &App, shown: &Shown, method: &str, target: &str) -> Answer {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let mut request = Request::builder().method(method).uri(target).header("Content-Type", kind);
    if let Shown::Token(token) = shown {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let body = if method == "GET" { Body::empty() } else { Body::from("nonsense") };
    let mut request = request.body(body).unwrap();
    if let Shown::Certificate(user) = shown {
        let certificate = Certificate { user: Arc::new(user.clone()), not_after: jiff::Timestamp::MAX };
        let address = "192.0.2.7:7".parse().unwrap();
        request
            .extensions_mut()
            .insert(api::Peer { address, certificate: Some(Arc::new(api::Shown::judged(certificate))) });
    }
    let (parts, body) = app.start(request).await.into_parts();
    // What is allowed may be a stream without an end; only refusals are read.
    let denied = matches!(parts.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED);
    let body = if denied { axum::body::to_bytes(body, 1 << 20).await.unwrap() } else { bytes::Bytes::new() };
    Answer { code: parts.status, headers: parts.headers, body }
}

async fn everybody(app: &App) -> Vec<(&'static str, Shown)> {
    let mut all = vec![("masters", Shown::Token(crate::app::TOKEN.to_owned())), ("anonymous", Shown::Nothing)];
    for (id, name) in [("id0001", "cluster-admin"), ("id0002", "admin"), ("id0003", "edit"), ("id0004", "view")] {
        all.push((name, Shown::Token(token(app, id, name, json!([])).await)));
        created(&bind(app, name, name, "").await);
    }
    for (id, role, name) in
        [("id0005", "admin", "admin-in-shop"), ("id0006", "edit", "edit-in-shop"), ("id0007", "view", "view-in-shop")]
    {
        all.push((name, Shown::Token(token(app, id, name, json!([])).await)));
        created(&bind(app, role, name, "shop").await);
    }
    all.push(("edge", Shown::Certificate(User::edge("web-1"))));
    all.push(("authenticated", Shown::Token(token(app, "id0009", "nobody", json!([])).await)));
    all.push(("join-token", Shown::Token(join_token(app, "joiner", "NodeJoin").await)));
    all.push(("edge-join-token", Shown::Token(join_token(app, "joiner2", "EdgeJoin").await)));
    all.push(("node", Shown::Certificate(User::node("web-1"))));
    all.push(("service-account", Shown::Certificate(User::service_account("shop", "robot", "1"))));
    all
}

#[tokio::test]
async fn every_operation_is_refused_to_whom_the_table_says() {
    let app = app().await;
    for namespace in ["shop", "bank"] {
        created(&app.post("/api/v1/namespaces", &json!({ "metadata": { "name": namespace } })).await);
        for node in ["web-1", "web-2"] {
            let pod = json!({
                "metadata": { "name": node },
                "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
            });
            created(&app.post(&format!("/api/v1/namespaces/{namespace}/pods"), &pod).await);
        }
    }
    let (everybody, table) = (everybody(&app).await, table());
    let document = app.get("/openapi.json").await.json();
    let mut asked = 0;
    let mut wrong = Vec::new();
    let paths = document["paths"].as_object().unwrap();
    let local: BTreeSet<(String, String)> =
        paths.keys().filter(|path| path.contains("{namespace}")).filter_map(|path| named(path)).collect();
    for (path, operations) in paths {
        let Some((group, resource)) = named(path) else { continue };
        for (method, operation) in operations.as_object().unwrap() {
            let Some(verb) = verb(method, path, operation) else { continue };
            for verb in if verb == "list" { vec!["list", "watch"] } else { vec![verb] } {
                for (subject, shown) in &everybody {
                    for home in [true, false] {
                        // A list over all namespaces is no list in `shop`.
                        let over_all =
                            !path.contains("{namespace}") && local.contains(&(group.clone(), resource.clone()));
                        let heading = heading(subject, home && !(over_all && subject.ends_with("-in-shop")));
                        let expected = table[&*heading].contains(&format!("{verb} {group} {resource}"));
                        let target = target(path, subject, verb, home);
                        let answer = ask(&app, shown, &method.to_uppercase(), &target).await;
                        let refused = matches!(answer.code.as_u16(), 401 | 403);
                        if refused == expected || (answer.code == 401) != (refused && *subject == "anonymous") {
                            wrong.push(format!("{heading}: {verb} {target}: {}", answer.code));
                        }
                        asked += 1;
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 3000, "{asked}");
}

/// Kubernetes' verb of a documented operation.
fn verb(method: &str, path: &str, operation: &Value) -> Option<&'static str> {
    let one = path.contains("{name}");
    assert!(operation.is_object(), "{method} {path}");
    Some(match method {
        "get" if one => "get",
        "get" => "list",
        "post" => "create",
        "put" => "update",
        "patch" => "patch",
        "delete" if one => "delete",
        "delete" => "deletecollection",
        _ => return None,
    })
}

fn heading(subject: &str, home: bool) -> String {
    let place = match (subject, home) {
        ("node", true) => "to what is its own",
        ("node", false) => "to what is another node's",
        ("edge", true) => "to what is its own, of Secrets to certificates",
        ("edge", false) => "to what is another edge node's, and to all Secrets",
        (_, true) => "in namespace shop, and where there is none",
        (_, false) => "in namespace bank",
    };
    format!("{subject} {place}")
}

/// The path with what the table's two places mean in it, and with a query that lets nothing wait.
fn target(path: &str, subject: &str, verb: &str, home: bool) -> String {
    let (namespace, node) = if home { ("shop", "web-1") } else { ("bank", "web-2") };
    let mut name = node;
    let mut within = namespace;
    if subject == "node" && path.contains("/leases") {
        within = "kube-node-lease";
    }
    let lease = format!("portolan-edge-{node}");
    if subject == "edge" && path.contains("/leases") {
        within = "kube-system";
        name = &lease;
    }
    if path.contains("/namespaces/{name}") {
        name = namespace;
    }
    let mut target = path.replace("{namespace}", within).replace("{name}", name).replace("{id}", "1");
    target.push_str("?timeoutSeconds=0");
    if verb == "watch" {
        target.push_str("&watch=true");
    }
    if subject == "node" && path.ends_with("/pods") {
        target.push_str(&format!("&fieldSelector=spec.nodeName%3D{node}"));
    }
    if subject == "edge" && home && path.ends_with("/secrets") {
        target.push_str("&fieldSelector=type%3Dkubernetes.io/tls");
    }
    target
}
