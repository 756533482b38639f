//! `portolan agent` beside a real server and a real kernel, in a network namespace that has both and nothing else: what
//! others do to its tables, what load balancers and scrapers ask it, what it leaves behind, and that with each dataplane.
//!
//! The test runs itself again in the namespace (`unshare --net`, as an ordinary user with a user namespace round it).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod dataplanes;
#[path = "../../../dataplane/tests/kernel/machine.rs"]
mod machine;
#[path = "../support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PORTOLAN, Server, get, service};

const METRICS: &str = "127.0.0.1:10249";
const HEALTH: &str = "127.0.0.1:10256";
const PATIENCE: Duration = Duration::from_secs(30);

struct Agent(Child);

impl Agent {
    /// Starts an agent, and returns when the kernel is programmed.
    fn start(server: &Server, flags: &[&str]) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(server.dir.join("agent.log")).unwrap();
        let child = Command::new(PORTOLAN)
            .args(["agent", "--node-name", "node-1", "--node-ip", "192.0.2.1", "--socket", "none", "--kubeconfig"])
            .arg(server.kubeconfig())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let agent = Self(child);
        eventually("the agent's health", || get(HEALTH, "/healthz").starts_with("HTTP/1.1 200 "));
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn metric(name: &str) -> f64 {
    let text = get(METRICS, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn command(line: &[&str]) -> String {
    let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nft(line: &str) -> String {
    command(&["nft", line])
}

/// Runs `body` in a network namespace of its own: this very test, once more.
fn alone(test: &str, body: impl FnOnce(&Path)) {
    const INSIDE: &str = "PORTOLAN_TEST_INSIDE";
    // An emulated machine has nothing else, either.
    if std::env::var_os(INSIDE).is_some() || machine::inside() {
        command(&["ip", "link", "set", "lo", "up"]);
        command(&["ip", "address", "add", "192.0.2.1/32", "dev", "lo"]);
        let dir = tempfile::tempdir().unwrap();
        body(dir.path());
        return;
    }
    let mut unshare = Command::new("unshare");
    unshare.arg("--net");
    if !nix::unistd::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
        // The machine's own lock of legacy iptables is another root's.
        unshare
            .env("XTABLES_LOCKFILE", format!("{}/xtables-{}.lock", std::env::temp_dir().display(), std::process::id()));
    }
    let me = std::env::current_exe().unwrap();
    let output = unshare.arg(me).args([test, "--exact", "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stdout));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn create(server: &Server, object: &Value) {
    let client = server.client();
    runtime().block_on(client.post("/api/v1/namespaces/default/services", object)).unwrap();
}

#[test]
fn what_others_break_is_repaired() {
    alone("what_others_break_is_repaired", |dir| {
        let server = Server::start(dir);
        let agent = Agent::start(&server, &["--no-table-ownership"]);
        create(&server, &service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]})));
        let element = "get element ip portolan services { 10.96.0.7 . tcp . 80 }";
        let there = || Command::new("nft").arg(element).output().unwrap().status.success();
        eventually("the Service", there);
        let mut times = Vec::new();
        for n in 1..=5 {
            for (deed, kind) in [
                ("delete element ip portolan services { 10.96.0.7 . tcp . 80 }", "elements"),
                ("flush ruleset", "table"),
            ] {
                nft(deed);
                let begin = Instant::now();
                eventually(deed, there);
                times.push(begin.elapsed());
                let name = format!("portolan_agent_repairs_total{{kind=\"{kind}\"}}");
                eventually("the count", || metric(&name) >= f64::from(n));
            }
        }
        times.sort_unstable();
        println!("repaired within {times:?}, asking included");
        assert!(times[times.len() / 2] < Duration::from_millis(100), "{times:?}");
        drop(agent);

        // An agent that owns its table, as it does from Linux 6.9 on, has nothing to repair.
        let agent = Agent::start(&server, &[]);
        if !Command::new("nft").args(["delete", "table", "ip", "portolan"]).output().unwrap().status.success() {
            nft("flush ruleset");
            assert!(there());
            assert_eq!(metric("portolan_agent_repairs_total{kind=\"table\"}"), 0.0);
        }
        eventually("the table", there);
        drop(agent);
        assert!(there(), "the kernel keeps its tables");
    });
}

#[test]
fn load_balancers_scrapers_and_those_who_clean_up() {
    alone("load_balancers_scrapers_and_those_who_clean_up", |dir| {
        let server = Server::start(dir);
        let localnet = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap();
        assert_eq!(localnet().trim(), "0");
        let agent = Agent::start(&server, &["--nodeport-addresses", "192.0.2.0/24", "--cluster-cidr", "10.244.0.0/16"]);
        let taken = TcpListener::bind("[::]:32101").unwrap();
        let balanced = |name: &str, port: u16| {
            let spec = json!({
                "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port,
                "ports": [{"port": 80}],
            });
            service(name, spec)
        };
        create(&server, &balanced("free", 32100));
        create(&server, &balanced("late", 32101));
        eventually("the first port", || get("127.0.0.1:32100", "/").starts_with("HTTP/1.1 503 "));
        let answer = get("[::1]:32100", "/any/path");
        let body = r#"{"service":{"namespace":"default","name":"free"},"localEndpoints":0,"serviceProxyHealthy":true}"#;
        assert!(answer.ends_with(body), "{answer}");
        assert!(answer.to_lowercase().contains("x-load-balancing-endpoint-weight: 0"), "{answer}");

        let client = server.client();
        let events = || runtime().block_on(client.get("/api/v1/namespaces/default/events")).unwrap();
        eventually("the Event", || {
            events()["items"].as_array().unwrap().iter().any(|event| {
                event["reason"] == "FailedToStartServiceHealthcheck"
                    && event["involvedObject"]["name"] == "late"
                    && event["involvedObject"]["uid"].as_str().is_some_and(|uid| !uid.is_empty())
                    && event["source"] == json!({"component": "portolan-agent", "host": "node-1"})
            })
        });
        drop(taken);
        eventually("the port that was taken", || get("127.0.0.1:32101", "/").starts_with("HTTP/1.1 503 "));

        let config = get(METRICS, "/configz");
        assert!(config.contains(r#""nodePortAddresses":["192.0.2.0/24"]"#), "{config}");
        assert!(get(METRICS, "/proxyMode").ends_with("nftables"));
        assert!(get(HEALTH, "/healthz").contains(r#""nodeEligible":true"#));
        assert!(get(HEALTH, "/livez").starts_with("HTTP/1.1 200 "));
        metrics();

        assert_eq!(localnet().trim(), "1");
        drop(agent);
        command(&[PORTOLAN, "agent", "--cleanup"]);
        assert_eq!(nft("list ruleset"), "");
        assert_eq!(localnet().trim(), "0", "it is as it was found");
        let address: SocketAddr = METRICS.parse().unwrap();
        assert!(TcpStream::connect(address).is_err());
    });
}

fn has(address: &str) -> bool {
    let element = format!("get element ip portolan services {{ {address} . tcp . 80 }}");
    Command::new("nft").arg(element).output().unwrap().status.success()
}

fn web(name: &str, address: &str) -> Value {
    service(name, json!({"clusterIP": address, "ports": [{"port": 80}]}))
}

fn database(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(dir.join("data")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("portolan.db"));
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn remove_database(dir: &Path) {
    database(dir).iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
}

#[test]
fn a_server_comes_back_with_another_database() {
    alone("a_server_comes_back_with_another_database", |dir| {
        let mut server = Server::start(dir);
        let address = server.address;
        let agent = Agent::start(&server, &[]);
        create(&server, &web("a", "10.96.0.7"));
        eventually("the first Service", || has("10.96.0.7"));

        // Away: nothing changes. Back with what it had: what comes then is followed.
        server.kill();
        let backup = database(dir);
        assert!(has("10.96.0.7"));
        let mut server = Server::start_on(dir, address, &[]);
        create(&server, &web("b", "10.96.0.8"));
        eventually("the second Service", || has("10.96.0.8"));

        // Back with an older copy, which has gone on meanwhile to where the agent was and further.
        server.kill();
        remove_database(dir);
        backup.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
        let mut server = Server::start_on(dir, address, &[]);
        create(&server, &web("c", "10.96.0.9"));
        eventually("the state of the copy", || has("10.96.0.9") && !has("10.96.0.8"));
        assert!(has("10.96.0.7"));

        // Another database under the same keys: it does not even know the node.
        server.kill();
        remove_database(dir);
        let server = Server::start_on(dir, address, &[]);
        create(&server, &web("d", "10.96.0.11"));
        eventually("the other database", || has("10.96.0.11") && !has("10.96.0.7") && !has("10.96.0.9"));
        let client = server.client();
        eventually("the node in it", || runtime().block_on(client.get("/api/v1/nodes/node-1")).is_ok());
        assert!(get(HEALTH, "/healthz").starts_with("HTTP/1.1 200 "));
        drop(agent);
    });
}

/// Every name of research F.3 that has a meaning with nftables, as it is scraped.
fn metrics() {
    let text = get(METRICS, "/metrics");
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(!text.contains("iptables"), "{text}");
    for name in [
        "sync_proxy_rules_duration_seconds histogram",
        "sync_full_proxy_rules_duration_seconds histogram",
        "sync_partial_proxy_rules_duration_seconds histogram",
        "sync_proxy_rules_last_timestamp_seconds gauge",
        "sync_proxy_rules_last_queued_timestamp_seconds gauge",
        "network_programming_duration_seconds histogram",
        "sync_proxy_rules_endpoint_changes_pending gauge",
        "sync_proxy_rules_endpoint_changes counter",
        "sync_proxy_rules_service_changes_pending gauge",
        "sync_proxy_rules_service_changes counter",
        "sync_proxy_rules_no_local_endpoints_total gauge",
        "sync_proxy_rules_nftables_sync_failures counter",
        "sync_proxy_rules_nftables_cleanup_failures counter",
        "proxy_healthz counter",
        "proxy_livez counter",
    ] {
        assert!(types.contains(&format!("kubeproxy_{name}").as_str()), "{name} is not among {types:?}");
    }
    for name in [
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_service_changes_total",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count",
        "portolan_agent_services",
    ] {
        assert!(metric(name) > 0.0, "{name}");
    }
    for name in [
        "kubeproxy_sync_proxy_rules_service_changes_pending",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"}",
        "portolan_agent_refused_services",
    ] {
        assert!(metric(name) == 0.0, "{name}");
    }
}
