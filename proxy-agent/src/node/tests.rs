use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::{Asked, Fake, Reply};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn times_are_written_as_kubernetes_writes_them() {
    assert_eq!(micros(time("2024-05-06T07:08:09Z")), "2024-05-06T07:08:09.000000Z");
    assert_eq!(micros(time("2024-05-06T07:08:09.123456789Z")), "2024-05-06T07:08:09.123456Z");
    assert_eq!(seconds(time("2024-05-06T07:08:09.9Z")), "2024-05-06T07:08:09Z");
}

#[test]
fn renewing_keeps_what_others_wrote() {
    let lease = json!({"metadata": {"name": "n", "resourceVersion": "5", "labels": {"a": "b"}}, "spec": {"leaseTransitions": 2}});
    let lease = renewed(lease, "n", time("2024-05-06T07:08:09Z"));
    assert_eq!(lease["metadata"]["resourceVersion"], "5");
    assert_eq!(
        lease["spec"],
        json!({"holderIdentity": "n", "leaseDurationSeconds": 40, "leaseTransitions": 2, "renewTime": "2024-05-06T07:08:09.000000Z"})
    );
}

/// A server with objects by path, optimistic concurrency, and no status at creation.
#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    revision: u64,
}

impl Objects {
    fn answer(&mut self, asked: &Asked) -> Reply {
        self.revision += 1;
        match asked.method.as_str() {
            "GET" => match self.by_path.get(&asked.target) {
                Some(object) => Reply::json(200, object),
                None => Reply::status(404, "NotFound", "not found"),
            },
            "POST" => {
                let mut object = asked.json();
                let path = format!("{}/{}", asked.target, object["metadata"]["name"].as_str().unwrap());
                if self.by_path.contains_key(&path) {
                    return Reply::status(409, "AlreadyExists", "already exists");
                }
                object.as_object_mut().unwrap().remove("status");
                object["metadata"]["uid"] = json!("uid-1");
                object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
                self.by_path.insert(path, object.clone());
                Reply::json(201, &object)
            }
            "PUT" => {
                let mut object = asked.json();
                let Some(old) = self.by_path.get_mut(&asked.target) else {
                    return Reply::status(404, "NotFound", "not found");
                };
                if old["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                    return Reply::status(409, "Conflict", "the object has been modified");
                }
                object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
                *old = object.clone();
                Reply::json(200, &object)
            }
            "PATCH" => {
                let status = asked.target.strip_suffix("/status");
                let object = self.by_path.get_mut(status.unwrap_or(&asked.target)).unwrap();
                match status {
                    Some(_) => object["status"] = asked.json()["status"].clone(),
                    None => merge(&mut object["metadata"], &asked.json()["metadata"]),
                }
                Reply::json(200, object)
            }
            other => panic!("{other}"),
        }
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

async fn world() -> (Arc<Mutex<Objects>>, Fake, Keeper) {
    let objects = Arc::new(Mutex::new(Objects::default()));
    let handler = Arc::clone(&objects);
    let fake = Fake::start(move |asked| handler.lock().unwrap().answer(asked)).await;
    let client = Client::new(&fake.url(), None, None).unwrap();
    let shape = Shape::new("n", vec!["192.0.2.1".parse().unwrap()], BTreeMap::new());
    let keeper = Keeper {
        client,
        lineage: Lineage::default(),
        epoch: 0,
        name: "n".into(),
        shape,
        uid: None,
        dns_port: None,
        lease: None,
        troubled: false,
        beats: 0,
    };
    (objects, fake, keeper)
}

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";

#[tokio::test]
async fn a_node_that_is_missing_is_created_with_its_status() {
    let (objects, _fake, mut keeper) = world().await;
    keeper.beat().await.unwrap();
    let objects = objects.lock().unwrap();
    assert_eq!(objects.by_path["/api/v1/nodes/n"]["status"]["addresses"][0]["address"], "192.0.2.1");
    assert_eq!(objects.by_path[LEASE]["spec"]["holderIdentity"], "n");
    assert_eq!(objects.by_path[LEASE]["metadata"]["ownerReferences"][0]["uid"], "uid-1");
}

#[tokio::test]
async fn a_node_that_exists_is_left_alone() {
    let (objects, fake, mut keeper) = world().await;
    let node = json!({"metadata": {"name": "n", "uid": "other"}, "status": {}});
    objects.lock().unwrap().by_path.insert("/api/v1/nodes/n".into(), node.clone());
    keeper.beat().await.unwrap();
    keeper.beat().await.unwrap();
    assert_eq!(objects.lock().unwrap().by_path["/api/v1/nodes/n"], node);
    let methods: Vec<String> = fake.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods, ["GET", "GET", "POST", "PUT"], "a later beat is one request");
}

#[tokio::test]
async fn a_lease_that_somebody_else_wrote_or_deleted_is_renewed_all_the_same() {
    let (objects, _fake, mut keeper) = world().await;
    keeper.beat().await.unwrap();
    objects.lock().unwrap().by_path.get_mut(LEASE).unwrap()["metadata"]["resourceVersion"] = json!("999");
    keeper.beat().await.unwrap();
    assert_eq!(objects.lock().unwrap().by_path[LEASE]["spec"]["holderIdentity"], "n");
    objects.lock().unwrap().by_path.remove(LEASE);
    keeper.beat().await.unwrap();
    assert!(objects.lock().unwrap().by_path.contains_key(LEASE));
}

#[tokio::test]
async fn a_lease_that_has_gone_back_in_time_ends_the_epoch_and_the_node_is_registered_anew() {
    let (objects, _fake, mut keeper) = world().await;
    keeper.beat().await.unwrap();
    let backup = objects.lock().unwrap().by_path.clone();
    keeper.beat().await.unwrap();
    // Somebody else's write makes a newer one: no harm.
    let bumped = |objects: &mut Objects, revision: u64| {
        objects.by_path.get_mut(LEASE).unwrap()["metadata"]["resourceVersion"] = json!(revision.to_string());
    };
    objects.lock().unwrap().revision += 10;
    bumped(&mut objects.lock().unwrap(), 12);
    keeper.beat().await.unwrap();
    assert_eq!(keeper.lineage.epoch(), 0);
    // The server is restored, and its revisions go on from further on.
    objects.lock().unwrap().by_path = backup;
    objects.lock().unwrap().revision += 1000;
    keeper.beat().await.unwrap();
    assert_eq!(keeper.lineage.epoch(), 1);
    // As another one, without this node.
    keeper.lineage.end(1, "again");
    objects.lock().unwrap().by_path.clear();
    keeper.beat().await.unwrap();
    assert!(objects.lock().unwrap().by_path.contains_key("/api/v1/nodes/n"));
    assert_eq!(keeper.lineage.epoch(), 2);
}

#[tokio::test]
async fn a_renewal_at_an_older_revision_than_was_seen_ends_the_epoch() {
    let (_objects, _fake, mut keeper) = world().await;
    keeper.lineage.saw(0, 1_000_000);
    keeper.beat().await.unwrap();
    assert_eq!(keeper.lineage.epoch(), 1);
    keeper.beat().await.unwrap();
    keeper.beat().await.unwrap();
    assert_eq!(keeper.lineage.epoch(), 1);
}

#[tokio::test]
async fn the_node_says_at_which_port_it_answers_dns() {
    let (objects, fake, mut keeper) = world().await;
    let says = || objects.lock().unwrap().by_path["/api/v1/nodes/n"]["metadata"]["annotations"][DNS_PORT].clone();
    keeper.publish(Some(10053)).await.unwrap();
    assert!(fake.asked().is_empty(), "there is no Node yet");
    keeper.beat().await.unwrap();
    keeper.publish(None).await.unwrap();
    assert_eq!(says(), Value::Null);
    keeper.publish(Some(10053)).await.unwrap();
    let asked = fake.asked().len();
    keeper.publish(Some(10053)).await.unwrap();
    assert_eq!((says(), fake.asked().len()), (json!("10053"), asked), "once is enough");
    // Another agent of this node finds what this one has said.
    (keeper.uid, keeper.dns_port) = (None, None);
    keeper.beat().await.unwrap();
    assert_eq!(keeper.dns_port, Some(Some(10053)));
    keeper.publish(None).await.unwrap();
    assert_eq!(says(), Value::Null);
}

#[tokio::test]
async fn a_node_that_an_agent_has_registered_follows_the_machine() {
    let (objects, _fake, mut keeper) = world().await;
    keeper.beat().await.unwrap();
    let labels = BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), "b".to_owned())]);
    keeper.shape = Shape::new("n", vec!["192.0.2.9".parse().unwrap()], labels);
    keeper.uid = None;
    keeper.beat().await.unwrap();
    let node = objects.lock().unwrap().by_path["/api/v1/nodes/n"].clone();
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "b");
    assert_eq!(node["status"]["addresses"][0]["address"], "192.0.2.9");
    // Also while it runs.
    keeper.shape = Shape::new("n", vec!["192.0.2.10".parse().unwrap()], BTreeMap::new());
    for _ in 0..COMPARED_EVERY {
        keeper.beat().await.unwrap();
    }
    let node = objects.lock().unwrap().by_path["/api/v1/nodes/n"].clone();
    assert_eq!(node["metadata"]["labels"].get("topology.kubernetes.io/zone"), None);
    assert_eq!(node["status"]["addresses"][0]["address"], "192.0.2.10");
}
