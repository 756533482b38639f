//! When probes are made, how often they must say the same, and in which order: the fields that are numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proxy_agent::probes::{Kind, OnFailure, Probe};
use serde_json::{Value, json};

use super::Bench;
use super::server::{self, Server, answer};

/// A server that is well until it is told otherwise.
async fn patient() -> (Server, Arc<AtomicBool>) {
    let sick = Arc::new(AtomicBool::new(false));
    let is = Arc::clone(&sick);
    let behaviour = move |_: &str| answer(if is.load(Ordering::SeqCst) { 503 } else { 200 }, "");
    (server::http("127.0.0.1", false, Arc::new(behaviour)).await, sick)
}

fn probe(server: &Server, path: &str, numbers: Value) -> Value {
    let mut probe = json!({"httpGet": {"port": server.port, "path": path}, "periodSeconds": 1});
    probe.as_object_mut().unwrap().extend(numbers.as_object().unwrap().clone());
    probe
}

fn paths(server: &Server) -> Vec<String> {
    let asked = server.asked.lock().unwrap();
    asked.iter().map(|(_, request)| request.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_first_probe_comes_after_its_delay_and_the_others_in_their_beat() {
    let mut bench = Bench::new();
    let (server, _) = patient().await;
    let readiness = probe(&server, "/", json!({"initialDelaySeconds": 2, "periodSeconds": 1, "successThreshold": 2}));
    let since = bench.watch("web", "127.0.0.1", 0, &json!({"readinessProbe": readiness}), OnFailure::Report);
    bench.listen(20, |bench| bench.is_ready("web")).await;
    assert!(bench.is_ready("web"));
    let asked: Vec<_> = server.asked.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert!(asked.len() >= 2, "ready after {} successes", asked.len());
    assert!(asked[0] - since >= Duration::from_secs(2), "{:?}", asked[0] - since);
    assert!(asked[1] - asked[0] >= Duration::from_millis(900), "{:?}", asked[1] - asked[0]);
}

#[tokio::test]
async fn readiness_is_lost_after_its_threshold_and_comes_back() {
    let mut bench = Bench::new();
    let (server, sick) = patient().await;
    let readiness = probe(&server, "/", json!({"failureThreshold": 2}));
    bench.watch("web", "127.0.0.1", 0, &json!({"readinessProbe": readiness}), OnFailure::Restart);
    bench.listen(20, |bench| bench.is_ready("web")).await;
    sick.store(true, Ordering::SeqCst);
    bench.listen(20, |bench| !bench.is_ready("web")).await;
    let verdict = bench.verdicts["web"].clone();
    assert_eq!((verdict.started, verdict.ready, verdict.failed), (true, false, None));
    assert_eq!(verdict.why, "Readiness probe failed: HTTP probe failed with statuscode: 503");
    bench.listen(1, |bench| bench.said["web"].len() >= 2).await;
    assert!(bench.said["web"].len() >= 2, "{:?}", bench.said);
    sick.store(false, Ordering::SeqCst);
    bench.listen(20, |bench| bench.is_ready("web")).await;
    assert_eq!(bench.verdicts["web"].why, "");
}

#[tokio::test]
async fn startup_comes_first_and_a_failed_liveness_ends_the_matter() {
    let mut bench = Bench::new();
    let (server, sick) = patient().await;
    sick.store(true, Ordering::SeqCst);
    let container = json!({
        "startupProbe": probe(&server, "/start", json!({"failureThreshold": 30})),
        "livenessProbe": probe(&server, "/live", json!({"failureThreshold": 2, "terminationGracePeriodSeconds": 7})),
        "readinessProbe": probe(&server, "/ready", json!({})),
    });
    let liveness: Probe = serde_json::from_value(container["livenessProbe"].clone()).unwrap();
    assert_eq!(liveness.grace, Some(Duration::from_secs(7)));
    bench.watch("web", "127.0.0.1", 0, &container, OnFailure::Restart);
    bench.listen(20, |bench| bench.said.get("web").is_some_and(|said| said.len() >= 2)).await;
    assert!(paths(&server).iter().all(|path| path == "/start"), "{:?}", paths(&server));
    let verdict = &bench.verdicts["web"];
    assert!(!verdict.started && verdict.why.starts_with("Startup probe failed: HTTP"), "{verdict:?}");
    sick.store(false, Ordering::SeqCst);
    bench.listen(20, |bench| bench.is_ready("web")).await;
    bench.listen(20, |_| paths(&server).contains(&"/live".to_owned())).await;
    sick.store(true, Ordering::SeqCst);
    bench.listen(20, |bench| bench.verdicts["web"].failed == Some(Kind::Liveness)).await;
    assert_eq!(bench.verdicts["web"].failed, Some(Kind::Liveness));
    let asked = |path: &str| paths(&server).iter().filter(|asked| *asked == path).count();
    let (start, live) = (asked("/start"), asked("/live"));
    bench.listen(3, |_| false).await;
    assert_eq!((asked("/start"), asked("/live")), (start, live), "a container that is to be restarted is left alone");
    assert!(
        bench.said["web"]
            .iter()
            .any(|(_, text)| text == "Liveness probe failed: HTTP probe failed with statuscode: 503")
    );
}

#[tokio::test]
async fn who_is_forgotten_is_probed_no_more_and_who_leaves_for_readiness_alone() {
    let mut bench = Bench::new();
    let (server, _) = patient().await;
    let container = json!({
        "livenessProbe": probe(&server, "/live", json!({})), "readinessProbe": probe(&server, "/ready", json!({})),
    });
    bench.watch("web", "127.0.0.1", 0, &container, OnFailure::Restart);
    bench.listen(20, |bench| bench.is_ready("web")).await;
    bench.prober.quiet("u-1", "web");
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.asked.lock().unwrap().clear();
    bench.listen(2, |_| false).await;
    let asked = paths(&server);
    assert!(!asked.is_empty() && asked.iter().all(|path| path == "/ready"), "{asked:?}");
    bench.prober.forget("u-1", "web");
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.asked.lock().unwrap().clear();
    bench.listen(2, |_| false).await;
    assert_eq!(paths(&server), [""; 0]);
}
