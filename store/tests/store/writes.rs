//! Create, update, patch, delete: what a client sees.

use model::Resource;
use model::admission::Subresource;
use model::patch::PatchKind;
use serde_json::json;
use store::{DeleteOptions, Outcome, Refusal, Verb, Write};

use super::support::{Home, config_map_like, namespace, node, pod, running, text, web};

#[tokio::test]
async fn a_cluster_has_its_namespaces_and_its_range() {
    let home = Home::new().await;
    assert_eq!(home.names(Resource::Namespaces, ""), ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let default = home.value(Resource::Namespaces, "", "default");
    assert_eq!(default["status"]["phase"], "Active");
    assert_eq!(default["metadata"]["labels"]["kubernetes.io/metadata.name"], "default");
    let cidr = home.value(Resource::ServiceCidrs, "", "kubernetes");
    assert_eq!(cidr["spec"]["cidrs"], json!(["10.96.0.0/16", "fd00:10:96::/112"]));
    assert_eq!(cidr["status"]["conditions"][0]["type"], "Ready");
    assert_eq!(cidr["status"]["conditions"][0]["status"], "True");
    assert_eq!(cidr["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
    assert!(home.names(Resource::Events, "default").is_empty());
}

#[tokio::test]
async fn a_create_is_stamped_and_readable() {
    let home = Home::new().await;
    let written = home.create(Resource::Pods, pod("a", "x")).await.unwrap();
    assert_eq!(written.outcome, Outcome::Created);
    let object = home.store.get(Resource::Pods, "default", "a").unwrap();
    assert_eq!(text(&object), text(&written.object));
    let meta = object.meta();
    assert_eq!(meta.creation_timestamp.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(meta.generation, Some(1));
    assert_eq!(meta.uid().len(), 36);
    assert_eq!(meta.resource_version, Some(object.revision.to_string()));
    assert_eq!(home.store.revision(), object.revision);
    assert_eq!(home.store.last_change(Resource::Pods), object.revision);
    // What a client may not set is wiped.
    let mut other = pod("b", "x");
    other["metadata"]["uid"] = json!("mine");
    other["status"] = json!({ "phase": "Failed" });
    let written = home.create(Resource::Pods, other).await.unwrap();
    assert_ne!(written.object.meta().uid(), "mine");
    assert_ne!(written.object.value().unwrap()["status"]["phase"], "Failed");
}

#[tokio::test]
async fn creates_that_are_refused() {
    let home = Home::new().await;
    home.create(Resource::Services, web("web")).await.unwrap();
    let before = home.dump();
    let refusal = home.create(Resource::Services, web("web")).await.unwrap_err();
    assert_eq!(refusal.to_string(), "services \"web\" already exists");
    let mut versioned = web("b");
    versioned["metadata"]["resourceVersion"] = json!("5");
    let refusal = home.create(Resource::Services, versioned).await.unwrap_err();
    assert_eq!(refusal.to_string(), "resourceVersion should not be set on objects to be created");
    let mut nowhere = web("b");
    nowhere["metadata"]["namespace"] = json!("nowhere");
    let refusal = home.create(Resource::Services, nowhere).await.unwrap_err();
    assert!(matches!(refusal, Refusal::NamespaceMissing { .. }), "{refusal}");
    let mut nameless = web("b");
    nameless["metadata"] = json!({ "namespace": "default" });
    let refusal = home.create(Resource::Services, nameless).await.unwrap_err();
    assert!(refusal.to_string().contains("metadata.name: Required value"), "{refusal}");
    assert_eq!(home.dump(), before);
}

#[tokio::test]
async fn names_are_generated() {
    let home = Home::new().await;
    let mut object = web("x");
    object["metadata"] = json!({ "namespace": "default", "generateName": "web-" });
    let one = home.create(Resource::Services, object.clone()).await.unwrap().object;
    let two = home.create(Resource::Services, object.clone()).await.unwrap().object;
    assert!(one.key.name.starts_with("web-") && one.key.name.len() == 9);
    assert_ne!(one.key.name, two.key.name);
    object["metadata"]["generateName"] = json!("w".repeat(61));
    let long = home.create(Resource::Services, object).await.unwrap().object;
    assert_eq!(long.key.name.len(), 63);
}

#[tokio::test]
async fn updates_and_their_preconditions() {
    let home = Home::new().await;
    let one = home.create(Resource::Services, web("web")).await.unwrap().object;
    let mut value = one.value().unwrap();
    // The same again changes nothing.
    let same = home.update(Resource::Services, value.clone(), Subresource::None).await.unwrap();
    assert_eq!((same.outcome, same.object.revision), (Outcome::Unchanged, one.revision));
    value["spec"]["ports"][0]["port"] = json!(81);
    let two = home.update(Resource::Services, value.clone(), Subresource::None).await.unwrap().object;
    assert_eq!(two.meta().generation, Some(2));
    assert_eq!(two.meta().uid(), one.meta().uid());
    // `value` still names the first revision.
    value["spec"]["ports"][0]["port"] = json!(82);
    let refusal = home.update(Resource::Services, value.clone(), Subresource::None).await.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Operation cannot be fulfilled on services \"web\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    value["metadata"]["resourceVersion"] = json!("");
    value["metadata"]["uid"] = json!("other");
    let refusal = home.update(Resource::Services, value.clone(), Subresource::None).await.unwrap_err();
    assert!(refusal.to_string().contains("UID in precondition: other"), "{refusal}");
    value["metadata"].as_object_mut().unwrap().remove("uid");
    home.update(Resource::Services, value, Subresource::None).await.unwrap();
}

#[tokio::test]
async fn an_update_of_what_is_not_there() {
    let home = Home::new().await;
    let created = home.update(Resource::Services, web("web"), Subresource::None).await.unwrap();
    assert_eq!(created.outcome, Outcome::Created);
    let refusal = home.update(Resource::Pods, pod("a", "x"), Subresource::None).await.unwrap_err();
    assert_eq!(refusal.to_string(), "pods \"a\" not found");
    let mut seen = web("gone");
    seen["metadata"]["resourceVersion"] = json!("3");
    assert!(matches!(home.update(Resource::Services, seen, Subresource::None).await, Err(Refusal::NotFound { .. })));
    let lease = home.create(Resource::Leases, config_map_like("l")).await.unwrap().object.value().unwrap();
    let mut unversioned = lease.clone();
    unversioned["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let refusal = home.update(Resource::Leases, unversioned, Subresource::None).await.unwrap_err();
    assert_eq!(refusal.to_string(), "metadata.resourceVersion: Invalid value: 0: must be specified for an update");
    let mut odd = lease.clone();
    odd["metadata"]["resourceVersion"] = json!("abc");
    assert!(matches!(home.update(Resource::Leases, odd, Subresource::None).await, Err(Refusal::Invalid(_))));
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let home = Home::new().await;
    home.create(Resource::Pods, pod("a", "x")).await.unwrap();
    let written = home.status(Resource::Pods, "default", "a", running("10.9.0.1", true)).await.unwrap();
    assert_eq!(written.outcome, Outcome::Updated);
    assert_eq!(written.object.meta().generation, Some(1));
    let again = home.status(Resource::Pods, "default", "a", running("10.9.0.1", true)).await.unwrap();
    assert_eq!(again.outcome, Outcome::Unchanged);
    let mut value = home.value(Resource::Pods, "default", "a");
    value["status"] = json!({});
    value["metadata"]["labels"]["app"] = json!("y");
    home.update(Resource::Pods, value, Subresource::None).await.unwrap();
    let value = home.value(Resource::Pods, "default", "a");
    assert_eq!((&value["status"]["podIP"], &value["metadata"]["labels"]["app"]), (&json!("10.9.0.1"), &json!("y")));
}

#[tokio::test]
async fn patches() {
    let home = Home::new().await;
    home.create(Resource::Services, web("web")).await.unwrap();
    let patch = |kind, patch, strict| Verb::Patch { kind, patch, subresource: Subresource::None, strict };
    let smp = json!({ "spec": { "ports": [{ "port": 81, "name": "b" }, { "port": 80, "name": "a" }] } });
    home.write(Resource::Services, "default", "web", patch(PatchKind::StrategicMerge, smp, true)).await.unwrap();
    assert_eq!(home.value(Resource::Services, "default", "web")["spec"]["ports"].as_array().unwrap().len(), 2);
    let before = home.dump();
    let typo = json!({ "spec": { "selectr": {} } });
    let verb = patch(PatchKind::Merge, typo.clone(), true);
    let refusal = home.write(Resource::Services, "default", "web", verb).await.unwrap_err();
    assert!(refusal.to_string().contains("strict decoding error: unknown field \"spec.selectr\""), "{refusal}");
    let written = home.write(Resource::Services, "default", "web", patch(PatchKind::Merge, typo, false)).await.unwrap();
    assert_eq!(written.outcome, Outcome::Unchanged);
    assert_eq!(written.warnings, ["unknown field \"spec.selectr\""]);
    let stale = json!({ "metadata": { "resourceVersion": "1" } });
    assert!(matches!(home.merge(Resource::Services, "default", "web", stale).await, Err(Refusal::Conflict { .. })));
    let test = json!([{ "op": "test", "path": "/spec/type", "value": "NodePort" }]);
    let verb = patch(PatchKind::Json, test, true);
    assert!(matches!(home.write(Resource::Services, "default", "web", verb).await, Err(Refusal::Invalid(_))));
    let rename = json!({ "metadata": { "name": "other" } });
    let refusal = home.merge(Resource::Services, "default", "web", rename).await.unwrap_err();
    assert!(matches!(refusal, Refusal::BadRequest(_)), "{refusal}");
    assert!(matches!(
        home.merge(Resource::Services, "default", "nope", json!({})).await,
        Err(Refusal::NotFound { .. })
    ));
    assert_eq!(home.dump(), before);
}

#[tokio::test]
async fn a_dry_run_answers_and_changes_nothing() {
    let home = Home::new().await;
    let before = (home.dump(), home.store.revision());
    let try_it = |verb| Write {
        resource: Resource::Services,
        namespace: "default".into(),
        name: "web".into(),
        verb,
        manager: "test".into(),
        dry_run: true,
    };
    let written = home.store.write(try_it(Verb::Create { object: web("web") })).await.unwrap();
    assert_eq!(written.outcome, Outcome::Created);
    let value = written.object.value().unwrap();
    assert_eq!(value["spec"]["clusterIP"], "10.96.0.0");
    assert_eq!(value["metadata"].get("resourceVersion"), None);
    assert_eq!((home.dump(), home.store.revision()), before);
    home.create(Resource::Services, web("web")).await.unwrap();
    let before = home.dump();
    let verb = Verb::Delete { options: DeleteOptions::default() };
    assert_eq!(home.store.write(try_it(verb)).await.unwrap().outcome, Outcome::Deleted);
    assert_eq!(home.dump(), before);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let home = Home::new().await;
    let mut object = web("web");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    home.create(Resource::Services, object).await.unwrap();
    let deleting = home.delete(Resource::Services, "default", "web").await.unwrap();
    assert_eq!(deleting.outcome, Outcome::Deleting);
    let meta = deleting.object.meta();
    assert_eq!(meta.deletion_timestamp.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(meta.deletion_grace_period_seconds, Some(0));
    let again = home.delete(Resource::Services, "default", "web").await.unwrap();
    assert_eq!((again.outcome, again.object.revision), (Outcome::Deleting, deleting.object.revision));
    let refusal = home.create(Resource::Services, web("web")).await.unwrap_err();
    assert_eq!(refusal.to_string(), "object is being deleted: services \"web\" already exists");
    let removed = json!({ "metadata": { "finalizers": null } });
    let written = home.merge(Resource::Services, "default", "web", removed).await.unwrap();
    assert_eq!(written.outcome, Outcome::Deleted);
    assert!(home.names(Resource::Services, "default").is_empty());
    assert!(home.names(Resource::IpAddresses, "").is_empty());
}

#[tokio::test]
async fn pods_end_gracefully() {
    let home = Home::new().await;
    let delete = |name: &'static str, grace| {
        let options = DeleteOptions { grace_period_seconds: grace, ..DeleteOptions::default() };
        home.write(Resource::Pods, "default", name, Verb::Delete { options })
    };
    // Nobody runs it: gone at once.
    let mut unbound = pod("unbound", "x");
    unbound["spec"].as_object_mut().unwrap().remove("nodeName");
    home.create(Resource::Pods, unbound).await.unwrap();
    assert_eq!(delete("unbound", None).await.unwrap().outcome, Outcome::Deleted);
    home.create(Resource::Pods, pod("a", "x")).await.unwrap();
    let one = delete("a", None).await.unwrap();
    assert_eq!(one.outcome, Outcome::Deleting);
    assert_eq!(one.object.meta().deletion_timestamp.as_deref(), Some("2023-11-14T22:13:50Z"));
    assert_eq!(one.object.meta().deletion_grace_period_seconds, Some(30));
    // Never longer; shorter counts from when it began.
    assert_eq!(delete("a", Some(60)).await.unwrap().object.revision, one.object.revision);
    home.tick(5);
    let two = delete("a", Some(10)).await.unwrap();
    assert_eq!(two.object.meta().deletion_timestamp.as_deref(), Some("2023-11-14T22:13:30Z"));
    assert_eq!(delete("a", None).await.unwrap().object.revision, two.object.revision);
    // A status write in between does not end it; 0 does.
    home.status(Resource::Pods, "default", "a", running("10.9.0.1", false)).await.unwrap();
    assert_eq!(delete("a", Some(0)).await.unwrap().outcome, Outcome::Deleted);
    assert!(matches!(delete("a", Some(0)).await, Err(Refusal::NotFound { .. })));
}

#[tokio::test]
async fn a_namespace_takes_its_contents_along() {
    let home = Home::new().await;
    home.create(Resource::Nodes, node("n1")).await.unwrap();
    home.create(Resource::Namespaces, namespace("team")).await.unwrap();
    for (resource, mut object) in
        [(Resource::Services, web("web")), (Resource::Pods, pod("p", "web")), (Resource::Leases, config_map_like("l"))]
    {
        object["metadata"]["namespace"] = json!("team");
        home.create(resource, object).await.unwrap();
    }
    assert_eq!(home.names(Resource::EndpointSlices, "team").len(), 1);
    let deleted = home.delete(Resource::Namespaces, "", "team").await.unwrap();
    assert_eq!(deleted.outcome, Outcome::Deleted);
    for resource in Resource::ALL.into_iter().filter(|resource| resource.info().namespaced) {
        assert!(home.names(resource, "team").is_empty(), "{resource}");
    }
    assert!(home.names(Resource::IpAddresses, "").is_empty());
    let refusal = home.delete(Resource::Namespaces, "", "kube-system").await.unwrap_err();
    assert!(matches!(refusal, Refusal::Forbidden { .. }), "{refusal}");
}

#[tokio::test]
async fn a_namespace_waits_for_finalizers() {
    let home = Home::new().await;
    home.create(Resource::Namespaces, namespace("team")).await.unwrap();
    let mut object = web("web");
    object["metadata"]["namespace"] = json!("team");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    home.create(Resource::Services, object).await.unwrap();
    let deleting = home.delete(Resource::Namespaces, "", "team").await.unwrap();
    assert_eq!(deleting.outcome, Outcome::Deleting);
    assert_eq!(deleting.object.value().unwrap()["status"]["phase"], "Terminating");
    let mut late = web("late");
    late["metadata"]["namespace"] = json!("team");
    let refusal = home.create(Resource::Services, late).await.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "services \"late\" is forbidden: unable to create new content in namespace team because it is being terminated"
    );
    home.merge(Resource::Services, "team", "web", json!({ "metadata": { "finalizers": [] } })).await.unwrap();
    assert!(home.store.get(Resource::Namespaces, "", "team").is_none());
    assert!(home.names(Resource::EndpointSlices, "team").is_empty());
}
