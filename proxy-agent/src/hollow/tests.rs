use std::sync::Mutex;

use super::*;
use crate::testing::world::{self, World};

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// Writes down what it is told.
#[derive(Default)]
struct Diary {
    told: Mutex<Vec<String>>,
    lists: Mutex<u32>,
}

impl Diary {
    fn note(&self, line: String) {
        self.told.lock().unwrap().push(line);
    }

    async fn has(&self, line: &str) {
        let reads = || self.told.lock().unwrap().iter().any(|told| told == line);
        let waited = async {
            while !reads() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
        assert!(waited.is_ok(), "{line:?} is not in {:?}", self.told.lock().unwrap());
    }
}

impl Audience for Diary {
    async fn list(&self, client: &Client, resource: Resource, _: Instant) -> Result<Revision, ClientError> {
        *self.lists.lock().unwrap() += 1;
        let mut stream = client.list(&collection(resource)).await?;
        while stream.next().await?.is_some() {}
        stream.revision()
    }

    fn opened(&self, resource: Resource) {
        self.note(format!("{resource} opened"));
    }

    fn came(&self, resource: Resource, revision: Revision, object: &[u8]) {
        let (key, at) = crate::objects::identify(object).unwrap();
        assert_eq!(at, revision);
        self.note(format!("{resource} {} came", key.name));
    }

    fn ended(&self, resource: Resource, how: Ended) {
        self.note(format!("{resource} ended {how:?}"));
    }

    fn failed(&self, _: &'static str, _: &ClientError) {}
}

#[tokio::test]
async fn what_comes_is_told_and_acknowledged_and_a_watch_that_broke_goes_on() {
    let world = World::new(1);
    world.lock().unwrap().set(SLICES, "shop/first", json!({}));
    let fake = world::serve(&world).await;
    let client = Client::new(&fake.url(), None, None).unwrap();
    let (diary, resource) = (Arc::new(Diary::default()), Resource::EndpointSlices);
    let (programmed, acknowledged) = watch::channel(Programmed::default());
    let task = tokio::spawn(watching::follow(
        client,
        Lineage::default(),
        resource,
        Instant::now(),
        Arc::clone(&diary),
        Arc::new(programmed),
    ));
    diary.has("endpointslices opened").await;
    world.lock().unwrap().set(SLICES, "shop/second", json!({"endpoints": []}));
    diary.has("endpointslices second came").await;
    world.lock().unwrap().hang_up();
    diary.has("endpointslices ended Early").await;
    let last = world.lock().unwrap().set(SLICES, "shop/third", json!({}));
    diary.has("endpointslices third came").await;
    assert!(!diary.told.lock().unwrap().contains(&"endpointslices first came".to_owned()), "it was listed");
    assert_eq!(*diary.lists.lock().unwrap(), 1);
    let place = WATCHED.iter().position(|watched| *watched == resource).unwrap();
    assert_eq!(acknowledged.borrow().revisions[place], Some(last));
    task.abort();
}

#[tokio::test]
async fn who_has_forgotten_where_a_watch_was_is_listed_anew() {
    let world = World::new(1);
    world.lock().unwrap().set(SLICES, "shop/first", json!({}));
    let fake = world::serve(&world).await;
    let client = Client::new(&fake.url(), None, None).unwrap();
    let diary = Arc::new(Diary::default());
    let (programmed, _acknowledged) = watch::channel(Programmed::default());
    let task = tokio::spawn(watching::follow(
        client,
        Lineage::default(),
        Resource::EndpointSlices,
        Instant::now(),
        Arc::clone(&diary),
        Arc::new(programmed),
    ));
    diary.has("endpointslices opened").await;
    {
        let mut world = world.lock().unwrap();
        world.hang_up();
        let last = world.set(SLICES, "shop/missed", json!({}));
        world.compacted = last;
    }
    diary.has("endpointslices ended Early").await;
    for n in 0.. {
        world.lock().unwrap().set(SLICES, "shop/later", json!({"n": n}));
        tokio::time::sleep(Duration::from_millis(50)).await;
        if diary.told.lock().unwrap().iter().any(|told| told.contains("later")) {
            break;
        }
        assert!(n < 400);
    }
    assert_eq!(*diary.lists.lock().unwrap(), 2);
    task.abort();
}
