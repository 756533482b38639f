//! The controller over a real store: what it decides is there for every reader, and survives a restart.

use std::collections::BTreeSet;
use std::time::Duration;

use model::admission::Subresource;
use model::patch::PatchKind;
use model::{Key, Resource};
use serde_json::{Value, json};
use store::{Api, Config, DeleteOptions, Verb, Write};

use super::*;
use crate::nodes::Nodes;

const START: &str = "2026-01-01T00:00:00Z";
const LOOK: Duration = Duration::from_millis(100);

fn clock() -> Timestamp {
    START.parse().unwrap()
}

struct World {
    store: Store,
    config: Config,
    nodes: Nodes,
    _directory: tempfile::TempDir,
}

async fn write(store: &Store, resource: Resource, namespace: &str, name: &str, verb: Verb) -> store::Written {
    let (namespace, name, manager) = (namespace.to_owned(), name.to_owned(), "test".to_owned());
    store.write(Write { resource, namespace, name, verb, manager, dry_run: false }).await.unwrap()
}

fn lease(renewed: u64) -> Value {
    json!({ "spec": { "holderIdentity": "a", "leaseDurationSeconds": 40,
        "renewTime": format!("2026-01-01T00:{:02}:{:02}.000000Z", renewed / 60, renewed % 60) } })
}

impl World {
    /// Nodes with a Pod each, which a Service selects.
    async fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path().join("portolan.db"));
        config.api = Some(Api { addresses: vec!["192.0.2.1".parse().unwrap()], port: 6443 });
        let store = Store::open(config.clone()).await.unwrap();
        let object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "default" },
            "spec": { "ports": [{ "port": 80 }], "selector": { "app": "web" } } });
        write(&store, Resource::Services, "default", "web", Verb::Create { object }).await;
        for (number, name) in names.iter().enumerate() {
            let ready = json!({ "type": "Ready", "status": "True", "reason": "AgentReady", "message": "it runs",
                "lastHeartbeatTime": START, "lastTransitionTime": START });
            let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
                "status": { "conditions": [ready, { "type": "MemoryPressure", "status": "False" }] } });
            write(&store, Resource::Nodes, "", name, Verb::Create { object }).await;
            let object = json!({ "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": "default", "labels": { "app": "web" } },
                "spec": { "nodeName": name, "containers": [{ "name": "c", "image": "i" }] } });
            write(&store, Resource::Pods, "default", name, Verb::Create { object }).await;
            let ip = format!("10.9.0.{}", number + 1);
            let status = json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                "conditions": [{ "type": "Ready", "status": "True" }] });
            patch(&store, Resource::Pods, "default", name, json!({ "status": status })).await;
        }
        let nodes = Nodes::new(store.clone(), clock, Times::default());
        Self { store, config, nodes, _directory: directory }
    }

    /// So many seconds, in which these nodes beat.
    async fn run(&mut self, seconds: u32, beating: &[&str]) {
        for tenth in 0..seconds * 10 {
            let beats = beating.iter().filter(|_| tenth % 10 == 0).map(|name| ((*name).into(), LOOK)).collect();
            self.nodes.look(Passed { elapsed: LOOK, late: Duration::ZERO }, beats).await;
        }
    }

    /// `name:status:reason` of each Node.
    fn ready(&self) -> String {
        let (_, nodes) = self.store.list(Resource::Nodes, None);
        let line = |node: &Arc<model::Object>| {
            let condition = node.node().unwrap().ready_condition().cloned().unwrap_or_default();
            format!("{}:{}:{}", node.key.name, condition.status, condition.reason)
        };
        nodes.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    /// The nodes whose endpoint is ready.
    fn served(&self) -> String {
        let (_, slices) = self.store.list(Resource::EndpointSlices, Some("default"));
        let slices = slices.iter().filter_map(|slice| slice.endpoint_slice());
        let ready = slices.flat_map(|slice| slice.endpoints.clone()).filter(|e| e.conditions.ready == Some(true));
        let names: BTreeSet<String> = ready.filter_map(|endpoint| endpoint.node_name).collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    }

    fn events(&self) -> Vec<String> {
        let (_, events) = self.store.list(Resource::Events, Some("default"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let line = |event: &Arc<model::Object>| {
            let event = event.value().unwrap();
            let about = &event["involvedObject"];
            format!(
                "{} {} {}: {}",
                text(&event["type"]),
                text(&about["name"]),
                text(&event["reason"]),
                text(&event["message"])
            )
        };
        events.iter().map(line).collect()
    }
}

async fn patch(store: &Store, resource: Resource, namespace: &str, name: &str, patch: Value) {
    let verb = Verb::Patch { kind: PatchKind::StrategicMerge, patch, subresource: Subresource::Status, strict: true };
    write(store, resource, namespace, name, verb).await;
}

#[tokio::test]
async fn a_silent_node_is_out_of_the_slices_and_back_with_what_it_said() {
    let mut world = World::new(&["a", "b", "c"]).await;
    world.run(3, &["a", "b", "c"]).await;
    assert_eq!(world.served(), "a b c");
    let revision = world.store.revision();
    world.run(3, &["a", "b", "c"]).await;
    assert_eq!(world.store.revision(), revision, "beats cost no write");
    world.run(4, &["a", "c"]).await;
    assert_eq!(world.served(), "a c");
    assert_eq!(world.ready(), "a:True:AgentReady b:Unknown:NodeStatusUnknown c:True:AgentReady");
    let stored = world.store.get(Resource::Nodes, "", "b").unwrap().value().unwrap();
    let conditions = stored["status"]["conditions"].as_array().unwrap();
    assert_eq!((conditions.len(), &conditions[0]["lastHeartbeatTime"]), (2, &json!(START)));
    let pod = world.store.get(Resource::Pods, "default", "b").unwrap();
    assert!(pod.pod().unwrap().ready(), "Pods are left as they are");
    world.run(1, &["a", "b", "c"]).await;
    assert_eq!((world.ready().matches("True:AgentReady").count(), world.served().as_str()), (3, "a b c"));
    let stored = world.store.get(Resource::Nodes, "", "b").unwrap().value().unwrap();
    assert_eq!(stored["status"]["conditions"][0]["message"], "it runs");
    let expected = [
        "Normal b NodeNotReady: Node b status is now: NodeNotReady; it was not heard for 4.0 s",
        "Normal b NodeReady: Node b status is now: NodeReady; it is heard again",
    ];
    assert_eq!(world.events(), expected);
}

#[tokio::test]
async fn a_restart_of_the_server_blames_nobody_and_forgets_nobody() {
    let mut world = World::new(&["a", "b", "c"]).await;
    for name in ["a", "b", "c"] {
        let mut object = lease(0);
        object["apiVersion"] = "coordination.k8s.io/v1".into();
        object["kind"] = "Lease".into();
        object["metadata"] = json!({ "name": name, "namespace": "kube-node-lease" });
        write(&world.store, Resource::Leases, "kube-node-lease", name, Verb::Create { object }).await;
    }
    world.run(3, &["a", "b", "c"]).await;
    world.run(5, &["a", "c"]).await;
    assert_eq!(world.served(), "a c");
    world.store.close().await;
    world.store = Store::open(world.config.clone()).await.unwrap();
    world.nodes = Nodes::new(world.store.clone(), clock, Times::default());
    // Nobody has beaten yet, and one never will again.
    world.run(3, &[]).await;
    assert_eq!(world.served(), "a c");
    world.run(30, &["a"]).await;
    assert_eq!(world.served(), "a c", "it may be one that only renews its Lease");
    world.run(10, &["a", "b"]).await;
    assert_eq!(world.served(), "a b");
    assert_eq!(world.ready(), "a:True:AgentReady b:True:NodeHeard c:Unknown:NodeStatusUnknown");
    // A Lease is a sign when it is renewed, and not when somebody writes something else on it.
    let verb = |patch| Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::None, strict: true };
    let label = json!({ "metadata": { "labels": { "x": "y" } } });
    write(&world.store, Resource::Leases, "kube-node-lease", "c", verb(label)).await;
    world.run(1, &["a", "b"]).await;
    assert_eq!(world.served(), "a b");
    write(&world.store, Resource::Leases, "kube-node-lease", "c", verb(lease(90))).await;
    world.run(1, &["a", "b"]).await;
    assert_eq!(world.served(), "a b c");
}

#[tokio::test]
async fn when_most_are_silent_nobody_is_taken_out_and_an_event_says_so() {
    let mut world = World::new(&["a", "b", "c"]).await;
    world.run(3, &["a", "b", "c"]).await;
    world.run(20, &["a"]).await;
    assert_eq!(world.served(), "a b c");
    world.run(3, &["a", "b", "c"]).await;
    let expected = [
        "Normal kubernetes NodesHeard: Most nodes are heard again after 17.1 s; from now on nodes that stay silent are taken out",
        "Warning kubernetes NodesSilent: 2 of 3 nodes that were ready are silent at once. That is most likely this server's \
         own network: no node is taken out until most are heard again",
    ];
    let mut events = world.events();
    events.sort();
    assert_eq!(events, expected);
}

#[tokio::test]
async fn a_node_that_comes_and_goes_is_told_until_when() {
    let mut world = World::new(&["a", "b", "c"]).await;
    for _ in 0..3 {
        world.run(3, &["a", "b", "c"]).await;
        world.run(5, &["a", "b"]).await;
    }
    world.run(5, &["a", "b", "c"]).await;
    assert_eq!(world.served(), "a b");
    let flaps: Vec<String> = world.events().into_iter().filter(|event| event.contains("NodeFlapping")).collect();
    assert_eq!(
        flaps,
        ["Warning c NodeFlapping: Node c has fallen silent 3 times within a short time; it stays not ready until \
          2026-01-01T00:00:10Z, and longer if it falls silent again before"]
    );
    world.run(6, &["a", "b", "c"]).await;
    assert_eq!(world.served(), "a b c");
}

#[tokio::test]
async fn a_node_that_is_deleted_and_made_anew_is_another() {
    let mut world = World::new(&["a", "b", "c"]).await;
    world.run(2, &["a", "b", "c"]).await;
    let delete = || Verb::Delete { options: DeleteOptions::default() };
    write(&world.store, Resource::Nodes, "", "c", delete()).await;
    let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "c" } });
    write(&world.store, Resource::Nodes, "", "c", Verb::Create { object }).await;
    world.run(50, &["a", "b"]).await;
    assert_eq!(world.ready(), "a:True:AgentReady b:True:AgentReady c::");
    assert_eq!(world.store.get(Resource::Pods, "default", "c").map(|pod| pod.key.clone()), None::<Key>);
}

#[tokio::test]
async fn expired_tokens_are_removed_and_others_are_not() {
    let world = World::new(&[]).await;
    let hash = format!("sha256:{}", "0".repeat(64));
    for (name, end) in [("first1", "2026-01-01T00:01:00Z"), ("second2", "2026-01-01T00:02:00Z")] {
        let object = json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "Token", "metadata": { "name": name },
            "spec": { "purpose": "NodeJoin", "hash": hash, "expiresAt": end } });
        write(&world.store, Resource::Tokens, "", name, Verb::Create { object }).await;
    }
    let mut tokens = Tokens::new();
    let names = || -> Vec<String> {
        world.store.list(Resource::Tokens, None).1.iter().map(|token| token.key.name.to_string()).collect()
    };
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    tokens.look(&world.store, at("2026-01-01T00:00:59Z")).await;
    assert_eq!(names(), ["first1", "second2"]);
    tokens.look(&world.store, at("2026-01-01T00:01:00Z")).await;
    assert_eq!(names(), ["second2"]);
    // One that was given more time lives on.
    let patch = json!({ "spec": { "expiresAt": "2026-01-01T01:00:00Z" } });
    let verb = Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::None, strict: true };
    write(&world.store, Resource::Tokens, "", "second2", verb).await;
    tokens.look(&world.store, at("2026-01-01T00:30:00Z")).await;
    assert_eq!(names(), ["second2"]);
    tokens.look(&world.store, at("2026-01-01T02:00:00Z")).await;
    assert_eq!(names(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_loop_takes_out_and_back() {
    let world = World::new(&["a", "b", "c"]).await;
    let (pulse, metrics) = (Arc::new(Pulse::default()), Arc::new(Metrics::default()));
    let controller =
        tokio::spawn(run(world.store.clone(), Arc::clone(&pulse), Arc::clone(&metrics), Times::default(), clock));
    let beat = async |names: &[&str], seconds: u32| {
        for _ in 0..seconds {
            names.iter().for_each(|name| pulse.beat(name));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    beat(&["a", "b", "c"], 5).await;
    assert_eq!(world.served(), "a b c");
    // While a write is on its way the paused clock runs ahead; the loop takes that for a standstill, or for silence.
    let until = async |names: &[&str], what: &str, holds: &dyn Fn(&str) -> bool| {
        for _ in 0..1000 {
            beat(names, 1).await;
            if holds(&metrics.text(pulse.total())) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("not {what}: {} are served, {}", world.served(), metrics.text(pulse.total()));
    };
    until(&["a", "b"], "taken out", &|_| world.served() == "a b").await;
    until(&["a", "b", "c"], "back", &|text| {
        world.served() == "a b c" && text.contains("portolan_nodes{state=\"heard\"} 3\n")
    })
    .await;
    let text = metrics.text(pulse.total());
    let number = |name: &str| -> u32 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().parse().unwrap()
    };
    assert!(number("portolan_nodes_taken_out_total") >= 1);
    assert_eq!(number("portolan_nodes_taken_out_total"), number("portolan_nodes_taken_back_total"));
    controller.abort();
}
