//! DNS as programs meet it, in a lab: the table of `dns/tests` asked with dig on nodes and from a pod, the C library in a
//! pod, and what stays when the server is away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

#[path = "../../dns/tests/table/rows.rs"]
mod rows;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use proxy_agent::client::{Client, MERGE_PATCH};
use rows::{Expect, Row};
use serde_json::{Value, json};
use support::{Lab, PORTOLAN, kubectl};

/// The addresses of `kube-system/kube-dns`.
const DNS: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A lab with these manifests, programmed everywhere.
fn lab(nodes: u16, manifests: &[&str]) -> Lab {
    let lab = Lab::up(nodes);
    for path in manifests {
        run(&lab, &["apply", "-f", manifest(path).to_str().unwrap()]);
    }
    if manifests.contains(&"examples/hello.yaml") {
        run(&lab, &["wait", "--for=condition=Ready", "pod", "-l", "app=hello", "--timeout=60s"]);
    }
    lab.wait();
    lab
}

fn run(lab: &Lab, args: &[&str]) -> String {
    let output = kubectl(&lab.kubeconfig(), &lab.dir, args);
    assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn client(lab: &Lab) -> (tokio::runtime::Runtime, Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::from_kubeconfig(&lab.kubeconfig()).unwrap();
    (runtime, client)
}

/// Asks all questions with one dig; the answers in the order of the questions.
fn dig(lab: &Lab, from: &str, more: &[&str], questions: &Path) -> Vec<Expect> {
    let mut argv = vec!["timeout", "120", "dig", "+noidnin", "+noidnout", "+time=5", "+tries=2"];
    argv.extend_from_slice(more);
    argv.extend(["-f", questions.to_str().unwrap()]);
    let text = lab.exec(from, &argv);
    text.split(";; ->>HEADER<<-").skip(1).map(read).collect()
}

/// One answer as dig prints it, in the words of the table.
fn read(text: &str) -> Expect {
    let code = text.split_once("status: ").and_then(|(_, rest)| rest.split(',').next()).unwrap();
    let mut found = Expect {
        code: ["NOERROR", "NXDOMAIN", "SERVFAIL"].into_iter().find(|known| *known == code).unwrap_or("?"),
        ..Expect::default()
    };
    let mut section = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix(";; ") {
            section = title.strip_suffix(" SECTION:").unwrap_or("");
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [owner, _ttl, _class, kind, data @ ..] = words.as_slice() else { continue };
        let mut data: Vec<String> = data.iter().map(|word| word.trim_matches('"').to_owned()).collect();
        if *kind == "SOA" {
            // The serial is the revision, which is another in each cluster.
            "7".clone_into(&mut data[2]);
        }
        let record = format!("{} {kind} {}", owner.to_ascii_lowercase(), data.join(" "));
        match section {
            "ANSWER" => found.answers.push(record),
            "ADDITIONAL" => found.additionals.push(record),
            "AUTHORITY" if *kind == "SOA" => found.soa = Some(owner.to_ascii_lowercase()),
            _ => {}
        }
    }
    found.answers.sort();
    found.additionals.sort();
    found
}

#[test]
fn every_row_of_the_table_over_udp_and_tcp() {
    let lab = lab(2, &["examples/hello.yaml", "dns/tests/table/cluster.yaml"]);
    // Where a chain leads out of the cluster, somebody else answers, or nobody.
    let rows: Vec<Row> =
        rows::rows().into_iter().filter(|r| !r.expect.code.is_empty() && r.expect.follow.is_none()).collect();
    assert!(rows.len() >= 190, "{} rows", rows.len());
    let questions = lab.dir.join("logs/questions");
    let lines: Vec<String> = rows.iter().map(|row| format!("{} {}\n", row.name, row.kind)).collect();
    std::fs::write(&questions, lines.concat()).unwrap();
    let (v4, v6) = (format!("@{}", DNS[0]), format!("@{}", DNS[1]));
    for (from, server) in [
        ("node-1", &[v4.as_str()][..]),
        ("node-2", &[v6.as_str()]),
        ("hello-1", &[v4.as_str()]),
        ("client", &["@172.31.255.12", "-p", "10053"]),
    ] {
        for transport in ["+notcp", "+tcp"] {
            let mut more = server.to_vec();
            more.push(transport);
            let found = dig(&lab, from, &more, &questions);
            assert_eq!(found.len(), rows.len(), "{from} {more:?}");
            let wrong: Vec<String> = rows
                .iter()
                .zip(&found)
                .filter(|(row, found)| row.expect != **found)
                .map(|(row, found)| {
                    format!("line {}: {} {}\n  want {:?}\n  have {found:?}", row.line, row.name, row.kind, row.expect)
                })
                .collect();
            assert!(wrong.is_empty(), "{from} {more:?}: {} rows:\n{}", wrong.len(), wrong.join("\n"));
        }
    }
}

#[test]
fn programs_in_a_pod_find_services_also_while_the_server_is_away() {
    let lab = lab(2, &["examples/hello.yaml"]);
    let address = run(&lab, &["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"]);
    let found = |from: &str, name: &str| {
        let text = lab.exec(from, &["timeout", "20", "getent", "ahostsv4", name]);
        text.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let names = ["hello", "hello.default", "hello.default.svc", "hello.default.svc.cluster.local"];
    for name in names {
        assert_eq!(found("hello-1", name), address, "{name}");
    }
    assert_eq!(found("node-2", "hello.default"), address, "a machine has no namespace of its own");
    // The API by its Service, with the certificate that the authority of the cluster vouches for. From a node: the lab's
    // server stands on the subnet, which has no way back to pods.
    let (authority, token) = (lab.dir.join("server/pki/ca.crt"), lab.dir.join("server/admin.token"));
    let bearer = format!("Authorization: Bearer {}", std::fs::read_to_string(token).unwrap().trim());
    let url = "https://kubernetes.default.svc/readyz";
    let curl = ["curl", "-sS", "-m", "20", "--cacert", authority.to_str().unwrap(), "-H", &bearer, url];
    assert_eq!(lab.exec("node-1", &curl), "ok");
    let stopped = lab.command(&["stop", "server"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    for name in names {
        assert_eq!(found("hello-2", name), address, "{name} without the server");
    }
}

#[test]
fn a_change_is_seen_on_every_node_once_it_is_acknowledged() {
    let lab = lab(3, &[]);
    let (runtime, client) = client(&lab);
    let slice = |address: &str| {
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "db", "labels": { "kubernetes.io/service-name": "db" } }, "addressType": "IPv4",
            "ports": [{ "name": "a", "port": 5432, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }] })
    };
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "db" },
        "spec": { "clusterIP": "None", "ports": [{ "name": "a", "port": 5432 }] } });
    runtime.block_on(client.post("/api/v1/namespaces/default/services", &service)).unwrap();
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    runtime.block_on(client.post(slices, &slice("192.0.2.1"))).unwrap();
    for n in 1..=20 {
        let address = format!("192.0.2.{n}");
        let change: Value = json!({ "endpoints": slice(&address)["endpoints"] });
        runtime.block_on(client.patch(&format!("{slices}/db"), MERGE_PATCH, &change)).unwrap();
        let mut wait = Command::new(PORTOLAN);
        wait.args(["wait", "service/db", "--timeout", "30s", "--kubeconfig"]).arg(lab.kubeconfig());
        let output = wait.output().unwrap();
        assert!(output.status.success(), "portolan wait: {}", String::from_utf8_lossy(&output.stderr));
        for node in ["node-1", "node-2", "node-3"] {
            let at = format!("@{}", DNS[0]);
            let answer = lab.exec(node, &["dig", "+short", "+time=5", &at, "db.default.svc.cluster.local"]);
            assert_eq!(answer.trim(), address, "{node}");
        }
    }
}
