//! Which node a Pod runs on, said by a scheduler.

use model::Resource;
use serde_json::{Value, json};
use store::{Binding, Preconditions, Refusal, Verb, Written};

use crate::support::{Home, pod};

async fn bind(home: &Home, binding: Binding) -> Result<Written, Refusal> {
    home.write(Resource::Pods, "default", "p", Verb::Bind { binding }).await
}

fn to(node: &str) -> Binding {
    Binding { node: node.to_owned(), ..Binding::default() }
}

async fn unbound(home: &Home, spec: Value) {
    let mut object = pod("p", "x");
    object["spec"].as_object_mut().unwrap().remove("nodeName");
    for (name, value) in spec.as_object().unwrap() {
        object["spec"][name] = value.clone();
    }
    home.create(Resource::Pods, object).await.unwrap();
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let home = Home::new().await;
    unbound(&home, json!({})).await;
    let other = Preconditions { uid: Some("another".to_owned()), ..Preconditions::default() };
    let refusal = bind(&home, Binding { preconditions: other, ..to("n1") }).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal}");
    let annotations = json!({ "example.com/why": "free" });
    let binding = Binding { annotations: annotations.as_object().unwrap().clone(), ..to("n1") };
    bind(&home, binding).await.unwrap();
    let value = home.value(Resource::Pods, "default", "p");
    assert_eq!(value["spec"]["nodeName"], "n1");
    assert_eq!(value["metadata"]["annotations"], annotations);
    assert_eq!(value["metadata"]["generation"], 1);
    assert_eq!(
        value["status"]["conditions"],
        json!([{ "type": "PodScheduled", "status": "True", "lastTransitionTime": "2023-11-14T22:13:20Z" }])
    );
    let refusal = bind(&home, to("n2")).await.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
}

#[tokio::test]
async fn who_cannot_be_bound() {
    let home = Home::new().await;
    unbound(&home, json!({ "schedulingGates": [{ "name": "example.com/wait" }] })).await;
    let refusal = bind(&home, to("n1")).await.unwrap_err().to_string();
    assert!(refusal.ends_with("pod p has non-empty .spec.schedulingGates"), "{refusal}");
    let hold = json!({ "metadata": { "finalizers": ["example.com/a"] }, "spec": { "schedulingGates": null } });
    home.merge(Resource::Pods, "default", "p", hold).await.unwrap();
    assert!(matches!(bind(&home, to("Not A Node")).await, Err(Refusal::Invalid(_))));
    home.delete(Resource::Pods, "default", "p").await.unwrap();
    let refusal = bind(&home, to("n1")).await.unwrap_err().to_string();
    assert!(refusal.ends_with("pod p is being deleted, cannot be assigned to a host"), "{refusal}");
}
