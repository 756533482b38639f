//! `portolan bench hollow` with `portolan bench load` beside it, as somebody would use them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{PORTOLAN, Server};

const NODES: u64 = 3;

fn bench(server: &Server, which: &str, more: &[&str]) -> Child {
    Command::new(PORTOLAN)
        .args(["bench", which, "--output", "json", "--server", &format!("https://{}", server.address)])
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn report(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn get(server: &Server, path: &str) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { server.client().get(path).await }).unwrap()
}

fn items(server: &Server, path: &str) -> Vec<Value> {
    get(server, path)["items"].as_array().unwrap().clone()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "{what}: not after a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn hollow_nodes_are_nodes_that_see_every_change_and_go_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let state = ["--services", "4", "--pods", "2", "--keep"];
    report(bench(&server, "load", &[&state[..], &["--seconds", "0"]].concat()));

    let record = dir.path().join("record");
    let record = record.to_str().unwrap();
    let hollow = bench(&server, "hollow", &["--nodes", &NODES.to_string(), "--record", record]);
    // All have programmed, as far as that is possible, and so are live.
    let programmed = "/apis/portolan.dev/v1alpha1/programmed";
    until("all have acknowledged", || {
        let report = get(&server, programmed);
        report["nodes"].as_array().unwrap().len() as u64 == NODES && report["programmed"] == true
    });
    let nodes = items(&server, "/api/v1/nodes?labelSelector=portolan.dev/hollow%3Dtrue");
    assert_eq!(nodes.len() as u64, NODES);
    for node in &nodes {
        assert_eq!(node["status"]["conditions"][0]["status"], "True", "{node}");
        assert!(node["status"]["addresses"][0]["address"].as_str().unwrap().starts_with("198.18.0."), "{node}");
    }
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(items(&server, leases).len() as u64, NODES);

    let changes = ["--rate", "20", "--seconds", "1", "--record", record];
    let churned = report(bench(&server, "load", &[&state[..], &changes].concat()));
    assert_eq!(churned["churned"]["changes"], 20);
    let pid = hollow.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let seen = report(hollow);
    assert_eq!(seen["nodes"], NODES);
    assert_eq!(seen["began"]["watches"], NODES * 6);
    assert_eq!((&seen["lag"]["count"], &seen["lag"]["missing"]), (&(20 * NODES).into(), &0.into()), "{seen}");
    assert!(seen["seen"]["events"]["endpointslices"].as_u64().unwrap() >= NODES, "{seen}");
    assert_eq!((&seen["seen"]["cut"], &seen["seen"]["tooSlow"]), (&0.into(), &0.into()), "{seen}");
    assert_eq!(items(&server, "/api/v1/nodes").len() + items(&server, leases).len(), 0);
}
