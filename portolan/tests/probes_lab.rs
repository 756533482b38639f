//! Probes in a real lab: readiness takes a Pod out of its Service and back, liveness restarts a container, startup holds
//! both back, a readiness gate waits for its condition; and what Events, conditions and `portolan trace` say of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Lab, PORTOLAN};

/// `DIR` is where the test says how the pods fare: a probe asks whether a file is there.
const PODS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - name: web
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {tcpSocket: {port: http}, periodSeconds: 1}
    readinessProbe: {exec: {command: [sh, -c, "test -e DIR/ready || { printf 'no file'; exit 1; }"]}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {httpGet: {port: http, path: /healthz}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: gated, labels: {app: gated}}
spec:
  readinessGates: [{conditionType: example.com/open}]
  containers:
  - name: web
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: sick, labels: {app: sick}}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - name: stubborn
    command: [sh, -c, "trap '' TERM; while true; do sleep 0.2; done"]
    livenessProbe: {exec: {command: [sh, -c, "test -e DIR/well"]}, periodSeconds: 1, failureThreshold: 2, terminationGracePeriodSeconds: 1}
"#;

struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn pod(&self, name: &str) -> Value {
        serde_json::from_str(&self.lab.kubectl(&["get", "pod", name, "-o", "json"])).unwrap()
    }

    /// `status reason message` of a condition.
    fn condition(&self, pod: &str, name: &str) -> String {
        let pod = self.pod(pod);
        let all = pod["status"]["conditions"].as_array().unwrap();
        let found = all.iter().find(|c| c["type"] == name).cloned().unwrap_or_default();
        let words = ["status", "reason", "message"].map(|field| found[field].as_str().unwrap_or_default().to_owned());
        words.join(" ").trim_end().to_owned()
    }

    fn await_condition(&self, pod: &str, name: &str, expected: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.condition(pod, name) != expected {
            assert!(Instant::now() < until, "{pod}: {} instead of {expected}", self.condition(pod, name));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `reason|message` of every Event about a pod.
    fn events(&self, pod: &str) -> Vec<String> {
        let selector = format!("involvedObject.name={pod}");
        let form = "jsonpath={range .items[*]}{.reason}|{.message}|{.source.component}|{.involvedObject.fieldPath}{\"\\n\"}{end}";
        self.lab
            .kubectl(&["get", "events", "--field-selector", &selector, "-o", form])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn await_event(&self, pod: &str, expected: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.events(pod).iter().any(|event| event == expected) {
            assert!(Instant::now() < until, "{expected} is not among {:#?}", self.events(pod));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn pods_are_probed_from_their_nodes() {
    let lab = Lab::up(2);
    let kubeconfig = lab.kubeconfig();
    let dir = lab.dir.join("fares");
    std::fs::create_dir(&dir).unwrap();
    let (ready, well) = (dir.join("ready"), dir.join("well"));
    std::fs::write(&well, "").unwrap();
    let cluster = Cluster { lab };
    let file = cluster.lab.dir.join("pods.yaml");
    std::fs::write(&file, PODS.replace("DIR", dir.to_str().unwrap())).unwrap();
    cluster.lab.kubectl(&["apply", "-f", file.to_str().unwrap()]);

    let unready = "containers with unready status: [web], web: Readiness probe failed: no file";
    cluster.await_condition("web", "Ready", &format!("False ContainersNotReady {unready}"));
    let status = &cluster.pod("web")["status"]["containerStatuses"][0];
    assert_eq!((status["started"].as_bool(), status["ready"].as_bool()), (Some(true), Some(false)));
    cluster.await_event("web", "Unhealthy|Readiness probe failed: no file|kubelet|spec.containers{web}");
    let trace = Command::new(PORTOLAN)
        .args(["trace", "--kubeconfig", kubeconfig.to_str().unwrap(), "tcp", "web", "--from", "node-1"])
        .output()
        .unwrap();
    let words = format!("{}{}", String::from_utf8_lossy(&trace.stdout), String::from_utf8_lossy(&trace.stderr));
    assert!(words.contains("Readiness probe failed: no file"), "{words}");
    std::fs::write(&ready, "").unwrap();
    cluster.await_condition("web", "Ready", "True");
    std::fs::remove_file(&ready).unwrap();
    cluster.await_condition("web", "Ready", &format!("False ContainersNotReady {unready}"));
    assert_eq!(cluster.pod("web")["status"]["containerStatuses"][0]["restartCount"], 0);

    let gate = "corresponding condition of pod readiness gate \"example.com/open\" does not exist.";
    cluster.await_condition("gated", "Ready", &format!("False ReadinessGatesNotReady {gate}"));
    cluster.await_condition("gated", "ContainersReady", "True");
    let open = r#"{"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}}"#;
    cluster.lab.kubectl(&["patch", "pod", "gated", "--subresource=status", "--type=strategic", "-p", open]);
    cluster.await_condition("gated", "Ready", "True");
    assert_eq!(cluster.condition("gated", "example.com/open"), "True");

    cluster.await_condition("sick", "Ready", "True");
    std::fs::remove_file(&well).unwrap();
    // It ignores SIGTERM, and would have ten minutes: the probe's own grace period ends it.
    let killing =
        "Killing|Container stubborn failed liveness probe, will be restarted|kubelet|spec.containers{stubborn}";
    cluster.await_event("sick", killing);
    cluster.await_event("sick", "Unhealthy|Liveness probe failed: |kubelet|spec.containers{stubborn}");
    let until = Instant::now() + Duration::from_secs(60);
    while cluster.pod("sick")["status"]["containerStatuses"][0]["restartCount"] == 0 {
        assert!(Instant::now() < until, "it is not restarted: {:#}", cluster.pod("sick")["status"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = &cluster.pod("sick")["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((ended["exitCode"].as_i64(), ended["signal"].as_i64()), (Some(137), Some(9)));
}
