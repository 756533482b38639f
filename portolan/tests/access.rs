//! Who may do what, over the server's own TLS: certificates, tokens, and kubectl.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxy_agent::client::Client;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use ring::digest;
use serde_json::{Value, json};
use support::{Server, kubectl};

const TOKENS: &str = "/apis/portolan.dev/v1alpha1/tokens";
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

/// What a certificate is to say.
struct Wanted<'a> {
    name: &'a str,
    group: &'a str,
    /// Days until its end; negative: it has ended.
    days: i64,
    usage: ExtendedKeyUsagePurpose,
}

impl<'a> Wanted<'a> {
    fn client(name: &'a str, group: &'a str) -> Self {
        Self { name, group, days: 1, usage: ExtendedKeyUsagePurpose::ClientAuth }
    }
}

/// The server's own authority, as its key and certificate on the disk make it.
fn authority(server: &Server) -> Issuer<'static, KeyPair> {
    let pki = server.dir.join("data/pki");
    let key = KeyPair::from_pem(&fs::read_to_string(pki.join("ca.key")).unwrap()).unwrap();
    Issuer::from_ca_cert_pem(&fs::read_to_string(pki.join("ca.crt")).unwrap(), key).unwrap()
}

/// Signs a certificate and writes it with its key; the two paths.
fn sign(dir: &Path, issuer: &Issuer<'_, KeyPair>, wanted: &Wanted<'_>) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, wanted.name);
    params.distinguished_name.push(DnType::OrganizationName, wanted.group);
    params.extended_key_usages = vec![wanted.usage.clone()];
    let day = Duration::from_secs(24 * 3600);
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(jiff::Timestamp::now().as_second().unsigned_abs());
    params.not_before = now - 10 * day;
    params.not_after = if wanted.days < 0 { now - day } else { now + day };
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let stem = format!("{}-{}", wanted.name.replace(':', "-"), wanted.days);
    let (cert_path, key_path) = (dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key")));
    fs::write(&cert_path, certificate.pem()).unwrap();
    fs::write(&key_path, key.serialize_pem()).unwrap();
    (cert_path, key_path)
}

/// A kubeconfig for this server with this user and nothing else.
fn kubeconfig(server: &Server, name: &str, user: &Value) -> PathBuf {
    let cluster = json!({
        "server": format!("https://{}", server.address),
        "certificate-authority": server.dir.join("data/pki/ca.crt"),
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": cluster }],
        "users": [{ "name": "u", "user": user }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    let path = server.dir.join(format!("{name}.kubeconfig"));
    fs::write(&path, config.to_string()).unwrap();
    path
}

fn with_certificate(server: &Server, issuer: &Issuer<'_, KeyPair>, wanted: &Wanted<'_>) -> PathBuf {
    let (certificate, key) = sign(&server.dir, issuer, wanted);
    let name = format!("{}{}", wanted.name.replace(':', "-"), wanted.days);
    kubeconfig(server, &name, &json!({ "client-certificate": certificate, "client-key": key }))
}

fn with_token(server: &Server, name: &str, token: &str) -> PathBuf {
    kubeconfig(server, name, &json!({ "token": token }))
}

/// What kubectl says, and whether it was content.
fn says(server: &Server, config: &Path, args: &[&str]) -> (bool, String) {
    let output = kubectl(config, &server.dir, args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn good(server: &Server, config: &Path, args: &[&str]) -> String {
    let (content, text) = says(server, config, args);
    assert!(content, "kubectl {args:?}: {text}");
    text
}

fn refused(server: &Server, config: &Path, args: &[&str], words: &str) {
    let (content, text) = says(server, config, args);
    assert!(!content && text.contains(words), "kubectl {args:?}: {text}");
}

async fn post(client: &Client, path: &str, object: &Value) -> Value {
    client.post(path, object).await.unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn token_object(id: &str, spec: Value) -> Value {
    let digest = digest::digest(&digest::SHA256, SECRET.as_bytes());
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut spec = spec;
    spec["hash"] = format!("sha256:{hash}").into();
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "Token", "metadata": { "name": id }, "spec": spec,
    })
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_nodes_certificate_writes_no_other_nodes_pod() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let authority = authority(&server);
    let node = with_certificate(&server, &authority, &Wanted::client("system:node:web-1", "system:nodes"));
    let admin = server.kubeconfig();
    run(async {
        let client = server.client();
        for (pod, at) in [("mine", "web-1"), ("theirs", "web-2")] {
            let pod = json!({
                "metadata": { "name": pod },
                "spec": { "nodeName": at, "containers": [{ "name": "c", "image": "i" }] },
            });
            post(&client, "/api/v1/namespaces/default/pods", &pod).await;
        }
    });
    let status = r#"{"status":{"phase":"Running","podIP":"192.0.2.66","podIPs":[{"ip":"192.0.2.66"}]}}"#;
    let patch = |pod: &'static str| ["patch", "pod", pod, "--subresource=status", "--type=merge", "-p", status];
    good(&server, &node, &patch("mine"));
    refused(&server, &node, &patch("theirs"), "pods \"theirs\" is forbidden: User \"system:node:web-1\" cannot");
    assert!(
        !good(&server, &admin, &["get", "pod", "theirs", "-o", "yaml"]).contains("192.0.2.66"),
        "nothing was written"
    );
    refused(&server, &node, &["delete", "pod", "theirs"], "forbidden");
    refused(&server, &node, &["get", "pods", "-A"], "forbidden");
    good(&server, &node, &["get", "pods", "-A", "--field-selector", "spec.nodeName=web-1"]);
    good(&server, &node, &["get", "services,nodes,namespaces"]);
    for secret in ["tokens.portolan.dev", "serviceaccounts", "clusterroles"] {
        refused(&server, &node, &["get", secret], "forbidden");
    }
    let who = good(&server, &node, &["auth", "whoami"]);
    assert!(who.contains("system:node:web-1") && who.contains("system:nodes"), "{who}");
}

#[test]
fn certificates_that_are_worth_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let own = authority(&server);
    let strangers = {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "portolan-ca");
        Issuer::new(params, KeyPair::generate().unwrap())
    };
    let master = Wanted::client("root", "system:masters");
    good(&server, &with_certificate(&server, &own, &master), &["get", "nodes"]);
    let ended = Wanted { days: -1, ..Wanted::client("root", "system:masters") };
    let unauthorized = "You must be logged in to the server";
    refused(&server, &with_certificate(&server, &own, &ended), &["get", "nodes"], unauthorized);
    let foreign = Wanted::client("stranger", "system:masters");
    refused(&server, &with_certificate(&server, &strangers, &foreign), &["get", "nodes"], unauthorized);
    let servers = Wanted { usage: ExtendedKeyUsagePurpose::ServerAuth, ..Wanted::client("server", "system:masters") };
    refused(&server, &with_certificate(&server, &own, &servers), &["get", "nodes"], unauthorized);
    // Somebody, with nothing.
    let alice = with_certificate(&server, &own, &Wanted::client("alice", "ops"));
    refused(&server, &alice, &["get", "nodes"], "User \"alice\" cannot list resource \"nodes\"");
}

#[test]
fn tokens_that_open_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let later =
        |seconds: i64| jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap().to_string();
    run(async {
        let client = server.client();
        let masters = json!({ "purpose": "Access", "user": "alice", "groups": ["system:masters"] });
        post(&client, TOKENS, &token_object("alice1", masters.clone())).await;
        let join = json!({ "purpose": "NodeJoin", "expiresAt": later(3600) });
        post(&client, TOKENS, &token_object("joiner", join)).await;
        let mut short = masters;
        short["expiresAt"] = later(2).into();
        post(&client, TOKENS, &token_object("short1", short)).await;
    });
    let show = |id: &str| with_token(&server, id, &format!("{id}.{SECRET}"));
    let (alice, joiner, short) = (show("alice1"), show("joiner"), show("short1"));
    let unauthorized = "You must be logged in to the server (Unauthorized)";
    good(&server, &alice, &["get", "nodes"]);
    refused(&server, &with_token(&server, "wrong", &format!("alice1.{SECRET}0")), &["get", "nodes"], unauthorized);
    // Misused: it is for joining.
    for args in [&["get", "nodes"][..], &["get", "tokens.portolan.dev"], &["auth", "can-i", "get", "pods"]] {
        refused(&server, &joiner, args, "orbidden");
    }
    // Revoked, and expired.
    good(&server, &server.kubeconfig(), &["delete", "tokens.portolan.dev", "alice1"]);
    refused(&server, &alice, &["get", "nodes"], unauthorized);
    std::thread::sleep(Duration::from_secs(3));
    refused(&server, &short, &["get", "nodes"], unauthorized);
    // The secret is nowhere on the disk.
    let stored = fs::read(server.dir.join("data/portolan.db")).unwrap();
    let log = fs::read(server.dir.join("data/portolan.db-wal")).unwrap_or_default();
    for bytes in [stored, log, server.log().into_bytes()] {
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    }
}

#[test]
fn kubectl_asks_and_gives_access() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let admin = server.kubeconfig();
    let authority = authority(&server);
    let alice = with_certificate(&server, &authority, &Wanted::client("alice", "ops"));
    let can = |config: &Path, args: &[&str]| {
        let (_, text) = says(&server, config, &[&["auth", "can-i"], args].concat());
        text.lines().last().unwrap_or("").to_owned()
    };
    assert_eq!(can(&admin, &["*", "*"]), "yes");
    assert_eq!(can(&alice, &["list", "services"]), "no");
    good(&server, &admin, &["create", "rolebinding", "ops-view", "--clusterrole=view", "--group=ops"]);
    assert_eq!(can(&alice, &["list", "services"]), "yes");
    assert_eq!(can(&alice, &["create", "services"]), "no");
    assert_eq!(can(&alice, &["list", "services", "-n", "kube-system"]), "no");
    good(&server, &admin, &["create", "rolebinding", "alice-edit", "--clusterrole=edit", "--user=alice"]);
    assert_eq!(can(&alice, &["create", "services"]), "yes");
    assert_eq!(can(&admin, &["create", "services", "--as=alice", "--as-group=system:authenticated"]), "yes");
    assert_eq!(can(&admin, &["create", "rolebindings", "--as=alice"]), "no");
    let list = good(&server, &alice, &["auth", "can-i", "--list"]);
    assert!(list.contains("selfsubjectaccessreviews.authorization.k8s.io") && list.contains("services"), "{list}");
    let who = good(&server, &alice, &["auth", "whoami"]);
    assert!(who.contains("alice") && who.contains("ops") && who.contains("system:authenticated"), "{who}");

    good(&server, &alice, &["create", "service", "clusterip", "web", "--tcp=80"]);
    refused(&server, &alice, &["create", "rolebinding", "x", "--clusterrole=view", "--user=bob"], "forbidden");
    good(&server, &admin, &["create", "role", "pods", "--verb=get,list", "--resource=pods"]);
    good(&server, &admin, &["create", "clusterrole", "nodes", "--verb=get,list", "--resource=nodes"]);
    good(&server, &admin, &["create", "clusterrolebinding", "nodes", "--clusterrole=nodes", "--user=alice"]);
    good(&server, &alice, &["get", "nodes"]);
    let described = good(&server, &admin, &["describe", "clusterrole", "edit"]);
    assert!(described.contains("services") && described.contains("serviceaccounts/token"), "{described}");

    good(&server, &admin, &["create", "serviceaccount", "robot"]);
    good(&server, &admin, &["create", "rolebinding", "robots", "--clusterrole=view", "--serviceaccount=default:robot"]);
    let token = good(&server, &admin, &["create", "token", "robot", "--duration=10m"]);
    let robot = with_token(&server, "robot", token.trim());
    assert!(good(&server, &robot, &["get", "services"]).contains("web"));
    refused(&server, &robot, &["delete", "service", "web"], "system:serviceaccount:default:robot");
    good(&server, &admin, &["delete", "serviceaccount", "robot"]);
    refused(&server, &robot, &["get", "services"], "Unauthorized");

    good(&server, &admin, &["delete", "rolebinding", "alice-edit"]);
    assert_eq!(can(&alice, &["create", "services"]), "no");
}

/// The roles are there after a restart, and what was bound still is.
#[test]
fn access_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    good(&server, &server.kubeconfig(), &["create", "clusterrolebinding", "v", "--clusterrole=view", "--user=alice"]);
    good(&server, &server.kubeconfig(), &["create", "serviceaccount", "robot"]);
    let token = good(&server, &server.kubeconfig(), &["create", "token", "robot"]);
    let roles = good(&server, &server.kubeconfig(), &["get", "clusterroles", "-o", "name"]);
    server.kill();
    let server = Server::start_on(dir.path(), server.address, &[]);
    assert_eq!(good(&server, &server.kubeconfig(), &["get", "clusterroles", "-o", "name"]), roles);
    let alice = with_certificate(&server, &authority(&server), &Wanted::client("alice", "ops"));
    good(&server, &alice, &["get", "services", "-A"]);
    let robot = with_token(&server, "robot", token.trim());
    assert!(good(&server, &robot, &["auth", "whoami"]).contains("robot"), "the key that signed it is kept");
}
