//! The controller of edges over a real store: what is decided is there for every reader, and survives a restart.

use model::admission::Subresource;
use model::patch::PatchKind;
use model::types::EdgeAddress;
use serde_json::{Value, json};
use store::{Config, DeleteOptions, Verb, Written};

use super::*;

const START: &str = "2026-01-01T00:00:00Z";
const LOOK: Duration = Duration::from_millis(50);

fn clock() -> Timestamp {
    START.parse().unwrap()
}

struct World {
    store: Store,
    config: Config,
    edges: Edges,
    figures: Arc<Figures>,
    /// Of each edge's Lease, as it wrote it last.
    versions: BTreeMap<String, Revision>,
    renewals: i64,
    _directory: tempfile::TempDir,
}

async fn write(store: &Store, resource: Resource, namespace: &str, name: &str, verb: Verb) -> Result<Written, Refusal> {
    let (namespace, name, manager) = (namespace.to_owned(), name.to_owned(), "test".to_owned());
    store.write(Write { resource, namespace, name, verb, manager, dry_run: false }).await
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::new(directory.path().join("portolan.db"));
        let store = Store::open(config.clone()).await.unwrap();
        let object = json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool",
            "metadata": { "name": "internet" }, "spec": { "addresses": ["192.0.2.0/24"] } });
        write(&store, Resource::AddressPools, "", "internet", Verb::Create { object }).await.unwrap();
        let figures = Arc::new(Figures::default());
        let edges = Edges::new(store.clone(), Arc::clone(&figures), Times::default(), clock);
        Self { store, config, edges, figures, versions: BTreeMap::new(), renewals: 0, _directory: directory }
    }

    async fn restart(&mut self) {
        self.store.close().await;
        self.store = Store::open(self.config.clone()).await.unwrap();
        self.edges = Edges::new(self.store.clone(), Arc::clone(&self.figures), Times::default(), clock);
        // This clock stands still, and names of Events come from it.
        self.edges.events = 1_000;
    }

    async fn make(&self, name: &str, spec: Value) {
        let object = json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancer",
            "metadata": { "name": name }, "spec": spec });
        write(&self.store, Resource::LoadBalancers, "", name, Verb::Create { object }).await.unwrap();
    }

    /// Renews the Lease of an edge as the edge does: against the version that it wrote last.
    async fn renew(&mut self, edge: &str, held: bool) -> Result<(), Refusal> {
        self.renewals += 1;
        let now = clock() + Duration::from_millis(u64::try_from(self.renewals).unwrap() * 500);
        let mac = format!("02:00:00:00:00:{:02x}", edge.len());
        let lease = EdgeLease {
            edge: edge.to_owned(),
            held,
            addresses: vec![EdgeAddress { ip: "192.0.2.201".parse().unwrap(), mac }],
            ..EdgeLease::default()
        };
        let version = self.versions.get(edge).map(ToString::to_string);
        let object = lease.object(now, version.as_deref());
        let verb = match version {
            None => Verb::Create { object },
            Some(_) => Verb::Update { object, subresource: Subresource::None },
        };
        let written = write(&self.store, Resource::Leases, NAMESPACE, &name_of(edge), verb).await?;
        self.versions.insert(edge.to_owned(), written.object.revision);
        Ok(())
    }

    /// So many seconds, in which these edges renew their Leases.
    async fn run(&mut self, seconds: u32, edges: &[&str]) {
        for look in 0..seconds * 20 {
            for edge in edges.iter().filter(|_| look % 10 == 0) {
                self.renew(edge, true).await.unwrap();
            }
            self.edges.look(LOOK).await;
        }
    }

    /// `instance@edge#term` of each, with `!` where the condition says that nobody holds it who lives.
    fn held(&self) -> String {
        let (_, all) = self.store.list(Resource::LoadBalancers, None);
        let line = |object: &Arc<Object>| {
            let status = &object.load_balancer().unwrap().status;
            let edge = status.edge.clone().unwrap_or_default();
            let condition = status.conditions.iter().find(|condition| condition.type_ == CONDITION);
            let dead = if condition.is_some_and(|condition| condition.status == "False") { "!" } else { "" };
            format!("{}@{}#{}{dead}", object.key.name, edge.name, edge.term)
        };
        all.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    /// `reason about` of each Event, in order.
    fn events(&self) -> Vec<String> {
        let (_, mut events) = self.store.list(Resource::Events, None);
        events.sort_by_key(|event| event.revision);
        let line = |event: &Arc<Object>| {
            let event = event.value().unwrap();
            format!("{} {}", event["reason"].as_str().unwrap(), event["involvedObject"]["name"].as_str().unwrap())
        };
        events.iter().map(line).collect()
    }
}

#[tokio::test]
async fn instances_are_shared_and_taken_over_when_an_edge_falls_silent() {
    let mut world = World::new().await;
    world.make("a", json!({})).await;
    world.run(1, &[]).await;
    assert_eq!(world.held(), "a@#0!");
    let value = world.store.get(Resource::LoadBalancers, "", "a").unwrap().value().unwrap();
    let message = value["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("run `portolan edge`"), "{message}");
    for name in ["b", "c", "d"] {
        world.make(name, json!({})).await;
    }
    world.run(1, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e1#1 b@e2#1 c@e1#1 d@e2#1");
    let value = world.store.get(Resource::LoadBalancers, "", "a").unwrap().value().unwrap();
    let expected = json!({ "name": "e1", "term": 1, "since": START,
        "addresses": [{ "ip": "192.0.2.201", "mac": "02:00:00:00:00:02" }] });
    assert_eq!(value["status"]["edge"], expected);
    // A restart of the server changes nothing, even if an edge needs a while to be heard.
    world.restart().await;
    let revision = world.store.revision();
    world.run(1, &[]).await;
    assert_eq!(world.store.revision(), revision);
    world.run(6, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e1#1 b@e2#1 c@e1#1 d@e2#1");
    // Now one is killed.
    world.run(1, &["e2"]).await;
    assert_eq!(world.held(), "a@e1#1 b@e2#1 c@e1#1 d@e2#1");
    world.run(1, &["e2"]).await;
    assert_eq!(world.held(), "a@e2#2 b@e2#1 c@e2#2 d@e2#1");
    // It did not know, and its renewal is refused.
    assert!(matches!(world.renew("e1", true).await, Err(Refusal::Conflict { .. })));
    let lease = world.store.get(Resource::Leases, NAMESPACE, &name_of("e1")).unwrap();
    world.versions.insert("e1".to_owned(), lease.revision);
    world.run(12, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e2#2 b@e2#1 c@e2#2 d@e2#1", "what has moved stays");
    world.make("e", json!({})).await;
    world.run(1, &["e1", "e2"]).await;
    assert!(world.held().ends_with("e@e1#1"), "{}", world.held());
    let events = world.events();
    let count = |wanted: &str| events.iter().filter(|event| *event == wanted).count();
    for (event, times) in [
        ("EdgeLost portolan-edge-e1", 1),
        ("EdgeReady portolan-edge-e1", 1),
        ("EdgeTakenOver a", 1),
        ("EdgeTakenOver c", 1),
        ("EdgeAssigned b", 1),
        ("EdgeLost portolan-edge-e2", 0),
    ] {
        assert_eq!(count(event), times, "{event} in {events:?}");
    }
    let text = world.figures.text();
    for line in [
        "portolan_edges{state=\"lives\"} 2",
        "portolan_edge_load_balancers{edge=\"e2\"} 4",
        "portolan_load_balancers_without_edge 0",
        "portolan_load_balancers_moved_total{reason=\"silent\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_renewal_at_the_last_moment_wins() {
    let mut world = World::new().await;
    world.make("a", json!({})).await;
    world.run(1, &["e1"]).await;
    world.run(1, &["e1", "e2"]).await;
    for _ in 0..29 {
        world.edges.look(LOOK).await;
    }
    world.renew("e2", true).await.unwrap();
    // The look that finds it silent has not seen this: it is judged by what was read before.
    let judged = world.edges.judged.clone();
    world.renew("e1", true).await.unwrap();
    let moves = [Move { instance: "a".into(), to: "e2".into(), why: Why::Silent }];
    world.edges.judged = judged;
    assert_eq!(world.edges.take_leases(&moves).await, BTreeSet::from(["e1".into()]));
    world.edges.look(LOOK).await;
    assert_eq!(world.held(), "a@e1#1");
}

#[tokio::test]
async fn where_nobody_is_heard_nothing_moves() {
    let mut world = World::new().await;
    world.make("a", json!({})).await;
    world.make("b", json!({})).await;
    world.run(1, &["e1", "e2"]).await;
    world.run(10, &[]).await;
    assert_eq!(world.held(), "a@e1#1! b@e2#1!");
    // Their Leases are still theirs.
    world.run(1, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e1#1 b@e2#1");
    // One comes back alone.
    world.run(5, &[]).await;
    world.run(1, &["e2"]).await;
    assert_eq!(world.held(), "a@e2#2 b@e2#1");
}

#[tokio::test]
async fn an_edge_that_leaves_is_followed_at_once_and_preferences_are_kept() {
    let mut world = World::new().await;
    world.make("a", json!({ "preferredEdge": "e1" })).await;
    world.make("b", json!({})).await;
    world.run(1, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e1#1 b@e2#1");
    world.renew("e1", false).await.unwrap();
    world.edges.look(LOOK).await;
    world.edges.look(LOOK).await;
    assert_eq!(world.held(), "a@e2#2 b@e2#1");
    world.run(9, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e2#2 b@e2#1", "it has to prove itself");
    world.run(2, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e1#3 b@e2#1");
    let events = world.events();
    for event in ["EdgeLeft portolan-edge-e1", "EdgeChanged a", "EdgeReady portolan-edge-e1"] {
        assert!(events.iter().any(|known| known == event), "{event} in {events:?}");
    }
    // Somebody deletes the Lease of a living edge, which makes another.
    let options = DeleteOptions::default();
    write(&world.store, Resource::Leases, NAMESPACE, &name_of("e1"), Verb::Delete { options }).await.unwrap();
    world.versions.remove("e1");
    world.run(1, &["e1", "e2"]).await;
    assert_eq!(world.held(), "a@e1#3 b@e2#1");
}

#[tokio::test]
async fn conditions_and_addresses_follow_and_what_the_edge_says_stays() {
    let mut world = World::new().await;
    world.make("a", json!({})).await;
    world.run(1, &["e1"]).await;
    let patch = json!({ "status": { "programmed": { "edge": "e1", "term": 1, "generation": 1 } } });
    let verb = Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::Status, strict: true };
    write(&world.store, Resource::LoadBalancers, "", "a", verb).await.unwrap();
    let patch = json!({ "metadata": { "annotations": {
        model::balancing::lease::ADDRESSES: "[{\"ip\":\"192.0.2.77\",\"mac\":\"02:00:00:00:00:77\"}]" } } });
    let verb = Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::None, strict: true };
    write(&world.store, Resource::Leases, NAMESPACE, &name_of("e1"), verb).await.unwrap();
    world.edges.look(LOOK).await;
    world.edges.look(LOOK).await;
    let object = world.store.get(Resource::LoadBalancers, "", "a").unwrap();
    let status = &object.load_balancer().unwrap().status;
    let edge = status.edge.clone().unwrap();
    assert_eq!((edge.term, edge.addresses[0].mac.as_str()), (1, "02:00:00:00:00:77"));
    assert_eq!(status.programmed.as_ref().map(|by| by.term), Some(1));
    assert_eq!(status.conditions[0].status, "True");
    let revision = world.store.revision();
    world.edges.look(LOOK).await;
    assert_eq!(world.store.revision(), revision, "what is so is not written again");
}
