//! Owners and their dependents: what goes with what, what waits for what, and what is found again after a restart.

use std::time::Duration;

use model::Resource;
use model::admission::Subresource;
use serde_json::{Value, json};
use store::{DeleteOptions, Outcome, Propagation, Refusal, Verb, Written};

use crate::support::{Home, config_map_like, namespace, node, pod, running, web};

const LEASES: Resource = Resource::Leases;

/// A reference to a Lease of the namespace `default` that exists.
fn owner(home: &Home, name: &str) -> Value {
    let uid = home.value(LEASES, "default", name)["metadata"]["uid"].clone();
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": name, "uid": uid })
}

fn blocking(mut owner: Value) -> Value {
    owner["blockOwnerDeletion"] = true.into();
    owner
}

fn absent(name: &str) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": name, "uid": "no-such-uid" })
}

async fn lease(home: &Home, name: &str, owners: Vec<Value>) {
    let mut object = config_map_like(name);
    object["metadata"]["ownerReferences"] = owners.into();
    home.create(LEASES, object).await.unwrap();
}

async fn delete(home: &Home, name: &str, propagation: Propagation) -> Result<Written, Refusal> {
    let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
    home.write(LEASES, "default", name, Verb::Delete { options }).await
}

fn owners(home: &Home, name: &str) -> Vec<String> {
    let value = home.value(LEASES, "default", name);
    let references = value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    references.iter().map(|reference| reference["name"].as_str().unwrap().to_owned()).collect()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn dependents_go_with_their_last_owner_in_its_transaction() {
    let home = Home::new().await;
    lease(&home, "a", vec![]).await;
    lease(&home, "b", vec![]).await;
    lease(&home, "of-a", vec![owner(&home, "a")]).await;
    lease(&home, "of-both", vec![owner(&home, "a"), owner(&home, "b")]).await;
    lease(&home, "of-of-a", vec![owner(&home, "of-a")]).await;
    let mut held = config_map_like("held");
    held["metadata"]["ownerReferences"] = json!([owner(&home, "a")]);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    home.create(LEASES, held).await.unwrap();
    let mut runs = pod("runs", "x");
    runs["metadata"]["ownerReferences"] = json!([owner(&home, "a")]);
    home.create(Resource::Pods, runs).await.unwrap();

    let written = home.delete(LEASES, "default", "a").await.unwrap();
    assert_eq!(written.outcome, Outcome::Deleted);
    assert_eq!(home.names(LEASES, "default"), ["b", "held", "of-both"]);
    assert_eq!(owners(&home, "of-both"), ["b"]);
    // Finalizers and the grace period of Pods are honoured.
    assert_eq!(home.value(LEASES, "default", "held")["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(home.value(Resource::Pods, "default", "runs")["metadata"]["deletionGracePeriodSeconds"], 30);
    home.delete(LEASES, "default", "b").await.unwrap();
    assert_eq!(home.names(LEASES, "default"), ["held"]);
}

#[tokio::test]
async fn an_orphan_forgets_its_owner() {
    let home = Home::new().await;
    lease(&home, "a", vec![]).await;
    lease(&home, "child", vec![owner(&home, "a"), absent("other-kind-of-gone")]).await;
    let written = delete(&home, "a", Propagation::Orphan).await.unwrap();
    assert_eq!(written.outcome, Outcome::Deleted);
    assert_eq!(written.object.meta().name(), "a");
    assert!(home.names(LEASES, "default").iter().all(|name| name != "a"));
    // Its own finalizer asks for the same.
    let mut object = config_map_like("b");
    object["metadata"]["finalizers"] = json!(["orphan"]);
    home.create(LEASES, object).await.unwrap();
    lease(&home, "of-b", vec![owner(&home, "b")]).await;
    assert_eq!(home.delete(LEASES, "default", "b").await.unwrap().outcome, Outcome::Deleted);
    assert_eq!(owners(&home, "of-b"), Vec::<String>::new());
    // What is asked outweighs it.
    let mut object = config_map_like("c");
    object["metadata"]["finalizers"] = json!(["orphan"]);
    home.create(LEASES, object).await.unwrap();
    lease(&home, "of-c", vec![owner(&home, "c")]).await;
    delete(&home, "c", Propagation::Background).await.unwrap();
    assert!(home.store.get(LEASES, "default", "of-c").is_none());
}

#[tokio::test]
async fn in_the_foreground_the_owner_waits_for_those_that_block() {
    let home = Home::new().await;
    lease(&home, "a", vec![]).await;
    let mut held = config_map_like("held");
    held["metadata"]["ownerReferences"] = json!([blocking(owner(&home, "a"))]);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    home.create(LEASES, held).await.unwrap();
    lease(&home, "free", vec![blocking(owner(&home, "a"))]).await;
    lease(&home, "below", vec![blocking(owner(&home, "held"))]).await;

    let written = delete(&home, "a", Propagation::Foreground).await.unwrap();
    assert_eq!(written.outcome, Outcome::Deleting);
    assert_eq!(written.object.meta().finalizers, ["foregroundDeletion"]);
    assert!(written.object.meta().terminating());
    assert_eq!(home.names(LEASES, "default"), ["a", "held"]);
    assert!(home.value(LEASES, "default", "held")["metadata"]["deletionTimestamp"].is_string());
    home.merge(LEASES, "default", "held", json!({ "metadata": { "finalizers": null } })).await.unwrap();
    assert_eq!(home.names(LEASES, "default"), Vec::<String>::new());
}

#[tokio::test]
async fn without_anything_to_wait_for_it_goes_at_once() {
    let home = Home::new().await;
    for (name, propagation) in [("a", Propagation::Foreground), ("b", Propagation::Orphan)] {
        lease(&home, name, vec![]).await;
        let revision = home.store.revision();
        assert_eq!(delete(&home, name, propagation).await.unwrap().outcome, Outcome::Deleted);
        assert_eq!(home.store.revision(), revision + 1, "one change: the deletion");
    }
    lease(&home, "c", vec![]).await;
    lease(&home, "child", vec![blocking(owner(&home, "c"))]).await;
    let written = delete(&home, "c", Propagation::Foreground).await.unwrap();
    assert_eq!((written.outcome, written.object.meta().name()), (Outcome::Deleted, "c"));
    assert_eq!(home.names(LEASES, "default"), Vec::<String>::new());
}

#[tokio::test]
async fn two_that_own_each_other_do_not_wait_for_ever() {
    let home = Home::new().await;
    lease(&home, "a", vec![]).await;
    lease(&home, "b", vec![blocking(owner(&home, "a"))]).await;
    let references = json!({ "metadata": { "ownerReferences": [blocking(owner(&home, "b"))] } });
    home.merge(LEASES, "default", "a", references).await.unwrap();
    delete(&home, "a", Propagation::Foreground).await.unwrap();
    assert_eq!(home.names(LEASES, "default"), Vec::<String>::new());
}

#[tokio::test]
async fn a_pod_that_ends_lets_its_owner_go() {
    let home = Home::new().await;
    lease(&home, "a", vec![]).await;
    let mut object = pod("p", "x");
    object["metadata"]["ownerReferences"] = json!([blocking(owner(&home, "a"))]);
    home.create(Resource::Pods, object).await.unwrap();
    assert_eq!(delete(&home, "a", Propagation::Foreground).await.unwrap().outcome, Outcome::Deleting);
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    home.write(Resource::Pods, "default", "p", Verb::Delete { options: now }).await.unwrap();
    assert!(home.store.get(LEASES, "default", "a").is_none());
}

#[tokio::test]
async fn who_is_created_for_an_owner_that_is_not_there_goes_soon_after() {
    let home = Home::new().await;
    lease(&home, "a", vec![]).await;
    home.create(Resource::Namespaces, namespace("other")).await.unwrap();
    // Stored and answered, and then gone.
    lease(&home, "dangling", vec![absent("nobody")]).await;
    let mut wrong_uid = owner(&home, "a");
    wrong_uid["uid"] = "another".into();
    lease(&home, "wrong-uid", vec![wrong_uid]).await;
    // An owner in another namespace is none.
    let mut across = config_map_like("across");
    across["metadata"]["namespace"] = "other".into();
    across["metadata"]["ownerReferences"] = json!([owner(&home, "a")]);
    home.create(LEASES, across).await.unwrap();
    // Of these it cannot be known.
    let foreign = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u" });
    lease(&home, "foreign", vec![foreign, absent("nobody")]).await;
    let mut cluster = node("n1");
    cluster["metadata"]["ownerReferences"] = json!([owner(&home, "a")]);
    home.create(Resource::Nodes, cluster).await.unwrap();

    until("the dangling ones go", || {
        home.names(LEASES, "default") == ["a", "foreign"] && home.names(LEASES, "other").is_empty()
    })
    .await;
    home.delete(LEASES, "default", "a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(home.names(LEASES, "default"), ["foreign"]);
    assert_eq!(home.names(Resource::Nodes, ""), ["n1"]);
}

#[tokio::test]
async fn very_many_dependents_go_group_by_group_and_a_restart_loses_none() {
    let mut home = Home::new().await;
    lease(&home, "a", vec![]).await;
    let reference = blocking(owner(&home, "a"));
    for start in (0..1500).step_by(100) {
        let some =
            (start..start + 100).map(|i| lease(&home, Box::leak(format!("l{i}").into()), vec![reference.clone()]));
        futures_join(some).await;
    }
    assert_eq!(delete(&home, "a", Propagation::Foreground).await.unwrap().outcome, Outcome::Deleting);
    assert!(home.names(LEASES, "default").len() > 500, "a bounded number goes with the request");
    home.reopen().await;
    until("all of them go", || home.names(LEASES, "default").is_empty()).await;
}

/// Awaits all of them together: they share commits.
async fn futures_join(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_service_takes_what_is_derived_from_it_along_in_every_way() {
    let home = Home::new().await;
    home.create(Resource::Nodes, node("n1")).await.unwrap();
    home.create(Resource::Pods, pod("p", "web")).await.unwrap();
    home.status(Resource::Pods, "default", "p", running("10.9.0.1", true)).await.unwrap();
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        home.create(Resource::Services, web("web")).await.unwrap();
        assert_eq!(home.names(Resource::EndpointSlices, "default").len(), 1);
        let uid = home.value(Resource::Services, "default", "web")["metadata"]["uid"].clone();
        let mut object = config_map_like("child");
        object["metadata"]["ownerReferences"] =
            json!([{ "apiVersion": "v1", "kind": "Service", "name": "web", "uid": uid, "blockOwnerDeletion": true }]);
        home.create(LEASES, object).await.unwrap();
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        let written = home.write(Resource::Services, "default", "web", Verb::Delete { options }).await.unwrap();
        assert_eq!(written.outcome, Outcome::Deleted, "{propagation:?}");
        for resource in [Resource::Services, Resource::Endpoints, Resource::EndpointSlices, Resource::IpAddresses] {
            assert!(home.names(resource, "default").is_empty(), "{propagation:?} {resource}");
        }
        let orphaned = propagation == Propagation::Orphan;
        assert_eq!(home.names(LEASES, "default").len(), usize::from(orphaned), "{propagation:?}");
    }
    assert_eq!(owners(&home, "child"), Vec::<String>::new());
}

#[tokio::test]
async fn a_dry_run_leaves_dependents_alone() {
    let home = Home::new().await;
    lease(&home, "a", vec![]).await;
    lease(&home, "child", vec![owner(&home, "a")]).await;
    let before = home.dump();
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        let write = store::Write {
            resource: LEASES,
            namespace: "default".into(),
            name: "a".into(),
            verb: Verb::Delete { options },
            manager: "test".into(),
            dry_run: true,
        };
        assert_eq!(home.store.write(write).await.unwrap().outcome, Outcome::Deleted);
        assert_eq!(home.dump(), before);
    }
}

#[tokio::test]
async fn a_namespace_says_what_remains_in_it() {
    let home = Home::new().await;
    home.create(Resource::Namespaces, namespace("team")).await.unwrap();
    for name in ["x", "y"] {
        let mut object = config_map_like(name);
        object["metadata"]["namespace"] = json!("team");
        object["metadata"]["finalizers"] = json!(["example.com/a"]);
        home.create(LEASES, object).await.unwrap();
    }
    assert_eq!(home.delete(Resource::Namespaces, "", "team").await.unwrap().outcome, Outcome::Deleting);
    let conditions = |home: &Home| -> String {
        let value = home.value(Resource::Namespaces, "", "team");
        let line = |c: &Value| format!("{} {} {}: {}\n", c["type"], c["status"], c["reason"], c["message"]);
        value["status"]["conditions"].as_array().unwrap().iter().map(line).collect::<String>().replace('"', "")
    };
    let expected = [
        "NamespaceDeletionDiscoveryFailure False ResourcesDiscovered: All resources successfully discovered",
        "NamespaceDeletionGroupVersionParsingFailure False ParsedGroupVersions: All legacy kube types successfully parsed",
        "NamespaceDeletionContentFailure False ContentDeleted: All content successfully deleted, may be waiting on finalization",
        "NamespaceContentRemaining True SomeResourcesRemain: Some resources are remaining: leases.coordination.k8s.io has 2 resource instances",
        "NamespaceFinalizersRemaining True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/a in 2 resource instances",
    ];
    assert_eq!(conditions(&home).lines().collect::<Vec<_>>(), expected);
    let free = json!({ "metadata": { "finalizers": null } });
    home.merge(LEASES, "team", "x", free.clone()).await.unwrap();
    assert!(conditions(&home).contains("leases.coordination.k8s.io has 1 resource instances"));
    // Another change of a terminating namespace does not end it before its time.
    home.merge(Resource::Namespaces, "", "team", json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    assert!(home.store.get(Resource::Namespaces, "", "team").is_some());
    home.merge(LEASES, "team", "y", free).await.unwrap();
    assert!(home.store.get(Resource::Namespaces, "", "team").is_none());
}

#[tokio::test]
async fn a_namespace_waits_for_a_foreign_finalizer_of_its_spec() {
    let home = Home::new().await;
    let mut object = namespace("team");
    object["spec"] = json!({ "finalizers": ["example.com/a"] });
    home.create(Resource::Namespaces, object).await.unwrap();
    assert_eq!(
        home.value(Resource::Namespaces, "", "team")["spec"]["finalizers"],
        json!(["example.com/a", "kubernetes"])
    );
    let deleting = home.delete(Resource::Namespaces, "", "team").await.unwrap();
    assert_eq!(deleting.outcome, Outcome::Deleting);
    // The contents are gone, so ours is taken.
    assert_eq!(deleting.object.value().unwrap()["spec"]["finalizers"], json!(["example.com/a"]));
    let mut value = deleting.object.value().unwrap();
    value["spec"]["finalizers"] = json!([]);
    // The main path does not take it.
    let kept = home.update(Resource::Namespaces, value.clone(), Subresource::None).await.unwrap();
    assert_eq!(kept.outcome, Outcome::Unchanged);
    let gone = home.update(Resource::Namespaces, value, Subresource::Finalize).await.unwrap();
    assert_eq!(gone.outcome, Outcome::Deleted);
    assert!(home.store.get(Resource::Namespaces, "", "team").is_none());
}
