//! What cannot be done for a Service of type LoadBalancer, on a real server: each has a condition and an Event that say what
//! to do, and nothing else changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::{Value, json};
use support::{Server, free_port, service};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const EVENTS: &str = "/api/v1/namespaces/default/events";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const POOLS: &str = "/apis/portolan.dev/v1alpha1/addresspools";
const BALANCERS: &str = "/apis/portolan.dev/v1alpha1/loadbalancers";

/// How long an answer may take; the machine that tests may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    _server: Server,
    client: Client,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// A pool of four addresses, three instances at most, of three listeners each.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quotas = ["--max-load-balancers=4", "--max-listeners-per-load-balancer=3"];
        let server = Server::start_on(dir.path(), free_port(), &quotas);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async { server.client() });
        let cluster = Self { _server: server, client, runtime, _dir: dir };
        cluster.post(POOLS, &pool("internet", "192.0.2.0-192.0.2.2", json!({})));
        cluster.post(POOLS, &pool("theirs", "198.51.100.0-198.51.100.9", json!({ "namespaces": ["theirs"] })));
        cluster
    }

    fn post(&self, path: &str, object: &Value) -> Value {
        self.runtime.block_on(self.client.post(path, object)).unwrap()
    }

    fn get(&self, path: &str) -> Value {
        self.runtime.block_on(self.client.get(path)).unwrap()
    }

    fn patch(&self, path: &str, patch: &Value) {
        self.runtime.block_on(self.client.patch(path, MERGE_PATCH, patch)).unwrap();
    }

    fn balanced(&self, name: &str, annotations: &[(&str, &str)], ports: &[u16]) {
        let ports: Vec<Value> = ports.iter().map(|port| json!({ "name": format!("p{port}"), "port": port })).collect();
        let mut object = service(name, json!({ "type": "LoadBalancer", "selector": { "app": name }, "ports": ports }));
        object["metadata"]["annotations"] = keyed(annotations);
        self.post(SERVICES, &object);
    }

    /// Status, reason and message of the Service's condition.
    fn condition(&self, name: &str) -> (String, String, String) {
        let service = self.get(&format!("{SERVICES}/{name}"));
        let none = Vec::new();
        let conditions = service["status"]["conditions"].as_array().unwrap_or(&none);
        let condition = conditions.iter().find(|condition| condition["type"] == "LoadBalancerReady");
        let text = |field: &str| condition.and_then(|c| c[field].as_str()).unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// Waits until the condition has this reason, and until an Event says the same. Returns what they say.
    fn told(&self, name: &str, reason: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let message = loop {
            let (status, is, message) = self.condition(name);
            if is == reason {
                assert_eq!(status, if reason == "Ensured" { "True" } else { "False" });
                break message;
            }
            assert!(Instant::now() < deadline, "{name} is {is} and not {reason}: {message}");
            std::thread::sleep(Duration::from_millis(20));
        };
        if reason == "Pending" {
            return message;
        }
        loop {
            let events = self.get(EVENTS);
            let told = events["items"].as_array().unwrap().iter().any(|event| {
                event["involvedObject"]["name"] == name
                    && event["reason"] == "SyncLoadBalancerFailed"
                    && event["type"] == "Warning"
                    && event["message"] == message.as_str()
            });
            if told {
                return message;
            }
            assert!(Instant::now() < deadline, "no Event says that {name} is {reason}: {message}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every instance as it is, without what says how it goes.
    fn instances(&self) -> Vec<Value> {
        let list = self.get(BALANCERS);
        list["items"].as_array().unwrap().iter().map(|item| json!([item["metadata"]["name"], item["spec"]])).collect()
    }
}

fn keyed(annotations: &[(&str, &str)]) -> Value {
    let keys = annotations.iter().map(|(suffix, value)| {
        (format!("service.beta.kubernetes.io/alibaba-cloud-loadbalancer-{suffix}"), json!(value))
    });
    Value::Object(keys.collect())
}

fn pool(name: &str, addresses: &str, more: Value) -> Value {
    let mut pool = json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool", "metadata": { "name": name },
        "spec": { "addresses": [addresses] } });
    for (field, value) in more.as_object().unwrap() {
        pool["spec"][field] = value.clone();
    }
    pool
}

/// A Secret whose certificate ended long ago.
fn expired(name: &str) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["web.example.com".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": certificate, "tls.key": key.serialize_pem() } })
}

#[test]
fn bad_input_is_told_and_changes_nothing() {
    let cluster = Cluster::new();
    cluster.post(SECRETS, &expired("old"));
    let shared = json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancer", "metadata": { "name": "shared" },
        "spec": { "addresses": ["192.0.2.2"] } });
    cluster.post(BALANCERS, &shared);
    let sharing = [("id", "shared"), ("force-override-listeners", "true")];
    cluster.balanced("first", &sharing, &[80]);
    cluster.balanced("web", &[], &[80, 443]);
    for name in ["first", "web"] {
        // Nobody has started an edge node, and this is said, too.
        let message = cluster.told(name, "NoEdge");
        assert!(message.contains("portolan edge"), "{message}");
    }
    let before = cluster.instances();
    assert_eq!(before.len(), 2);

    // Of a Service that has an instance.
    for (annotations, reason, says) in [
        (&[("scheduler", "random")][..], "InvalidSettings", "use rr, wrr, wlc or sch"),
        (
            &[("protocol-port", "https:443"), ("cert-id", "none")],
            "CertificateMissing",
            "kubectl create secret tls none",
        ),
        (
            &[("protocol-port", "https:443"), ("cert-id", "old")],
            "CertificateExpired",
            "2021-01-01T00:00:00Z; replace it",
        ),
        (&sharing, "PortConflict", "serves Service default/first; use another port or another load balancer"),
        (&[("id", "nowhere")], "InstanceNotFound", "correct id"),
        (&[("ip", "203.0.113.1")], "CannotChange", "ip of load balancer"),
    ] {
        cluster.patch(&format!("{SERVICES}/web"), &json!({ "metadata": { "annotations": keyed(annotations) } }));
        let message = cluster.told("web", reason);
        assert!(message.contains(says), "{message}");
        assert_eq!(cluster.instances(), before, "{annotations:?}");
        let none: Value = keyed(annotations).as_object().unwrap().keys().map(|k| (k.clone(), Value::Null)).collect();
        cluster.patch(&format!("{SERVICES}/web"), &json!({ "metadata": { "annotations": none } }));
        cluster.told("web", "NoEdge");
    }
    let ports: Vec<Value> =
        [80, 81, 82, 83].iter().map(|port| json!({ "name": format!("p{port}"), "port": port })).collect();
    cluster.patch(&format!("{SERVICES}/web"), &json!({ "spec": { "ports": ports } }));
    let message = cluster.told("web", "QuotaExceeded");
    assert!(message.contains("--max-listeners-per-load-balancer"), "{message}");
    assert_eq!(cluster.instances(), before);

    // Of Services that have none.
    for (name, annotations, reason, says) in [
        ("elsewhere", &[("ip", "203.0.113.1")][..], "AddressUnavailable", "203.0.113.1"),
        ("taken", &[("ip", "192.0.2.2")], "AddressUnavailable", "held by LoadBalancer shared"),
        ("theirs", &[("ip", "198.51.100.1")], "AddressUnavailable", "AddressPool theirs"),
        ("nopool", &[("vswitch-id", "nowhere")], "PoolUnavailable", "nowhere"),
        ("inside", &[("address-type", "intranet")], "NoFreeAddress", "intranet"),
    ] {
        cluster.balanced(name, annotations, &[80]);
        let message = cluster.told(name, reason);
        assert!(message.contains(says), "{name}: {message}");
        assert_eq!(cluster.instances(), before, "{name}");
    }
    cluster.balanced("third", &[], &[80]);
    cluster.told("third", "NoEdge");
    cluster.balanced("fourth", &[], &[80]);
    let message = cluster.told("fourth", "NoFreeAddress");
    assert!(message.contains("AddressPool"), "{message}");
    cluster.patch(&format!("{POOLS}/internet"), &json!({ "spec": { "addresses": ["192.0.2.0-192.0.2.9"] } }));
    // Room is made, and is used without anybody's doing.
    cluster.told("fourth", "NoEdge");
    cluster.balanced("fifth", &[], &[80]);
    let message = cluster.told("fifth", "QuotaExceeded");
    assert!(message.contains("--max-load-balancers"), "{message}");
    assert_eq!(cluster.instances().len(), 4);
}
