//! Those who follow: across `kill -9` of the server, through churn while history is compacted away, and for a long
//! time in which nothing happens. `make soak` lets the last two run for minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use conformance::churn::{self, Sum};
use conformance::follow::{Believed, Follower, KubeRs};
use conformance::kubectl::{Kubectl, VERSIONS};
use conformance::script::{Language, Script};
use conformance::seconds;
use conformance::server::Server;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

/// How long followers may take to catch up on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(90);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Every library that follows, synced. After a failure they stay away for `pause`, where the library lets them.
fn followers(runtime: &tokio::runtime::Runtime, server: &Server, pause: Duration) -> Vec<Follower> {
    let seconds = pause.as_secs_f64().to_string();
    let mut scripts = vec![
        Script::start(Language::Python, "informer", &["watch", &seconds], &server.kubeconfig()),
        Script::start(Language::Python, "informer", &["shared"], &server.kubeconfig()),
        Script::start(Language::Node, "informer", &[&seconds], &server.kubeconfig()),
    ];
    scripts.iter_mut().for_each(|s| s.expect("READY"));
    let mut followers: Vec<Follower> = scripts.into_iter().map(Follower::Script).collect();
    runtime.block_on(async {
        // A client each, as two programs would have.
        for streaming in [false, true] {
            followers.push(Follower::KubeRs(KubeRs::start(&server.client().await, streaming, pause).await));
        }
    });
    followers
}

/// Asks until the follower believes what the server holds.
fn caught_up(follower: &mut Follower, truth: &Sum) -> Believed {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let believed = follower.believed();
        if believed.objects == *truth {
            return believed;
        }
        if Instant::now() > deadline {
            let wrong = |a: &Sum, b: &Sum| -> Sum {
                a.iter().filter(|(k, v)| b.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
            };
            panic!(
                "{} has not caught up.\nthe server has {:#?}\nthe client has {:#?}\nfaults: {:#?}",
                follower.title(),
                wrong(truth, &believed.objects),
                wrong(&believed.objects, truth),
                believed.faults
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The server is killed in the middle, thrice; each follower sees each change once, in order, and lists only once.
#[test]
fn a_restart_loses_and_doubles_nothing() {
    let runtime = runtime();
    let mut server = Server::start(&[]);
    let mut followers = followers(&runtime, &server, Duration::from_millis(100));
    let lists_before: Vec<u64> = followers.iter_mut().map(|f| f.believed().lists).collect();
    let mut history: Vec<(&str, String, String)> = Vec::new();
    for round in 0..4 {
        if round > 0 {
            server.kill_and_restart();
        }
        runtime.block_on(async {
            let api: Api<Service> = Api::default_namespaced(server.client().await);
            for i in 0..10 {
                let name = format!("restart-{round}-{i}");
                let body = json!({"metadata": {"name": name}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
                let made = api.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
                history.push(("ADDED", name.clone(), made.resource_version().unwrap()));
                let labels = json!({"metadata": {"labels": {"round": round.to_string()}}});
                let changed = api.patch(&name, &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
                history.push(("MODIFIED", name.clone(), changed.resource_version().unwrap()));
                if i % 4 == 0 {
                    api.delete(&name, &DeleteParams::default()).await.unwrap();
                    // The answer has the revision of the last change; the event has the deletion's.
                    history.push(("DELETED", name, String::new()));
                }
            }
        });
    }
    let truth = runtime.block_on(async { churn::sum(&server.client().await).await });
    let history: Vec<(String, String, String)> =
        history.into_iter().map(|(t, name, r)| (t.to_owned(), format!("services/{name}"), r)).collect();
    for (follower, lists) in followers.iter_mut().zip(lists_before) {
        let believed = caught_up(follower, &truth);
        assert_eq!(believed.faults, Vec::<String>::new(), "{}", follower.title());
        let mut seen = believed.events;
        seen.retain(|(_, key, _)| key.starts_with("services/restart-"));
        seen.iter_mut().filter(|(t, _, _)| t == "DELETED").for_each(|(_, _, revision)| revision.clear());
        assert_eq!(seen, history, "{}", follower.title());
        assert_eq!(believed.lists, lists, "{} listed again, which hides what it missed", follower.title());
    }
}

/// Churn with a history so short that whoever is away for a moment must list again, and a server that dies twice: at
/// the end each follower's sum is the server's.
#[test]
fn soak() {
    let lasts = Duration::from_secs(seconds("PORTOLAN_SOAK_SECONDS", 15));
    let runtime = runtime();
    let mut server = Server::start(&["--history-events", "50", "--history-seconds", "5"]);
    let first = runtime.block_on(async { revision(&server.client().await).await });
    let mut followers = followers(&runtime, &server, Duration::from_secs(2));
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..3)
        .map(|seed| {
            let client = runtime.block_on(server.client());
            runtime.spawn(churn::run(client, seed + 1, stop.clone(), written.clone()))
        })
        .collect();
    // A kill in each third, or every minute of a long run.
    let every = (lasts / 3).min(Duration::from_secs(60));
    let end = Instant::now() + lasts;
    while Instant::now() + every < end {
        std::thread::sleep(every);
        server.kill_and_restart();
    }
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for writer in writers {
            writer.await.unwrap();
        }
    });
    let (truth, compacted) = runtime.block_on(async {
        let client = server.client().await;
        (churn::sum(&client).await, is_expired(&client, &first).await)
    });
    let written = written.load(Ordering::Relaxed);
    assert!(compacted, "the history of {written} writes is still whole: nothing was compacted in the middle");
    let mut lists = BTreeMap::new();
    for follower in &mut followers {
        let believed = caught_up(follower, &truth);
        assert_eq!(believed.faults, Vec::<String>::new(), "{}", follower.title());
        lists.insert(follower.title(), (believed.events.len(), believed.lists));
    }
    let relisted = lists.values().filter(|(_, lists)| *lists > 3).count();
    assert!(relisted > 0, "nobody was away for long enough to miss what was compacted: {lists:#?}");
    eprintln!("{written} writes in {lasts:?}; events and lists by client: {lists:#?}");
}

/// Nothing happens for a while, and then something does: `kubectl get -w`, which ends for good when its stream ends, is
/// still there and prints it, and so are the informers.
#[test]
fn idle() {
    let lasts = Duration::from_secs(seconds("PORTOLAN_IDLE_SECONDS", 15));
    let runtime = runtime();
    let server = Server::start(&[]);
    let create = |name: &str| {
        runtime.block_on(async {
            let api: Api<Service> = Api::default_namespaced(server.client().await);
            let body = json!({"metadata": {"name": name}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
            api.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
        });
    };
    create("before");
    let mut watches: Vec<Watching> = VERSIONS.iter().map(|version| Watching::start(version, &server)).collect();
    watches.iter_mut().for_each(|w| w.expect("before"));
    let mut followers = followers(&runtime, &server, Duration::from_millis(100));
    std::thread::sleep(lasts);
    for watch in &mut watches {
        assert!(watch.child.try_wait().unwrap().is_none(), "kubectl {} get -w has ended by itself", watch.version);
    }
    create("after");
    watches.iter_mut().for_each(|w| w.expect("after"));
    // A change and a deletion are lines too.
    runtime.block_on(async {
        let api: Api<Service> = Api::default_namespaced(server.client().await);
        let labels = json!({"metadata": {"labels": {"a": "b"}}});
        api.patch("before", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
        api.delete("after", &DeleteParams::default()).await.unwrap();
    });
    watches.iter_mut().for_each(|w| w.expect("before"));
    watches.iter_mut().for_each(|w| w.expect("after"));
    let truth = runtime.block_on(async { churn::sum(&server.client().await).await });
    for follower in &mut followers {
        assert_eq!(caught_up(follower, &truth).faults, Vec::<String>::new(), "{}", follower.title());
    }
}

/// A `kubectl get services -w`, killed when dropped.
struct Watching {
    version: &'static str,
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(version: &'static str, server: &Server) -> Watching {
        let kubectl = Kubectl::new(version, &server.kubeconfig(), server.dir());
        let args = ["get", "services", "-w", "-o", "name"];
        let mut child = kubectl.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Watching { version, child, lines }
    }

    /// Waits for the Service's line; what comes before was there before.
    fn expect(&mut self, name: &str) {
        let wanted = format!("service/{name}");
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line == wanted => return,
                Ok(_) => {}
                Err(e) => panic!("kubectl {} get -w has not printed {wanted}: {e}", self.version),
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn revision(client: &Client) -> String {
    let api: Api<Service> = Api::default_namespaced(client.clone());
    api.list(&Default::default()).await.unwrap().metadata.resource_version.unwrap()
}

/// Whether a watch from `revision` is refused as too old, in either of the ways that clients know.
async fn is_expired(client: &Client, revision: &str) -> bool {
    use futures::TryStreamExt;
    let api: Api<Service> = Api::default_namespaced(client.clone());
    match api.watch(&WatchParams::default().timeout(5), revision).await {
        Err(kube::Error::Api(status)) => status.code == 410,
        Err(other) => panic!("{other}"),
        Ok(stream) => {
            let mut stream = std::pin::pin!(stream);
            matches!(stream.try_next().await, Ok(Some(kube::api::WatchEvent::Error(e))) if e.code == 410)
        }
    }
}
