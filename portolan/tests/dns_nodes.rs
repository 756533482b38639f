//! DNS on the nodes of a real lab: each answers itself, without the server, and without its agent another one does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Lab, kubectl, service};

const ADDRESSES: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];
const PATIENCE: Duration = Duration::from_secs(15);

/// What `dig` answers in short; empty: nothing.
fn dig(lab: &Lab, from: &str, at: &str, more: &[&str]) -> String {
    let at = format!("@{at}");
    let mut argv =
        vec!["exec", from, "--", "dig", "+short", "+time=1", "+tries=1", &at, "nginx.default.svc.cluster.local"];
    argv.extend(more);
    let output = lab.command(&argv);
    if output.status.success() { String::from_utf8_lossy(&output.stdout).trim().to_owned() } else { String::new() }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn every_node_answers_and_others_where_one_does_not() {
    let lab = Lab::up(2);
    let kubeconfig = lab.kubeconfig();
    let apply = |object: serde_json::Value| {
        let file = lab.dir.join("manifest.json");
        std::fs::write(&file, object.to_string()).unwrap();
        let applied = kubectl(&kubeconfig, &lab.dir, &["apply", "-f", file.to_str().unwrap()]);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    };
    apply(service("nginx", json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]})));
    for node in ["node-1", "node-2"] {
        apply(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("on-{node}")},
            "spec": {"nodeName": node, "containers": [{"name": "echo", "image": "echo"}]}}));
    }
    let waited = kubectl(&kubeconfig, &lab.dir, &["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    lab.wait();
    let everybody = ["default/on-node-1", "default/on-node-2", "node-1", "node-2"];
    let all_answered = |what: &str| {
        for from in everybody {
            for at in ADDRESSES {
                for more in [&["+notcp"], &["+tcp"]] {
                    assert_eq!(dig(&lab, from, at, more), "10.96.7.7", "{what}: {from} asks {at} {more:?}");
                }
            }
        }
    };
    // What is acknowledged can be asked for: nothing is waited for here.
    all_answered("as it begins");
    // For machines without a DNS of their own.
    assert_eq!(dig(&lab, "client", "172.31.255.11", &["-p", "10053"]), "10.96.7.7");
    let check = std::process::Command::new(support::PORTOLAN)
        .args(["check", "--kubeconfig"])
        .arg(&kubeconfig)
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));

    // Somebody removes a route: it is put back.
    lab.exec("node-1", &["ip", "route", "del", "local", "10.96.0.10/32", "dev", "lo", "table", "local"]);
    eventually("the route", || {
        lab.exec("node-1", &["ip", "route", "show", "table", "local", "proto", "80"]).contains("10.96.0.10")
    });

    // An agent that ends lets the other node answer, at once and for as long as it is away.
    let stopped = lab.command(&["stop", "node-1"]);
    assert!(stopped.status.success());
    all_answered("without the agent of node-1");
    assert_eq!(lab.exec("node-1", &["ip", "route", "show", "table", "local", "proto", "80"]), "");
    assert!(lab.command(&["start", "node-1"]).status.success());
    eventually("the agent's return", || {
        lab.exec("node-1", &["ip", "route", "show", "table", "local", "proto", "80"]).contains("10.96.0.10")
    });
    all_answered("with the agent of node-1 again");

    assert!(lab.command(&["stop", "server"]).status.success());
    all_answered("without the server");
    assert!(lab.command(&["start", "server"]).status.success());
}
