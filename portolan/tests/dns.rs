//! `portolan dns` beside a real server: on a machine that is no node, over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PORTOLAN, Server, free_port, get, service};

const PATIENCE: Duration = Duration::from_secs(20);
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

struct Dns {
    child: Child,
    at: SocketAddr,
    metrics: SocketAddr,
    health: SocketAddr,
}

impl Dns {
    fn start(server: &Server, upstream: SocketAddr) -> Self {
        let log = std::fs::File::create(server.dir.join("dns.log")).unwrap();
        let (at, metrics, health) = (free_port(), free_port(), free_port());
        let child = Command::new(PORTOLAN)
            .arg("dns")
            .args(["--kubeconfig".as_ref(), server.kubeconfig().as_os_str()])
            .args(["--listen", &at.to_string(), "--dns-upstream", &upstream.to_string()])
            .args(["--metrics-listen", &metrics.to_string(), "--health-listen", &health.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, at, metrics, health }
    }

    /// The code and the addresses of an answer over UDP; `None`: there was none.
    fn ask(&self, name: &str) -> Option<(u8, Vec<Ipv4Addr>)> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.send_to(&question(name), self.at).unwrap();
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes).ok()?;
        Some(answer(&bytes[..length]))
    }

    fn is(&self, path: &str, code: u16) -> bool {
        get(self.health, path).starts_with(&format!("HTTP/1.1 {code} "))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for A, with the id 0x0102 and RD.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// Of an answer whose records' names are compressed, as every answer's to such a question are.
fn answer(bytes: &[u8]) -> (u8, Vec<Ipv4Addr>) {
    assert_eq!(bytes[..2], [1, 2]);
    let count = usize::from(bytes[7]);
    let mut rest = &bytes[12..];
    while rest[0] != 0 {
        rest = &rest[1 + usize::from(rest[0])..];
    }
    rest = &rest[5..];
    let mut found = Vec::new();
    for _ in 0..count {
        let length = usize::from(rest[11]);
        if (rest[3], length) == (1, 4) {
            found.push(Ipv4Addr::new(rest[12], rest[13], rest[14], rest[15]));
        }
        rest = &rest[12 + length..];
    }
    (bytes[3] & 15, found)
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn create(server: &Server, object: &Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.client().post("/api/v1/namespaces/default/services", object)).unwrap();
}

/// Says 192.0.2.53 to every question for as long as the test runs.
fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let mut end = 12;
            while end < length && bytes[end] != 0 {
                end += 1 + usize::from(bytes[end]);
            }
            // Header, question, one answer; without the OPT of the question.
            let mut said = bytes[..end + 5].to_vec();
            said[2] |= 0x80;
            said[3] = 0x80;
            said[7] = 1;
            said[11] = 0;
            said.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53]);
            let _ = socket.send_to(&said, from);
        }
    });
    address
}

#[test]
fn a_machine_that_is_no_node_answers_for_the_clusters_names() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_port();
    let mut server = Server::start_on(dir.path(), address, &[]);
    create(&server, &service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]})));
    let (web, is) = ("web.default.svc.cluster.local", vec![Ipv4Addr::new(10, 96, 0, 7)]);

    // Without the API: no lies.
    server.kill();
    let dns = Dns::start(&server, upstream());
    eventually("an answer", || dns.ask(web).is_some());
    assert_eq!(dns.ask(web), Some((SERVFAIL, vec![])));
    assert!(dns.is("/ready", 503) && dns.is("/health", 200));
    // Other names need none.
    assert_eq!(dns.ask("example.com"), Some((NOERROR, vec![Ipv4Addr::new(192, 0, 2, 53)])));

    // It comes, and goes, and the names stay.
    let mut server = Server::start_on(dir.path(), address, &[]);
    eventually("ready", || dns.is("/ready", 200));
    assert_eq!(dns.ask(web), Some((NOERROR, is.clone())));
    create(&server, &service("later", json!({"clusterIP": "10.96.0.8", "ports": [{"port": 80}]})));
    let later = Some((NOERROR, vec![Ipv4Addr::new(10, 96, 0, 8)]));
    eventually("a new name", || dns.ask("later.default.svc.cluster.local") == later);
    assert_eq!(dns.ask("nobody.default.svc.cluster.local"), Some((NXDOMAIN, vec![])));
    server.kill();
    assert_eq!(dns.ask(web), Some((NOERROR, is)));
    assert!(dns.is("/ready", 200));

    let metrics = get(dns.metrics, "/metrics");
    for name in ["coredns_dns_requests_total", "coredns_cache_misses_total", "coredns_proxy_request_duration_seconds"] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
}

#[test]
fn it_is_not_its_own_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut dns = Command::new(PORTOLAN);
    dns.arg("dns").arg("--kubeconfig").arg(server.kubeconfig());
    let at = free_port().to_string();
    let free = free_port().to_string();
    dns.args(["--listen", &at, "--dns-upstream", &at, "--metrics-listen", &free, "--health-listen", "127.0.0.1:0"]);
    let output = dns.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("is an address that this DNS itself answers on"), "{text}");
}

/// Runs this very test once more, in a network namespace of its own with loopback alone, and in a mount namespace whose `/etc` and
/// `/run` are empty folders of a temporary one. Nothing of the machine's own is in reach then, and `body` looks that it is so.
fn alone(test: &str, body: fn(&Path)) {
    const INSIDE: &str = "PORTOLAN_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["etc", "run"] {
            let own = dir.path().join(folder);
            fs::create_dir(&own).unwrap();
            run("mount", &["--bind", own.to_str().unwrap(), &format!("/{folder}")]);
            assert_eq!(fs::read_dir(format!("/{folder}")).unwrap().count(), 0, "/{folder} is the machine's");
        }
        run("ip", &["link", "set", "lo", "up"]);
        // With loopback addresses alone glibc takes IPv4 for switched off.
        run("ip", &["address", "add", "192.0.2.1/32", "dev", "lo"]);
        body(dir.path());
        return;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !nix::unistd::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let me = std::env::current_exe().unwrap();
    let output = unshare.arg(me).args([test, "--exact", "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_machines_own_programs_find_the_clusters_names() {
    alone("the_machines_own_programs_find_the_clusters_names", |dir| {
        const FORMER: &str = "# by hand\nnameserver 127.0.0.2\noptions timeout:1\n";
        fs::write("/etc/resolv.conf", FORMER).unwrap();
        fs::write("/etc/nsswitch.conf", "hosts: files dns\n").unwrap();
        let server = Server::start(dir);
        create(&server, &service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]})));
        let log = fs::File::create(dir.join("dns.log")).unwrap();
        let child = Command::new(PORTOLAN)
            .args([
                "dns",
                "--listen",
                "127.0.0.1:53",
                "--configure-resolver",
                "--resolver-search",
                "default",
                "--kubeconfig",
            ])
            .arg(server.kubeconfig())
            .stderr(log)
            .spawn()
            .unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let dns = Dns { child, at: at(53), metrics: at(9153), health: at(8181) };
        let text = || fs::read_to_string("/etc/resolv.conf").unwrap();
        eventually("resolv.conf", || text().contains("nameserver 127.0.0.1\n"));
        assert!(
            text().contains("nameserver 127.0.0.2\noptions timeout:1\nsearch default.svc.cluster.local "),
            "{}",
            text()
        );
        for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local"] {
            assert_eq!(run("getent", &["ahostsv4", name]).split(' ').next(), Some("10.96.0.7"), "{name}");
        }
        // It goes, and whoever it left behind is told.
        drop(dns);
        let said = run(PORTOLAN, &["dns", "--cleanup"]);
        assert_eq!((said.as_str(), text().as_str()), ("put /etc/resolv.conf back as it was\n", FORMER));
        assert_eq!(run(PORTOLAN, &["dns", "--cleanup"]), "");
    });
}
