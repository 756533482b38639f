//! An edge node that loses its power under load, in a real lab: another takes its addresses over soon, and from then on
//! nothing fails any more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Lab, kubectl};

/// Requests per second.
const RATE: u32 = 200;
/// When the edge node loses its power, after the load began.
const CUT_AFTER: Duration = Duration::from_secs(5);
/// How long the addresses may be without an owner. By itself it takes less than three seconds: two of silence until the
/// edge node is given up, and what it takes to look, write, watch and announce. A machine that is busy with other tests
/// has longer.
const OUTAGE: Duration = Duration::from_secs(6);
/// After so long the client's kernel sends the first packet of a connection again: what begins so shortly before the
/// end of the outage is answered.
const AGAIN: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

struct Cluster {
    lab: Lab,
    kubeconfig: std::path::PathBuf,
}

impl Cluster {
    fn kubectl(&self, args: &[&str]) -> String {
        let output = kubectl(&self.kubeconfig, &self.lab.dir, args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn apply(&self, object: &Value) {
        let file = self.lab.dir.join("object.json");
        std::fs::write(&file, object.to_string()).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// The address of a Service, once it is served from outside.
    fn served(&self, name: &str, port: u16) -> String {
        let began = Instant::now();
        loop {
            let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
            let ip = self.kubectl(&["get", "service", name, "-o", path]);
            if !ip.is_empty() {
                let report = self.lab.probe("client", "tcp", &format!("{ip}:{port}"), &["--timeout-ms", "500"]);
                if report["answered"] == 1 {
                    return ip;
                }
            }
            if began.elapsed() > LONG {
                panic!("{name} is not served: {}", self.kubectl(&["get", "services,loadbalancers,events", "-A"]));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The edge node that the server says has this address.
    fn owner(&self, address: &str) -> String {
        let all: Value = serde_json::from_str(&self.kubectl(&["get", "loadbalancers", "-o", "json"])).unwrap();
        let instances = all["items"].as_array().unwrap();
        let has = |one: &&Value| one["spec"]["addresses"].as_array().unwrap().iter().any(|held| held == address);
        instances.iter().find(has).unwrap()["status"]["edge"]["name"].as_str().unwrap().to_owned()
    }
}

/// How long nobody had the address: from the cut until the last request began that failed, and as much as its packets
/// were sent again in vain.
fn outage(report: &Value) -> Duration {
    let last = begun(report).max().unwrap_or_default();
    (last + AGAIN).saturating_sub(CUT_AFTER)
}

/// When each request began that failed.
fn begun(report: &Value) -> impl Iterator<Item = Duration> {
    let failed = report["failed"].as_array().unwrap();
    failed.iter().filter_map(|one| one["atMilliseconds"].as_u64()).map(Duration::from_millis)
}

#[test]
fn another_edge_node_takes_over_under_load() {
    let lab = Lab::up_edges(2, 2);
    let kubeconfig = lab.kubeconfig();
    let cluster = Cluster { lab, kubeconfig };
    for (pod, node) in [("one", "node-1"), ("two", "node-2")] {
        cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": [{"name": "echo", "ports": [{"containerPort": 8080}]}]},
        }));
    }
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=60s"]);
    let service = |name: &str, annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": annotations},
            "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        })
    };
    // One by the kernel and one by the proxy; the two edge nodes have one each.
    cluster.apply(&service("l4", json!({})));
    cluster.apply(&service("l7", json!({"portolan.dev/lb-protocol-port": "http:80"})));
    for name in ["l4", "l7"] {
        let address = cluster.served(name, 80);
        let first = cluster.owner(&address);
        let rate = RATE.to_string();
        let load = ["--rate", &rate, "--seconds", "20", "--timeout-ms", "2000"];
        let running = cluster.lab.start_probe("client", "tcp", &format!("{address}:80"), &load);
        std::thread::sleep(CUT_AFTER);
        let cut = cluster.lab.command(&["cut", &first]);
        assert!(cut.status.success(), "{}", String::from_utf8_lossy(&cut.stderr));
        let report = running.report();
        let outage = outage(&report);
        eprintln!(
            "{name}: {} of {} answered, nobody had the address for {outage:?} after {first} was cut; {}",
            report["answered"], report["sent"], report["failures"]
        );
        let second = cluster.owner(&address);
        assert_ne!(first, second, "the address has another owner");
        assert!(outage <= OUTAGE, "{name} was without an owner for {outage:?}: {}", report["failures"]);
        // What was begun before was in flight at most.
        let early = begun(&report).filter(|at| *at + AGAIN < CUT_AFTER).count();
        assert_eq!(early, 0, "nothing fails before: {}", report["failed"]);
        let heal = cluster.lab.command(&["heal", &first]);
        assert!(heal.status.success(), "{}", String::from_utf8_lossy(&heal.stderr));
        let events = cluster.kubectl(&["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"]);
        for reason in ["EdgeLost", "EdgeTakenOver"] {
            assert!(events.contains(reason), "{reason} in {events}");
        }
        // It comes back with nothing: what was taken over stays.
        std::thread::sleep(Duration::from_secs(3));
        let report = cluster.lab.probe("client", "tcp", &format!("{address}:80"), &["-n", "200"]);
        assert_eq!(report["answered"], 200, "{report}");
        assert_eq!(cluster.owner(&address), second);
    }
}
