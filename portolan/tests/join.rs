//! Machines that become nodes, against a real server over TLS: by a token, once; by their own certificate from then on. And
//! whoever should not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use proxy_agent::client::{Client, MERGE_PATCH};
use proxy_agent::join::credentials::{self, Credentials};
use proxy_agent::join::{self, JoinError, Options, Role};
use serde_json::{Value, json};
use support::{PORTOLAN, Server, free_port};

/// A server, and the machines' files beside its own.
struct World {
    server: Server,
    files: tempfile::TempDir,
}

impl World {
    fn new(more: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let server = Server::start_on(files.path(), free_port(), more);
        Self { server, files }
    }

    fn token(&self, arguments: &[&str]) -> Output {
        let command = Command::new(PORTOLAN)
            .arg("token")
            .args(arguments)
            .arg("--kubeconfig")
            .arg(self.server.kubeconfig())
            .output();
        command.unwrap()
    }

    /// What `portolan token create --node-join` prints, as a machine called `node` would run it.
    fn line(&self, node: &str, more: &[&str]) -> Options {
        self.line_for(Role::Node, node, more)
    }

    fn line_for(&self, role: Role, node: &str, more: &[&str]) -> Options {
        let (program, join) = match role {
            Role::Node => ("agent", "--node-join"),
            Role::Edge => ("edge", "--edge-join"),
        };
        let url = format!("https://{}", self.server.address);
        let output = self.token(&[&["create", join, "--server", &url], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "one line: {text:?}");
        let words: Vec<&str> = line.split(' ').collect();
        let ["portolan", started, "--server", server, "--token", token, "--ca-hash", ca_hash] = words[..] else {
            panic!("{line}");
        };
        assert_eq!(started, program);
        assert!(!String::from_utf8_lossy(&output.stderr).contains(token), "the secret is on stdout alone");
        Options {
            directory: self.files.path().join(node),
            role,
            node: node.to_owned(),
            server: Some(server.to_owned()),
            token: Some(token.to_owned()),
            ca_hash: Some(ca_hash.parse().unwrap()),
        }
    }

    /// A client with somebody's bearer token.
    fn by_token(&self, token: &str) -> Client {
        let ca = std::fs::read_to_string(self.files.path().join("data/pki/ca.crt")).unwrap();
        Client::new(&format!("https://{}", self.server.address), Some(&ca), Some(token)).unwrap()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn enter(options: &Options) -> Result<Credentials, JoinError> {
    tokio::time::timeout(Duration::from_secs(60), join::enter(options, &mut || 7)).await.expect("an answer")
}

fn client_of(directory: &Path) -> Client {
    Client::from_kubeconfig(&credentials::path(directory, Role::Node)).unwrap()
}

fn code(answer: Result<Value, proxy_agent::client::ClientError>) -> Option<u16> {
    answer.err().map(|error| error.code().unwrap_or_else(|| panic!("{error:?}")))
}

const NODES: &str = "/api/v1/nodes";
const TOKENS: &str = "/apis/portolan.dev/v1alpha1/tokens";

#[test]
fn a_machine_joins_by_one_line_and_is_that_node_and_no_other() {
    let world = World::new(&["--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"]);
    let options = world.line("web", &[]);
    block_on(async {
        let joined = enter(&options).await.unwrap();
        assert_eq!(joined.facts.node, "web");
        let web = client_of(&options.directory);
        let me = web.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.unwrap();
        assert_eq!(me["status"]["userInfo"]["username"], "system:node:web");
        // What a node may.
        web.get("/api/v1/services").await.unwrap();
        let node = |name: &str| json!({"metadata": {"name": name}});
        let made = web.post(NODES, &node("web")).await.unwrap();
        assert_eq!(made["spec"]["podCIDRs"], json!(["10.244.0.0/24", "fd00:10:244::/64"]));
        // And what it may not.
        let admin = world.server.client();
        admin.post(NODES, &node("db")).await.unwrap();
        let patch = json!({"metadata": {"labels": {"a": "b"}}});
        web.patch("/api/v1/nodes/web", MERGE_PATCH, &patch).await.unwrap();
        assert_eq!(code(web.patch("/api/v1/nodes/db", MERGE_PATCH, &patch).await), Some(403));
        assert_eq!(code(web.get(TOKENS).await), Some(403));
        let certificate = |node: &str| format!("/apis/portolan.dev/v1alpha1/nodes/{node}/certificate");
        assert_eq!(code(web.post(&certificate("db"), &json!({"request": "x"})).await), Some(403));
        assert_eq!(
            code(web.post(&certificate("web"), &json!({"request": "x"})).await),
            Some(400),
            "its own it may renew"
        );
        // Pasted once more: what is there is used, and the token is not asked for.
        let text = std::fs::read_to_string(credentials::path(&options.directory, Role::Node)).unwrap();
        let pasted = Options { token: Some("never.made".into()), ..options.clone() };
        assert_eq!(enter(&pasted).await.unwrap(), joined);
        assert_eq!(std::fs::read_to_string(credentials::path(&options.directory, Role::Node)).unwrap(), text);
        let rebooted = Options { server: None, token: None, ca_hash: None, ..options.clone() };
        assert_eq!(enter(&rebooted).await.unwrap(), joined);
    });
}

#[test]
fn an_edge_node_is_no_node_and_writes_what_it_holds() {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    const BALANCERS: &str = "/apis/portolan.dev/v1alpha1/loadbalancers";
    let world = World::new(&[]);
    let options = world.line_for(Role::Edge, "out-1", &[]);
    block_on(async {
        let joined = enter(&options).await.unwrap();
        assert_eq!((joined.facts.role, joined.facts.node.as_str()), (Role::Edge, "out-1"));
        let edge = Client::from_kubeconfig(&credentials::path(&options.directory, Role::Edge)).unwrap();
        let me = edge.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.unwrap();
        assert_eq!(me["status"]["userInfo"]["username"], "system:edge:out-1");
        assert!(me["status"]["userInfo"]["groups"].as_array().unwrap().contains(&json!("portolan:edges")));
        for path in ["/api/v1/services", NODES, BALANCERS, "/apis/portolan.dev/v1alpha1/accesslists"] {
            edge.get(path).await.unwrap();
        }
        for path in ["/api/v1/pods", TOKENS, "/api/v1/secrets", "/apis/portolan.dev/v1alpha1/addresspools"] {
            assert_eq!(code(edge.get(path).await), Some(403), "{path}");
        }
        // Of Secrets the certificates, and no others.
        let admin = world.server.client();
        let pair = json!({"tls.crt": "x", "tls.key": "y"});
        let tls = json!({"metadata": {"name": "web"}, "type": "kubernetes.io/tls", "stringData": pair});
        admin.post(SECRETS, &tls).await.unwrap();
        admin.post(SECRETS, &json!({"metadata": {"name": "password"}, "stringData": {"a": "b"}})).await.unwrap();
        let seen = edge.get("/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/tls").await.unwrap();
        let names: Vec<&Value> = seen["items"].as_array().unwrap().iter().map(|s| &s["metadata"]["name"]).collect();
        assert_eq!(names, ["web"]);
        assert_eq!(code(edge.get("/api/v1/secrets?fieldSelector=type%3DOpaque").await), Some(403));
        assert_eq!(code(edge.get(&format!("{SECRETS}/password")).await), Some(403));
        // Its own Lease.
        let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": "out-1"}});
        edge.post(LEASES, &lease("portolan-edge-out-1")).await.unwrap();
        assert_eq!(code(edge.post(LEASES, &lease("portolan-edge-out-2")).await), Some(403));
        assert_eq!(code(edge.post(LEASES, &lease("out-1")).await), Some(403));
        // The status of what it holds, but for who holds it.
        for (name, holder) in [("lb-mine", "out-1"), ("lb-theirs", "out-2")] {
            let pool = json!({"metadata": {"name": "p"}, "spec": {"addresses": ["192.0.2.0/28"]}});
            let _ = admin.post("/apis/portolan.dev/v1alpha1/addresspools", &pool).await;
            admin.post(BALANCERS, &json!({"metadata": {"name": name}})).await.unwrap();
            let held = json!({"status": {"edge": {"name": holder, "term": 1}}});
            admin.patch(&format!("{BALANCERS}/{name}/status"), MERGE_PATCH, &held).await.unwrap();
        }
        let told = json!({"status": {"listeners": [{"port": 80, "protocol": "TCP", "backends": 1, "healthy": 1}]}});
        edge.patch(&format!("{BALANCERS}/lb-mine/status"), MERGE_PATCH, &told).await.unwrap();
        assert_eq!(code(edge.patch(&format!("{BALANCERS}/lb-theirs/status"), MERGE_PATCH, &told).await), Some(403));
        let taken = json!({"status": {"edge": {"name": "out-1"}}});
        assert_eq!(code(edge.patch(&format!("{BALANCERS}/lb-theirs/status"), MERGE_PATCH, &taken).await), Some(403));
        let given = json!({"status": {"edge": {"name": "out-2"}}});
        assert_eq!(code(edge.patch(&format!("{BALANCERS}/lb-mine/status"), MERGE_PATCH, &given).await), Some(403));
        assert_eq!(
            code(edge.patch(&format!("{BALANCERS}/lb-mine"), MERGE_PATCH, &json!({"spec": {}})).await),
            Some(403)
        );
        // It renews, and nobody joins by a token that is for the other.
        let certificate = "/apis/portolan.dev/v1alpha1/nodes/out-1/certificate";
        assert_eq!(code(edge.post(certificate, &json!({"request": "x"})).await), Some(400));
        let node = world.line("web", &[]);
        let wrong = Options { role: Role::Edge, directory: world.files.path().join("wrong"), ..node };
        let error = enter(&wrong).await.unwrap_err().to_string();
        assert!(error.contains("for a node") && error.contains("--edge-join"), "{error}");
    });
}

#[test]
fn a_token_opens_nothing_else_and_nothing_later() {
    let world = World::new(&[]);
    block_on(async {
        let refused = async |options: &Options, words: &[&str]| {
            let error = enter(options).await.unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error} lacks one of {words:?}");
            assert!(!error.contains(options.token.as_ref().unwrap()), "{error}");
            assert!(credentials::load(&options.directory, Role::Node).unwrap().is_none(), "nothing is left");
        };
        // A join token is good for joining alone.
        let join = world.line("a", &[]);
        let holder = world.by_token(join.token.as_ref().unwrap());
        for path in ["/api/v1/services", NODES, TOKENS, "/api/v1/pods"] {
            assert_eq!(code(holder.get(path).await), Some(403), "{path}");
        }
        // Another's token is not good for joining.
        let output =
            world.token(&["create", "--user", "alice", "--group", "devs", "--server", "https://192.0.2.1:6443"]);
        let access = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let me = world
            .by_token(&access)
            .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
            .await
            .unwrap();
        assert_eq!(me["status"]["userInfo"]["username"], "alice");
        refused(&Options { token: Some(access), ..join.clone() }, &["another purpose", "portolan token create"]).await;
        // Not whole, made up, of another server.
        let token = join.token.clone().unwrap();
        let cut = token[..token.len() - 1].to_owned();
        refused(&Options { token: Some(cut), ..join.clone() }, &["expired", "portolan token create"]).await;
        let other = format!("sha256:{}", "00".repeat(32)).parse().unwrap();
        refused(&Options { ca_hash: Some(other), ..join.clone() }, &["authority", "--ca-hash"]).await;
        let name = Some(format!("https://localhost.localdomain:{}", world.server.address.port()));
        if std::net::ToSocketAddrs::to_socket_addrs(&("localhost.localdomain", 1)).is_ok() {
            refused(&Options { server: name, ..join.clone() }, &["--tls-san"]).await;
        }
        // Over.
        let short = world.line("a", &["--ttl", "1s"]);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        refused(&short, &["expired", "portolan token create"]).await;
        assert_eq!(code(world.by_token(short.token.as_ref().unwrap()).get(NODES).await), Some(401));
        // Called back.
        let id = token.split_once('.').unwrap().0;
        let listed = String::from_utf8(world.token(&["list"]).stdout).unwrap();
        assert!(listed.contains(id) && listed.contains("NodeJoin") && listed.contains("alice"), "{listed}");
        assert!(world.token(&["revoke", id]).status.success());
        refused(&join, &["revoked", "portolan token create"]).await;
        let again = world.token(&["revoke", id]);
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("no token"));
    });
}

#[test]
fn a_name_that_is_alive_is_not_given_away() {
    let world = World::new(&[]);
    block_on(async {
        let lease = json!({
            "metadata": {"name": "web", "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": "web", "leaseDurationSeconds": 40,
                     "renewTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()},
        });
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        world.server.client().post(leases, &lease).await.unwrap();
        let error = enter(&world.line("web", &[])).await.unwrap_err().to_string();
        assert!(error.contains("\"web\" is alive") && error.contains("--node-name"), "{error}");
        // Two machines of one image, started together.
        let first = world.line("clone", &[]);
        enter(&first).await.unwrap();
        let second = Options { directory: world.files.path().join("elsewhere"), ..world.line("clone", &[]) };
        let error = enter(&second).await.unwrap_err().to_string();
        assert!(error.contains("joined by another machine") && error.contains("--node-name"), "{error}");
    });
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let files = tempfile::tempdir().unwrap();
    let address = free_port();
    let options = {
        let server = Server::start_on(files.path(), address, &[]);
        let world = World { server, files: tempfile::tempdir().unwrap() };
        world.line("web", &[])
    };
    let options = Options { directory: files.path().join("web"), ..options };
    block_on(async {
        let joining = enter(&options);
        let starting = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let files = files.path().to_owned();
            tokio::task::spawn_blocking(move || Server::start_on(&files, address, &[])).await.unwrap()
        };
        let (joined, _server) = tokio::join!(joining, starting);
        joined.unwrap();
    });
}

/// Certificates of ten seconds: each ends while the node goes on.
#[test]
fn a_certificate_is_renewed_before_it_ends_and_connections_take_the_new_one() {
    let world = World::new(&["--cluster-signing-duration=10s"]);
    let options = world.line("web", &[]);
    block_on(async {
        let first = enter(&options).await.unwrap();
        let client = client_of(&options.directory);
        let keeping =
            tokio::spawn(join::renew::keep(client.clone(), options.directory.clone(), first.clone(), || 0x8000));
        let until = Instant::now() + Duration::from_secs(16);
        while Instant::now() < until {
            client.get("/api/v1/services").await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let stored = credentials::load(&options.directory, Role::Node).unwrap().unwrap();
        assert!(stored.facts.not_after > first.facts.not_after && stored.key_pem != first.key_pem);
        assert!(first.facts.not_after < jiff::Timestamp::now(), "the first one is over");
        keeping.abort();
        // Left alone it ends, and a restart says what to do.
        tokio::time::sleep(Duration::from_secs(11)).await;
        let rebooted = Options { server: None, token: None, ca_hash: None, ..options.clone() };
        let error = enter(&rebooted).await.unwrap_err().to_string();
        assert!(error.contains("has ended") && error.contains("portolan token create"), "{error}");
        client_of(&options.directory).get("/api/v1/services").await.unwrap_err();
        // A token is all that it takes.
        let token = world.line("web", &[]).token;
        enter(&Options { token, ..rebooted }).await.unwrap();
        client_of(&options.directory).get("/api/v1/services").await.unwrap();
    });
}

#[test]
fn a_token_is_printed_in_every_form() {
    let world = World::new(&[]);
    let url = format!("https://{}", world.server.address);
    let output = world.token(&["create", "--node-join"]);
    assert_eq!(output.status.code(), Some(1), "loopback is no place for others");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--listen"));
    let output = world.token(&["create", "--node-join", "--server", &url, "-o", "json"]);
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let command = made["command"].as_str().unwrap();
    for field in ["token", "server", "caHash"] {
        assert!(command.contains(made[field].as_str().unwrap()), "{made}");
    }
    let output = world.token(&["create", "--node-join", "--server", &url, "-o", "yaml"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("purpose: NodeJoin"));
    let output = world.token(&["create", "--node-join", "--server", &url, "--print", "token"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim().split('.').count(), 2);
    let output = world.token(&[
        "create",
        "--user",
        "alice",
        "--group",
        "system:masters",
        "--server",
        &url,
        "--print",
        "kubeconfig",
    ]);
    let path = world.files.path().join("alice.kubeconfig");
    std::fs::write(&path, output.stdout).unwrap();
    let kubectl = support::kubectl(&path, world.files.path(), &["get", "tokens", "-o", "name"]);
    assert!(kubectl.status.success(), "{}", String::from_utf8_lossy(&kubectl.stderr));
    assert_eq!(String::from_utf8(kubectl.stdout).unwrap().lines().count(), 4);
}
