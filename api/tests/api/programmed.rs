//! What nodes have programmed: acknowledgements, who may wait for them, and the condition of a Service.

use std::time::Duration;

use expect_test::expect;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app::{Answer, App, SERVICES, service};
use crate::watch::Lines;

const ROOT: &str = "/apis/portolan.dev/v1alpha1";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// An agent, as far as the server sees one.
async fn acknowledge(app: &App, node: &str, services: u64, slices: u64, refused: Value) -> Answer {
    let body = json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "Acknowledgement", "agent": "a1",
        "revisions": {
            "services": services.to_string(), "endpointslices": slices.to_string(),
            "nodes": app.store.last_change(model::Resource::Nodes).to_string(),
            "servicecidrs": app.store.last_change(model::Resource::ServiceCidrs).to_string(),
        },
        "refused": refused,
    });
    app.put(&format!("{ROOT}/nodes/{node}/acknowledgement"), &body).await
}

/// A node that has everything that there is.
async fn has_all(app: &App, node: &str) {
    let now = app.store.revision();
    assert_eq!(acknowledge(app, node, now, now, json!([])).await.code, 200);
}

async fn lease(app: &App, node: &str, seconds: u32) {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let spec = json!({"renewTime": now, "leaseDurationSeconds": seconds});
    let answer = app.post(LEASES, &json!({"metadata": {"name": node}, "spec": spec})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

async fn slice(app: &App, name: &str, service: &str, address: &str) {
    let object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}], "ports": [{"port": 80}],
    });
    let answer = app.post(SLICES, &object).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

/// A Service without a selector: its slices are the test's.
async fn bare(app: &App, name: &str) -> u64 {
    let mut object = service(name, json!({}));
    object["spec"].as_object_mut().unwrap().remove("selector");
    let answer = app.post(SERVICES, &object).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    revision(&answer.json())
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// `true: a true, b false`, and whatever a kernel refused.
async fn programmed(app: &App, path: &str) -> String {
    let answer = app.get(&format!("{ROOT}/{path}")).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let value = answer.json();
    let node = |node: &Value| {
        let error = node["error"].as_str().map(|error| format!(" ({error})")).unwrap_or_default();
        format!("{} {}{error}", node["name"].as_str().unwrap(), node["programmed"])
    };
    let nodes: Vec<String> = value["nodes"].as_array().unwrap().iter().map(node).collect();
    format!("{}: {}", value["programmed"], nodes.join(", "))
}

const WEB: &str = "namespaces/default/services/web/programmed";

fn condition(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own: Vec<&Value> = conditions.iter().filter(|c| c["type"] == "portolan.dev/Programmed").collect();
    match own.as_slice() {
        [] => "none".to_owned(),
        [one] => format!("{} {}", one["status"].as_str().unwrap(), one["reason"].as_str().unwrap()),
        more => panic!("{more:?}"),
    }
}

#[tokio::test]
async fn the_answers_on_the_wire() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    lease(&app, "b", 40).await;
    let now = app.store.revision();
    let answer = acknowledge(&app, "a", now, now, json!([])).await;
    expect![[r#"
        200 {
          "apiVersion": "portolan.dev/v1alpha1",
          "intervalMilliseconds": 20,
          "kind": "AcknowledgementResponse"
        }"#]]
    .assert_eq(&answer.golden());
    acknowledge(&app, "c", now, now, json!([{"namespace": "default", "name": "web", "error": "no memory"}])).await;
    let masked = |text: String| text.replace(&format!("\"revision\": \"{now}\""), "\"revision\": \"<now>\"");
    expect![[r#"
        200 {
          "apiVersion": "portolan.dev/v1alpha1",
          "kind": "ServiceProgrammed",
          "metadata": {
            "name": "web",
            "namespace": "default",
            "resourceVersion": "<resourceVersion>",
            "uid": "<uid>"
          },
          "nodes": [
            {
              "ageSeconds": 0,
              "name": "a",
              "programmed": true,
              "revision": "<now>"
            },
            {
              "name": "b",
              "programmed": false,
              "revision": "0"
            },
            {
              "ageSeconds": 0,
              "error": "no memory",
              "name": "c",
              "programmed": false,
              "revision": "<now>"
            }
          ],
          "programmed": false,
          "revision": "6"
        }"#]]
    .assert_eq(&masked(app.get(&format!("{ROOT}/{WEB}")).await.golden()));
    let everything = app.get(&format!("{ROOT}/programmed")).await.json();
    assert_eq!((&everything["kind"], &everything["metadata"]), (&json!("Programmed"), &json!({})));
    assert_eq!(everything["revision"], app.store.revision().to_string());
    let yaml = app.get_as(&format!("{ROOT}/programmed"), "application/yaml").await;
    assert_eq!((yaml.code.as_u16(), yaml.header("Content-Type")), (200, "application/yaml"));
}

/// The revision of a resource moves with that resource alone; waiting for the newest of all would be for ever.
#[tokio::test]
async fn one_change_is_enough_and_changes_of_other_resources_do_not_matter() {
    let app = App::new().await;
    let web = bare(&app, "web").await;
    slice(&app, "web-1", "web", "192.0.2.1").await;
    let slices = app.store.last_change(model::Resource::EndpointSlices);
    // What no agent follows moves the revision on.
    lease(&app, "a", 40).await;
    app.post(
        "/api/v1/namespaces/default/events",
        &json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}),
    )
    .await;
    assert_eq!(programmed(&app, WEB).await, "false: a false");
    acknowledge(&app, "a", web, slices, json!([])).await;
    assert!(app.store.revision() > slices);
    assert_eq!(programmed(&app, WEB).await, "true: a true");
    assert_eq!(programmed(&app, "programmed").await, "true: a true");
    assert_eq!(programmed(&app, &format!("programmed?revision={}", app.store.revision())).await, "true: a true");
}

#[tokio::test]
async fn a_service_waits_for_its_own_slices_and_not_for_others() {
    let app = App::new().await;
    bare(&app, "web").await;
    bare(&app, "other").await;
    slice(&app, "web-1", "web", "192.0.2.1").await;
    has_all(&app, "a").await;
    has_all(&app, "b").await;
    let before = app.store.revision();
    slice(&app, "other-1", "other", "192.0.2.2").await;
    assert_eq!(programmed(&app, WEB).await, "true: a true, b true");
    assert_eq!(programmed(&app, "programmed").await, "false: a false, b false");
    assert_eq!(programmed(&app, &format!("programmed?revision={before}")).await, "true: a true, b true");
    // A slice of its own: new, gone, or another's from now on.
    slice(&app, "web-2", "web", "192.0.2.3").await;
    assert_eq!(programmed(&app, WEB).await, "false: a false, b false");
    has_all(&app, "a").await;
    assert_eq!(programmed(&app, WEB).await, "false: a true, b false");
    has_all(&app, "b").await;
    assert_eq!(app.delete(&format!("{SLICES}/web-1")).await.code, 200);
    assert_eq!(programmed(&app, WEB).await, "false: a false, b false");
    has_all(&app, "a").await;
    has_all(&app, "b").await;
    let patch = json!({"metadata": {"labels": {"kubernetes.io/service-name": "other"}}}).to_string();
    app.with_body("PATCH", &format!("{SLICES}/web-2"), "application/merge-patch+json", patch).await;
    assert_eq!(programmed(&app, WEB).await, "false: a false, b false");
}

/// A node from before what the history still has may lack a deletion of which nothing is left.
#[tokio::test]
async fn what_the_history_has_forgotten_is_asked_for_on_the_safe_side() {
    let app = App::with(|config| config.history.max_events = 2).await;
    let web = bare(&app, "web").await;
    slice(&app, "web-1", "web", "192.0.2.1").await;
    has_all(&app, "a").await;
    has_all(&app, "b").await;
    app.delete(&format!("{SLICES}/web-1")).await;
    bare(&app, "other").await;
    for n in 0..4 {
        slice(&app, &format!("other-{n}"), "other", "192.0.2.2").await;
    }
    let last = app.store.last_change(model::Resource::EndpointSlices);
    acknowledge(&app, "a", web, last - 1, json!([])).await;
    assert_eq!(programmed(&app, WEB).await, "false: a false, b false");
    acknowledge(&app, "a", web, last, json!([])).await;
    acknowledge(&app, "b", web, last - 1, json!([])).await;
    assert_eq!(
        programmed(&app, WEB).await,
        "true: a true, b true",
        "the history has what came after, and it is others'"
    );
}

#[tokio::test]
async fn who_waits_is_answered_when_the_last_node_has_it() {
    let app = App::new().await;
    bare(&app, "web").await;
    has_all(&app, "a").await;
    lease(&app, "b", 40).await;
    let path = format!("{WEB}?timeoutSeconds=30");
    let wait = programmed(&app, &path);
    let speak = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // A later change of the Service is not what was asked for.
        let known = app.store.revision();
        app.with_body(
            "PATCH",
            &format!("{SERVICES}/web"),
            "application/merge-patch+json",
            r#"{"spec":{"sessionAffinity":"ClientIP"}}"#,
        )
        .await;
        acknowledge(&app, "b", known, known, json!([])).await;
    };
    let begun = std::time::Instant::now();
    let (answer, ()) = tokio::join!(wait, speak);
    assert_eq!(answer, "true: a true, b true");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(programmed(&app, &format!("{WEB}?timeoutSeconds=1")).await, "false: a false, b false");
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_node_that_is_not_live_does_not_count() {
    let app = App::new().await;
    bare(&app, "web").await;
    assert_eq!(programmed(&app, WEB).await, "false: ");
    lease(&app, "a", 1).await;
    assert_eq!(programmed(&app, WEB).await, "false: a false");
    has_all(&app, "b").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(programmed(&app, WEB).await, "true: b true");
}

/// A machine without power holds its Lease for half a minute more; nobody waits for it.
#[tokio::test]
async fn a_node_that_fell_silent_is_not_waited_for() {
    let app = App::new().await;
    bare(&app, "web").await;
    has_all(&app, "a").await;
    lease(&app, "b", 40).await;
    let node = |status: &str| {
        let ready = json!({"type": "Ready", "status": status, "reason": "NodeStatusUnknown"});
        json!({"metadata": {"name": "b"}, "status": {"conditions": [ready]}})
    };
    assert_eq!(app.post("/api/v1/nodes", &node("False")).await.code, 201);
    has_all(&app, "a").await;
    assert_eq!(programmed(&app, "programmed").await, "false: a true, b false");
    assert_eq!(app.put("/api/v1/nodes/b/status", &node("Unknown")).await.code, 200);
    has_all(&app, "a").await;
    assert_eq!(programmed(&app, "programmed").await, "true: a true");
}

#[tokio::test]
async fn bad_input_is_told_apart() {
    let app = App::new().await;
    let path = format!("{ROOT}/nodes/a/acknowledgement");
    let good = json!({"agent": "a1", "revisions": {"services": "1", "endpointslices": "1", "nodes": "1", "servicecidrs": "1"}});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    assert_eq!(app.put(&path, &good).await.code, 200);
    let mut answers = String::new();
    for body in [
        with("kind", json!("Service")),
        with("apiVersion", json!("v1")),
        with("agent", json!("")),
        with("revisions", json!({"services": "x", "endpointslices": "1", "nodes": "1", "servicecidrs": "1"})),
        with("revisions", json!({"services": "1"})),
        with("refused", json!([{"name": "a"}])),
        with("refused", json!([{"namespace": "a", "name": "a", "error": "e".repeat(2000)}])),
        json!([]),
    ] {
        answers += &format!("{}\n", app.put(&path, &body).await.status());
    }
    answers += &format!("{}\n", app.with_body("PUT", &path, "application/yaml", "a: b").await.status());
    let long = format!("\"{}\"", "x".repeat(1024 * 1024));
    answers += &format!("{}\n", app.with_body("PUT", &path, "application/json", long).await.status());
    let name = format!("{ROOT}/nodes/{}/acknowledgement", "x".repeat(254));
    answers += &format!("{}\n", app.put(&name, &good).await.status());
    for path in [
        WEB,
        "programmed?revision=x",
        "programmed?revision=999999999",
        "programmed?timeoutSeconds=-1",
        "nodes/a/acknowledgement",
        "nodes/a",
        "nodes",
        "services",
    ] {
        answers += &format!("{}\n", app.get(&format!("{ROOT}/{path}")).await.status());
    }
    answers += &format!("{}\n", app.get_as(&format!("{ROOT}/programmed"), "text/html").await.status());
    expect![[r#"
        400 BadRequest: the kind in the data (Service) is not Acknowledgement
        400 BadRequest: the apiVersion in the data (v1) is not portolan.dev/v1alpha1
        400 BadRequest: Acknowledgement is invalid: agent: must have 1 to 64 bytes
        400 BadRequest: Acknowledgement is invalid: revisions.services: "x" is no revision
        400 BadRequest: Acknowledgement in version "v1alpha1" cannot be handled: missing field `endpointslices` at line 1 column 42
        400 BadRequest: Acknowledgement in version "v1alpha1" cannot be handled: missing field `namespace` at line 1 column 37
        400 BadRequest: Acknowledgement is invalid: refused[0]: must have at most 1024 bytes
        400 BadRequest: Acknowledgement in version "v1alpha1" cannot be handled: invalid length 2, expected struct Acknowledgement with 5 elements at line 1 column 2
        415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json
        413 RequestEntityTooLarge: Request entity too large: limit is 1048576
        400 BadRequest: the name of a node has at most 253 bytes
        404 NotFound: services "web" not found
        400 BadRequest: invalid revision: "x" is no revision
        504 Timeout: Timeout: Too large resource version: 999999999, current: 5
        400 BadRequest: invalid timeoutSeconds: "-1" is no number of seconds
        405 MethodNotAllowed: the server does not allow this method on the requested resource
        404 NotFound: the server could not find the requested resource
        404 NotFound: the server could not find the requested resource
        404 NotFound: the server could not find the requested resource
        406 NotAcceptable: only the following media types are accepted: application/json, application/yaml
    "#]].assert_eq(&answers);
}

#[tokio::test]
async fn the_condition_is_there_where_one_service_is_read_by_its_name() {
    let app = App::new().await;
    bare(&app, "web").await;
    let one = format!("{SERVICES}/web");
    let selected = format!("{SERVICES}?fieldSelector=metadata.name%3Dweb");
    let read = async |path: &str| app.get(path).await.json();
    assert_eq!(condition(&read(&one).await), "Unknown NoNodes");
    lease(&app, "a", 40).await;
    assert_eq!(condition(&read(&one).await), "False Programming");
    has_all(&app, "a").await;
    for path in [&one, &format!("{one}/status")] {
        assert_eq!(condition(&read(path).await), "True Programmed");
    }
    let listed = read(&selected).await;
    assert_eq!(condition(&listed["items"][0]), "True Programmed");
    let everywhere = "/api/v1/services?fieldSelector=metadata.name%3Dweb,metadata.namespace%3Ddefault";
    assert_eq!(condition(&read(everywhere).await["items"][0]), "True Programmed");
    // Where many are read nobody pays for it, and other shapes have no place for it.
    for path in [SERVICES, "/api/v1/services", "/api/v1/services?fieldSelector=metadata.name%3Dweb"] {
        let list = read(path).await;
        let web = list["items"].as_array().unwrap().iter().find(|s| s["metadata"]["name"] == "web").unwrap();
        assert_eq!(condition(web), "none", "{path}");
    }
    // Protobuf has it, too, and YAML.
    let protobuf = app.get_as(&one, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(condition(&model::protobuf::decode(&protobuf.body, "", "").unwrap()), "True Programmed");
    let protobuf = app.get_as(&selected, "application/vnd.kubernetes.protobuf").await;
    let list = model::protobuf::decode(&protobuf.body, "", "");
    assert!(list.is_err() || condition(&list.unwrap()["items"][0]) == "True Programmed");
    assert!(protobuf.body.windows(23).any(|w| w == b"portolan.dev/Programmed"));
    assert!(app.get_as(&one, "application/yaml").await.text().contains("type: portolan.dev/Programmed"));
    let refused = json!([{"namespace": "default", "name": "web", "error": "no memory"}]);
    acknowledge(&app, "a", app.store.revision(), app.store.revision(), refused).await;
    let refused = read(&one).await;
    assert_eq!(condition(&refused), "False Refused");
    let message = refused["status"]["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message, "1 of 1 live nodes could not program it: a: no memory");
}

/// What a client has read it may send back; nothing of it is stored, and nothing is written for its sake.
#[tokio::test]
async fn the_condition_is_never_stored() {
    let app = App::new().await;
    bare(&app, "web").await;
    has_all(&app, "a").await;
    let one = format!("{SERVICES}/web");
    let before = app.store.revision();
    let read = app.get(&one).await.json();
    assert_eq!(condition(&read), "True Programmed");
    let own = read["status"]["conditions"][0].clone();
    for (method, path, content_type, body) in [
        ("PUT", one.clone(), "application/json", read.clone()),
        ("PUT", format!("{one}/status"), "application/json", read.clone()),
        ("PATCH", format!("{one}/status"), "application/merge-patch+json", json!({"status": {"conditions": [own]}})),
        (
            "PATCH",
            format!("{one}/status"),
            "application/strategic-merge-patch+json",
            json!({"status": {"conditions": [own]}}),
        ),
        (
            "PATCH",
            format!("{one}/status"),
            "application/json-patch+json",
            json!([{"op": "add", "path": "/status/conditions", "value": [own]}]),
        ),
    ] {
        let answer = app.with_body(method, &path, content_type, body.to_string()).await;
        assert_eq!(answer.code, 200, "{method} {path}: {}", answer.text());
        assert_eq!(condition(&answer.json()), "True Programmed", "{method} {path}");
        assert_eq!(app.store.revision(), before, "{method} {path}");
    }
    // Beside a condition of somebody else's.
    let mut mine = own.clone();
    mine["type"] = "example.com/Mine".into();
    let apply = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "status": {"conditions": [mine, own]},
    });
    let path = format!("{one}/status?fieldManager=me");
    let answer = app.with_body("PATCH", &path, "application/apply-patch+yaml", apply.to_string()).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let applied = answer.json();
    assert_eq!(applied["status"]["conditions"].as_array().unwrap().len(), 2);
    assert_eq!(condition(&applied), "False Programming", "the Service has another revision now");
    assert!(!applied["metadata"]["managedFields"].to_string().contains("Programmed"), "{applied}");
    let stored = app.store.get(model::Resource::Services, "default", "web").unwrap();
    let stored = String::from_utf8_lossy(&stored.bytes).into_owned();
    assert!(stored.contains("example.com/Mine") && !stored.contains("portolan.dev/Programmed"), "{stored}");
}

/// `kubectl diff` compares what is read with what a dry run answers.
#[tokio::test]
async fn a_dry_run_tells_of_the_service_that_there_is() {
    let app = App::new().await;
    bare(&app, "web").await;
    has_all(&app, "a").await;
    let one = format!("{SERVICES}/web");
    let read = app.get(&one).await.json();
    let patch = r#"{"spec":{"sessionAffinity":"ClientIP"}}"#;
    let tried =
        app.with_body("PATCH", &format!("{one}?dryRun=All"), "application/merge-patch+json", patch).await.json();
    assert_eq!(tried["spec"]["sessionAffinity"], "ClientIP");
    assert_eq!(tried["status"], read["status"]);
    assert_eq!(app.get(&one).await.json(), read);
}

#[tokio::test]
async fn a_watch_of_one_service_is_told_when_the_condition_changes() {
    let app = App::new().await;
    let web = bare(&app, "web").await;
    lease(&app, "a", 40).await;
    let next = async |lines: &mut Lines| {
        let event = lines.next().await.unwrap();
        let object = &event["object"];
        format!("{} {} {}", event["type"].as_str().unwrap(), revision(object), condition(object))
    };
    let mut lines = Lines::open_at(&app, &format!("{SERVICES}?watch=true&fieldSelector=metadata.name%3Dweb"), "").await;
    assert_eq!(next(&mut lines).await, format!("ADDED {web} False Programming"));
    has_all(&app, "a").await;
    assert_eq!(next(&mut lines).await, format!("MODIFIED {web} True Programmed"));
    // The same again is nothing; a slice of its own is, even when no node says a word.
    has_all(&app, "a").await;
    slice(&app, "web-1", "web", "192.0.2.1").await;
    assert_eq!(next(&mut lines).await, format!("MODIFIED {web} False Programming"));
    has_all(&app, "a").await;
    assert_eq!(next(&mut lines).await, format!("MODIFIED {web} True Programmed"));

    // As kubectl wait does it: a list, and a watch from there; what happens in between is not lost.
    let path = format!("{SERVICES}?fieldSelector=metadata.name%3Dweb");
    slice(&app, "web-2", "web", "192.0.2.2").await;
    let listed = app.get(&path).await.json();
    assert_eq!(condition(&listed["items"][0]), "False Programming");
    has_all(&app, "a").await;
    let from = revision(&listed);
    let mut resumed = Lines::open_at(&app, &format!("{path}&watch=true&resourceVersion={from}"), "").await;
    assert_eq!(next(&mut resumed).await, format!("MODIFIED {web} True Programmed"));

    assert_eq!(app.delete(&format!("{SERVICES}/web")).await.code, 200);
    let event = loop {
        let event = resumed.next().await.unwrap();
        if event["type"] != "MODIFIED" {
            break event;
        }
    };
    assert_eq!((&event["type"], condition(&event["object"])), (&json!("DELETED"), "none".to_owned()));
}
