//! Random writes against a plain map, with restarts in between; a watcher that rebuilds the map from events alone.

use std::collections::BTreeMap;

use model::admission::Subresource;
use model::{Resource, Revision};
use proptest::prelude::*;
use serde_json::{Value, json};
use store::{EventKind, Outcome, Refusal};

use super::support::{Home, config_map_like};

#[derive(Clone, Debug)]
enum Step {
    Create(u8, u8),
    Update(u8, u8),
    Delete(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6, 0u8..3).prop_map(|(name, holder)| Step::Create(name, holder)),
        6 => (0u8..6, 0u8..3).prop_map(|(name, holder)| Step::Update(name, holder)),
        4 => (0u8..6).prop_map(Step::Delete),
        1 => Just(Step::Restart),
    ]
}

fn lease(name: u8, holder: u8) -> Value {
    let mut object = config_map_like(&format!("l{name}"));
    object["spec"]["holderIdentity"] = json!(format!("h{holder}"));
    object
}

type Plain = BTreeMap<String, (String, Revision)>;

fn seen(home: &Home) -> Plain {
    let (_, objects) = home.store.list(Resource::Leases, None);
    objects
        .iter()
        .map(|object| {
            let holder = object.value().unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned();
            (object.key.name.to_string(), (holder, object.revision))
        })
        .collect()
}

async fn replay(home: &Home, from: Revision) -> Plain {
    let mut plain = Plain::new();
    let mut watch = home.store.watch(Resource::Leases, None, from).unwrap();
    let mut last = from;
    loop {
        let events = watch.ready().unwrap();
        if events.is_empty() {
            return plain;
        }
        for event in events {
            assert!(event.revision > last);
            last = event.revision;
            let name = event.object.key.name.to_string();
            let holder = event.object.value().unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned();
            let before = plain.get(&name).map(|(_, revision)| *revision);
            assert_eq!(event.previous.as_ref().map(|object| object.revision), before);
            match event.kind {
                EventKind::Deleted => plain.remove(&name),
                EventKind::Added | EventKind::Modified => plain.insert(name, (holder, event.revision)),
            };
        }
    }
}

async fn run(steps: Vec<Step>) {
    let mut home = Home::new().await;
    let from = home.store.revision();
    let mut plain = Plain::new();
    for step in steps {
        match step {
            Step::Create(name, holder) => {
                let key = format!("l{name}");
                match home.create(Resource::Leases, lease(name, holder)).await {
                    Ok(written) => {
                        let before = plain.insert(key, (format!("h{holder}"), written.object.revision));
                        assert_eq!(before, None);
                    }
                    Err(refusal) => {
                        assert!(matches!(refusal, Refusal::AlreadyExists { .. }) && plain.contains_key(&key))
                    }
                }
            }
            Step::Update(name, holder) => {
                let (key, mut object) = (format!("l{name}"), lease(name, holder));
                let revision = plain.get(&key).map_or(1, |(_, revision)| *revision);
                object["metadata"]["resourceVersion"] = json!(revision.to_string());
                match home.update(Resource::Leases, object, Subresource::None).await {
                    Ok(written) => {
                        let before = plain.insert(key, (format!("h{holder}"), written.object.revision)).unwrap();
                        let same = before.0 == format!("h{holder}");
                        assert_eq!(written.outcome == Outcome::Unchanged, same);
                        assert_eq!(before.1 == written.object.revision, same);
                    }
                    Err(refusal) => assert!(matches!(refusal, Refusal::NotFound { .. }) && !plain.contains_key(&key)),
                }
            }
            Step::Delete(name) => {
                let key = format!("l{name}");
                let result = home.delete(Resource::Leases, "default", &key).await;
                assert_eq!(result.is_ok(), plain.remove(&key).is_some());
            }
            Step::Restart => home.reopen().await,
        }
        assert_eq!(seen(&home), plain);
    }
    assert_eq!(replay(&home, from).await, plain);
    home.reopen().await;
    assert_eq!(seen(&home), plain);
    assert_eq!(replay(&home, from).await, plain);
    home.store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map_with_a_history(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
