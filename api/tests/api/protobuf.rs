//! Protobuf bodies and answers, as client-go and kubectl send and ask for them.

use axum::body::Body;
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use model::{Resource, protobuf};
use serde_json::{Value, json};

use crate::app::{Answer, App, SERVICES, service};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What client-go's typed clients say.
const TYPED: &str = "application/vnd.kubernetes.protobuf,application/json";

async fn send(app: &App, method: &str, path: &str, body: Vec<u8>) -> Answer {
    let request = App::request(method, path).header("Content-Type", PROTOBUF).header("Accept", TYPED);
    app.send(request.body(Body::from(body)).unwrap()).await
}

fn read(answer: &Answer) -> Value {
    assert_eq!(answer.header("Content-Type"), PROTOBUF, "{:?}", answer.body);
    protobuf::decode(&answer.body, "", "").unwrap()
}

/// `404 NotFound: services "x" not found`, from a Status in protobuf.
fn status(answer: &Answer) -> String {
    let status = read(answer);
    assert_eq!(status["code"], answer.code.as_u16());
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    format!("{} {}: {}", status["code"], text("reason"), text("message"))
}

/// The body that kubectl 1.32 sends for `kubectl create namespace foo`.
#[tokio::test]
async fn kubectl_creates_a_namespace() {
    let app = App::new().await;
    let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x1b\x0a\x15\x0a\x03foo\x12\0\x1a\0\x22\0\x2a\0\x32\0\x38\0\x42\0\x12\0\x1a\x02\x0a\0\x1a\0\x22\0";
    let answer =
        send(&app, "POST", "/api/v1/namespaces?fieldManager=kubectl-create&fieldValidation=Strict", body.to_vec())
            .await;
    assert_eq!(answer.code, 201, "{:?}", answer.body);
    let namespace = read(&answer);
    assert_eq!(namespace["metadata"]["name"], "foo");
    assert_eq!(namespace["status"]["phase"], "Active");
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
}

#[tokio::test]
async fn a_service_goes_in_and_out() {
    let app = App::new().await;
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }, { "port": 81, "name": "b", "targetPort": "x" }] },
    });
    // Without a name for the first of two ports: the same refusal as for JSON.
    let answer = send(&app, "POST", SERVICES, protobuf::encode(&object).unwrap()).await;
    assert_eq!(status(&answer), "422 Invalid: Service \"web\" is invalid: spec.ports[0].name: Required value");
    let mut object = object;
    object["spec"]["ports"][0]["name"] = "a".into();
    let answer = send(&app, "POST", SERVICES, protobuf::encode(&object).unwrap()).await;
    assert_eq!(answer.code, 201, "{:?}", answer.body);
    let created = read(&answer);
    assert_eq!(created["spec"]["ports"][0]["targetPort"], 80, "an unset targetPort is the port");
    assert_eq!(created["spec"]["ports"][1]["targetPort"], "x");
    assert_eq!(created["spec"]["sessionAffinity"], "None");

    let path = format!("{SERVICES}/web");
    let mut wanted = created.clone();
    wanted["spec"]["sessionAffinity"] = "ClientIP".into();
    let answer = send(&app, "PUT", &path, protobuf::encode(&wanted).unwrap()).await;
    assert_eq!(answer.code, 200, "{:?}", answer.body);
    assert_eq!(read(&answer)["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);

    let patch = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    let request =
        App::request("PATCH", &path).header("Accept", TYPED).header("Content-Type", "application/merge-patch+json");
    let patched = app.send(request.body(Body::from(patch)).unwrap()).await;
    assert_eq!(read(&patched)["metadata"]["labels"]["a"], "b");
    assert_eq!(read(&app.get_as(&path, TYPED).await), read(&patched));
    let json = app.get(&path).await.json();
    assert_eq!(json["metadata"]["resourceVersion"], read(&patched)["metadata"]["resourceVersion"]);
}

/// What a client reads and sends back as it is changes nothing, whatever it decoded it into in between.
#[tokio::test]
async fn an_object_that_comes_back_as_it_went_changes_nothing() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let meta = |name: &str| json!({ "name": name });
    let pod = json!({ "metadata": meta("p"), "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let lease = json!({ "metadata": meta("l"), "spec": { "holderIdentity": "x", "leaseDurationSeconds": 15,
        "renewTime": "2024-05-01T12:00:00.123456Z" } });
    let event = json!({ "metadata": meta("e"), "involvedObject": { "namespace": "default", "kind": "Pod", "name": "p" },
        "reason": "Because", "lastTimestamp": "2024-05-01T12:00:00Z", "type": "Normal" });
    let slice = json!({ "metadata": meta("s"), "addressType": "IPv4", "endpoints": [{ "addresses": ["10.1.1.1"] }],
        "ports": [{ "port": 80 }] });
    let endpoints = json!({ "metadata": meta("ep"), "subsets": [{ "addresses": [{ "ip": "10.1.1.1" }], "ports": [{ "port": 80 }] }] });
    for (collection, object) in [
        ("/api/v1/namespaces/default/pods", pod),
        ("/api/v1/nodes", json!({ "metadata": meta("n") })),
        ("/api/v1/namespaces", json!({ "metadata": meta("ns") })),
        ("/apis/coordination.k8s.io/v1/namespaces/default/leases", lease),
        ("/api/v1/namespaces/default/events", event),
        ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice),
        ("/api/v1/namespaces/default/endpoints", endpoints),
        (SERVICES, service("other", json!({}))),
    ] {
        let created = app.post(collection, &object).await;
        assert_eq!(created.code, 201, "{}", created.text());
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        let got = app.get_as(&path, TYPED).await;
        read(&got);
        let put = send(&app, "PUT", &path, got.body.to_vec()).await;
        assert_eq!(put.code, 200, "{:?}", put.body);
        let (before, after) = (created.json(), app.get(&path).await.json());
        assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "{before}\n{after}");
    }
}

#[tokio::test]
async fn lists_and_metadata() {
    let app = App::new().await;
    app.service("a", json!({ "x": "y" })).await;
    app.service("b", json!({})).await;
    let list = read(&app.get_as(SERVICES, TYPED).await);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ServiceList"), &json!("v1")));
    let json = app.get(SERVICES).await.json();
    assert_eq!(list["metadata"], json["metadata"]);
    let names = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect()
    };
    assert_eq!(names(&list), names(&json));

    let empty = read(&app.get_as("/api/v1/nodes", TYPED).await);
    assert_eq!(empty["kind"], "NodeList");

    for version in ["v1", "v1beta1"] {
        let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v={version}");
        let list = read(&app.get_as(SERVICES, &accept).await);
        assert_eq!(list["apiVersion"], format!("meta.k8s.io/{version}"));
        assert_eq!(list["metadata"], json["metadata"]);
        assert_eq!(names(&list), names(&json));
        assert_eq!(list["items"][0]["metadata"]["labels"], json["items"][0]["metadata"]["labels"]);
        let accept = accept.replace("MetadataList", "Metadata");
        let one = read(&app.get_as(&format!("{SERVICES}/a"), &accept).await);
        assert_eq!(one["kind"], "PartialObjectMetadata");
    }
    // There is no Table in protobuf: the next of the list is taken.
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(app.get_as(SERVICES, &table).await.json()["kind"], "Table");
}

#[tokio::test]
async fn options_of_a_delete() {
    let app = App::new().await;
    let created = app.service("web", json!({})).await;
    let path = format!("{SERVICES}/web");
    let options = |uid: &str| {
        json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid },
            "propagationPolicy": "Background" })
    };
    let answer = send(&app, "DELETE", &path, protobuf::encode(&options("other")).unwrap()).await;
    assert!(status(&answer).starts_with("409 Conflict: "), "{}", status(&answer));
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let answer = send(&app, "DELETE", &path, protobuf::encode(&options(uid)).unwrap()).await;
    assert_eq!(answer.code, 200);
    assert_eq!(read(&answer)["kind"], "Service");
    let answer = send(&app, "DELETE", "/api/v1/nodes/nope", Vec::new()).await;
    assert_eq!(status(&answer), "404 NotFound: nodes \"nope\" not found");
    let answer = send(&app, "DELETE", "/api/v1/nodes/nope", b"k8s\0\x12\x05\x0a\x03x".to_vec()).await;
    assert_eq!(
        status(&answer),
        "400 BadRequest: DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: unexpected EOF for field Unknown.raw"
    );
}

#[tokio::test]
async fn what_is_no_protobuf_is_refused() {
    let app = App::new().await;
    let service =
        |version: &str, kind: &str| protobuf::encode(&json!({ "apiVersion": version, "kind": kind })).unwrap();
    let mut truncated = service("v1", "Service");
    truncated.truncate(40);
    let cases = [
        (
            b"{}".to_vec(),
            "the object provided is unrecognized (must be of type Service): provided data does not appear \
            to be a protobuf message, expected prefix [107 56 115 0] ({})",
        ),
        (Vec::new(), "the object provided is unrecognized (must be of type Service): empty data (<empty>)"),
        (
            service("v1", "Pod"),
            "Pod in version \"v1\" cannot be handled as a Service: converting (v1.Pod) to \
            (v1.Service): unknown conversion",
        ),
        (
            service("coordination.k8s.io/v1", "Lease"),
            "the API version in the data (coordination.k8s.io/v1) does not \
            match the expected API version (v1)",
        ),
        (truncated, "Service in version \"v1\" cannot be handled as a Service: unexpected EOF for field Unknown.raw"),
    ];
    for (body, message) in cases {
        let answer = send(&app, "POST", SERVICES, body).await;
        assert_eq!(status(&answer), format!("400 BadRequest: {message}"));
    }
    let patch = send(&app, "PATCH", &format!("{SERVICES}/web"), service("v1", "Service")).await;
    assert!(status(&patch).starts_with("415 UnsupportedMediaType: "), "{}", status(&patch));
    let answer = app.with_body("POST", SERVICES, "application/cbor", "x").await;
    assert_eq!(
        answer.status(),
        "415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let answer = app.get_as(SERVICES, "application/cbor").await;
    assert_eq!(
        answer.status(),
        "406 NotAcceptable: only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf"
    );
}

/// The frames of a watch: four bytes of length, then a WatchEvent.
struct Frames {
    body: Body,
    buffer: BytesMut,
}

impl Frames {
    async fn open(app: &App, query: &str, accept: &str) -> Self {
        let path = format!("{SERVICES}?watch=true&{query}");
        let response =
            app.start(App::request("GET", &path).header("Accept", accept).body(Body::empty()).unwrap()).await;
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status, 200);
        assert_eq!(parts.headers["Content-Type"], "application/vnd.kubernetes.protobuf;stream=watch");
        Self { body, buffer: BytesMut::new() }
    }

    /// The type of the next event, and its object.
    async fn next(&mut self) -> (String, Value) {
        loop {
            let length = self.buffer.first_chunk().map(|head| u32::from_be_bytes(*head) as usize);
            if let Some(length) = length.filter(|length| self.buffer.len() >= length + 4) {
                self.buffer.advance(4);
                return event(&self.buffer.split_to(length));
            }
            self.buffer.extend_from_slice(&self.body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
    }
}

fn event(bytes: &[u8]) -> (String, Value) {
    let (kind_length, rest) = (usize::from(bytes[1]), &bytes[2..]);
    let (kind, rest) = rest.split_at(kind_length);
    let envelope = rest.windows(4).position(|window| window == protobuf::MAGIC).unwrap();
    (String::from_utf8(kind.to_vec()).unwrap(), protobuf::decode(&rest[envelope..], "", "").unwrap())
}

#[tokio::test]
async fn a_watch_in_frames() {
    let app = App::new().await;
    app.service("a", json!({ "tier": "x" })).await;
    let query =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=tier%3Dx";
    for accept in [TYPED, "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"] {
        let kind = if accept == TYPED { "Service" } else { "PartialObjectMetadata" };
        let mut frames = Frames::open(&app, query, accept).await;
        let (event, object) = frames.next().await;
        assert_eq!(
            (event.as_str(), &object["kind"], &object["metadata"]["name"]),
            ("ADDED", &json!(kind), &json!("a"))
        );
        let (event, object) = frames.next().await;
        assert_eq!((event.as_str(), &object["kind"]), ("BOOKMARK", &json!(kind)));
        assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");

        app.service("b", json!({ "tier": "x" })).await;
        assert_eq!(frames.next().await.1["metadata"]["name"], "b");
        let patch = json!({ "metadata": { "labels": { "tier": "y" } } }).to_string();
        app.with_body("PATCH", &format!("{SERVICES}/b"), "application/merge-patch+json", patch).await;
        let (event, object) = frames.next().await;
        assert_eq!((event.as_str(), &object["metadata"]["name"]), ("DELETED", &json!("b")));
        let revision = app.store.last_change(Resource::Services).to_string();
        assert_eq!(object["metadata"]["resourceVersion"], revision, "with the revision at which it ceased to match");
        app.delete(&format!("{SERVICES}/b")).await;
    }
}
