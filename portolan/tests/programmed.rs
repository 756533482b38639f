//! Waiting until every node has programmed a Service, as people and programs do it, with real agents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use proxy_agent::client::Client;
use serde_json::{Value, json};
use support::{Lab, PORTOLAN, Server, service};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const QUESTIONS: &str = "/apis/portolan.dev/v1alpha1/nodes";
/// Requests in a second while endpoints are replaced.
const RATE: &str = "200";

fn wait(kubeconfig: &Path, args: &[&str]) -> Output {
    Command::new(PORTOLAN).arg("wait").args(args).env("KUBECONFIG", kubeconfig).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Cluster {
    lab: Lab,
    kubeconfig: PathBuf,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn up(nodes: u16) -> Self {
        let lab = Lab::up(nodes);
        let kubeconfig = lab.kubeconfig();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async { Client::from_kubeconfig(&kubeconfig).unwrap() });
        Self { lab, kubeconfig, client, runtime }
    }

    fn post(&self, path: &str, object: &Value) -> Value {
        self.runtime.block_on(self.client.post(path, object)).unwrap()
    }

    fn get(&self, path: &str) -> Value {
        self.runtime.block_on(self.client.get(path)).unwrap()
    }

    /// Waits until every live node has the Service.
    fn programmed(&self, more: &[&str]) {
        let output = wait(&self.kubeconfig, &[&["service/web"], more].concat());
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }

    fn pod(&self, name: &str, drain_milliseconds: u32) {
        self.post(
            PODS,
            &json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{
                "name": "echo", "ports": [{"containerPort": 8080}],
                "env": [{"name": "PORTOLAN_DRAIN_MS", "value": drain_milliseconds.to_string()}],
            }]}}),
        );
    }

    fn await_ready(&self, name: &str) {
        let ready = || {
            let conditions = self.get(&format!("{PODS}/{name}"))["status"]["conditions"].clone();
            conditions.as_array().is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        };
        self.eventually(&format!("pod {name} is ready"), ready);
    }

    fn await_gone(&self, name: &str) {
        let gone = || match self.runtime.block_on(self.client.get(&format!("{PODS}/{name}"))) {
            Ok(_) => false,
            Err(error) => error.is_not_found(),
        };
        self.eventually(&format!("pod {name} is gone"), gone);
    }

    fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(40);
        while !condition() {
            assert!(Instant::now() < until, "{what}: not after 40 s; {}", self.lab.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn lab(&self, args: &[&str]) {
        let output = self.lab.command(args);
        assert!(output.status.success(), "lab {args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn agents_say_what_they_have_and_answer_questions() {
    let cluster = Cluster::up(2);
    cluster.post(
        SERVICES,
        &service("web", json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]})),
    );
    cluster.programmed(&[]);
    let json = wait(&cluster.kubeconfig, &["svc/web", "-n", "default", "-o", "json"]);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["programmed"], report["nodes"].as_array().unwrap().len()), (&json!(true), 2), "{report}");

    // kubectl, in each version, by the condition: with what is there already, and with what is yet to come.
    for version in ["1.27", "1.32", "1.37"] {
        let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/tools/kubectl-{version}"));
        assert!(kubectl.exists(), "kubectl {version} is missing: run scripts/install-deps test (make test does)");
        for condition in ["condition=portolan.dev/Programmed", "condition=portolan.dev/Programmed=True"] {
            let output = Command::new(&kubectl)
                .args(["--kubeconfig", cluster.kubeconfig.to_str().unwrap(), "wait", "--timeout=20s"])
                .args([&format!("--for={condition}"), "service/web"])
                .env("KUBECACHEDIR", cluster.lab.dir.join("kubecache"))
                .output()
                .unwrap();
            assert_eq!(text(&output.stdout), "service/web condition met\n", "{}", text(&output.stderr));
        }
    }

    let ask = |question: Value| {
        cluster.runtime.block_on(cluster.client.post(&format!("{QUESTIONS}/node-2/questions"), &question))
    };
    let pong = ask(json!({"kind": "Ping"})).unwrap();
    assert_eq!(pong["kind"], "Pong", "{pong}");
    assert!(pong["revision"].as_str().unwrap().parse::<u64>().unwrap() > 1, "{pong}");
    let unknown = ask(json!({"kind": "Song"})).unwrap_err();
    assert_eq!(unknown.code(), Some(400));
    assert_eq!(unknown.to_string(), "this agent does not know questions of kind \"Song\"");

    // Without its agent a node lags and says nothing, and is live as long as its Lease holds.
    cluster.lab(&["stop", "node-2"]);
    cluster.post(SERVICES, &service("other", json!({"ports": [{"port": 80}]})));
    cluster.programmed(&[]);
    cluster.pod("web-1", 2000);
    cluster.await_ready("web-1");
    let late = wait(&cluster.kubeconfig, &["service/web", "--timeout", "500ms"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stdout).starts_with("node-2: has revision "), "{}", text(&late.stdout));
    assert_eq!(text(&late.stdout).lines().count(), 1, "{}", text(&late.stdout));
    let sentence = "portolan: timed out after 500ms: 1 of 2 live nodes have not programmed service/web\n";
    assert_eq!(text(&late.stderr), sentence);
    cluster.lab(&["start", "node-2"]);
    cluster.programmed(&[]);

    // What a server was told it forgets with its process; the agents tell the next one.
    cluster.lab(&["stop", "server"]);
    cluster.lab(&["start", "server"]);
    cluster.programmed(&["--timeout", "20s"]);
    cluster.lab.wait();
}

/// Pods are replaced one by one while requests run; not one may fail, although no pod goes on answering for long after its
/// SIGTERM: that comes when no node sends to it any more. So it is, too, when a node is without its agent for a while, and
/// sends to pods that all others know to be leaving.
#[test]
fn replacing_every_endpoint_loses_no_request() {
    let cluster = Cluster::up(3);
    let made = cluster.post(
        SERVICES,
        &service(
            "web",
            json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}),
        ),
    );
    for n in 0..3 {
        cluster.pod(&format!("web-{n}"), 50);
    }
    for n in 0..3 {
        cluster.await_ready(&format!("web-{n}"));
    }
    cluster.programmed(&[]);
    let cluster_ip = format!("{}:80", made["spec"]["clusterIP"].as_str().unwrap());
    let node_port = format!("172.31.255.11:{}", made["spec"]["ports"][0]["nodePort"]);
    let seconds = 8;
    std::thread::scope(|scope| {
        let probe = |from: &'static str, target: String| {
            let lab = &cluster.lab;
            scope.spawn(move || lab.probe(from, "tcp", &target, &["--rate", RATE, "--seconds", &seconds.to_string()]))
        };
        let slow = probe("node-3", cluster_ip.clone());
        let (inside, outside) = (probe("node-2", cluster_ip), probe("client", node_port));
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut replaced = 0;
        while Instant::now() < until {
            let next = format!("web-{}", replaced + 3);
            cluster.pod(&next, 50);
            cluster.await_ready(&next);
            cluster.programmed(&[]);
            let old = format!("web-{replaced}");
            let delete = || cluster.runtime.block_on(cluster.client.delete(&format!("{PODS}/{old}"), None)).unwrap();
            if replaced == 1 {
                cluster.lab(&["stop", "node-3"]);
                delete();
                std::thread::sleep(Duration::from_millis(1500));
                let leaving = cluster.get(&format!("{PODS}/{old}"));
                assert!(leaving["status"]["containerStatuses"][0]["state"]["running"].is_object(), "{leaving}");
                cluster.lab(&["start", "node-3"]);
            } else {
                delete();
            }
            cluster.await_gone(&old);
            replaced += 1;
        }
        assert!(replaced >= 4, "only {replaced} pods were replaced");
        for (name, probe) in [("inside", inside), ("outside", outside), ("slow", slow)] {
            let report = probe.join().unwrap();
            assert!(report["sent"].as_u64().unwrap() >= 200 * (seconds - 1), "{name}: {report}");
            assert_eq!(report["failures"], json!({}), "{name}: {report}");
        }
    });
}

#[test]
fn mistakes_get_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let kubeconfig = server.kubeconfig();
    let sentence = |kubeconfig: &Path, args: &[&str]| {
        let output = wait(kubeconfig, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let text = text(&output.stderr);
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let none = sentence(&kubeconfig, &["service/web"]);
    assert!(none.contains("services \"web\" not found") && none.contains("namespace default"), "{none}");
    assert!(sentence(&kubeconfig, &["pod/web"]).contains("write service/NAME"));
    assert!(sentence(Path::new("/nowhere"), &["service/web"]).contains("/nowhere"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let web = service("web", json!({"ports": [{"port": 80}]}));
        server.client().post(SERVICES, &web).await.unwrap();
    });
    let nobody = sentence(&kubeconfig, &["service/web", "--timeout=200ms"]);
    assert_eq!(nobody, "portolan: timed out after 200ms: no node is live\n");
    let mut unset = Command::new(PORTOLAN);
    let unset = unset.args(["wait", "service/web"]).env_remove("KUBECONFIG").env("HOME", dir.path()).output().unwrap();
    assert!(text(&unset.stderr).contains(".kube/config"), "{}", text(&unset.stderr));
    assert_eq!(wait(&kubeconfig, &["service/web", "--timeout", "soon"]).status.code(), Some(2));
    drop(server);
    let away = sentence(&kubeconfig, &["service/web"]);
    assert!(away.contains("connecting to 127.0.0.1"), "{away}");
}
