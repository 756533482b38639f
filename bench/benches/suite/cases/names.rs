//! From the answer to a Pod's write to the DNS of every node: a lab of three nodes, a headless Service, and a Pod that becomes
//! ready and unready again.
//!
//! A part of this program stands in the network of the lab's `client` and asks every node in turn, over and over, whether the Pod's
//! address is among the Service's. Its word and the server's answer have the time of one clock. Between two looks at a node
//! lies a third of a millisecond or so, which is in the figures.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use bench::figures::{Figure, Unit};
use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::json;

use crate::case::Outcome;
use crate::support::lab::Lab;
use crate::support::{alone, number, spread};

const NODES: u16 = 3;
/// Of the Pod that comes and goes.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
/// Of the one that stays, so that the name does.
const ANCHOR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PODS: &str = "/api/v1/namespaces/default/pods";

pub fn run(outcome: &mut Outcome) {
    let changes = outcome.size.pick(10, 500, 500);
    let lab = Lab::up(NODES);
    let client = lab.client();
    let runtime = alone();
    let mut command = lab.inside("client");
    command.arg(std::env::current_exe().unwrap()).args(["--part", "names"]);
    let mut looking = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut orders = looking.stdin.take().unwrap();
    let mut seen = BufReader::new(looking.stdout.take().unwrap()).lines();
    let mut millis: Vec<f64> = Vec::new();
    runtime.block_on(prepare(&client));
    for n in 0..changes {
        let ready = n % 2 == 0;
        writeln!(orders, "{ready}").unwrap();
        let status =
            json!({"status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        runtime.block_on(client.patch(&format!("{PODS}/comes/status"), MERGE_PATCH, &status)).unwrap();
        let answered = now();
        for _ in 0..NODES {
            let at: u128 = seen.next().unwrap().unwrap().parse().expect("the time at which a node said so");
            // A node may be told before the writer is.
            millis.push(at.saturating_sub(answered) as f64 / 1e6);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(orders);
    assert!(looking.wait().unwrap().success());
    let times = spread(&millis);
    for (name, pointer, which) in [("names/answer-p50", "/p50", "p50"), ("names/answer-p99", "/p99", "p99")] {
        let about = format!("answer to a Pod's write → DNS on each of {NODES} nodes, {which}");
        outcome.figures.add(Figure::cost(name, number(&times, pointer), Unit::Milliseconds, &about));
    }
    outcome.detail = json!({"nodes": NODES, "changes": changes, "answerToQueryMs": times});
}

/// A headless Service, a Pod that is always ready, and one that is not yet.
async fn prepare(client: &Client) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "churn"},
        "spec": {"clusterIP": "None", "selector": {"app": "churn"}, "ports": [{"port": 80}]}});
    client.post("/api/v1/namespaces/default/services", &service).await.unwrap();
    for (name, address, ready) in [("stays", ANCHOR, "True"), ("comes", ADDRESS, "False")] {
        // A node name that no kubelet of the lab has: the Pod is this program's.
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "churn"}},
            "spec": {"schedulerName": "none", "containers": [{"name": "c", "image": "none"}]}});
        client.post(PODS, &pod).await.unwrap();
        let status = json!({"status": {"phase": "Running", "podIP": address.to_string(), "podIPs": [{"ip": address.to_string()}],
            "conditions": [{"type": "Ready", "status": ready}]}});
        client.patch(&format!("{PODS}/{name}/status"), MERGE_PATCH, &status).await.unwrap();
    }
}

/// Nanoseconds of the clock that both processes have.
fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

/// Reads what is expected, and writes for each node when its answer was that.
pub fn look() {
    let nodes: Vec<UdpSocket> = (0..NODES)
        .map(|n| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let node: SocketAddr = format!("172.31.255.{}:10053", 11 + n).parse().unwrap();
            socket.connect(node).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket
        })
        .collect();
    let mut stdout = std::io::stdout();
    for order in std::io::stdin().lines() {
        let expected: bool = order.unwrap().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut open: Vec<&UdpSocket> = nodes.iter().collect();
        while !open.is_empty() {
            open.retain(|node| {
                let at_last = has(node) == Some(expected);
                if at_last {
                    writeln!(stdout, "{}", now()).unwrap();
                }
                !at_last
            });
            stdout.flush().unwrap();
            assert!(Instant::now() < deadline, "a node does not say in 10 s what the server holds");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Whether this node's DNS has the address; `None`: no answer with the anchor in it.
fn has(node: &UdpSocket) -> Option<bool> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["churn", "default", "svc", "cluster", "local"] {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    node.send(&query).ok()?;
    let mut answer = [0; 512];
    let length = node.recv(&mut answer).ok()?;
    let contains = |address: Ipv4Addr| answer[..length].windows(4).any(|bytes| bytes == address.octets());
    contains(ANCHOR).then(|| contains(ADDRESS))
}
