//! Every verb on every kind, by every client, over TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod verbs {
    pub mod kube_rs;
    pub mod kubectl;
}

use std::collections::BTreeSet;

use conformance::kinds;
use conformance::kubectl::{Kubectl, VERSIONS};
use conformance::script::{Language, Script};
use conformance::server::{Server, http_get};
use serde_json::Value;

/// What each client does with each kind and says so.
const VERBS: [&str; 12] = [
    "create",
    "read",
    "list",
    "page",
    "update",
    "json-patch",
    "merge-patch",
    "strategic-patch",
    "apply",
    "status",
    "delete",
    "deletecollection",
];
/// kubectl deletes one by one, also with `--all`.
const KUBECTL_VERBS: [&str; 11] = [
    "create",
    "read",
    "list",
    "page",
    "update",
    "json-patch",
    "merge-patch",
    "strategic-patch",
    "apply",
    "status",
    "delete",
];

/// A kind that the server gains must be gone through here too.
#[tokio::test]
async fn the_list_of_kinds_is_the_servers() {
    let server = tokio::task::spawn_blocking(|| Server::start(&[])).await.unwrap();
    let client = server.client().await;
    let mut served = BTreeSet::new();
    let mut documents = vec!["/api/v1".to_owned()];
    let groups: Value = client.request(http_get("/apis")).await.unwrap();
    for group in groups["groups"].as_array().unwrap() {
        documents.push(format!("/apis/{}", group["preferredVersion"]["groupVersion"].as_str().unwrap()));
    }
    for path in documents {
        let list: Value = client.request(http_get(&path)).await.unwrap();
        let version = list["groupVersion"].as_str().unwrap();
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            let verbs = resource["verbs"].as_array().unwrap();
            // Subresources and reviews are not kinds that are kept.
            if !name.contains('/') && verbs.iter().any(|v| v == "list") {
                served.insert(format!(
                    "{version} {} {name} {}",
                    resource["kind"].as_str().unwrap(),
                    resource["namespaced"]
                ));
            }
        }
    }
    let listed: BTreeSet<String> =
        kinds::all().iter().map(|k| format!("{} {} {} {}", k.api_version, k.kind, k.plural, k.namespaced)).collect();
    assert_eq!(listed, served);
}

fn script(language: Language, half: &str) {
    let server = Server::start(&[]);
    let lines = Script::start(language, "verbs", &[half], &server.kubeconfig()).finish();
    assert_eq!(lines.into_iter().collect::<BTreeSet<_>>(), kinds::checklist(&VERBS, half == "typed"));
}

#[test]
fn python_typed() {
    script(Language::Python, "typed");
}

#[test]
fn python_dynamic() {
    script(Language::Python, "dynamic");
}

#[test]
fn node_typed() {
    script(Language::Node, "typed");
}

#[test]
fn node_dynamic() {
    script(Language::Node, "dynamic");
}

#[tokio::test]
async fn kube_rs_typed() {
    let server = tokio::task::spawn_blocking(|| Server::start(&[])).await.unwrap();
    let mut done = BTreeSet::new();
    for kind in kinds::all().into_iter().filter(|kind| kind.typed) {
        verbs::kube_rs::typed(server.client().await, &kind, &mut done).await;
    }
    assert_eq!(done, kinds::checklist(&VERBS, true));
}

#[tokio::test]
async fn kube_rs_dynamic() {
    let server = tokio::task::spawn_blocking(|| Server::start(&[])).await.unwrap();
    let mut done = BTreeSet::new();
    for kind in kinds::all() {
        verbs::kube_rs::dynamic(server.client().await, &kind, &mut done).await;
    }
    assert_eq!(done, kinds::checklist(&VERBS, false));
}

#[test]
fn kubectl_in_every_version() {
    std::thread::scope(|scope| {
        for version in VERSIONS {
            scope.spawn(move || {
                let server = Server::start(&[]);
                let kubectl = Kubectl::new(version, &server.kubeconfig(), server.dir());
                let mut done = BTreeSet::new();
                for kind in kinds::all() {
                    verbs::kubectl::exercise(&kubectl, &kind, &mut done);
                }
                assert_eq!(done, kinds::checklist(&KUBECTL_VERBS, false), "kubectl {version}");
            });
        }
    });
}
