//! Events in two forms: one store behind both.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::app::App;

const CORE: &str = "/api/v1/namespaces/default/events";
const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn new(name: &str) -> Value {
    json!({
        "metadata": {"name": name}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Up",
        "note": "it is up", "type": "Normal", "action": "Start", "eventTime": "2024-05-01T12:00:00.000000Z",
        "reportingController": "example.com/c", "reportingInstance": "c-1",
    })
}

#[tokio::test]
async fn either_form_shows_what_the_other_wrote() {
    let app = App::new().await;
    let created = app.post(NEW, &new("a")).await;
    assert_eq!(created.code, 201, "{}", created.text());
    assert_eq!(created.json()["apiVersion"], "events.k8s.io/v1");
    let core = app.get(&format!("{CORE}/a")).await.json();
    assert_eq!((&core["apiVersion"], &core["message"]), (&json!("v1"), &json!("it is up")));
    assert_eq!(core["involvedObject"]["name"], "p");
    assert_eq!(core["reportingComponent"], "example.com/c");
    assert_eq!(core["metadata"]["resourceVersion"], created.json()["metadata"]["resourceVersion"]);

    let old = json!({
        "metadata": {"name": "b"}, "involvedObject": {"kind": "Pod", "name": "q", "namespace": "default"},
        "reason": "Down", "message": "it is down", "type": "Warning", "source": {"component": "kubelet"},
        "firstTimestamp": "2024-05-01T11:00:00Z", "lastTimestamp": "2024-05-01T11:30:00Z", "count": 3,
    });
    assert_eq!(app.post(CORE, &old).await.code, 201);
    let shown = app.get(&format!("{NEW}/b")).await.json();
    assert_eq!(shown["note"], "it is down");
    assert_eq!((&shown["deprecatedCount"], &shown["deprecatedSource"]["component"]), (&json!(3), &json!("kubelet")));
    assert_eq!(shown["deprecatedLastTimestamp"], "2024-05-01T11:30:00Z");
    assert_eq!(shown.get("message"), None);

    let list = app.get(NEW).await.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("events.k8s.io/v1")));
    let notes: Vec<&str> = list["items"].as_array().unwrap().iter().map(|e| e["note"].as_str().unwrap()).collect();
    assert_eq!(notes, ["it is up", "it is down"]);
    let some = app.get(&format!("{NEW}?fieldSelector=regarding.name%3Dq,reportingController%3D")).await.json();
    assert_eq!(some["items"][0]["metadata"]["name"], "b");
    assert_eq!(
        app.get(&format!("{NEW}?fieldSelector=involvedObject.name%3Dq")).await.status(),
        "400 BadRequest: field label not supported: involvedObject.name"
    );
}

#[tokio::test]
async fn writes_through_the_new_form() {
    let app = App::new().await;
    app.post(NEW, &new("a")).await;
    let path = format!("{NEW}/a");
    let series = r#"{"series":{"count":2,"lastObservedTime":"2024-05-01T12:00:01.000000Z"}}"#;
    for kind in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let patched = app.with_body("PATCH", &path, kind, series).await;
        assert_eq!(patched.code, 200, "{}", patched.text());
        assert_eq!(patched.json()["series"]["count"], 2);
    }
    let tested = r#"[{"op":"test","path":"/note","value":"it is up"}]"#;
    assert_eq!(app.with_body("PATCH", &path, "application/json-patch+json", tested).await.code, 200);
    let other = app.with_body("PATCH", &path, "application/merge-patch+json", r#"{"note":"other"}"#).await;
    assert_eq!(
        other.status(),
        "422 Invalid: Event.events.k8s.io \"a\" is invalid: message: Invalid value: \"other\": field is immutable"
    );
    // The lenient API lets it.
    let core = format!("{CORE}/a");
    let lenient = app.with_body("PATCH", &core, "application/merge-patch+json", r#"{"message":"m"}"#).await;
    assert_eq!(lenient.code, 200);

    let mut value = app.get(&path).await.json();
    value["metadata"]["labels"] = json!({"a": "b"});
    let updated = app.put(&path, &value).await;
    assert_eq!((updated.code.as_u16(), &updated.json()["note"]), (200, &json!("m")), "{}", updated.text());
    value["metadata"]["resourceVersion"] = "1".into();
    assert!(app.put(&path, &value).await.status().starts_with(
        "409 Conflict: Operation cannot be fulfilled on events.events.k8s.io \"a\": the object has been modified"
    ));
    assert_eq!(app.put(&format!("{NEW}/made"), &new("made")).await.code, 201);
    assert_eq!(app.post(NEW, &new("a")).await.status(), "409 AlreadyExists: events.events.k8s.io \"a\" already exists");
    assert_eq!(app.get(&format!("{NEW}/x")).await.status(), "404 NotFound: events.events.k8s.io \"x\" not found");
    let unknown = app
        .with_body(
            "POST",
            &format!("{NEW}?fieldValidation=Strict"),
            "application/json",
            r#"{"metadata":{"name":"u"},"message":"m"}"#,
        )
        .await;
    assert!(unknown.status().contains("unknown field \"message\""), "{}", unknown.text());

    let gone = app.delete(&path).await.json();
    assert_eq!((&gone["status"], &gone["details"]["group"]), (&json!("Success"), &json!("events.k8s.io")));
    assert_eq!(app.delete(NEW).await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(app.get(CORE).await.json()["items"], json!([]));
}

#[tokio::test]
async fn what_the_new_form_requires() {
    let app = App::new().await;
    let answer = app.post(NEW, &json!({"metadata": {"name": "a"}, "regarding": {"namespace": "default"}})).await;
    assert_eq!(
        answer.status(),
        "422 Invalid: Event.events.k8s.io \"a\" is invalid: [eventTime: Required value, type: Invalid value: \"\": has \
         invalid value: ]"
    );
    assert_eq!(
        app.post(CORE, &json!({"metadata": {"name": "a"}, "involvedObject": {"namespace": "default"}})).await.code,
        201
    );
}

#[tokio::test]
async fn tables_and_watches_of_the_new_form() {
    let app = App::new().await;
    app.post(NEW, &new("a")).await;
    let (new_table, core) = (app.get_as(NEW, TABLE).await.json(), app.get_as(CORE, TABLE).await.json());
    assert_eq!(new_table["columnDefinitions"], core["columnDefinitions"]);
    assert_eq!(new_table["rows"][0]["cells"], core["rows"][0]["cells"]);
    let whole = app.get_as(&format!("{NEW}?includeObject=Object"), TABLE).await.json();
    assert_eq!(whole["rows"][0]["object"]["note"], "it is up");

    let revision = app.get(NEW).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let path = format!("{NEW}?watch=1&resourceVersion={revision}");
    let mut stream = app.start(App::request("GET", &path).body(axum::body::Body::empty()).unwrap()).await.into_body();
    app.post(CORE, &json!({"metadata": {"name": "b"}, "involvedObject": {"namespace": "default"}, "message": "m"}))
        .await;
    let frame = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    let line: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!((&line["type"], &line["object"]["note"]), (&json!("ADDED"), &json!("m")));
    assert_eq!(line["object"]["apiVersion"], "events.k8s.io/v1");
}
