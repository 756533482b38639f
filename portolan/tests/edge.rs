//! Services of type LoadBalancer in a real lab, asked from a machine outside: addresses come soon, L4 and L7
//! answer, with policy Local and with Pods as backends the Pods see the client's own address, and shares are by weight; an
//! edge node that has lost its power is replaced by another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use edge::lease::fence::Standing;
use edge::lease::{Lease, boot};
use model::balancing::lease::EdgeLease;
use serde_json::{Value, json};
use support::{Lab, Server};
use tokio::sync::watch;

const CLIENT: &str = "172.31.255.100";
/// How long a Service may take to get its address on a machine that is busy with other tests; by itself it takes less than two.
const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(30);

struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn up(nodes: u16, edges: u16) -> Self {
        let lab = Lab::up_edges(nodes, edges);
        Self { lab }
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.lab.kubectl(&["get", kind, name, "-o", "json"])).unwrap()
    }

    /// Makes the Service, and gives its address, which must come soon.
    fn address(&self, service: &Value) -> String {
        self.lab.apply(service);
        let (name, began) = (service["metadata"]["name"].as_str().unwrap(), Instant::now());
        loop {
            let object = self.get("service", name);
            if let Some(ip) = object["status"]["loadBalancer"]["ingress"][0]["ip"].as_str() {
                eprintln!("{name} has {ip} after {:?}", began.elapsed());
                assert!(began.elapsed() < SOON, "{name} had its address after {:?}", began.elapsed());
                return ip.to_owned();
            }
            if began.elapsed() > LONG {
                let events = self.lab.kubectl(&["get", "events", "-A"]);
                let instances = self.lab.kubectl(&["get", "loadbalancers", "-o", "yaml"]);
                panic!("{name} got no address: {object}\n{events}\n{instances}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn pod(&self, name: &str, node: &str) {
        let ports = json!([{"containerPort": 8080}, {"containerPort": 8081, "protocol": "UDP"}]);
        self.lab.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": [{"name": "echo", "ports": ports}]},
        }));
    }

    /// The edge nodes that answer for this address.
    fn holders(&self, address: &str) -> Vec<String> {
        let status = self.lab.status();
        let edges = status["edges"].as_array().unwrap();
        let holds = |edge: &&Value| edge["holds"].as_array().is_some_and(|all| all.iter().any(|held| held == address));
        edges.iter().filter(holds).map(|edge| edge["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until one edge node answers for the address and it is `right`; two never do.
    fn await_holder(&self, address: &str, right: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let holders = self.holders(address);
            assert!(holders.len() <= 1, "{address} is held by {holders:?}");
            if let Some(holder) = holders.into_iter().next().filter(|holder| right(holder)) {
                return holder;
            }
            assert!(began.elapsed() < LONG, "nobody holds {address}: {}", self.lab.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks until the answer is good, and then `count` times: every one must be.
    fn all_answered(&self, transport: &str, target: &str, count: u32) -> Value {
        self.answers(transport, target);
        let count_text = count.to_string();
        let report = self.lab.probe("client", transport, target, &["-n", &count_text, "-c", "16"]);
        assert_eq!(report["answered"], count, "{target}: {report}");
        report
    }

    fn answers(&self, transport: &str, target: &str) {
        let began = Instant::now();
        loop {
            let report = self.lab.probe("client", transport, target, &["-n", "1", "--timeout-ms", "500"]);
            if report["answered"] == 1 {
                return;
            }
            if began.elapsed() > LONG {
                let status = String::from_utf8(self.lab.command(&["status"]).stdout).unwrap();
                let instances = self.lab.kubectl(&["get", "loadbalancers", "-o", "yaml"]);
                panic!("{target} does not answer: {report}\n{status}\n{instances}");
            }
        }
    }
}

fn service(name: &str, annotations: &Value, port: &Value, local: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "type": "LoadBalancer", "selector": {"app": "web"}, "ports": [port],
            "externalTrafficPolicy": if local { "Local" } else { "Cluster" },
        },
    })
}

/// A certificate for this name as a Secret, and the certificate alone.
fn secret(name: &str, host: &str) -> (Value, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "data": {"tls.crt": encode(&certificate), "tls.key": encode(&key)},
    });
    (object, certificate)
}

/// Within 5 % of all, which three thousand turns are far within.
fn shares(report: &Value, expected: &[(&str, f64)]) {
    let total = report["answered"].as_f64().unwrap();
    for (pod, share) in expected {
        let had = report["pods"][pod].as_f64().unwrap_or(0.0) / total;
        assert!((had - share).abs() < 0.05 * share, "{pod} had {had} in place of {share}: {}", report["pods"]);
    }
}

/// What the issue asks to be shown first.
#[test]
fn services_get_addresses_and_answer() {
    let cluster = Cluster::up(3, 1);
    for (pod, node) in [("one", "node-1"), ("two", "node-2"), ("three", "node-2"), ("four", "node-2")] {
        cluster.pod(pod, node);
    }
    cluster.lab.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=30s"]);
    let (none, tcp) = (json!({}), json!({"port": 80, "targetPort": 8080}));

    let l4 = cluster.address(&service("l4", &none, &tcp, false));
    let report = cluster.all_answered("tcp", &format!("{l4}:80"), 100);
    assert_eq!(report["pods"].as_object().unwrap().len(), 4, "{report}");
    // Nobody listens there, and that is said at once.
    let report = cluster.lab.probe("client", "tcp", &format!("{l4}:81"), &["-n", "1"]);
    assert_eq!(report["failures"]["refused"], 1, "{report}");

    let udp = json!({"port": 53, "protocol": "UDP", "targetPort": 8081});
    let udp = cluster.address(&service("datagrams", &none, &udp, false));
    cluster.all_answered("udp", &format!("{udp}:53"), 100);

    let (secret, certificate) = secret("web-cert", "web.example");
    cluster.lab.apply(&secret);
    let annotations = json!({
        "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-protocol-port": "https:443",
        "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-cert-id": "web-cert",
    });
    let l7 = cluster.address(&service("l7", &annotations, &json!({"port": 443, "targetPort": 8080}), false));
    let authority = cluster.lab.dir.join("web.pem");
    std::fs::write(&authority, certificate).unwrap();
    let resolve = format!("web.example:443:{l7}");
    let curl = [
        "curl",
        "-sS",
        "--fail",
        "-m",
        "10",
        "--retry",
        "20",
        "--retry-delay",
        "1",
        "--retry-all-errors",
        "--resolve",
        &resolve,
        "--cacert",
        authority.to_str().unwrap(),
        "-w",
        "\n%{http_version}",
        "https://web.example/",
    ];
    let answer = cluster.lab.exec("client", &curl);
    assert!(answer.contains("\"pod\"") && answer.ends_with("\n2"), "{answer}");

    local_and_eni(&cluster, &tcp);
}

/// The client's own address, and shares by weight.
fn local_and_eni(cluster: &Cluster, tcp: &Value) {
    let weighted = json!({"portolan.dev/lb-scheduler": "wrr"});
    let local = cluster.address(&service("local", &weighted, tcp, true));
    let report = cluster.all_answered("tcp", &format!("{local}:80"), 3000);
    assert_eq!(report["clients"], json!({CLIENT: 3000}), "policy Local keeps the client's address");
    // node-1 has one of four Pods, and so a quarter.
    shares(&report, &[("one", 0.25)]);

    let eni = json!({"portolan.dev/lb-scheduler": "wrr", "portolan.dev/lb-backend-type": "eni"});
    let eni = cluster.address(&service("eni", &eni, tcp, false));
    let report = cluster.all_answered("tcp", &format!("{eni}:80"), 3000);
    assert_eq!(report["clients"], json!({CLIENT: 3000}), "eni mode keeps the client's address");
    shares(&report, &[("one", 0.25), ("two", 0.25), ("three", 0.25), ("four", 0.25)]);
}

/// An address has one owner, whoever dies and comes back; and the server's absence is no reason to have none.
#[test]
fn an_address_has_one_owner() {
    let cluster = Cluster::up(1, 2);
    cluster.pod("one", "node-1");
    cluster.lab.kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=30s"]);
    let address = cluster.address(&service("web", &json!({}), &json!({"port": 80, "targetPort": 8080}), false));
    let target = format!("{address}:80");
    cluster.all_answered("tcp", &target, 10);
    let lab = |args: &[&str]| {
        let output = cluster.lab.command(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };

    let first = cluster.await_holder(&address, |_| true);
    lab(&["cut", &first]);
    let second = cluster.await_holder(&address, |holder| holder != first);
    cluster.all_answered("tcp", &target, 10);
    lab(&["heal", &first]);
    // It learns that it has nothing any more, before it could say otherwise.
    for _ in 0..50 {
        cluster.await_holder(&address, |holder| holder == second);
        std::thread::sleep(Duration::from_millis(50));
    }
    lab(&["stop", &second]);
    cluster.await_holder(&address, |holder| holder == first);
    cluster.all_answered("tcp", &target, 10);
    lab(&["start", &second]);

    lab(&["stop", "server"]);
    let began = Instant::now();
    while !cluster.holders(&address).is_empty() {
        assert!(began.elapsed() < LONG, "its Lease has ended");
    }
    // Nobody knows any more who has it.
    cluster.lab.exec("client", &["ip", "neigh", "flush", "all"]);
    assert_eq!(cluster.await_holder(&address, |_| true), first);
    cluster.all_answered("tcp", &target, 10);
    lab(&["start", "server"]);
    cluster.all_answered("tcp", &target, 10);
    cluster.await_holder(&address, |holder| holder == first);
}

/// The Lease by itself: taken from the edge it is lost at once and taken anew, and who has the instances is read then; a server
/// that was away takes nothing.
#[test]
fn a_lease_that_was_taken_is_taken_anew() {
    let files = tempfile::tempdir().unwrap();
    let mut server = Server::start(files.path());
    let own = EdgeLease { edge: "edge-1".to_owned(), held: true, ..EdgeLease::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let state = Arc::new(watch::Sender::new(Lease::default()));
    let mut shown = state.subscribe();
    let (leave, leaving) = tokio::sync::mpsc::channel(1);
    let keeping = runtime.spawn(edge::lease::keep(server.client(), own, Arc::clone(&state), leaving));
    let mut reached = |what: &str, right: fn(&Lease) -> bool| {
        let reached = async { tokio::time::timeout(LONG, shown.wait_for(right)).await.unwrap().unwrap().clone() };
        let lease = runtime.block_on(reached);
        eprintln!("{what}: {lease:?}");
        lease
    };
    let held = |lease: &Lease| lease.fence.standing(boot()) == Standing::Leased && lease.known.is_some();
    reached("held", held);

    // What the controller does with one that it does not hear.
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/portolan-edge-edge-1";
    let client = server.client();
    let read = || EdgeLease::read(runtime.block_on(client.get(path)).unwrap().to_string().as_bytes()).unwrap();
    assert!(read().held);
    let take = || {
        let mut lease = runtime.block_on(client.get(path)).unwrap();
        lease["spec"]["holderIdentity"] = json!("");
        runtime.block_on(client.put(path, &lease)).is_ok()
    };
    // A renewal may come between.
    while !take() {}
    let anew = |lease: &Lease| lease.losses == 1 && lease.fence.standing(boot()) == Standing::Leased;
    reached("taken and taken anew", anew);
    assert_eq!((read().held, read().transitions), (true, 1));

    let address = server.address;
    server.kill();
    reached("away", |lease| lease.failed > 2 && lease.fence.standing(boot()) == Standing::Lapsed);
    drop(server);
    let again = Server::start_on(files.path(), address, &[]);
    let back = reached("back", held);
    assert_eq!(back.losses, 1, "nobody took it");

    runtime.block_on(leave.send(())).unwrap();
    runtime.block_on(keeping).unwrap();
    let client = again.client();
    let lease = runtime.block_on(client.get(path)).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "");
}

/// Words for who mistypes the name of an edge node, and what the lab says of one.
#[test]
fn the_lab_knows_its_edge_nodes() {
    let lab = Lab::up_edges(1, 1);
    let status = lab.status();
    let edge = &status["edges"][0];
    assert_eq!((&edge["name"], &edge["addresses"][0]), (&json!("edge-1"), &json!("172.31.255.201")));
    assert_eq!(edge["holds"], json!([]));
    let output = lab.command(&["stop", "edge-2"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("edge-1"), "{text}");
    assert!(lab.exec("edge-1", &["cat", "/proc/sys/net/ipv4/ip_forward"]).starts_with('1'));
    let table = String::from_utf8(lab.command(&["status"]).stdout).unwrap();
    assert!(table.contains("\nEDGE ") && table.contains("\nedge-1 "), "{table}");
}
