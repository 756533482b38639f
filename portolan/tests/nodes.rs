//! Nodes that fall silent, in a real lab: their cable is pulled, so nobody is told, and they are under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proxy_agent::client::Client;
use serde_json::{Value, json};
use support::{Lab, service};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str =
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dweb";
const PROGRAMMED: &str = "/apis/portolan.dev/v1alpha1/namespaces/default/services/web/programmed";

/// What is promised: from the cut until no kernel sends there.
const OUT: Duration = Duration::from_secs(5);
/// How long the promise may take to become true where it is none: the machine that tests may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until a request counts as failed. TCP sends the first packet again after 1 s: one that is lost on a machine that is busy
/// is no failure, and what is sent to a node without its cable is lost each time.
const TIMEOUT: Duration = Duration::from_millis(2500);

struct Cluster {
    lab: Lab,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    /// Three nodes with an endpoint of `web` each, and somebody on node-1 who asks.
    fn up() -> Self {
        let lab = Lab::up(3);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async { Client::from_kubeconfig(&lab.kubeconfig()).unwrap() });
        let cluster = Self { lab, client, runtime };
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
        cluster.post(SERVICES, &service("web", spec));
        for number in 1..=3 {
            cluster.pod(&format!("web-{number}"), &format!("node-{number}"), "web");
        }
        cluster.pod("caller", "node-1", "caller");
        cluster.until("all endpoints are ready", PATIENCE, || cluster.served() == nodes(&["1", "2", "3"]));
        cluster.until("all nodes have them", PATIENCE, || cluster.programmed() == nodes(&["1", "2", "3"]));
        cluster
    }

    fn post(&self, path: &str, object: &Value) {
        self.runtime.block_on(self.client.post(path, object)).unwrap();
    }

    fn get(&self, path: &str) -> Value {
        self.runtime.block_on(self.client.get(path)).unwrap()
    }

    fn pod(&self, name: &str, node: &str, app: &str) {
        let containers = json!([{"name": "echo", "ports": [{"containerPort": 8080}]}]);
        let spec = json!({"nodeName": node, "terminationGracePeriodSeconds": 2, "containers": containers});
        self.post(PODS, &json!({"metadata": {"name": name, "labels": {"app": app}}, "spec": spec}));
    }

    /// The nodes whose endpoint is ready.
    fn served(&self) -> BTreeSet<String> {
        let slices = self.get(SLICES);
        let endpoints = slices["items"].as_array().unwrap().iter().flat_map(|slice| slice["endpoints"].as_array());
        let ready = endpoints.flatten().filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready.map(|endpoint| endpoint["nodeName"].as_str().unwrap().to_owned()).collect()
    }

    /// The nodes whose kernel has what the slices say.
    fn programmed(&self) -> BTreeSet<String> {
        let report = self.get(PROGRAMMED);
        let has = report["nodes"].as_array().unwrap().iter().filter(|node| node["programmed"] == true);
        has.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    }

    fn ready(&self, node: &str) -> String {
        let node = self.get(&format!("/api/v1/nodes/{node}"));
        let conditions = node["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        format!("{} {}", ready["status"].as_str().unwrap(), ready["reason"].as_str().unwrap())
    }

    fn reasons(&self) -> BTreeSet<String> {
        let events = self.get("/api/v1/namespaces/default/events");
        let of = |event: &Value| event["reason"].as_str().unwrap_or_default().to_owned();
        events["items"].as_array().unwrap().iter().map(of).collect()
    }

    fn until(&self, what: &str, limit: Duration, condition: impl Fn() -> bool) {
        let end = Instant::now() + limit;
        while !condition() {
            assert!(Instant::now() < end, "{what}: not after {limit:?}; {}", self.lab.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn lab(&self, args: &[&str]) {
        let output = self.lab.command(args);
        assert!(output.status.success(), "lab {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn address(&self) -> String {
        let web = self.get(&format!("{SERVICES}/web"));
        format!("{}:80", web["spec"]["clusterIP"].as_str().unwrap())
    }
}

fn nodes(numbers: &[&str]) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("node-{number}")).collect()
}

#[test]
fn a_node_without_its_cable_is_out_of_slices_and_kernels_within_five_seconds_and_back_when_it_is_plugged_in() {
    let cluster = Cluster::up();
    let began = Instant::now();
    let timeout = TIMEOUT.as_millis().to_string();
    let probe = ["--rate", "100", "--seconds", "24", "--timeout-ms", &timeout];
    let load = cluster.lab.start_probe("default/caller", "tcp", &cluster.address(), &probe);
    std::thread::sleep(Duration::from_secs(4));

    let cut = Instant::now();
    cluster.lab(&["cut", "node-3"]);
    cluster.until("node-3 is out of the slices", PATIENCE, || cluster.served() == nodes(&["1", "2"]));
    let out_of_slices = cut.elapsed();
    cluster.until("and out of the other kernels", PATIENCE, || cluster.programmed() == nodes(&["1", "2"]));
    let out_of_kernels = cut.elapsed();
    println!("out of the slices after {out_of_slices:?}, out of the kernels after {out_of_kernels:?}");
    assert!(out_of_kernels < OUT, "{out_of_kernels:?}");
    assert_eq!(cluster.ready("node-3"), "Unknown NodeStatusUnknown");
    let pod = cluster.get(&format!("{PODS}/web-3"));
    assert!(
        pod["status"]["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    );

    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(4) {
        assert_eq!(
            (cluster.served(), cluster.ready("node-3").as_str()),
            (nodes(&["1", "2"]), "Unknown NodeStatusUnknown")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let healed = Instant::now();
    cluster.lab(&["heal", "node-3"]);
    cluster.until("node-3 is back", PATIENCE, || cluster.served() == nodes(&["1", "2", "3"]));
    println!("back after {:?}", healed.elapsed());
    cluster.until("and has caught up", PATIENCE, || cluster.programmed() == nodes(&["1", "2", "3"]));
    println!("caught up after {:?}", healed.elapsed());
    assert!(cluster.ready("node-3").starts_with("True"), "{}", cluster.ready("node-3"));
    let reasons = cluster.reasons();
    assert!(reasons.contains("NodeNotReady") && reasons.contains("NodeReady"), "{reasons:?}");

    let report = load.report();
    let failed: Vec<u64> =
        report["failed"].as_array().unwrap().iter().map(|f| f["atMilliseconds"].as_u64().unwrap()).collect();
    let (first, last) = (*failed.iter().min().unwrap(), *failed.iter().max().unwrap());
    println!(
        "{} sent, {} failed, from {first} to {last} ms, {} sent twice",
        report["sent"],
        failed.len(),
        report["resent"]
    );
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    let cut_at = milliseconds(cut - began);
    // The probe began somewhat after `began`, so a request that it began at `at` was begun then or later.
    assert!(last <= cut_at + milliseconds(out_of_kernels), "a request to the node was begun when it was out: {report}");
    assert!(last - first <= milliseconds(OUT), "requests failed before or after: {report}");
    assert!(report["pods"]["web-3"].as_u64().unwrap() > 0, "it answered before and after");

    // From the node itself, which was away: it knows what there is.
    let report = cluster.lab.probe("node-3", "tcp", &cluster.address(), &["--count", "50"]);
    assert_eq!(report["answered"], 50, "{report}");
}

#[test]
fn the_servers_own_network_and_its_own_restart_cost_no_node_anything() {
    let cluster = Cluster::up();
    let all = nodes(&["1", "2", "3"]);
    // Two of three are away: more likely the server is.
    cluster.lab(&["cut", "node-2"]);
    cluster.lab(&["cut", "node-3"]);
    cluster.until("an Event says so", PATIENCE, || cluster.reasons().contains("NodesSilent"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(cluster.served(), all);
    cluster.lab(&["heal", "node-2"]);
    cluster.lab(&["heal", "node-3"]);
    cluster.until("most are heard again", PATIENCE, || cluster.reasons().contains("NodesHeard"));
    assert_eq!(cluster.served(), all);

    cluster.lab(&["stop", "server"]);
    std::thread::sleep(Duration::from_secs(6));
    cluster.lab(&["start", "server"]);
    let heard = || {
        let page = cluster.runtime.block_on(cluster.client.get_text("/metrics")).unwrap_or_default();
        page.contains("portolan_nodes{state=\"heard\"} 3\n") && !page.contains("portolan_node_heartbeats_total 0\n")
    };
    cluster.until("all are heard by the new server", PATIENCE, heard);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(cluster.served(), all);
    let reasons = cluster.reasons();
    assert!(!reasons.contains("NodeNotReady"), "{reasons:?}");
}
