//! `portolan trace` and `portolan check` in a real lab: what they say of the nodes' kernels is true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{Lab, PORTOLAN, kubectl};

const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ipFamilyPolicy: PreferDualStack
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  selector: {app: web}
  internalTrafficPolicy: Local
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, targetPort: 8080, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
"#;

struct Cluster {
    lab: Lab,
    kubeconfig: std::path::PathBuf,
}

impl Cluster {
    fn up() -> Self {
        let lab = Lab::up(2);
        let kubeconfig = lab.kubeconfig();
        let cluster = Self { lab, kubeconfig };
        cluster.apply(WEB);
        for n in 1..=2 {
            cluster.apply(&pod(&format!("web-{n}"), "web", &format!("node-{n}")));
        }
        cluster.apply(&pod("client", "client", "node-1"));
        let wait = ["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"];
        let waited = kubectl(&cluster.kubeconfig, &cluster.lab.dir, &wait);
        assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
        cluster.lab.wait();
        cluster
    }

    fn apply(&self, manifest: &str) {
        let file = self.lab.dir.join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        let applied = kubectl(&self.kubeconfig, &self.lab.dir, &["apply", "-f", file.to_str().unwrap()]);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    }

    fn run(&self, args: &[&str]) -> Output {
        run(&self.kubeconfig, args)
    }

    /// A trace that the kernels agree with.
    fn trace(&self, args: &[&str]) -> Value {
        let output = self.run(&[&["trace", "-o", "json"], args].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let trace: Value = serde_json::from_str(&text).unwrap();
        for hop in trace["hops"].as_array().unwrap() {
            assert_eq!(hop["kernel"]["agrees"], json!(true), "{args:?}: {trace:#}");
        }
        trace
    }
}

fn run(kubeconfig: &Path, args: &[&str]) -> Output {
    Command::new(PORTOLAN).args(args).env("KUBECONFIG", kubeconfig).output().unwrap()
}

fn pod(name: &str, app: &str, node: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [{
            "name": "echo", "ports": [{"containerPort": 8080}, {"containerPort": 8080, "protocol": "UDP"}],
        }]},
    })
    .to_string()
}

#[test]
fn traces_and_checks() {
    let cluster = Cluster::up();
    // The same from everywhere, and the kernels agree.
    for from in ["client", "node-1", "node-2", "203.0.113.9"] {
        let at: &[&str] = if from.starts_with("203") { &["--at", "node-2"] } else { &[] };
        let trace = cluster.trace(&[&["--from", from, "tcp", "web"], at].concat());
        let endpoints = trace["hops"][0]["endpoints"].as_array().unwrap();
        assert_eq!(endpoints.len(), 2, "{trace:#}");
        assert!(endpoints.iter().all(|e| e["probability"] == json!(0.5)), "{trace:#}");
    }
    let local = cluster.trace(&["--from", "client", "udp", "local.default.svc.cluster.local:dns"]);
    assert_eq!(local["hops"][0]["endpoints"][0]["pod"], json!("default/web-1"), "{local:#}");
    assert_eq!(local["hops"][0]["affinitySeconds"], json!(10_800));
    let two = cluster.trace(&["--from", "default/client", "tcp", "node-2:30080"]);
    assert_eq!(two["hops"].as_array().unwrap().len(), 2, "{two:#}");
    let nobody = cluster.trace(&["--from", "client", "tcp", "nobody"]);
    assert_eq!(nobody["hops"][0]["outcome"], json!("Rejected"));
    assert!(nobody.to_string().contains("no Pod in namespace default matches its selector app=nobody"), "{nobody:#}");
    let text = cluster.run(&["trace", "--from", "client", "tcp", "web:81"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("81/TCP is not one of the ports of Service default/web: 80/TCP (http)"), "{text}");
    let wrong = cluster.run(&["trace", "--from", "nowhere", "tcp", "web"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("nowhere is no address, no Node, and no Pod"));

    let check = cluster.run(&["check", "-o", "json"]);
    let report: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert!(check.status.success(), "{report:#}");
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2, "{report:#}");
    assert!(nodes.iter().all(|node| node["packets"].as_u64() > Some(30)), "{report:#}");

    // An agent that is stopped answers nothing: a node that lives and cannot be asked is nothing to be content with.
    assert!(cluster.lab.command(&["stop", "node-2"]).status.success());
    let check = cluster.run(&["check", "--node", "node-2"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "{text}");
    assert!(text.contains("the agent does not answer"), "{text}");
    let trace = cluster.run(&["trace", "--from", "node-2", "tcp", "web"]);
    let text = String::from_utf8_lossy(&trace.stdout).into_owned();
    assert!(trace.status.success() && text.contains("not asked"), "the way itself is known: {text}");
    assert!(cluster.run(&["check", "--node", "node-1"]).status.success());
}
