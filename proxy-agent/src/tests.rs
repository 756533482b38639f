//! The whole agent against a server in memory and a kernel in memory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dataplane::Plan;
use dataplane::{Dirty, Report};
use serde_json::json;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::testing::world::{self, Shared, World};
use crate::{AgentError, Config, Program, run_with};

const SERVICES: &str = "/api/v1/services";
const NODES: &str = "/api/v1/nodes";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const NAMESPACES: &str = "/api/v1/namespaces";

/// Keeps the latest plan, how often it was given one, and what was dirty then.
#[derive(Clone, Default)]
struct Kernel(Arc<Mutex<(usize, Plan, Vec<Dirty>)>>);

impl Program for Kernel {
    type Error = std::convert::Infallible;

    fn begin_epoch(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.revision = 0;
    }

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Self::Error> {
        let mut kernel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(plan.revision >= kernel.1.revision, "an agent only moves forward");
        kernel.0 += 1;
        kernel.1 = plan.clone();
        kernel.2.push(dirty.clone());
        Ok(Report::default())
    }

    fn hopeless(error: &Self::Error) -> bool {
        match *error {}
    }
}

impl Kernel {
    fn plan(&self) -> Plan {
        self.0.lock().unwrap().1.clone()
    }

    /// The endpoints of every Service, as text.
    fn endpoints(&self) -> Vec<String> {
        let plan = self.plan();
        let pools = plan.services.values().flat_map(|service| service.pools.clone());
        pools.flat_map(|pool| pool.endpoints).map(|endpoint| endpoint.socket().to_string()).collect()
    }
}

fn cluster() -> Shared {
    let shared = World::new(1);
    let mut world = shared.lock().unwrap();
    world.set(NAMESPACES, "default", json!({}));
    world.set(CIDRS, "kubernetes", json!({"spec": {"cidrs": ["10.96.0.0/16"]}}));
    world.set(
        NODES,
        "node-1",
        json!({"spec": {"podCIDR": "10.244.1.0/24"}, "status": {"addresses": [{"type": "InternalIP", "address": "172.31.255.11"}]}}),
    );
    world.set(
        SERVICES,
        "default/web",
        json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
            "ports": [{"port": 80, "protocol": "TCP"}]}}),
    );
    endpoint(&mut world, "10.244.1.2");
    drop(world);
    shared
}

fn endpoint(world: &mut World, address: &str) -> u64 {
    let slice = json!({
        "addressType": "IPv4",
        "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "nodeName": "node-1"}],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    });
    world.set(SLICES, "default/web-a", slice)
}

fn config() -> Config {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    Config { metrics_addr: anywhere, health_addr: anywhere, ..Config::new("node-1", PathBuf::new()) }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come about");
}

#[tokio::test]
async fn a_change_at_the_server_reaches_the_kernel_and_an_absent_server_changes_nothing() {
    let shared = cluster();
    let fake = world::serve(&shared).await;
    let client = Client::new(&fake.url(), None, None).unwrap();
    let kernel = Kernel::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let agent = tokio::spawn(run_with(config(), client, kernel.clone(), async {
        let _ = stopped.await;
    }));

    eventually("the first plan", || kernel.endpoints() == ["10.244.1.2:8080"]).await;
    let plan = kernel.plan();
    assert_eq!(plan.node.node_port_ranges, ["172.31.255.11/32".parse().unwrap()]);
    assert_eq!(plan.node.pod_cidrs.len(), 1);
    assert_eq!(plan.node.service_cidrs.len(), 1);
    assert_eq!(kernel.0.lock().unwrap().0, 1, "nothing was programmed before everything was read");

    endpoint(&mut shared.lock().unwrap(), "10.244.1.3");
    eventually("the change", || kernel.endpoints() == ["10.244.1.3:8080"]).await;

    // The server goes away and comes back with news; meanwhile the kernel has what it had.
    shared.lock().unwrap().hang_up();
    let revision = endpoint(&mut shared.lock().unwrap(), "10.244.1.4");
    eventually("the news after the absence", || kernel.endpoints() == ["10.244.1.4:8080"]).await;
    assert_eq!(kernel.plan().revision, revision);

    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let renewed = || fake.asked().iter().any(|asked| asked.method == "POST" && asked.target == lease);
    eventually("the lease", renewed).await;

    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), agent).await.unwrap().unwrap().unwrap();
    assert_eq!(kernel.endpoints(), ["10.244.1.4:8080"], "the kernel keeps what it has");
}

#[tokio::test]
async fn an_address_that_is_taken_is_said() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config { metrics_addr: taken.local_addr().unwrap(), ..config() };
    let client = Client::new("http://127.0.0.1:1", None, None).unwrap();
    let error = run_with(config, client, Kernel::default(), std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("listening on {}", taken.local_addr().unwrap()));
    assert!(matches!(error, AgentError::Listen { .. }));
}

/// An agent at work on a server in memory.
struct Running {
    shared: Shared,
    fake: crate::testing::Fake,
    kernel: Kernel,
    agent: tokio::task::JoinHandle<Result<(), AgentError>>,
}

impl Running {
    async fn new() -> Self {
        let shared = cluster();
        let fake = world::serve(&shared).await;
        let client = Client::new(&fake.url(), None, None).unwrap();
        let kernel = Kernel::default();
        let agent = tokio::spawn(run_with(config(), client, kernel.clone(), std::future::pending()));
        eventually("the first plan", || kernel.endpoints() == ["10.244.1.2:8080"]).await;
        Self { shared, fake, kernel, agent }
    }

    fn programmed(&self) -> usize {
        self.kernel.0.lock().unwrap().0
    }

    /// What was dirty since the kernel was programmed `before` times.
    fn dirty_since(&self, before: usize) -> Vec<Dirty> {
        self.kernel.0.lock().unwrap().2[before..].to_vec()
    }

    /// The revision of Services that the agent has acknowledged last.
    fn acknowledged(&self) -> Option<u64> {
        let asked = self.fake.asked();
        let last = asked.iter().rev().find(|asked| asked.target.ends_with("/acknowledgement"))?;
        last.json()["revisions"]["services"].as_str()?.parse().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

#[tokio::test]
async fn a_server_that_was_restored_to_an_older_state_is_followed_with_the_least_difference() {
    let running = Running::new().await;
    let backup = running.shared.lock().unwrap().backup();
    for n in 0..20 {
        let ip = format!("10.96.1.{n}");
        let spec = json!({"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP"}]});
        running.shared.lock().unwrap().set(SERVICES, &format!("default/lost-{n}"), json!({"spec": spec}));
    }
    let newest = endpoint(&mut running.shared.lock().unwrap(), "10.244.1.3");
    eventually("the last change", || running.kernel.plan().revision == newest).await;
    let before = running.programmed();
    running.shared.lock().unwrap().restore(&backup);
    eventually("the state of the backup", || running.kernel.endpoints() == ["10.244.1.2:8080"]).await;
    eventually("all of it", || running.kernel.plan().services.len() == 1).await;
    assert!(running.kernel.plan().revision < newest);
    let names: std::collections::BTreeSet<String> = running
        .dirty_since(before)
        .into_iter()
        .flat_map(|dirty| match dirty {
            Dirty::Services(keys) => keys,
            Dirty::All => panic!("everything was looked at"),
        })
        .map(|key| key.name.into())
        .collect();
    assert_eq!(names.len(), 21, "{names:?}");
    // It goes on from there as ever, at revisions that the agent has seen before with other things in them.
    let revision = endpoint(&mut running.shared.lock().unwrap(), "10.244.1.9");
    eventually("news", || running.kernel.endpoints() == ["10.244.1.9:8080"]).await;
    assert_eq!(running.kernel.plan().revision, revision);
}

#[tokio::test]
async fn another_database_is_taken_over_whole_and_what_is_the_same_is_not_touched() {
    let running = Running::new().await;
    let before = running.programmed();
    {
        let mut world = running.shared.lock().unwrap();
        let same: Vec<_> =
            [SERVICES, SLICES, NODES, CIDRS].map(|collection| (collection, world.objects(collection))).into();
        world.become_another("another");
        world.revision += 500;
        for (collection, objects) in same {
            for (key, object) in objects {
                world.set(collection, &key, object);
            }
        }
        let spec =
            json!({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8"], "ports": [{"port": 80, "protocol": "TCP"}]});
        world.set(SERVICES, "default/new", json!({"spec": spec}));
        // Something that the agent's watches would have seen, had they gone on from where they were.
        world.set(SERVICES, "default/web-2", json!({"spec": {"type": "ExternalName"}}));
    }
    eventually("the other database", || running.kernel.plan().services.len() == 2).await;
    for dirty in running.dirty_since(before) {
        let Dirty::Services(keys) = dirty else { panic!("everything was looked at") };
        assert!(keys.iter().all(|key| &*key.name != "web"), "{keys:?}");
    }
    eventually("its acknowledgement", || running.acknowledged().is_some_and(|revision| revision > 500)).await;
}

#[tokio::test]
async fn an_older_state_that_has_caught_up_is_told_from_the_one_that_was() {
    let running = Running::new().await;
    let web = |n: u8| {
        let ip = format!("10.96.1.{n}");
        json!({"spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP"}]}})
    };
    let backup = running.shared.lock().unwrap().backup();
    running.shared.lock().unwrap().set(SERVICES, "default/lost", web(1));
    endpoint(&mut running.shared.lock().unwrap(), "10.244.1.3");
    eventually("what will be lost", || running.kernel.endpoints() == ["10.244.1.3:8080"]).await;
    {
        let mut world = running.shared.lock().unwrap();
        world.restore(&backup);
        // The very revisions that the agent has seen, with other things in them, and some more.
        world.set(SERVICES, "default/found", web(2));
        world.set(SERVICES, "default/found", web(3));
        world.set(SERVICES, "default/more", web(4));
    }
    let names = || running.kernel.plan().services.keys().map(|key| key.name.to_string()).collect::<Vec<_>>();
    eventually("the Services", || names() == ["found", "more", "web"]).await;
    eventually("the endpoint", || running.kernel.endpoints() == ["10.244.1.2:8080"]).await;
}
