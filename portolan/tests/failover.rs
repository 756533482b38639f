//! What dies under load, in a real lab: an edge node that loses its power, whose addresses another takes over soon; a
//! backend that is killed, and gets nothing any more once it is marked; and one that is deleted in the midst of an
//! answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Lab;

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
}

impl Cluster {
    /// Two Pods on two nodes.
    fn pods(&self, app: &str, command: &[&str]) {
        for (pod, node) in [("one", "node-1"), ("two", "node-2")] {
            // A process that does not listen yet refuses connections, and is no endpoint.
            let probe = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
            let mut container = json!({"name": "echo", "ports": [{"containerPort": 8080}], "readinessProbe": probe});
            if !command.is_empty() {
                container["command"] = json!(command);
            }
            self.lab.apply(&json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{app}-{pod}"), "labels": {"app": app}},
                "spec": {"nodeName": node, "terminationGracePeriodSeconds": 20, "containers": [container]},
            }));
        }
        let selector = format!("app={app}");
        self.lab.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", &selector, "--timeout=60s"]);
    }

    fn service(&self, name: &str, app: &str, annotations: &Value) {
        self.lab.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": annotations},
            "spec": {"type": "LoadBalancer", "selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]},
        }));
    }

    /// The address of a Service, once it is served from outside.
    fn served(&self, name: &str, port: u16) -> String {
        let began = Instant::now();
        loop {
            let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
            let ip = self.lab.kubectl(&["get", "service", name, "-o", path]);
            if !ip.is_empty() {
                let report = self.lab.probe("client", "tcp", &format!("{ip}:{port}"), &["--timeout-ms", "500"]);
                if report["answered"] == 1 {
                    return ip;
                }
            }
            if began.elapsed() > LONG {
                panic!("{name} is not served: {}", self.lab.kubectl(&["get", "services,loadbalancers,events", "-A"]));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The edge node that the server says has this address.
    fn owner(&self, address: &str) -> String {
        let all: Value = serde_json::from_str(&self.lab.kubectl(&["get", "loadbalancers", "-o", "json"])).unwrap();
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
    let cluster = Cluster { lab };
    cluster.pods("web", &[]);
    // One by the kernel and one by the proxy; the two edge nodes have one each.
    cluster.service("l4", "web", &json!({}));
    cluster.service("l7", "web", &json!({"portolan.dev/lb-protocol-port": "http:80"}));
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
        let events = cluster.lab.kubectl(&["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"]);
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

/// A server whose answers take five seconds, and that ends ten seconds after it was told to.
const SLOW: &str = r#"
import http.server, os, signal, socketserver, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(5)
        body = os.environ.get("PORTOLAN_POD", "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(10, os._exit, [0]).start())
Server(("", 8080), Handler).serve_forever()
"#;

#[test]
fn a_backend_that_dies_is_marked_and_one_that_goes_ends_its_answer() {
    let lab = Lab::up_edges(2, 1);
    let cluster = Cluster { lab };
    cluster.pods("slow", &["python3", "-c", SLOW]);
    let drain = json!({
        "portolan.dev/lb-backend-type": "eni",
        "portolan.dev/lb-connection-drain": "on",
        "portolan.dev/lb-connection-drain-timeout": "30",
    });
    cluster.service("drained", "slow", &drain);
    let proxied = json!({"portolan.dev/lb-backend-type": "eni", "portolan.dev/lb-protocol-port": "http:80"});
    cluster.service("proxied", "slow", &proxied);
    let (drained, proxied) = (cluster.served("drained", 80), cluster.served("proxied", 80));

    // Both Pods have answers under way by each when one of them is deleted.
    let ask = |address: &str| {
        let url = format!("http://{address}/slow");
        let script = format!("for n in 1 2 3 4; do curl -sS --fail -m 20 {url} >/dev/null && echo fine & done; wait");
        cluster.lab.exec("client", &["sh", "-c", &script]).matches("fine").count()
    };
    let (by_kernel, by_proxy) = std::thread::scope(|scope| {
        let (kernel, proxy) = (scope.spawn(|| ask(&drained)), scope.spawn(|| ask(&proxied)));
        std::thread::sleep(Duration::from_secs(2));
        cluster.lab.kubectl(&["delete", "pod", "slow-one", "--wait=false"]);
        (kernel.join().unwrap(), proxy.join().unwrap())
    });
    assert_eq!((by_kernel, by_proxy), (4, 4), "every answer was finished");

    killed(&cluster);
}

/// A Pod is killed under load: what was begun before it was marked may fail, and nothing after.
fn killed(cluster: &Cluster) {
    cluster.pods("web", &[]);
    let checked = json!({
        "portolan.dev/lb-backend-type": "eni",
        "portolan.dev/lb-health-check-switch": "on",
        "portolan.dev/lb-health-check-interval": "1",
        "portolan.dev/lb-health-check-connect-timeout": "1",
        "portolan.dev/lb-unhealthy-threshold": "2",
    });
    cluster.service("checked", "web", &checked);
    let address = cluster.served("checked", 80);
    let rate = RATE.to_string();
    let load = ["--rate", &rate, "--seconds", "15", "--timeout-ms", "2000"];
    let running = cluster.lab.start_probe("client", "tcp", &format!("{address}:80"), &load);
    std::thread::sleep(CUT_AFTER);
    let sockets = cluster.lab.exec("default/web-one", &["ss", "-Hlntp"]);
    let pid = sockets.split("pid=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    cluster.lab.exec("default/web-one", &["kill", "-9", pid]);
    let report = running.report();
    let marked = begun(&report).max().unwrap_or_default().saturating_sub(CUT_AFTER);
    eprintln!(
        "{} of {} answered; the last that failed began {marked:?} after the kill",
        report["answered"], report["sent"]
    );
    // Two checks, one a second; a machine that is busy with other tests has longer.
    assert!(marked <= OUTAGE, "it was asked {marked:?} after it had died: {}", report["failures"]);
    assert!(begun(&report).all(|at| at + AGAIN >= CUT_AFTER), "nothing fails before: {}", report["failed"]);
}
