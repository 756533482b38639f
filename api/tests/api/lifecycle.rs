//! How objects end, through the API: what is asked, what is answered; and how a Pod comes to its node.

use serde_json::{Value, json};

use crate::app::{Answer, App, SERVICES, service};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MERGE: &str = "application/merge-patch+json";

async fn owned(app: &App, name: &str, owner: &Value) -> Value {
    let reference = json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true,
    });
    let answer = app.post(LEASES, &json!({"metadata": {"name": name, "ownerReferences": [reference]}})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

async fn delete_with(app: &App, path: &str, options: Value) -> Answer {
    app.with_body("DELETE", path, "application/json", options.to_string()).await
}

#[tokio::test]
async fn propagation_by_body_and_by_query() {
    let app = App::new().await;
    let web = app.service("web", json!({})).await;
    owned(&app, "child", &web).await;
    let answer = app.delete(&format!("{SERVICES}/web?propagationPolicy=Orphan")).await;
    assert_eq!((answer.code.as_u16(), &answer.json()["kind"]), (200, &json!("Service")));
    let child = app.get(&format!("{LEASES}/child")).await.json();
    assert_eq!(child["metadata"].get("ownerReferences"), None);

    let web = app.service("web", json!({})).await;
    owned(&app, "other", &web).await;
    let yaml = "kind: DeleteOptions\napiVersion: v1\npropagationPolicy: Background\n";
    app.with_body("DELETE", &format!("{SERVICES}/web"), "application/yaml", yaml).await;
    assert_eq!(app.get(&format!("{LEASES}/other")).await.code, 404);
    assert_eq!(app.get(&format!("{LEASES}/child")).await.code, 200);

    let both = json!({"orphanDependents": true, "propagationPolicy": "Orphan"});
    assert_eq!(
        delete_with(&app, &format!("{LEASES}/child"), both).await.status(),
        "422 Invalid: DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": \
         orphanDependents and deletionPropagation cannot be both set"
    );
}

#[tokio::test]
async fn what_is_not_gone_yet_is_answered_as_it_is() {
    let app = App::new().await;
    let owner = app.post(LEASES, &json!({"metadata": {"name": "owner"}})).await.json();
    owned(&app, "child", &owner).await;
    let held = json!({"metadata": {"finalizers": ["example.com/a"]}}).to_string();
    app.with_body("PATCH", &format!("{LEASES}/child"), MERGE, held).await;
    let answer = delete_with(&app, &format!("{LEASES}/owner"), json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(answer.code, 200);
    let value = answer.json();
    assert_eq!((&value["kind"], &value["metadata"]["finalizers"]), (&json!("Lease"), &json!(["foregroundDeletion"])));
    assert!(value["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(value["metadata"]["deletionGracePeriodSeconds"], 0);
    // 202 for those alone who asked in the oldest way.
    let answer = delete_with(&app, &format!("{LEASES}/child"), json!({"orphanDependents": false})).await;
    assert_eq!((answer.code.as_u16(), &answer.json()["kind"]), (202, &json!("Lease")));
    app.with_body("PATCH", &format!("{LEASES}/child"), MERGE, r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(app.get(&format!("{LEASES}/owner")).await.code, 404);
    app.service("web", json!({})).await;
    assert_eq!(app.delete(&format!("{SERVICES}/web?orphanDependents=false")).await.code, 200);
}

#[tokio::test]
async fn a_pod_ends_gracefully() {
    let app = App::new().await;
    let pod = json!({"metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    app.post(PODS, &pod).await;
    let path = format!("{PODS}/p");
    let times = |answer: Answer| {
        assert_eq!((answer.code.as_u16(), &answer.json()["kind"]), (200, &json!("Pod")));
        let metadata = answer.json()["metadata"].clone();
        format!("{} {}", metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"])
    };
    assert_eq!(times(app.delete(&path).await), r#""2024-05-01T12:00:30Z" 30"#);
    assert_eq!(times(app.delete(&format!("{path}?gracePeriodSeconds=60")).await), r#""2024-05-01T12:00:30Z" 30"#);
    assert_eq!(times(delete_with(&app, &path, json!({"gracePeriodSeconds": 5})).await), r#""2024-05-01T12:00:05Z" 5"#);
    assert_eq!(times(app.delete(&format!("{path}?gracePeriodSeconds=-7")).await), r#""2024-05-01T12:00:01Z" 1"#);
    assert_eq!(app.get(&path).await.code, 200);
    assert_eq!(app.delete(&format!("{path}?gracePeriodSeconds=0")).await.json()["kind"], "Pod");
    assert_eq!(app.get(&path).await.code, 404);
    // Nobody runs it.
    let unbound = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    app.post(PODS, &unbound).await;
    app.delete(&path).await;
    assert_eq!(app.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_collection_goes_with_its_options() {
    let app = App::new().await;
    for name in ["a", "b", "c"] {
        app.post(LEASES, &json!({"metadata": {"name": name}})).await;
    }
    let names = |value: Value| -> Vec<String> {
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        value["items"].as_array().unwrap().iter().map(name).collect()
    };
    let dry = app.delete(&format!("{LEASES}?dryRun=All")).await;
    assert_eq!((dry.code.as_u16(), names(dry.json()).len()), (200, 3));
    assert_eq!(names(app.get(LEASES).await.json()), ["a", "b", "c"]);
    let wrong = delete_with(&app, LEASES, json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!(wrong.code, 409, "{}", wrong.text());
    assert_eq!(names(app.delete(&format!("{LEASES}?limit=1")).await.json()), ["a"]);
    assert_eq!(names(app.delete(&format!("{LEASES}?fieldSelector=metadata.name%3Dc")).await.json()), ["c"]);
    assert_eq!(names(app.get(LEASES).await.json()), ["b"]);
    assert_eq!(
        app.delete("/api/v1/namespaces").await.status(),
        "405 MethodNotAllowed: deletecollection is not supported on resources of kind \"namespaces\""
    );
}

#[tokio::test]
async fn a_namespace_and_its_finalize() {
    let app = App::new().await;
    let created = app.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).await.json();
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    let mut web = service("web", json!({}));
    web["metadata"]["finalizers"] = json!(["example.com/a"]);
    let services = "/api/v1/namespaces/team/services";
    assert_eq!(app.post(services, &web).await.code, 201);
    let answer = app.delete("/api/v1/namespaces/team").await;
    let value = answer.json();
    assert_eq!(
        (answer.code.as_u16(), &value["kind"], &value["status"]["phase"]),
        (200, &json!("Namespace"), &json!("Terminating"))
    );
    let late = app.post(services, &service("late", json!({}))).await;
    assert_eq!(
        late.status(),
        "403 Forbidden: services \"late\" is forbidden: unable to create new content in namespace team because it is \
         being terminated"
    );
    assert_eq!(late.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");

    // Whoever takes our finalizer does not leave the Service without a namespace.
    let mut value = app.get("/api/v1/namespaces/team").await.json();
    value["spec"]["finalizers"] = json!([]);
    let answer = app.put("/api/v1/namespaces/team/finalize", &value).await;
    assert_eq!((answer.code.as_u16(), &answer.json()["kind"]), (200, &json!("Namespace")), "{}", answer.text());
    assert_eq!(app.get("/api/v1/namespaces/team").await.code, 200);
    assert_eq!(
        app.get("/api/v1/namespaces/team/finalize").await.status(),
        "405 MethodNotAllowed: GET is not supported on resources of kind \"namespaces\""
    );
    app.with_body("PATCH", &format!("{services}/web"), MERGE, r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(app.get("/api/v1/namespaces/team").await.code, 404);

    // An empty one goes at once, and is answered as it last was.
    app.post("/api/v1/namespaces", &json!({"metadata": {"name": "empty"}})).await;
    let gone = app.delete("/api/v1/namespaces/empty").await.json();
    assert_eq!((&gone["kind"], &gone["status"]["phase"]), (&json!("Namespace"), &json!("Terminating")));
    assert!(gone["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(app.get("/api/v1/namespaces/empty").await.code, 404);
    for name in ["default", "kube-system", "kube-public"] {
        assert_eq!(
            app.delete(&format!("/api/v1/namespaces/{name}")).await.status(),
            format!("403 Forbidden: namespaces \"{name}\" is forbidden: this namespace may not be deleted")
        );
    }
}

#[tokio::test]
async fn a_pod_is_bound_by_a_binding() {
    let app = App::new().await;
    for name in ["p", "q"] {
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        app.post(PODS, &pod).await;
    }
    let binding = |name: &str, target: Value| {
        json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name, "annotations": {"example.com/why": "free"}}, "target": target})
    };
    let path = format!("{PODS}/p/binding");
    let node = json!({"kind": "Node", "name": "n1"});
    let wrong = app.post(&path, &binding("p", json!({"kind": "Machine"}))).await;
    assert_eq!(
        wrong.status(),
        "422 Invalid: Binding \"p\" is invalid: [target.kind: Unsupported value: \"Machine\": supported values: \
         \"<empty>\", \"Node\", target.name: Required value]"
    );
    assert_eq!(
        app.post(&path, &binding("other", node.clone())).await.status(),
        "400 BadRequest: name in URL does not match name in Binding object"
    );
    assert_eq!(app.post(&format!("{path}?dryRun=All"), &binding("p", node.clone())).await.code, 201);
    let answer = app.post(&path, &binding("p", node.clone())).await;
    assert_eq!(answer.code, 201);
    assert_eq!(
        answer.json(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
    );
    let pod = app.get(&format!("{PODS}/p")).await.json();
    assert_eq!(
        (&pod["spec"]["nodeName"], &pod["status"]["conditions"][0]["type"]),
        (&json!("n1"), &json!("PodScheduled"))
    );
    assert_eq!(pod["metadata"]["annotations"]["example.com/why"], "free");

    let again = app.post(&path, &binding("p", json!({"name": "n2"}))).await;
    assert_eq!(
        again.status(),
        "409 Conflict: Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    assert_eq!(again.json()["details"], json!({"name": "p", "kind": "pods/binding"}));
    // The older way.
    assert_eq!(app.post("/api/v1/namespaces/default/bindings", &binding("q", node.clone())).await.code, 201);
    assert_eq!(app.get(&format!("{PODS}/q")).await.json()["spec"]["nodeName"], "n1");
    assert_eq!(
        app.post(&format!("{PODS}/nobody/binding"), &binding("nobody", node)).await.status(),
        "404 NotFound: pods \"nobody\" not found"
    );
}
