//! Lists of the past: pages at one revision while others write, in the order of lists, until the history has forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Resource, Revision};
use proptest::prelude::*;
use serde_json::json;
use store::{Expired, Place};

use super::support::{Home, config_map_like, namespace};

/// In the order of lists: `-` sorts before the `/` that ends a namespace.
const NAMESPACES: [&str; 3] = ["a-b", "a", "b"];

/// One write: a Lease of a namespace is created, changed when it is there, or deleted.
#[derive(Clone, Copy, Debug)]
struct Step {
    namespace: usize,
    name: u8,
    delete: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (0..NAMESPACES.len(), 0u8..5, prop::bool::weighted(0.35)).prop_map(|(namespace, name, delete)| Step {
        namespace,
        name,
        delete,
    })
}

async fn write(home: &Home, n: usize, step: Step) {
    let (namespace, name) = (NAMESPACES[step.namespace], format!("l{}", step.name));
    if step.delete {
        // One that is not there stays away.
        let _ = home.delete(Resource::Leases, namespace, &name).await;
        return;
    }
    let mut lease = config_map_like(&name);
    lease["metadata"]["namespace"] = json!(namespace);
    if home.create(Resource::Leases, lease).await.is_err() {
        let patch = json!({ "spec": { "holderIdentity": n.to_string() } });
        home.merge(Resource::Leases, namespace, &name, patch).await.unwrap();
    }
}

/// Namespace, name and revision of each object.
type Listed = Vec<(String, String, Revision)>;

fn list(home: &Home, within: Option<&str>) -> Listed {
    listed(&home.store.list(Resource::Leases, within).1)
}

fn listed(objects: &[std::sync::Arc<model::Object>]) -> Listed {
    objects.iter().map(|o| (o.key.namespace.to_string(), o.key.name.to_string(), o.revision)).collect()
}

/// One page, and where the next one begins.
fn page(
    home: &Home,
    within: Option<&str>,
    at: Revision,
    from: &Place,
    most: usize,
) -> Result<(Listed, Option<Place>), Expired> {
    let page = home.store.page(Resource::Leases, within, Some(at), from, most)?;
    assert_eq!(page.revision, at);
    Ok((listed(&page.objects), page.next))
}

async fn run(steps: Vec<Step>, most: usize) {
    const KEPT: usize = 24;
    let home = Home::with(|config| config.history.max_events = KEPT).await;
    for name in NAMESPACES {
        home.create(Resource::Namespaces, namespace(name)).await.unwrap();
    }
    let scopes = [None, Some("a"), Some("b")];
    let mut snapshots: BTreeMap<Revision, [Listed; 3]> = BTreeMap::new();
    // Lists that are being read, one page after each write: revision, scope, what came so far, where to go on.
    let mut readers: Vec<(Revision, usize, Listed, Option<Place>)> = Vec::new();
    for (n, step) in steps.into_iter().enumerate() {
        write(&home, n, step).await;
        let revision = home.store.revision();
        snapshots.insert(revision, scopes.map(|within| list(&home, within)));
        readers.push((revision, n % scopes.len(), Vec::new(), Some(Place::default())));
        for (at, scope, read, next) in &mut readers {
            let Some(from) = next.take() else { continue };
            let all = &snapshots[at][*scope];
            match page(&home, scopes[*scope], *at, &from, most) {
                Ok((more, then)) => {
                    read.extend(more);
                    let left = home.store.count(Resource::Leases, scopes[*scope], *at, then.as_ref().unwrap_or(&from));
                    if then.is_some() {
                        assert_eq!(left, Some(all.len() - read.len()));
                    } else {
                        assert_eq!(read, all, "at {at}");
                    }
                    *next = then;
                }
                Err(expired) => assert!(*at < expired.oldest),
            }
        }
    }
    // What the history reaches back to can be listed whole.
    let oldest =
        home.store.page(Resource::Leases, None, Some(0), &Place::default(), 1).map_or_else(|e| e.oldest, |_| 0);
    for (at, all) in snapshots.range(oldest..) {
        for (within, expected) in scopes.iter().zip(all) {
            assert_eq!(&page(&home, *within, *at, &Place::default(), usize::MAX).unwrap().0, expected, "at {at}");
        }
    }
    home.store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn pages_under_writes_are_the_snapshot_of_the_first(steps in prop::collection::vec(step(), 1..50), most in 1usize..4) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps, most));
    }
}

#[tokio::test]
async fn a_list_over_all_namespaces_is_in_the_order_of_storage_keys() {
    let home = Home::new().await;
    for (n, name) in ["b", "a", "a-b"].into_iter().enumerate() {
        home.create(Resource::Namespaces, namespace(name)).await.unwrap();
        write(
            &home,
            n,
            Step { namespace: NAMESPACES.iter().position(|n| *n == name).unwrap(), name: 0, delete: false },
        )
        .await;
    }
    let order: Vec<String> = list(&home, None).into_iter().map(|(namespace, ..)| namespace).collect();
    assert_eq!(order, NAMESPACES);
}

#[tokio::test]
async fn a_revision_is_waited_for_a_little() {
    let home = Home::new().await;
    let revision = home.store.revision();
    let long = Duration::from_secs(3);
    assert_eq!(home.store.reach(revision, long).await, revision);
    let (reached, written) =
        tokio::join!(home.store.reach(revision + 1, long), home.create(Resource::Leases, config_map_like("a")));
    assert_eq!(reached, written.unwrap().object.revision);
    // It does not come.
    assert_eq!(home.store.reach(revision + 9, Duration::from_millis(20)).await, revision + 1);
    // It cannot come in that time, and nobody waits.
    let asked = std::time::Instant::now();
    assert_eq!(home.store.reach(revision + 1_000_000, long).await, revision + 1);
    assert!(asked.elapsed() < long);
}
