//! A node gets another dataplane while its clients work: those that are connected notice nothing, and what the former dataplane
//! had is gone afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

#[path = "../../dataplane/tests/kernel/machine.rs"]
mod machine;
mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Lab, PORTOLAN, Running, kubectl_path, service};

/// How fast clients work, and how long one waits.
struct Pace {
    patience: Duration,
    /// Requests of each client per second.
    rate: &'static str,
    /// How long clients work, which is longer than the switching takes.
    seconds: &'static str,
    timeout_ms: &'static str,
    /// The most connections of one kind.
    most: usize,
    /// The least requests that a client must have sent.
    least: u64,
}

const PACE: Pace =
    Pace { patience: Duration::from_secs(90), rate: "40", seconds: "25", timeout_ms: "1500", most: 3, least: 100 };
/// In a machine that is emulated, where everything takes ten times as long.
const SLOW: Pace =
    Pace { patience: Duration::from_secs(180), rate: "2", seconds: "75", timeout_ms: "10000", most: 1, least: 50 };

/// That of the machine that this is.
fn pace() -> &'static Pace {
    if machine::inside() { &SLOW } else { &PACE }
}

/// The address of node-1, which is the lab's promise.
const NODE: &str = "172.31.255.11";

/// A client that works all the time.
struct Load {
    what: String,
    /// On one connection, or from one socket; else a new one for each request.
    keeps: bool,
    running: Running,
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + pace().patience;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a variant of iptables has on node-1 of both families, in lines.
fn rules(lab: &Lab, variant: &str) -> Vec<String> {
    let save = |program: &str| lab.exec("node-1", &[&format!("{program}-{variant}-save")]);
    let text = save("iptables") + &save("ip6tables");
    // Without counters, and without built-in chains, which have neither rules nor another policy here.
    let chain = |line: &str| line.starts_with(':') && !line.contains(" ACCEPT ");
    let lines = text.lines().filter(|line| line.starts_with('-') || chain(line));
    lines.map(|line| line.split(" [").next().unwrap().to_owned()).collect()
}

fn ours(lab: &Lab, variant: &str) -> usize {
    rules(lab, variant).iter().filter(|line| line.contains("PORTOLAN-")).count()
}

fn has_tables(lab: &Lab) -> bool {
    lab.exec("node-1", &["nft", "list", "tables"]).lines().any(|line| line.ends_with(" portolan"))
}

/// A cluster of two nodes with a Pod on each, behind one Service, and a rule of somebody else's on node-1 that says which variant
/// of iptables its host uses.
fn cluster(variant: &str) -> (Lab, Value) {
    let lab = Lab::up_on("nftables", 2, &[]);
    for line in ["-N SOMEBODY-ELSE", "-A INPUT -j SOMEBODY-ELSE"] {
        // The machine's own lock may be root's.
        let (lock, program) = (format!("XTABLES_LOCKFILE={}/lock", lab.dir.display()), format!("iptables-{variant}"));
        lab.exec("node-1", &[&["env", &lock, &program], &line.split(' ').collect::<Vec<_>>()[..]].concat());
    }
    for (name, node, app) in [("web-1", "node-1", "web"), ("web-2", "node-2", "web"), ("caller", "node-1", "caller")] {
        let ports = json!([{"containerPort": 8080}, {"containerPort": 8080, "protocol": "UDP"}]);
        lab.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [{"name": "echo", "ports": ports}]},
        }));
    }
    lab.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    let ports = json!([
        {"name": "tcp", "port": 80, "targetPort": 8080, "nodePort": 30080},
        {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP", "nodePort": 30080},
    ]);
    lab.apply(&service("web", json!({"type": "NodePort", "selector": {"app": "web"}, "ports": ports})));
    lab.wait();
    let text = lab.kubectl(&["get", "service", "web", "-o", "json"]);
    (lab, serde_json::from_str(&text).unwrap())
}

fn start(lab: &Lab, service: &Value) -> Vec<Load> {
    let cluster_ip = format!("{}:80", service["spec"]["clusterIP"].as_str().unwrap());
    let node_port = format!("{NODE}:30080");
    let localhost = "127.0.0.1:30080".to_owned();
    // Several connections of each kind: they go to either Pod, the one on this node or the other.
    let kept = [
        ("caller", "tcp", &cluster_ip, 3),
        ("caller", "udp", &cluster_ip, 3),
        ("client", "tcp", &node_port, 3),
        ("client", "udp", &node_port, 3),
        ("node-1", "tcp", &cluster_ip, 2),
        ("node-1", "tcp", &localhost, 2),
    ];
    let mut loads = Vec::new();
    let Pace { rate, seconds, timeout_ms, most, .. } = *pace();
    let mut load = |from: &str, transport: &str, to: &str, keeps: bool| {
        let mut more = vec!["--rate", rate, "--seconds", seconds, "--timeout-ms", timeout_ms];
        more.extend(keeps.then_some("--keep"));
        let running = lab.start_probe(from, transport, to, &more);
        loads.push(Load { what: format!("{transport} from {from} to {to}"), keeps, running });
    };
    for (from, transport, to, count) in kept {
        (0..count.min(most)).for_each(|_| load(from, transport, to, true));
    }
    for (from, transport, to) in
        [("caller", "tcp", &cluster_ip), ("client", "tcp", &node_port), ("caller", "udp", &cluster_ip)]
    {
        load(from, transport, to, false);
    }
    // Those that are to be connected are.
    let established =
        || lab.exec("node-1", &["sh", "-c", "cat /proc/net/tcp"]).matches(" 01 ").count() >= 2 * pace().most.min(2);
    eventually("the node's own connections", established);
    loads
}

fn switch(lab: &Lab, dataplane: &str) {
    for args in [&["stop", "node-1"][..], &["start", "node-1", "--dataplane", dataplane]] {
        let output = lab.command(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    eventually("the agent with another dataplane", || {
        let status = lab.status();
        let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "node-1").unwrap().clone();
        node["dataplane"] == dataplane && node["programmedRevision"].is_u64()
    });
}

/// Whether node-1 has anything of a dataplane; `variant` is that of iptables which its host uses.
fn has(lab: &Lab, dataplane: &str, variant: &str) -> bool {
    match dataplane {
        "nftables" => has_tables(lab),
        "iptables" => ours(lab, variant) > 0,
        _ => {
            let links = lab.exec("node-1", &["ip", "-o", "link"]);
            let serves = links.contains("portolan-ipvs") || !lab.exec("node-1", &["ipvsadm", "-Sn"]).is_empty();
            // The last that goes are the marks that tell which settings to put back.
            serves || ours(lab, variant) > 0
        }
    }
}

/// From nftables to another dataplane, back, and once more, under load.
fn back_and_forth(variant: &str, dataplane: &str) {
    let other = if variant == "nft" { "legacy" } else { "nft" };
    let (lab, service) = cluster(variant);
    // What IPVS carries is its own, and stays with it until it ends.
    let goes_at_once = dataplane != "ipvs";
    if !goes_at_once {
        // Connections that have ended are remembered for seconds in place of minutes.
        lab.exec("node-1", &["ipvsadm", "--set", "900", "3", "3"]);
    }
    let before = (rules(&lab, variant), rules(&lab, other));
    let loads = start(&lab, &service);
    let begun = Instant::now();
    for to in [dataplane, "nftables", dataplane] {
        switch(&lab, to);
        let from = if to == "nftables" { dataplane } else { "nftables" };
        if from == "nftables" || goes_at_once {
            eventually("the end of what was there", || !has(&lab, from, variant));
        }
        assert!(has(&lab, to, variant), "{to} carries nothing: {:?}", rules(&lab, variant));
        assert_eq!(ours(&lab, other), 0, "the rules are in the variant that the host uses");
        if to == "nftables" && goes_at_once {
            assert_eq!((rules(&lab, variant), rules(&lab, other)), before, "what others have is as it was");
        }
        std::thread::sleep(Duration::from_millis(1500));
    }
    eprintln!("switched three times within {:?}", begun.elapsed());
    let mut wrong = Vec::new();
    for Load { what, keeps, running } in loads {
        let report = running.report();
        let failed = report["failed"].as_array().unwrap().len();
        eprintln!("{what}: {} of {} answered, {} resent", report["answered"], report["sent"], report["resent"]);
        // Whoever is connected notices nothing; of those that are just connecting a packet may be lost, which is sent again.
        if failed > 0 && (keeps || failed > 2) || report["sent"].as_u64().unwrap() < pace().least {
            wrong.push(format!("{what}, kept: {keeps}: {report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // With its last connection the last of it goes.
    switch(&lab, "nftables");
    eventually("the end of everything", || !has(&lab, dataplane, variant));
    assert_eq!((rules(&lab, variant), rules(&lab, other)), before, "what others have is as it was");
}

#[test]
fn to_iptables_and_back_with_the_nft_variant() {
    back_and_forth("nft", "iptables");
}

#[test]
fn to_iptables_and_back_with_the_legacy_variant() {
    back_and_forth("legacy", "iptables");
}

#[test]
fn to_ipvs_and_back() {
    let programs = [PORTOLAN.into(), kubectl_path()];
    machine::with_programs("to_ipvs_and_back", &programs, || back_and_forth("nft", "ipvs"));
}
