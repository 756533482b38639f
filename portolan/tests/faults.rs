//! What fails while something is broken: each fault under 500 new connections a second, in a real lab, with not one
//! failure that the fault does not explain. Each test prints what it measured (`--nocapture` shows it).
//!
//! A probe asks at a fixed rate, whatever becomes of its requests; another asks on one connection that lives through it
//! all. A packet that was lost and sent again counts, too: nobody would call it a failure, but nothing here explains one.
//!
//! `PORTOLAN_FAULT_SECONDS` says how long the server stays away (10 without it; `make soak` takes longer).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::{Value, json};
use support::{Lab, PORTOLAN, Running, Server, service};

/// New connections a second, from one client.
const RATE: &str = "500";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
/// How long it may take until a table that is gone is there again.
const REPAIR_MS: u64 = 100;
/// Failures that are further apart than this belong to two faults.
const APART_MS: u64 = 400;

/// One lab under load at a time: they would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

struct World {
    lab: Lab,
    client: Client,
    runtime: tokio::runtime::Runtime,
    _alone: MutexGuard<'static, ()>,
}

/// What is measured: a ClusterIP asked by a Pod of node-1, and the connection that lives.
struct Load {
    many: Running,
    one: Running,
}

impl World {
    /// Two nodes; `web-1` on node-1 and `web-2` on node-2 behind the Service `web`, `caller` on node-1.
    fn new(agent_args: &[&str]) -> World {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::up_with(2, agent_args);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async { Client::from_kubeconfig(&lab.kubeconfig()).unwrap() });
        let world = World { lab, client, runtime, _alone: alone };
        world.pod("web-1", "node-1", "web");
        world.pod("web-2", "node-2", "web");
        world.pod("caller", "node-1", "caller");
        world.post(SERVICES, &service("web", spec("web")));
        world.ready(&["web-1", "web-2", "caller"]);
        world.lab.wait();
        world
    }

    fn post(&self, path: &str, object: &Value) -> Value {
        self.runtime.block_on(self.client.post(path, object)).unwrap()
    }

    fn get(&self, path: &str) -> Value {
        self.runtime.block_on(self.client.get(path)).unwrap()
    }

    fn pod(&self, name: &str, node: &str, app: &str) {
        self.post(
            PODS,
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [{"name": "echo", "ports": [{"containerPort": 8080}]}]}}),
        );
    }

    fn ready(&self, pods: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        for name in pods {
            let ready = |pod: &Value| {
                let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
            };
            while !ready(&self.get(&format!("{PODS}/{name}"))) {
                assert!(Instant::now() < deadline, "pod {name} is not ready: {}", self.lab.status());
                sleep(Duration::from_millis(20));
            }
        }
    }

    /// `portolan wait`: returns when every node has the Service as it is.
    fn wait(&self) {
        let kubeconfig = self.lab.kubeconfig();
        let wait =
            Command::new(PORTOLAN).args(["wait", "service/web", "--kubeconfig"]).arg(kubeconfig).output().unwrap();
        assert!(wait.status.success(), "{}", String::from_utf8_lossy(&wait.stderr));
    }

    /// Deletes a Pod, and returns when it is gone.
    fn remove(&self, pod: &str) {
        let path = format!("{PODS}/{pod}");
        self.runtime.block_on(self.client.delete(&path, None)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(40);
        while self.runtime.block_on(self.client.get(&path)).is_ok() {
            assert!(Instant::now() < deadline, "pod {pod} does not end");
            sleep(Duration::from_millis(50));
        }
    }

    /// The Service's ClusterIP with a port.
    fn at(&self, port: u16) -> String {
        let made = self.get(&format!("{SERVICES}/web"));
        format!("{}:{port}", made["spec"]["clusterIP"].as_str().unwrap())
    }

    /// Asks for so long.
    fn load(&self, seconds: u64) -> Load {
        let (at, seconds) = (self.at(80), seconds.to_string());
        let timeout = ["--timeout-ms", "10000", "--seconds", &seconds];
        let many = [&["--rate", RATE], &timeout[..]].concat();
        let one = [&["--keep", "--rate", "50"], &timeout[..]].concat();
        let load = Load {
            many: self.lab.start_probe("caller", "tcp", &at, &many),
            one: self.lab.start_probe("caller", "tcp", &at, &one),
        };
        // Under way when the fault comes.
        sleep(Duration::from_millis(700));
        load
    }

    fn agent_pid(&self, node: usize) -> String {
        let status = self.lab.status();
        status["nodes"][node]["agentPid"].as_u64().expect("an agent that runs").to_string()
    }

    fn restarts(&self, node: usize) -> u64 {
        self.lab.status()["nodes"][node]["restarts"].as_u64().unwrap()
    }
}

fn spec(app: &str) -> Value {
    json!({"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]})
}

impl Load {
    /// Waits for the end: what both probes have seen.
    fn end(self) -> (Value, Value) {
        (self.many.report(), self.one.report())
    }
}

/// Every request was sent and answered, at the first attempt.
fn without_failure(fault: &str, report: &Value) {
    eprintln!("{fault}: {}", brief(report));
    assert!(report["answered"] == report["sent"] && report["resent"] == 0, "{fault}: {}", some(report));
}

/// Nobody reads thousands of failures.
fn some(report: &Value) -> String {
    let mut report = report.clone();
    report["failed"].as_array_mut().unwrap().truncate(20);
    report.to_string()
}

fn brief(report: &Value) -> String {
    let [sent, answered, resent, slowest] =
        ["sent", "answered", "resent", "slowestMilliseconds"].map(|field| report[field].as_u64().unwrap());
    format!(
        "{sent} sent, {answered} answered, {resent} at the second attempt, the slowest after {slowest} ms, {}",
        report["failures"]
    )
}

/// When failures began and how long they lasted, in milliseconds: each burst.
fn bursts(report: &Value) -> Vec<(u64, u64)> {
    let failed = report["failed"].as_array().unwrap();
    let mut times: Vec<u64> = failed.iter().map(|f| f["atMilliseconds"].as_u64().unwrap()).collect();
    times.sort_unstable();
    let mut bursts: Vec<(u64, u64)> = Vec::new();
    for at in times {
        match bursts.last_mut() {
            Some((begin, length)) if at - (*begin + *length) < APART_MS => *length = at - *begin,
            _ => bursts.push((at, 0)),
        }
    }
    bursts
}

#[test]
fn the_agent_is_killed() {
    let world = World::new(&[]);
    let load = world.load(6);
    for round in 1..=2 {
        let killed = Command::new("kill").args(["-9", &world.agent_pid(0)]).status().unwrap();
        assert!(killed.success());
        let deadline = Instant::now() + Duration::from_secs(10);
        while world.restarts(0) < round || world.lab.status()["nodes"][0]["programmedRevision"].is_null() {
            assert!(Instant::now() < deadline, "the agent does not come back");
            sleep(Duration::from_millis(20));
        }
        sleep(Duration::from_secs(1));
    }
    // What comes back also works.
    world.pod("web-3", "node-1", "web");
    world.ready(&["web-3"]);
    world.lab.wait();
    let (many, one) = load.end();
    without_failure("agent killed twice, new connections", &many);
    without_failure("agent killed twice, one connection", &one);
    assert!(many["pods"]["web-3"].as_u64().is_some(), "nothing was programmed afterwards: {many}");
}

#[test]
fn the_server_is_away() {
    let away = std::env::var("PORTOLAN_FAULT_SECONDS").map_or(10, |text| text.parse().unwrap());
    let world = World::new(&[]);
    let at = world.at(81);
    let load = world.load(away + 8);
    assert!(world.lab.command(&["stop", "server"]).status.success());
    let began = Instant::now();
    // Meanwhile the database goes on: a server beside the lab gives the Service another port.
    let files = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(world.lab.dir.join("server"), files.path().join("data")).unwrap();
    let kubeconfig: PathBuf = world.lab.dir.join("server/admin.kubeconfig");
    let before = fs::read_to_string(&kubeconfig).unwrap();
    {
        let server = Server::start(files.path());
        let mut ports = spec("web")["ports"].clone();
        ports.as_array_mut().unwrap().push(json!({"name": "more", "port": 81, "targetPort": 8080}));
        let client = world.runtime.block_on(async { server.client() });
        let patch = json!({"spec": {"ports": ports}});
        world.runtime.block_on(client.patch(&format!("{SERVICES}/web"), MERGE_PATCH, &patch)).unwrap();
    }
    fs::write(&kubeconfig, before).unwrap();
    let unknown = world.lab.probe("caller", "tcp", &at, &["--timeout-ms", "2000"]);
    assert_eq!(unknown["failures"], json!({"refused": 1}), "the server is away: {unknown}");
    sleep(Duration::from_secs(away).saturating_sub(began.elapsed()));
    assert!(world.lab.command(&["start", "server"]).status.success());
    let back = Instant::now();
    while world.lab.probe("caller", "tcp", &at, &["--timeout-ms", "2000"])["answered"] == 0 {
        assert!(back.elapsed() < Duration::from_secs(30), "what changed meanwhile is not programmed");
        sleep(Duration::from_millis(20));
    }
    eprintln!(
        "server away for {away} s: what changed meanwhile was there {} ms after its start",
        back.elapsed().as_millis()
    );
    let (many, one) = load.end();
    without_failure("server away, new connections", &many);
    without_failure("server away, one connection", &one);
}

fn flush(world: &World, times: usize) {
    for _ in 0..times {
        world.lab.exec("node-1", &["nft", "flush", "ruleset"]);
        sleep(Duration::from_millis(1200));
    }
}

#[test]
fn the_owned_ruleset_is_flushed() {
    let world = World::new(&[]);
    let load = world.load(4);
    flush(&world, 2);
    let (many, one) = load.end();
    without_failure("owned table flushed twice, new connections", &many);
    without_failure("owned table flushed twice, one connection", &one);
}

#[test]
fn the_ruleset_of_everybody_is_flushed() {
    const TIMES: usize = 3;
    let world = World::new(&["--no-table-ownership"]);
    let load = world.load(6);
    flush(&world, TIMES);
    let (many, one) = load.end();
    eprintln!("table flushed {TIMES} times, new connections: {}", brief(&many));
    // What finds no table is lost on its way, is sent again after a second, and then finds one. A connection begins every
    // 2 ms, so that their number tells how long there was none.
    let resent = many["resent"].as_u64().unwrap();
    assert!(resent <= REPAIR_MS / 2 * TIMES as u64, "the repairs took too long: {}", some(&many));
    // What the kernel is just looking up while the table goes may be refused.
    let bursts = bursts(&many);
    for (begin, length) in &bursts {
        eprintln!("    failures for {length} ms, {begin} ms after the beginning");
    }
    assert!(bursts.len() <= TIMES, "something fails at other times, too: {}", some(&many));
    assert!(bursts.iter().all(|(_, length)| *length <= REPAIR_MS), "the repair took too long: {}", some(&many));
    // While no table translates, the kernel translates nothing, not even for connections that were made: an answer that was
    // on its way just then reaches the client from a stranger's address, and is answered with a reset. All else lives.
    eprintln!("table flushed {TIMES} times, one connection: {}", brief(&one));
    let broken = one["sent"].as_u64().unwrap() - one["answered"].as_u64().unwrap();
    let reset = one["failures"]["reset"].as_u64().unwrap_or(0);
    assert!(broken <= TIMES as u64 && broken == reset, "one connection: {}", some(&one));
}

#[test]
fn every_endpoint_is_replaced() {
    let world = World::new(&[]);
    let load = world.load(12);
    for (n, node) in [(1, "node-1"), (2, "node-2")] {
        let (old, new) = (format!("web-{n}"), format!("new-{n}"));
        world.pod(&new, node, "web");
        world.ready(&[&new]);
        world.wait();
        world.remove(&old);
    }
    let (many, one) = load.end();
    without_failure("every endpoint replaced, new connections", &many);
    eprintln!("every endpoint replaced, one connection: {}", brief(&one));
    // It lives as long as its endpoint, which says when it ends.
    assert_eq!(one["answered"], one["sent"], "{one}");
    let pods: BTreeMap<String, u64> = serde_json::from_value(many["pods"].clone()).unwrap();
    assert_eq!(pods.len(), 4, "{many}");
}

#[test]
fn a_thousand_services_come_and_go() {
    const COUNT: usize = 1000;
    const AT_A_TIME: usize = 4;
    let world = World::new(&[]);
    let load = world.load(15);
    let began = Instant::now();
    let each = |work: fn(Client, String) -> tokio::task::JoinHandle<()>| {
        world.runtime.block_on(async {
            let mut left = (0..COUNT).map(|n| format!("s-{n}"));
            let mut under_way = tokio::task::JoinSet::new();
            for name in left.by_ref().take(AT_A_TIME) {
                under_way.spawn(work(world.client.clone(), name));
            }
            while let Some(done) = under_way.join_next().await {
                done.unwrap().unwrap();
                if let Some(name) = left.next() {
                    under_way.spawn(work(world.client.clone(), name));
                }
            }
        });
    };
    each(|client, name| {
        tokio::spawn(async move {
            client.post(SERVICES, &service(&name, spec("web"))).await.unwrap();
        })
    });
    world.lab.wait();
    let made = began.elapsed();
    let last = world.get(&format!("{SERVICES}/s-{}", COUNT - 1));
    let to = format!("{}:80", last["spec"]["clusterIP"].as_str().unwrap());
    assert_eq!(world.lab.probe("caller", "tcp", &to, &[])["answered"], 1);
    each(|client, name| {
        tokio::spawn(async move {
            client.delete(&format!("{SERVICES}/{name}"), None).await.unwrap();
        })
    });
    world.lab.wait();
    let all = began.elapsed();
    eprintln!("{COUNT} Services: made and programmed in {} ms, gone after {} ms", made.as_millis(), all.as_millis());
    let (many, one) = load.end();
    without_failure("a thousand Services come and go, new connections", &many);
    without_failure("a thousand Services come and go, one connection", &one);
}
