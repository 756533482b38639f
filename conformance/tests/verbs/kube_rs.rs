//! kube-rs: its `Api` over the types of k8s-openapi, and over objects whose kind is known at run time only.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use conformance::kinds::Kind;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Typed when the kind has a type of its own.
pub async fn typed(client: Client, kind: &Kind, done: &mut BTreeSet<String>) {
    match (kind.api_version.as_str(), kind.kind.as_str()) {
        ("v1", "Namespace") => exercise(Api::<Namespace>::all(client), kind, done).await,
        ("v1", "Node") => exercise(Api::<Node>::all(client), kind, done).await,
        ("v1", "Pod") => exercise(Api::<Pod>::default_namespaced(client), kind, done).await,
        ("v1", "Service") => exercise(Api::<Service>::default_namespaced(client), kind, done).await,
        ("v1", "Endpoints") => exercise(Api::<Endpoints>::default_namespaced(client), kind, done).await,
        ("v1", "Event") => exercise(Api::<Event>::default_namespaced(client), kind, done).await,
        (_, "EndpointSlice") => exercise(Api::<EndpointSlice>::default_namespaced(client), kind, done).await,
        (_, "ServiceCIDR") => exercise(Api::<ServiceCIDR>::all(client), kind, done).await,
        (_, "IPAddress") => exercise(Api::<IPAddress>::all(client), kind, done).await,
        (_, "Lease") => exercise(Api::<Lease>::default_namespaced(client), kind, done).await,
        ("events.k8s.io/v1", "Event") => {
            exercise(Api::<k8s_openapi::api::events::v1::Event>::default_namespaced(client), kind, done).await;
        }
        ("v1", "ServiceAccount") => exercise(Api::<ServiceAccount>::default_namespaced(client), kind, done).await,
        ("v1", "Secret") => exercise(Api::<Secret>::default_namespaced(client), kind, done).await,
        (_, "Role") => exercise(Api::<Role>::default_namespaced(client), kind, done).await,
        (_, "RoleBinding") => exercise(Api::<RoleBinding>::default_namespaced(client), kind, done).await,
        (_, "ClusterRole") => exercise(Api::<ClusterRole>::all(client), kind, done).await,
        (_, "ClusterRoleBinding") => exercise(Api::<ClusterRoleBinding>::all(client), kind, done).await,
        (version, other) => panic!("{version} {other} has no type here: add it"),
    }
}

pub async fn dynamic(client: Client, kind: &Kind, done: &mut BTreeSet<String>) {
    let resource = kind.api_resource();
    let api: Api<DynamicObject> = if kind.namespaced {
        Api::default_namespaced_with(client, &resource)
    } else {
        Api::all_with(client, &resource)
    };
    exercise(api, kind, done).await;
}

async fn exercise<K>(api: Api<K>, kind: &Kind, done: &mut BTreeSet<String>)
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug,
{
    let mut ticked = |verb: &str| done.insert(format!("{} {} {verb}", kind.api_version, kind.kind));
    let first = kind.names[0].as_str();
    let ours = ListParams::default().labels("suite=kinds");
    let now = DeleteParams::default().grace_period(0);
    let post = PostParams::default();
    let patch = PatchParams::default();

    for i in 0..kind.names.len() {
        let made = api.create(&post, &from(kind.object(i))).await.unwrap();
        assert_eq!(made.name_any(), kind.names[i]);
        assert!(made.uid().is_some() && made.resource_version().is_some());
    }
    ticked("create");

    let mut got = api.get(first).await.unwrap();
    check(&got, &kind.object(0));
    ticked("read");

    let listed = api.list(&ours).await.unwrap();
    assert_eq!(listed.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), kind.names);
    ticked("list");

    let mut names = Vec::new();
    let mut revisions = BTreeSet::new();
    let mut page = ours.clone().limit(1);
    loop {
        let list = api.list(&page).await.unwrap();
        assert_eq!(list.items.len(), 1);
        names.push(list.items[0].name_any());
        revisions.insert(list.metadata.resource_version);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, kind.names);
    assert_eq!(revisions.len(), 1);
    ticked("page");

    got.labels_mut().insert("step".to_owned(), "update".to_owned());
    let put = api.replace(first, &post, &got).await.unwrap();
    assert_eq!(step(&put), "update");
    match api.replace(first, &post, &got).await {
        Err(Error::Api(status)) => assert_eq!((status.code, status.reason.as_str()), (409, "Conflict")),
        other => panic!("an update of an old revision: {other:?}"),
    }
    ticked("update");

    let operations = json!([{"op": "replace", "path": "/metadata/labels/step", "value": "json"}]);
    let patched = api.patch(first, &patch, &Patch::Json::<()>(from(operations))).await.unwrap();
    assert_eq!(step(&patched), "json");
    ticked("json-patch");

    let merged = api.patch(first, &patch, &Patch::Merge(&kind.merge)).await.unwrap();
    check(&merged, &kind.merge);
    ticked("merge-patch");

    let body = json!({"metadata": {"labels": {"step": "strategic"}}});
    assert_eq!(step(&api.patch(first, &patch, &Patch::Strategic(body)).await.unwrap()), "strategic");
    ticked("strategic-patch");

    let mut body = kind.object(0);
    body["metadata"]["labels"]["step"] = json!("apply");
    let applied = api.patch(first, &PatchParams::apply("kube-rs").force(), &Patch::Apply(body)).await.unwrap();
    assert_eq!(step(&applied), "apply");
    let owned = applied
        .managed_fields()
        .iter()
        .any(|f| f.manager.as_deref() == Some("kube-rs") && f.operation.as_deref() == Some("Apply"));
    assert!(owned, "{:?}", applied.managed_fields());
    ticked("apply");

    if let Some(status) = &kind.status {
        let body = json!({"status": status});
        let patched = api.patch_status(first, &patch, &Patch::Merge(&body)).await.unwrap();
        check(&patched, &body);
        check(&api.replace_status(first, &post, &patched).await.unwrap(), &body);
        ticked("status");
    }

    api.delete(first, &now).await.unwrap();
    gone(&api, first).await;
    ticked("delete");

    if kind.deletecollection {
        api.delete_collection(&now, &ours).await.unwrap();
        ticked("deletecollection");
    } else {
        for name in &kind.names[1..] {
            api.delete(name, &now).await.unwrap();
        }
    }
    for name in &kind.names {
        gone(&api, name).await;
    }
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn step<K: Resource>(object: &K) -> String {
    object.labels().get("step").cloned().unwrap_or_default()
}

/// That a merge patch has had its effect.
fn check<K: Serialize>(whole: &K, part: &Value) {
    let whole = serde_json::to_value(whole).unwrap();
    assert!(contains(&whole, part), "{whole} lacks {part}");
}

fn contains(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(fields) => fields.iter().all(|(k, v)| contains(&whole[k], v)),
        Value::Array(items) => {
            whole.as_array().is_some_and(|w| w.len() == items.len() && w.iter().zip(items).all(|(w, p)| contains(w, p)))
        }
        part => whole == part,
    }
}

async fn gone<K: Clone + DeserializeOwned + Debug>(api: &Api<K>, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while api.get_opt(name).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "{name} is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
