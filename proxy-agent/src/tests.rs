//! The whole agent against a server in memory and a kernel in memory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dataplane::Plan;
use dataplane::nftables::{Dirty, Report};
use serde_json::json;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::testing::world::{self, Shared, World};
use crate::{AgentError, Config, Program, run_with};

const SERVICES: &str = "/api/v1/services";
const NODES: &str = "/api/v1/nodes";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

/// Keeps the latest plan, and how often it was given one.
#[derive(Clone, Default)]
struct Kernel(Arc<Mutex<(usize, Plan)>>);

impl Program for Kernel {
    type Error = std::convert::Infallible;

    fn program(&mut self, plan: &Plan, _dirty: &Dirty) -> Result<Report, Self::Error> {
        let mut kernel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(plan.revision >= kernel.1.revision, "an agent only moves forward");
        *kernel = (kernel.0 + 1, plan.clone());
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
