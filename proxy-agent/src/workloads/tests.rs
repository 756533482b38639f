//! All parts together, on a server's memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::protocol::{Answer, Request, Talk};
use super::*;
use crate::events::Note;
use crate::testing::world::{Shared as World, World as Memory};
use crate::testing::{Asked, Fake, Reply};

const PODS: &str = "/api/v1/pods";
const LIMIT: Duration = Duration::from_secs(20);

/// A server with Pods, and with nodes that have programmed everything or not.
struct Server {
    world: World,
    programmed: Arc<AtomicBool>,
    fake: Fake,
}

impl Server {
    async fn start() -> Self {
        let (world, programmed) = (Memory::new(1), Arc::new(AtomicBool::new(true)));
        // The collection is there, and empty.
        world.lock().unwrap().set(PODS, "default/other", pod("other", None));
        let (memory, all) = (Arc::clone(&world), Arc::clone(&programmed));
        let fake =
            Fake::start(move |asked| answer(&mut memory.lock().unwrap(), asked, all.load(Ordering::SeqCst))).await;
        Self { world, programmed, fake }
    }

    fn pod(&self, name: &str) -> Option<Value> {
        self.world.lock().unwrap().objects(PODS).remove(&format!("default/{name}"))
    }

    async fn until(&self, what: &str, holds: impl Fn(Option<&Value>) -> bool, name: &str) -> Option<Value> {
        let waiting = async {
            loop {
                let pod = self.pod(name);
                if holds(pod.as_ref()) {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.pod(name)))
    }

    async fn ready(&self, name: &str) -> Value {
        self.until("ready", |pod| pod.is_some_and(is_ready), name).await.unwrap()
    }

    async fn gone(&self, name: &str) {
        self.until("gone", |pod| pod.is_none(), name).await;
    }

    async fn going(&self, name: &str) {
        self.until("going", |pod| pod.is_some_and(|pod| !pod["metadata"]["deletionTimestamp"].is_null()), name).await;
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn answer(world: &mut Memory, asked: &Asked, programmed: bool) -> Reply {
    let path = asked.target.split('?').next().unwrap();
    if path.ends_with("/programmed") {
        let nodes = json!([{"name": "vm", "programmed": programmed, "revision": "1"}]);
        return Reply::json(200, &json!({"programmed": programmed, "revision": "1", "nodes": nodes}));
    }
    let key = path.strip_prefix("/api/v1/namespaces/default/pods").unwrap_or_default().trim_matches('/');
    let (name, status) = key.strip_suffix("/status").map_or((key, false), |name| (name, true));
    let known = world.objects(PODS).remove(&format!("default/{name}"));
    let conflict = || Reply::status(409, "Conflict", "it is another");
    match (asked.method.as_str(), known) {
        ("POST", _) if key.is_empty() => {
            let mut pod = asked.json();
            let key = format!("default/{}", pod["metadata"]["name"].as_str().unwrap());
            if world.objects(PODS).contains_key(&key) {
                return Reply::status(409, "AlreadyExists", "it is there");
            }
            pod["metadata"]["uid"] = format!("u{}", world.revision).into();
            world.set(PODS, &key, pod);
            Reply::json(201, &world.objects(PODS)[&key])
        }
        ("PATCH" | "DELETE", None) => Reply::status(404, "NotFound", "it is not there"),
        ("PATCH", Some(mut pod)) => {
            let patch = asked.json();
            assert!(status, "{patch}");
            if patch["metadata"]["uid"] != pod["metadata"]["uid"] {
                return conflict();
            }
            pod["status"] = patch["status"].clone();
            world.set(PODS, &format!("default/{name}"), pod.clone());
            Reply::json(200, &pod)
        }
        ("DELETE", Some(mut pod)) => {
            let options = asked.json();
            if options["preconditions"]["uid"] != pod["metadata"]["uid"] {
                return conflict();
            }
            if options["gracePeriodSeconds"] == 0 {
                world.delete(PODS, &format!("default/{name}"));
            } else {
                pod["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z".into();
                world.set(PODS, &format!("default/{name}"), pod);
            }
            Reply::json(
                200,
                &world.objects(PODS).remove(&format!("default/{name}")).unwrap_or(json!({"kind": "Status"})),
            )
        }
        _ => world.answer(asked),
    }
}

fn pod(name: &str, version: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"version": version.unwrap_or("1")}},
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 20},
    })
}

/// The agent's part that this is about.
struct Agent {
    tasks: JoinSet<()>,
    notes: mpsc::Receiver<Note>,
    leave: Leave,
    _own: watch::Sender<OwnNode>,
}

impl Agent {
    fn start(server: &Server, dir: &Path) -> Self {
        let config = WorkloadsConfig {
            pod_dir: Some(dir.join("pods")),
            socket: Some(SocketConfig { path: socket(dir), group: None, needed: true }),
            leave_within: Some(LIMIT),
            reconnect: Duration::from_secs(1),
        };
        let (events, notes) = Recorder::new(Counter::default());
        let own = OwnNode { uid: "n1".into(), addresses: vec!["192.0.2.1".parse().unwrap()] };
        let (own, known) = watch::channel(own);
        let client = Client::new(&server.fake.url(), None, None).unwrap();
        let mut tasks = JoinSet::new();
        let leave = Workloads::open(config).unwrap().start(&mut tasks, client, "vm", events, known);
        Self { tasks, notes, leave, _own: own }
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("agent.sock")
}

fn write(dir: &Path, file: &str, pod: &Value) {
    let folder = dir.join("pods");
    std::fs::create_dir_all(&folder).unwrap();
    let next = folder.join(format!("{file}.new"));
    std::fs::write(&next, pod.to_string()).unwrap();
    std::fs::rename(next, folder.join(file)).unwrap();
}

async fn register(dir: &Path, pods: &[Value]) -> (Talk, Answer) {
    let mut talk = Talk::connect(&socket(dir)).await.unwrap();
    let answer = talk.ask(&Request::Register { pods: pods.to_vec() }, LIMIT).await.unwrap();
    (talk, answer)
}

#[tokio::test]
async fn a_file_is_a_pod_for_as_long_as_it_is_there() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    write(dir.path(), "web.json", &pod("web", None));
    let agent = Agent::start(&server, dir.path());
    let first = server.ready("web-vm").await;
    assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], "n1");
    assert_eq!(
        (first["status"]["podIP"].as_str(), first["spec"]["nodeName"].as_str()),
        (Some("192.0.2.1"), Some("vm"))
    );

    // Another manifest is another Pod, and so is one that somebody deletes.
    write(dir.path(), "web.json", &pod("web", Some("2")));
    let replaced =
        server.until("replaced", |pod| pod.is_some_and(|pod| uid(pod) != uid(&first) && is_ready(pod)), "web-vm").await;
    let second = replaced.unwrap();
    assert_eq!(second["metadata"]["labels"]["version"], "2");
    server.world.lock().unwrap().delete(PODS, "default/web-vm");
    let back =
        server.until("back", |pod| pod.is_some_and(|pod| uid(pod) != uid(&second) && is_ready(pod)), "web-vm").await;

    // A file that is bad changes nothing; one that goes takes its Pod with it, when every node knows.
    write(dir.path(), "web.json", &json!({"kind": "Pod"}));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.pod("web-vm").map(|pod| uid(&pod)), back.map(|pod| uid(&pod)));
    server.programmed.store(false, Ordering::SeqCst);
    std::fs::remove_file(dir.path().join("pods/web.json")).unwrap();
    server.going("web-vm").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.pod("web-vm").is_some(), "a node may still send there");
    server.programmed.store(true, Ordering::SeqCst);
    server.gone("web-vm").await;
    assert!(server.pod("other").is_some());
    let mut agent = agent;
    let note = timeout(LIMIT, agent.notes.recv()).await.unwrap().unwrap();
    assert_eq!(note.reason, crate::events::Reason::FailedValidation);
    assert_eq!(note.message, "manifest web.json: document 1: apiVersion and kind are needed, and are v1 and Pod");
    agent.end().await;
}

#[tokio::test]
async fn a_process_is_a_pod_for_as_long_as_it_is_there() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let agent = Agent::start(&server, dir.path());
    let (talk, answer) = register(dir.path(), &[pod("web", None)]).await;
    assert_eq!(answer, Answer::Accepted { pods: vec!["default/web-vm".into()] });
    server.ready("web-vm").await;
    let (_other, answer) = register(dir.path(), &[pod("web", None)]).await;
    assert_eq!(answer, Answer::Refused { reason: "the Pod default/web-vm is registered by another process".into() });

    // It dies: the Pod goes, whoever knows of it.
    server.programmed.store(false, Ordering::SeqCst);
    drop(talk);
    server.gone("web-vm").await;

    // It ends in order: it is told when it may.
    let (mut talk, _) = register(dir.path(), &[pod("web", None)]).await;
    server.ready("web-vm").await;
    let programmed = Arc::clone(&server.programmed);
    let request = Request::Deregister { pods: vec!["default/web-vm".into()], grace_milliseconds: 20_000 };
    let (answer, ()) = tokio::join!(talk.ask(&request, LIMIT), async {
        server.going("web-vm").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        programmed.store(true, Ordering::SeqCst);
    });
    assert!(server.programmed.load(Ordering::SeqCst), "it was told too early");
    assert_eq!(answer.unwrap(), Answer::Deregistered { doubt: None });
    assert!(server.pod("web-vm").is_some(), "what it stands for still runs");
    drop(talk);
    server.gone("web-vm").await;
    agent.end().await;
}

#[tokio::test]
async fn an_agent_that_is_restarted_changes_nothing() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    write(dir.path(), "file.json", &pod("file", None));
    write(dir.path(), "bad.json", &pod("bad", None));
    let agent = Agent::start(&server, dir.path());
    let (first, _) = register(dir.path(), &[pod("stays", None)]).await;
    let (second, _) = register(dir.path(), &[pod("goes", None)]).await;
    let (third, _) = register(dir.path(), &[pod("leaves", None)]).await;
    let mut uids = Vec::new();
    for name in ["file-vm", "bad-vm", "stays-vm", "goes-vm", "leaves-vm"] {
        uids.push((name, uid(&server.ready(name).await)));
    }
    agent.end().await;
    drop((first, second, third));
    write(dir.path(), "bad.json", &json!({"kind": "Pod"}));
    tokio::time::sleep(Duration::from_millis(300)).await;

    let agent = Agent::start(&server, dir.path());
    let (_talk, _) = register(dir.path(), &[pod("stays", None)]).await;
    // Told to end while there was no agent, it says so to the next.
    let mut leaving = Talk::connect(&socket(dir.path())).await.unwrap();
    let request = Request::Deregister { pods: vec!["default/leaves-vm".into()], grace_milliseconds: 20_000 };
    assert_eq!(leaving.ask(&request, LIMIT).await.unwrap(), Answer::Deregistered { doubt: None });
    server.going("leaves-vm").await;
    drop(leaving);
    server.gone("leaves-vm").await;
    server.gone("goes-vm").await;
    for (name, uid_before) in &uids[..3] {
        assert_eq!(server.pod(name).map(|pod| uid(&pod)).as_ref(), Some(uid_before), "{name}");
    }
    // One that is told to take everything back does so in order, and then ends.
    let Agent { mut tasks, leave, .. } = agent;
    leave.leave().await;
    let left: Vec<String> = server.world.lock().unwrap().objects(PODS).into_keys().collect();
    assert_eq!(left, ["default/other"]);
    tasks.shutdown().await;
}

#[tokio::test]
async fn a_pod_of_somebody_else_is_left_alone() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let mut strange = pod("web-vm", None);
    strange["spec"]["nodeName"] = "vm".into();
    server.world.lock().unwrap().set(PODS, "default/web-vm", strange);
    let strange = server.pod("web-vm");
    let mut agent = Agent::start(&server, dir.path());
    let (_talk, answer) = register(dir.path(), &[pod("web", None)]).await;
    assert!(matches!(answer, Answer::Accepted { .. }));
    let note = timeout(LIMIT, agent.notes.recv()).await.unwrap().unwrap();
    let expected = "workload default/web-vm: there is a Pod of that name, which is not this node's to replace";
    assert_eq!(note.message, expected);
    assert_eq!(server.pod("web-vm"), strange);
    // Once it is gone there is room.
    server.world.lock().unwrap().delete(PODS, "default/web-vm");
    server.ready("web-vm").await;
    agent.end().await;
}

/// Most nodes have no such workload: they are told of no Pod.
#[tokio::test]
async fn pods_are_followed_while_there_is_a_reason() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let agent = Agent::start(&server, dir.path());
    let followed = || server.fake.asked().iter().filter(|asked| asked.is_watch()).count();
    let lists = || server.fake.asked().iter().filter(|asked| asked.target.starts_with("/api/v1/pods?")).count();
    let waiting = async {
        while lists() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = followed();
    let (_talk, _) = register(dir.path(), &[pod("web", None)]).await;
    server.ready("web-vm").await;
    assert!(followed() > before);
    let selector = server
        .fake
        .asked()
        .iter()
        .all(|a| !a.target.starts_with("/api/v1/pods?") || a.target.contains("spec.nodeName%3Dvm"));
    assert!(selector);
    agent.end().await;
}
