//! Who may do what over the real router: tokens of every kind, roles that are stored, and what a node may write.

use std::sync::Arc;

use access::{Certificate, User};
use axum::body::Body;
use http::{Request, StatusCode};
use ring::digest;
use serde_json::{Value, json};

use crate::app::{Answer, App, SERVICES, service};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const TOKENS: &str = "/apis/portolan.dev/v1alpha1/tokens";
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

fn hash(secret: &str) -> String {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    format!("sha256:{}", digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// An app with the roles that every cluster has.
pub async fn app() -> App {
    App::with(|config| config.standing = access::defaults::objects()).await
}

/// Makes an Access token for a user and answers what is shown.
pub async fn token(app: &App, id: &str, user: &str, groups: Value) -> String {
    let spec = json!({ "purpose": "Access", "hash": hash(SECRET), "user": user, "groups": groups });
    created(&app.post(TOKENS, &json!({ "metadata": { "name": id }, "spec": spec })).await);
    format!("{id}.{SECRET}")
}

pub fn created(answer: &Answer) {
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
}

async fn send(app: &App, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", if method == "PATCH" { "application/merge-patch+json" } else { "application/json" });
    let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
    app.send(request.body(body).unwrap()).await
}

async fn get(app: &App, token: &str, path: &str) -> Answer {
    send(app, token, "GET", path, None).await
}

pub async fn bind(app: &App, role: &str, user: &str, namespace: &str) -> Answer {
    let binding = json!({
        "metadata": { "name": format!("{role}-{user}") },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "User", "name": user }],
    });
    let path = if namespace.is_empty() {
        format!("{RBAC}/clusterrolebindings")
    } else {
        format!("{RBAC}/namespaces/{namespace}/rolebindings")
    };
    app.post(&path, &binding).await
}

#[tokio::test]
async fn a_binding_holds_for_the_very_next_request_and_its_deletion_too() {
    let app = app().await;
    app.service("web", json!({})).await;
    let alice = token(&app, "alice1", "alice", json!([])).await;
    assert_eq!(
        get(&app, &alice, SERVICES).await.status(),
        "403 Forbidden: services is forbidden: User \"alice\" cannot list resource \"services\" in API group \"\" in the \
         namespace \"default\""
    );
    for _ in 0..3 {
        created(&bind(&app, "view", "alice", "default").await);
        assert_eq!(get(&app, &alice, SERVICES).await.code, 200);
        assert_eq!(get(&app, &alice, &format!("{SERVICES}/web")).await.code, 200);
        assert_eq!(get(&app, &alice, "/api/v1/services").await.code, 403, "in one namespace, not in all");
        assert_eq!(send(&app, &alice, "POST", SERVICES, Some(&service("x", json!({})))).await.code, 403);
        assert_eq!(app.delete(&format!("{RBAC}/namespaces/default/rolebindings/view-alice")).await.code, 200);
        assert_eq!(get(&app, &alice, SERVICES).await.code, 403);
    }
    assert_eq!(
        get(&app, &alice, &format!("{SERVICES}/web")).await.status(),
        "403 Forbidden: services \"web\" is forbidden: User \"alice\" cannot get resource \"services\" in API group \"\" in \
         the namespace \"default\""
    );
    assert_eq!(
        get(&app, &alice, "/metrics").await.status(),
        "403 Forbidden: forbidden: User \"alice\" cannot get path \"/metrics\""
    );
    assert_eq!(get(&app, &alice, "/api").await.code, 200, "whoever is somebody discovers");
}

#[tokio::test]
async fn tokens_open_what_they_are_for_until_they_are_deleted() {
    let app = app().await;
    let alice = token(&app, "alice1", "alice", json!(["system:masters"])).await;
    assert_eq!(get(&app, &alice, SERVICES).await.code, 200);
    for wrong in [format!("alice1.{SECRET}x"), format!("alice2.{SECRET}"), SECRET.to_owned(), "alice1.".to_owned()] {
        assert_eq!(get(&app, &wrong, SERVICES).await.code, 401, "{wrong}");
    }
    assert_eq!(app.delete(&format!("{TOKENS}/alice1")).await.code, 200);
    assert_eq!(get(&app, &alice, SERVICES).await.status(), "401 Unauthorized: Unauthorized");
    // The clock of the API is the system's.
    let spec = json!({ "purpose": "Access", "hash": hash(SECRET), "user": "bob", "expiresAt": "2024-05-01T12:00:01Z" });
    created(&app.post(TOKENS, &json!({ "metadata": { "name": "bobbob" }, "spec": spec })).await);
    assert_eq!(get(&app, &format!("bobbob.{SECRET}"), "/api").await.code, 401, "expired");
    // What is open to all stays open.
    assert_eq!(get(&app, &format!("bobbob.{SECRET}"), "/livez").await.code, 200);
}

/// Makes a token to join by and answers what is shown.
pub async fn join_token(app: &App, id: &str, purpose: &str) -> String {
    let spec = json!({ "purpose": purpose, "hash": hash(SECRET), "expiresAt": "2999-01-01T00:00:00Z" });
    created(&app.post(TOKENS, &json!({ "metadata": { "name": id }, "spec": spec })).await);
    format!("{id}.{SECRET}")
}

#[tokio::test]
async fn a_join_token_is_for_joining_alone() {
    let app = app().await;
    let joiner = join_token(&app, "joiner", "NodeJoin").await;
    for path in ["/api", "/apis", SERVICES, "/api/v1/nodes", "/metrics", TOKENS, "/openapi/v3", "/nope"] {
        assert_eq!(get(&app, &joiner, path).await.code, 403, "{path}");
    }
    let node = json!({ "metadata": { "name": "web-1" } });
    for (method, path) in [
        ("POST", "/api/v1/nodes".to_owned()),
        ("POST", SERVICES.to_owned()),
        ("PUT", "/apis/portolan.dev/v1alpha1/nodes/web-1/acknowledgement".to_owned()),
        ("POST", "/apis/portolan.dev/v1alpha1/nodes/web-1/questions".to_owned()),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned()),
    ] {
        assert_eq!(send(&app, &joiner, method, &path, Some(&node)).await.code, 403, "{method} {path}");
    }
}

#[tokio::test]
async fn nobody_gives_away_more_than_they_have() {
    let app = app().await;
    let alice = token(&app, "alice1", "alice", json!([])).await;
    created(&bind(&app, "admin", "alice", "default").await);
    let roles = format!("{RBAC}/namespaces/default/roles");
    let rule = |verb: &str, resource: &str| json!({ "verbs": [verb], "apiGroups": [""], "resources": [resource] });
    let role = |name: &str, rules: Value| json!({ "metadata": { "name": name }, "rules": rules });

    created(&send(&app, &alice, "POST", &roles, Some(&role("mine", json!([rule("delete", "pods")])))).await);
    let more = role("more", json!([rule("delete", "pods"), rule("create", "endpoints"), rule("get", "nodes")]));
    assert_eq!(
        send(&app, &alice, "POST", &roles, Some(&more)).await.status(),
        "403 Forbidden: roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"alice\" \
         (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held: \
         {\"verbs\":[\"create\"],\"apiGroups\":[\"\"],\"resources\":[\"endpoints\"]}, \
         {\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":[\"nodes\"]}"
    );
    // Nor by changing a role that is there, whatever the way; what only touches labels is no gift.
    let path = format!("{roles}/mine");
    let grown = role("mine", json!([rule("*", "*")]));
    assert_eq!(send(&app, &alice, "PUT", &path, Some(&grown)).await.code, 403);
    assert_eq!(send(&app, &alice, "PATCH", &path, Some(&json!({ "rules": [rule("*", "*")] }))).await.code, 403);
    assert_eq!(
        send(&app, &alice, "PATCH", &path, Some(&json!({ "metadata": { "labels": { "a": "b" } } }))).await.code,
        200
    );
    assert_eq!(app.get(&path).await.json()["rules"], json!([rule("delete", "pods")]), "nothing of it was stored");

    // Binding what she has, not what she has not.
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let binding = |role: &str| {
        json!({
            "metadata": { "name": format!("{role}-bob") },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "User", "name": "bob" }],
        })
    };
    for (role, code) in [("view", 201), ("edit", 201), ("admin", 201), ("cluster-admin", 403), ("nope", 403)] {
        let answer = send(&app, &alice, "POST", &bindings, Some(&binding(role))).await;
        assert_eq!(answer.code.as_u16(), code, "{role}: {}", answer.text());
    }
    // The verb `bind` on a role lets it be bound all the same.
    let binder = json!({
        "metadata": { "name": "binder" },
        "rules": [{
            "verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
            "resourceNames": ["cluster-admin"],
        }],
    });
    created(&app.post(&format!("{RBAC}/clusterroles"), &binder).await);
    created(&bind(&app, "binder", "alice", "default").await);
    created(&send(&app, &alice, "POST", &bindings, Some(&binding("cluster-admin"))).await);
}

#[tokio::test]
async fn an_update_that_would_create_needs_the_verb() {
    let app = app().await;
    let alice = token(&app, "alice1", "alice", json!([])).await;
    let role = json!({
        "metadata": { "name": "changer" },
        "rules": [{ "verbs": ["update", "patch"], "apiGroups": [""], "resources": ["services"] }],
    });
    created(&app.post(&format!("{RBAC}/clusterroles"), &role).await);
    created(&bind(&app, "changer", "alice", "default").await);
    app.service("web", json!({})).await;
    let path = format!("{SERVICES}/new");
    assert_eq!(send(&app, &alice, "PUT", &path, Some(&service("new", json!({})))).await.code, 403);
    assert_eq!(app.get(&path).await.code, 404);
    let patch = json!({ "metadata": { "labels": { "a": "b" } } });
    assert_eq!(send(&app, &alice, "PATCH", &format!("{SERVICES}/web"), Some(&patch)).await.code, 200);
}

#[tokio::test]
async fn acting_as_somebody_else_takes_the_verb() {
    let app = app().await;
    created(&bind(&app, "view", "bob", "default").await);
    let as_bob = async |token: &str, path: &str, groups: &[&str]| {
        let mut request =
            Request::get(path).header("Authorization", format!("Bearer {token}")).header("Impersonate-User", "bob");
        for group in groups {
            request = request.header("Impersonate-Group", *group);
        }
        app.send(request.body(Body::empty()).unwrap()).await
    };
    let admin = crate::app::TOKEN;
    assert_eq!(as_bob(admin, SERVICES, &[]).await.code, 200);
    assert_eq!(as_bob(admin, "/api/v1/services", &[]).await.code, 403, "an administrator, but as bob");
    assert_eq!(as_bob(admin, "/api/v1/services", &["system:masters"]).await.code, 200);
    let alice = token(&app, "alice1", "alice", json!([])).await;
    created(&bind(&app, "admin", "alice", "").await);
    assert_eq!(
        as_bob(&alice, SERVICES, &[]).await.status(),
        "403 Forbidden: users \"bob\" is forbidden: User \"alice\" cannot impersonate resource \"users\" in API group \"\" \
         at the cluster scope"
    );
    let nobody = App::request("GET", SERVICES).header("Impersonate-Group", "ops").body(Body::empty()).unwrap();
    assert_eq!(app.send(nobody).await.code, 400);
}

#[tokio::test]
async fn a_service_accounts_token_goes_with_its_account() {
    let app = app().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let robot = json!({ "metadata": { "name": "robot" } });
    created(&app.post(accounts, &robot).await);
    let request = async |spec: Value| app.post(&format!("{accounts}/robot/token"), &json!({ "spec": spec })).await;
    let answer = request(json!({ "expirationSeconds": 600 })).await;
    created(&answer);
    let told = answer.json();
    assert_eq!((&told["kind"], &told["apiVersion"]), (&json!("TokenRequest"), &json!("authentication.k8s.io/v1")));
    let token = told["status"]["token"].as_str().unwrap().to_owned();

    let who =
        send(&app, &token, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", Some(&json!({}))).await.json();
    let info = &who["status"]["userInfo"];
    assert_eq!(info["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        info["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    assert_eq!(get(&app, &token, SERVICES).await.code, 403);
    let binding = json!({
        "metadata": { "name": "robots" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "ServiceAccount", "name": "robot", "namespace": "default" }],
    });
    created(&app.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding).await);
    assert_eq!(get(&app, &token, SERVICES).await.code, 200);

    // For somebody else, bound to what is not there, too short.
    let elsewhere =
        request(json!({ "audiences": ["vault"] })).await.json()["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(get(&app, &elsewhere, SERVICES).await.code, 401);
    let pod = json!({ "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "nope" } });
    assert_eq!(request(pod).await.status(), "404 NotFound: pods \"nope\" not found");
    assert_eq!(request(json!({ "expirationSeconds": 5 })).await.code, 422);
    assert_eq!(app.post(&format!("{accounts}/nobody/token"), &json!({ "spec": {} })).await.code, 404);

    // Another account of the same name is another account.
    assert_eq!(app.delete(&format!("{accounts}/robot")).await.code, 200);
    assert_eq!(get(&app, &token, SERVICES).await.code, 401);
    created(&app.post(accounts, &robot).await);
    assert_eq!(get(&app, &token, SERVICES).await.code, 401);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_pod_goes_with_it() {
    let app = app().await;
    let pods = "/api/v1/namespaces/default/pods";
    created(&app.post("/api/v1/namespaces/default/serviceaccounts", &json!({ "metadata": { "name": "robot" } })).await);
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    created(&app.post(pods, &pod).await);
    let spec = json!({ "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "p" } });
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let answer = app.post(path, &json!({ "spec": spec })).await;
    created(&answer);
    let token = answer.json()["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(get(&app, &token, "/api").await.code, 200);
    assert_eq!(app.delete(&format!("{pods}/p?gracePeriodSeconds=0")).await.code, 200);
    assert_eq!(get(&app, &token, "/api").await.code, 401);
}

/// A request as a node sends it, over a connection with its certificate.
async fn as_node(app: &App, node: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", if method == "PATCH" { "application/merge-patch+json" } else { "application/json" });
    let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
    let user = Arc::new(User::node(node));
    let certificate = Certificate { user, not_after: "2999-01-01T00:00:00Z".parse().unwrap() };
    app.send_over(certificate, request.body(body).unwrap()).await
}

#[tokio::test]
async fn a_node_writes_what_is_its_own() {
    let app = app().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, node: &str| {
        json!({
            "metadata": { "name": name },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
        })
    };
    for (name, node) in [("mine", "web-1"), ("theirs", "web-2")] {
        created(&app.post(pods, &pod(name, node)).await);
    }
    let status = json!({ "status": { "phase": "Running" } });
    let code = async |method: &str, path: &str, body: Option<&Value>| {
        as_node(&app, "web-1", method, path, body).await.code.as_u16()
    };
    assert_eq!(code("PATCH", &format!("{pods}/mine/status"), Some(&status)).await, 200);
    assert_eq!(
        as_node(&app, "web-1", "PATCH", &format!("{pods}/theirs/status"), Some(&status)).await.status(),
        "403 Forbidden: pods \"theirs\" is forbidden: User \"system:node:web-1\" cannot patch resource \"pods/status\" in \
         API group \"\" in the namespace \"default\""
    );
    assert_eq!(code("GET", &format!("{pods}/mine"), None).await, 200);
    assert_eq!(code("GET", &format!("{pods}/theirs"), None).await, 403);
    assert_eq!(code("GET", "/api/v1/pods", None).await, 403);
    assert_eq!(code("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dweb-2", None).await, 403);
    let own = as_node(&app, "web-1", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dweb-1", None).await;
    assert_eq!(own.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(code("DELETE", &format!("{pods}/theirs"), None).await, 403);
    assert_eq!(code("DELETE", &format!("{pods}/mine?gracePeriodSeconds=0"), None).await, 200);
    assert_eq!(code("DELETE", pods, None).await, 403);

    // Mirror Pods, on itself.
    assert_eq!(code("POST", pods, Some(&pod("plain", "web-1"))).await, 403);
    let mirror = |name: &str, node: &str| {
        let mut pod = pod(name, node);
        pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
        pod
    };
    assert_eq!(code("POST", pods, Some(&mirror("m", "web-1"))).await, 201);
    assert_eq!(code("POST", pods, Some(&mirror("n", "web-2"))).await, 403);

    // Nodes and Leases.
    let node = |name: &str, labels: Value| json!({ "metadata": { "name": name, "labels": labels } });
    assert_eq!(code("POST", "/api/v1/nodes", Some(&node("web-2", json!({})))).await, 403);
    assert_eq!(code("POST", "/api/v1/nodes", Some(&node("web-1", json!({ "kubernetes.io/os": "linux" })))).await, 201);
    let label = |key: &str| json!({ "metadata": { "labels": { key: "1" } } });
    assert_eq!(code("PATCH", "/api/v1/nodes/web-1", Some(&label("rack"))).await, 200);
    assert_eq!(
        as_node(&app, "web-1", "PATCH", "/api/v1/nodes/web-1", Some(&label("node-restriction.kubernetes.io/a")))
            .await
            .status(),
        "403 Forbidden: nodes \"web-1\" is forbidden: node \"web-1\" may not change the label \
         node-restriction.kubernetes.io/a"
    );
    created(&app.post("/api/v1/nodes", &node("web-2", json!({}))).await);
    assert_eq!(code("PATCH", "/api/v1/nodes/web-2", Some(&label("rack"))).await, 403);
    assert_eq!(code("DELETE", "/api/v1/nodes/web-1", None).await, 403);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(code("POST", leases, Some(&json!({ "metadata": { "name": "web-1" } }))).await, 201);
    assert_eq!(code("POST", leases, Some(&json!({ "metadata": { "name": "web-2" } }))).await, 403);

    // What nobody gave it, and what it needs no role for.
    for path in ["/api/v1/services", "/api/v1/namespaces", "/api/v1/nodes", "/apis/discovery.k8s.io/v1/endpointslices"]
    {
        assert_eq!(code("GET", path, None).await, 200, "{path}");
    }
    for path in
        [TOKENS, "/api/v1/serviceaccounts", "/api/v1/endpoints", "/apis/networking.k8s.io/v1/ipaddresses", "/metrics"]
    {
        assert_eq!(code("GET", path, None).await, 403, "{path}");
    }
    assert_eq!(code("POST", SERVICES, Some(&service("x", json!({})))).await, 403);
}

#[tokio::test]
async fn a_role_widens_no_node() {
    let app = app().await;
    created(&bind(&app, "cluster-admin", "system:node:web-1", "").await);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "nodeName": "web-2", "containers": [{ "name": "c", "image": "i" }] } });
    created(&app.post(pods, &pod).await);
    for (method, path, body) in [
        ("PATCH", format!("{pods}/p/status"), Some(json!({ "status": { "phase": "Failed" } }))),
        ("DELETE", format!("{pods}/p"), None),
        ("DELETE", pods.to_owned(), None),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/web-2".to_owned(),
            Some(json!({ "metadata": { "name": "web-2" } })),
        ),
    ] {
        let answer = as_node(&app, "web-1", method, &path, body.as_ref()).await;
        assert_eq!(answer.code, 403, "{method} {path}: {}", answer.text());
    }
}
