use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::testing::world::{self, FAULTS, World};
use crate::testing::{Fake, Reply};

const SERVICES: &str = "/api/v1/services";

/// What a follower would hold: each object's revision.
type Mirror = BTreeMap<Key, Revision>;

fn apply(mirror: &mut Mirror, update: Update) {
    match update {
        Update::Replaced { objects, unreadable, .. } => {
            assert!(unreadable.is_empty());
            *mirror = objects.into_iter().map(|object| (object.key, object.revision)).collect();
        }
        Update::Set { object, .. } => {
            let old = mirror.insert(object.key, object.revision);
            assert!(old.is_none_or(|old| old < object.revision), "an older version after a newer one");
        }
        Update::Removed { key, .. } => {
            mirror.remove(&key);
        }
        Update::Seen { .. } => {}
    }
}

fn truth(world: &World) -> Mirror {
    let revision =
        |object: &serde_json::Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let key = |key: &String| key.split_once('/').map(|(namespace, name)| Key::new(namespace, name)).unwrap();
    world.objects(SERVICES).iter().map(|(name, object)| (key(name), revision(object))).collect()
}

/// A reflector of Services at work on `fake`, and what it says.
fn start(fake: &Fake) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(16);
    let client = Client::new(&fake.url(), None, None).unwrap();
    tokio::spawn(follow(client, Lineage::default(), Resource::Services, sender, || 0));
    receiver
}

async fn news(updates: &mut mpsc::Receiver<News>) -> News {
    tokio::time::timeout(Duration::from_secs(10), updates.recv()).await.expect("no update came").unwrap()
}

async fn next(updates: &mut mpsc::Receiver<News>) -> Update {
    news(updates).await.update
}

#[tokio::test]
async fn it_converges_whatever_the_server_does() {
    let shared = World::new(99_991);
    for n in 0..20 {
        shared.lock().unwrap().set(SERVICES, &format!("default/s{n}"), json!({"spec": {"clusterIP": "10.96.0.1"}}));
    }
    shared.lock().unwrap().faulty = true;
    let fake = world::serve(&shared).await;
    let mut updates = start(&fake);
    let mirror = Arc::new(Mutex::new(Mirror::new()));
    let writer = Arc::clone(&mirror);
    tokio::spawn(async move {
        while let Some(news) = updates.recv().await {
            apply(&mut writer.lock().unwrap(), news.update);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut world = shared.lock().unwrap();
        if world.faults.len() == FAULTS {
            break;
        }
        assert!(Instant::now() < deadline, "only these struck: {:?}", world.faults);
        let key = format!("default/s{}", world.random(30));
        match world.random(40) {
            0 => world.compacted = world.revision,
            1 => world.hang_up(),
            2..10 => world.delete(SERVICES, &key),
            n => {
                world.set(SERVICES, &key, json!({"spec": {"clusterIP": format!("10.96.0.{n}")}}));
            }
        }
    }
    shared.lock().unwrap().faulty = false;
    let deadline = Instant::now() + Duration::from_secs(20);
    while *mirror.lock().unwrap() != truth(&shared.lock().unwrap()) {
        assert!(Instant::now() < deadline, "no convergence: {:?}", shared.lock().unwrap().faults);
        // Keeps those watches moving whose fault has not struck yet.
        shared.lock().unwrap().set(SERVICES, "default/last", json!({}));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_watch_goes_on_from_the_last_whole_event() {
    let event = |kind: &str, name: &str, revision: u64| {
        let metadata = json!({"name": name, "namespace": "default", "resourceVersion": revision.to_string()});
        format!("{}\n", json!({"type": kind, "object": {"metadata": metadata}})).into_bytes()
    };
    let cut = event("ADDED", "never", 12);
    let fake = Fake::scripted(vec![
        Reply::json(200, &json!({"metadata": {"resourceVersion": "5"}, "items": []})),
        Reply::Cut(vec![event("ADDED", "a", 7), event("BOOKMARK", "", 9), cut[..30].to_vec()]),
        Reply::Chunks(vec![event("DELETED", "a", 11)]),
        // What was seen last is there.
        Reply::json(200, &json!({"metadata": {"name": "a", "namespace": "default", "resourceVersion": "7"}})),
    ])
    .await;
    let mut updates = start(&fake);
    assert!(matches!(next(&mut updates).await, Update::Replaced { revision: 5, .. }));
    assert!(matches!(next(&mut updates).await, Update::Set { object: Decoded { revision: 7, .. }, .. }));
    assert!(matches!(next(&mut updates).await, Update::Seen { revision: 9, .. }));
    assert!(matches!(next(&mut updates).await, Update::Removed { revision: 11, .. }));
    let from: Vec<_> =
        fake.asked_else().iter().map(|asked| asked.query("resourceVersion").map(str::to_owned)).collect();
    // What is proven lies before the bookmark.
    assert_eq!(from[..3], [None, Some("5".to_owned()), Some("7".to_owned())]);
    assert_eq!(fake.asked_else()[3].target, "/api/v1/namespaces/default/services/a");
    let seconds: u64 = fake.asked_else()[1].query("timeoutSeconds").unwrap().parse().unwrap();
    assert!(WATCH_SECONDS.contains(&seconds));
}

#[tokio::test]
async fn nothing_of_a_list_that_breaks_off_is_used() {
    let whole =
        json!({"metadata": {"resourceVersion": "6"}, "items": [{"metadata": {"name": "a", "resourceVersion": "3"}}]});
    let text = whole.to_string().into_bytes();
    let fake = Fake::scripted(vec![
        Reply::Cut(vec![text[..text.len() - 2].to_vec()]),
        Reply::Chunks(vec![text[..text.len() - 2].to_vec()]),
        Reply::Whole(200, text),
    ])
    .await;
    let mut updates = start(&fake);
    assert!(matches!(next(&mut updates).await, Update::Replaced { revision: 6, objects, .. } if objects.len() == 1));
    assert_eq!(fake.asked_else().len(), 3);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_does_not_stop_the_others() {
    let bad = json!({"metadata": {"name": "bad", "namespace": "x", "resourceVersion": "8"}, "spec": {"ports": 7}});
    let good = json!({"metadata": {"name": "good", "namespace": "x", "resourceVersion": "9"}});
    let line = |object: &serde_json::Value| format!("{}\n", json!({"type": "MODIFIED", "object": object})).into_bytes();
    let (sender, live) = mpsc::unbounded_channel();
    sender.send([line(&bad), line(&good)].concat()).unwrap();
    let fake = Fake::scripted(vec![
        Reply::json(200, &json!({"metadata": {"resourceVersion": "5"}, "items": [bad, good]})),
        Reply::Live(live),
    ])
    .await;
    let mut updates = start(&fake);
    let Update::Replaced { objects, unreadable, .. } = next(&mut updates).await else { panic!() };
    assert_eq!((objects.len(), unreadable), (1, vec![Key::new("x", "bad")]));
    assert!(matches!(next(&mut updates).await, Update::Seen { revision: 8, .. }));
    assert!(matches!(next(&mut updates).await, Update::Set { object: Decoded { revision: 9, .. }, .. }));
}

#[tokio::test]
async fn a_step_back_is_not_applied() {
    let event = |revision: u64| {
        let metadata = json!({"name": "a", "resourceVersion": revision.to_string()});
        format!("{}\n", json!({"type": "MODIFIED", "object": {"metadata": metadata}})).into_bytes()
    };
    let list =
        |revision: u64| Reply::json(200, &json!({"metadata": {"resourceVersion": revision.to_string()}, "items": []}));
    let fake = Fake::scripted(vec![list(50), Reply::Chunks(vec![event(3)]), list(4), list(4)]).await;
    let mut updates = start(&fake);
    assert!(matches!(next(&mut updates).await, Update::Replaced { revision: 50, .. }));
    // A server that was restored to an older state: a list says what is true now, in another epoch.
    let news = news(&mut updates).await;
    assert!(matches!(news, News { epoch: 1, update: Update::Replaced { revision: 4, .. } }), "{news:?}");
}

#[tokio::test]
async fn a_watch_of_another_database_is_left_and_everything_listed() {
    let shared = World::new(7);
    let kept = shared.lock().unwrap().set(SERVICES, "default/kept", json!({}));
    let fake = world::serve(&shared).await;
    let mut updates = start(&fake);
    assert!(matches!(news(&mut updates).await, News { epoch: 0, update: Update::Replaced { .. } }));
    // It comes back with other objects, and is further on: a watch from `kept` would bring nothing but the last one.
    {
        let mut world = shared.lock().unwrap();
        world.become_another("b");
        world.set(SERVICES, "default/new", json!({}));
        world.revision += 100;
        world.set(SERVICES, "default/newer", json!({}));
    }
    let News { epoch, update: Update::Replaced { revision, objects, .. } } = news(&mut updates).await else { panic!() };
    assert_eq!((epoch, objects.len()), (1, 2));
    assert!(revision > kept + 100);
}

#[tokio::test]
async fn a_watch_ends_with_its_epoch() {
    let shared = World::new(7);
    shared.lock().unwrap().set(SERVICES, "default/a", json!({}));
    let fake = world::serve(&shared).await;
    let (sender, mut updates) = mpsc::channel(16);
    let lineage = Lineage::default();
    let client = Client::new(&fake.url(), None, None).unwrap();
    tokio::spawn(follow(client, lineage.clone(), Resource::Services, sender, || 0));
    assert_eq!(news(&mut updates).await.epoch, 0);
    lineage.end(0, "somebody else has noticed");
    assert!(matches!(news(&mut updates).await, News { epoch: 1, update: Update::Replaced { .. } }));
}

#[tokio::test]
async fn it_ends_with_the_core() {
    let fake =
        Fake::scripted(vec![Reply::json(200, &json!({"metadata": {"resourceVersion": "5"}, "items": []}))]).await;
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let client = Client::new(&fake.url(), None, None).unwrap();
    let follower = follow(client, Lineage::default(), Resource::Services, sender, || 0);
    tokio::time::timeout(Duration::from_secs(10), follower).await.expect("it goes on for nobody");
}

#[test]
fn paths_are_the_apis() {
    assert_eq!(collection(Resource::Services), "/api/v1/services");
    assert_eq!(collection(Resource::EndpointSlices), "/apis/discovery.k8s.io/v1/endpointslices");
    assert_eq!(collection(Resource::ServiceCidrs), "/apis/networking.k8s.io/v1/servicecidrs");
}
