//! The clients: an operation as a request to the router, the answer as the model reads it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use model::Resource;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::plain::{Plain, View};
use crate::script::{Applier, Content, JsonOp, Key, Kind, Op, Version};

const TOKEN: &str = "sesame";

/// A store of its own, and a router that several clients share.
pub struct Client {
    pub router: axum::Router,
    /// The store's own log of each kind.
    log: Mutex<Vec<store::Watch>>,
    _directory: tempfile::TempDir,
}

/// A deletion as the log has it.
#[derive(Clone, Copy, Debug)]
pub struct Deletion {
    /// The revision of the last change before it, if that was of the same round.
    pub last_change: Option<u64>,
    pub revision: u64,
}

/// An operation with all that was decided when it was sent.
#[derive(Clone, Debug)]
pub struct Issued {
    pub op: Op,
    /// Which of the clients sends it.
    pub who: usize,
    /// The revision that it names.
    pub revision: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    /// A `Status` has one.
    pub reason: String,
    /// The object, or the objects of a list.
    pub objects: Vec<(Key, Seen)>,
}

/// One object as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub view: View,
    pub uid: String,
    pub revision: u64,
}

impl Client {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = store::Store::open(store::Config::new(directory.path().join("portolan.db"))).await.unwrap();
        let watch = |resource| store.watch(resource, None, store.revision()).unwrap();
        let log = Mutex::new([Resource::Pods, Resource::Services, Resource::Leases].map(watch).into());
        let router = api::router(&api::Config::new(store, TOKEN, "v0"));
        let client = Self { router, log, _directory: directory };
        let namespace = json!({"metadata": {"name": "other"}}).to_string();
        let answer = client.send("POST", "/api/v1/namespaces", "application/json", namespace).await;
        assert_eq!(answer.0, 201);
        client
    }

    pub fn request(method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("Authorization", format!("Bearer {TOKEN}"))
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: String) -> (u16, Value) {
        let request = Self::request(method, path).header("Content-Type", content_type).body(Body::from(body)).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap())
    }

    pub fn prepare(&self, who: usize, op: Op, plain: &Plain) -> Issued {
        let revision = match &op {
            Op::Update(key, _, version) | Op::Merge { key, version, .. } | Op::Delete(key, version) => match version {
                Version::Unnamed => None,
                Version::Known => plain.revision_of(*key).or(Some(1)),
                Version::Stale => Some(1),
            },
            _ => None,
        };
        Issued { op, who, revision }
    }

    /// Sends all of them at once.
    pub async fn send_all(&self, issued: &[Issued]) -> Vec<Answer> {
        let requests: Vec<_> = issued
            .iter()
            .map(|issued| {
                let (method, path, content_type, body) = request(issued);
                let client = Self::request(method, &path).header("Content-Type", content_type);
                tokio::spawn(self.router.clone().oneshot(client.body(Body::from(body)).unwrap()))
            })
            .collect();
        let mut answers = Vec::new();
        for request in requests {
            let (parts, body) = request.await.unwrap().unwrap().into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            answers.push(Answer::read(parts.status.as_u16(), &serde_json::from_slice(&bytes).unwrap()));
        }
        answers
    }

    pub async fn delete_collection(&self, kind: Kind, namespace: &str, tier: Option<&str>) -> Answer {
        let path = format!("{}?labelSelector={}", collection(kind, Some(namespace)), selected(tier));
        let body = json!({"gracePeriodSeconds": 0}).to_string();
        let (code, value) = self.send("DELETE", &path, "application/json", body).await;
        Answer::read(code, &value)
    }

    /// The deletions since it was asked last, by object.
    pub fn deletions(&self) -> BTreeMap<Key, VecDeque<Deletion>> {
        let mut deletions: BTreeMap<Key, VecDeque<Deletion>> = BTreeMap::new();
        let mut changes = BTreeMap::new();
        for watch in self.log.lock().unwrap().iter_mut() {
            for event in watch.ready().unwrap() {
                let object = event.object.value().unwrap();
                let Some((key, _)) = seen(event.object.resource.info().kind, &object) else { continue };
                if event.kind == store::EventKind::Deleted {
                    let deletion = Deletion { last_change: changes.remove(&key), revision: event.revision };
                    deletions.entry(key).or_default().push_back(deletion);
                } else {
                    changes.insert(key, event.revision);
                }
            }
        }
        deletions
    }

    /// Everything of a kind that is there from the beginning.
    pub async fn list(&self, kind: Kind) -> Answer {
        let (code, value) = self.send("GET", &collection(kind, None), "application/json", String::new()).await;
        Answer::read(code, &value)
    }
}

/// The selector of a deletecollection: one tier, or everything that clients make.
fn selected(tier: Option<&str>) -> String {
    tier.map_or("app%3Dhistory".to_owned(), |tier| format!("tier%3D{tier}"))
}

pub fn collection(kind: Kind, namespace: Option<&str>) -> String {
    let (root, plural) = match kind {
        Kind::Pod => ("/api/v1", "pods"),
        Kind::Service => ("/api/v1", "services"),
        Kind::Lease => ("/apis/coordination.k8s.io/v1", "leases"),
    };
    match namespace {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

/// Where a kind keeps its value: somewhere else for each.
fn value_path(kind: Kind) -> [&'static str; 3] {
    match kind {
        Kind::Pod => ["metadata", "annotations", "value"],
        Kind::Service => ["spec", "selector", "value"],
        Kind::Lease => ["spec", "", "holderIdentity"],
    }
}

fn set_value(object: &mut Value, kind: Kind, value: Value) {
    match value_path(kind) {
        [first, "", last] => object[first][last] = value,
        [first, second, last] => object[first][second][last] = value,
    }
}

fn whole(key: Key, content: &Content) -> Value {
    let mut object = match key.kind {
        Kind::Pod => json!({"spec": {"containers": [{"name": "c", "image": "i:1"}]}}),
        Kind::Service => json!({"spec": {"ports": [{"port": 80}]}}),
        Kind::Lease => json!({"spec": {"leaseDurationSeconds": 40}}),
    };
    object["metadata"] = json!({"name": key.name, "labels": {"app": "history"}});
    if let Some(tier) = content.tier {
        object["metadata"]["labels"]["tier"] = tier.into();
    }
    if !content.finalizers.is_empty() {
        object["metadata"]["finalizers"] = json!(content.finalizers);
    }
    if let Some(value) = content.value {
        set_value(&mut object, key.kind, value.into());
    }
    object
}

fn applied(key: Key, by: Applier, label: Option<&str>, holder: Option<&str>) -> Value {
    let (api_version, kind) = match key.kind {
        Kind::Pod => ("v1", "Pod"),
        Kind::Service => ("v1", "Service"),
        Kind::Lease => ("coordination.k8s.io/v1", "Lease"),
    };
    let mut object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": key.name, "labels": {"app": "history"}},
    });
    if let Some(label) = label {
        object["metadata"]["labels"][label_of(by)] = label.into();
    }
    if key.kind == Kind::Lease {
        object["spec"] = json!({"leaseDurationSeconds": 40});
        if let Some(holder) = holder {
            object["spec"]["holderIdentity"] = holder.into();
        }
    }
    object
}

/// The label that only this one writes.
pub fn label_of(by: Applier) -> &'static str {
    match by {
        Applier::First => "first",
        Applier::Second => "second",
    }
}

/// Method, path, content type and body.
fn request(issued: &Issued) -> (&'static str, String, &'static str, String) {
    const JSON: &str = "application/json";
    let who = issued.who;
    let object = |key: &Key| format!("{}/{}", collection(key.kind, Some(key.namespace)), key.name);
    let managed = |path: String| format!("{path}?fieldManager=client-{who}");
    let revision = issued.revision.map(|revision| revision.to_string());
    match &issued.op {
        Op::Create(key, content) => {
            let path = managed(collection(key.kind, Some(key.namespace)));
            ("POST", path, JSON, whole(*key, content).to_string())
        }
        Op::Update(key, content, _) => {
            let mut body = whole(*key, content);
            if let Some(revision) = revision {
                body["metadata"]["resourceVersion"] = revision.into();
            }
            ("PUT", managed(object(key)), JSON, body.to_string())
        }
        Op::Merge { key, tier, value, finalizers, .. } => {
            let mut patch = json!({"metadata": {}});
            if let Some(tier) = tier {
                patch["metadata"]["labels"]["tier"] = json!(tier);
            }
            if let Some(value) = value {
                set_value(&mut patch, key.kind, json!(value));
            }
            if let Some(finalizers) = finalizers {
                patch["metadata"]["finalizers"] = json!(finalizers);
            }
            if let Some(revision) = revision {
                patch["metadata"]["resourceVersion"] = revision.into();
            }
            ("PATCH", managed(object(key)), "application/merge-patch+json", patch.to_string())
        }
        Op::Strategic { key, tier, add, remove } => {
            let mut patch = json!({"metadata": {"finalizers": add, "$deleteFromPrimitiveList/finalizers": remove}});
            if let Some(tier) = tier {
                patch["metadata"]["labels"]["tier"] = json!(tier);
            }
            ("PATCH", managed(object(key)), "application/strategic-merge-patch+json", patch.to_string())
        }
        Op::Json(key, ops) => {
            let path = "/metadata/labels/tier";
            let ops: Vec<Value> = ops
                .iter()
                .map(|op| match op {
                    JsonOp::Test(tier) => json!({"op": "test", "path": path, "value": tier}),
                    JsonOp::Add(tier) => json!({"op": "add", "path": path, "value": tier}),
                    JsonOp::Replace(tier) => json!({"op": "replace", "path": path, "value": tier}),
                    JsonOp::Remove => json!({"op": "remove", "path": path}),
                })
                .collect();
            ("PATCH", managed(object(key)), "application/json-patch+json", Value::from(ops).to_string())
        }
        Op::Apply { key, by, label, holder, force } => {
            let path = format!("{}?fieldManager={}&force={force}", object(key), label_of(*by));
            ("PATCH", path, "application/apply-patch+yaml", applied(*key, *by, *label, *holder).to_string())
        }
        Op::Delete(key, _) => {
            let mut options = json!({"gracePeriodSeconds": 0});
            if let Some(revision) = revision {
                options["preconditions"] = json!({"resourceVersion": revision});
            }
            ("DELETE", object(key), JSON, options.to_string())
        }
        Op::Get(key) => ("GET", object(key), JSON, String::new()),
        Op::List { kind, namespace, selector } => {
            let path = format!("{}?labelSelector={}", collection(*kind, *namespace), selector.query());
            ("GET", path, JSON, String::new())
        }
    }
}

impl Answer {
    fn read(code: u16, value: &Value) -> Self {
        let reason =
            if value["kind"] == "Status" { value["reason"].as_str().unwrap_or("").to_owned() } else { String::new() };
        let objects = match value["items"].as_array() {
            Some(items) => {
                let kind = value["kind"].as_str().unwrap().trim_end_matches("List");
                items.iter().filter_map(|item| seen(kind, item)).collect()
            }
            None => value["kind"].as_str().and_then(|kind| seen(kind, value)).into_iter().collect(),
        };
        Self { code, reason, objects }
    }
}

/// Reads an object that the model looks at; others (a `Status`, what the cluster made itself) are none.
pub fn seen(kind: &str, object: &Value) -> Option<(Key, Seen)> {
    let kind = match kind {
        "Pod" => Kind::Pod,
        "Service" => Kind::Service,
        "Lease" => Kind::Lease,
        _ => return None,
    };
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let known = |names: &[&'static str], name: &Value| names.iter().find(|known| name == **known).copied();
    let name = known(&["one", "two", "zz-a", "zz-b", "zz-none"], &metadata["name"])?;
    let namespace = known(&crate::script::NAMESPACES, &metadata["namespace"])?;
    let mut finalizers: Vec<String> =
        metadata["finalizers"].as_array().into_iter().flatten().filter_map(text).collect();
    finalizers.sort();
    let value = match value_path(kind) {
        [first, "", last] => &object[first][last],
        [first, second, last] => &object[first][second][last],
    };
    let view = View {
        tier: text(&metadata["labels"]["tier"]),
        applied: [Applier::First, Applier::Second].map(|by| text(&metadata["labels"][label_of(by)])),
        value: text(value),
        finalizers,
        deleting: metadata["deletionTimestamp"].is_string(),
    };
    let seen = Seen {
        view,
        uid: text(&metadata["uid"]).unwrap(),
        revision: metadata["resourceVersion"].as_str().unwrap().parse().unwrap(),
    };
    Some((Key { kind, namespace, name }, seen))
}
