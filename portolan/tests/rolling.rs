//! All Pods behind a layer-7 listener are replaced under load, again and again, and no request fails: through nodes, and with
//! the Pods as backends. A Pod's process gets SIGTERM when every node sends to others, and ends in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::Lab;

/// Of both Services together; `PORTOLAN_ROLLING_REQUESTS=100000` for more.
const REQUESTS: u32 = 20_000;
const PODS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);

struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn pod(&self, number: usize) -> String {
        let name = format!("web-{number}");
        let node = format!("node-{}", number % 2 + 1);
        let echo = json!({
            "name": "echo", "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
        });
        self.lab.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": [echo]},
        }));
        self.lab.kubectl(&["wait", "--for=condition=Ready", "pod", &name, "--timeout=60s"]);
        name
    }

    /// The address of a Service, once it answers.
    fn served(&self, name: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let ip = self.lab.kubectl(&["get", "service", name, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"]);
            if !ip.is_empty() && self.lab.probe("client", "tcp", &format!("{ip}:80"), &["-n", "1"])["answered"] == 1 {
                return ip;
            }
            assert!(
                Instant::now() < end,
                "{name} is not served: {}",
                self.lab.kubectl(&["get", "lb,events", "-o", "wide"])
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_rolling_replacement_costs_no_request() {
    let wanted = std::env::var("PORTOLAN_ROLLING_REQUESTS").ok().and_then(|text| text.parse().ok());
    let each = wanted.unwrap_or(REQUESTS) / 2;
    let lab = Lab::up_edges(2, 1);
    let cluster = Cluster { lab };
    let mut pods: Vec<String> = (0..PODS).map(|number| cluster.pod(number)).collect();
    for (name, backends) in [("through-nodes", "ecs"), ("direct", "eni")] {
        cluster.lab.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "annotations": {
                "portolan.dev/lb-protocol-port": "http:80", "portolan.dev/lb-backend-type": backends,
            }},
            "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }));
        let address = cluster.served(name);
        let over = AtomicBool::new(false);
        let mut replaced = 0;
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let (mut answered, mut failures) = (0, Vec::new());
                // In portions, so that a report does not grow without end.
                for portion in (0..each).step_by(2_000) {
                    let count = (each - portion).min(2_000).to_string();
                    let more = ["-n", &count, "--concurrency", "8", "--timeout-ms", "10000"];
                    let report = cluster.lab.probe("client", "tcp", &format!("{address}:80"), &more);
                    answered += report["answered"].as_u64().unwrap();
                    if !report["failed"].as_array().is_some_and(Vec::is_empty) {
                        failures.push(report["failures"].clone());
                    }
                }
                over.store(true, Ordering::Relaxed);
                (answered, failures)
            });
            // At least all of them once, and on until the load ends.
            while !over.load(Ordering::Relaxed) || replaced < PODS {
                let new = cluster.pod(PODS + replaced + if name == "direct" { 100_000 } else { 0 });
                let old = std::mem::replace(&mut pods[replaced % PODS], new);
                cluster.lab.kubectl(&["delete", "pod", &old, "--timeout=60s"]);
                replaced += 1;
            }
            let (answered, failures) = load.join().unwrap();
            eprintln!("{name}: {answered} of {each} requests were answered while {replaced} Pods were replaced");
            assert_eq!((answered, failures), (u64::from(each), Vec::new()));
        });
    }
}
