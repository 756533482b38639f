//! Workloads of machines: processes on the nodes of a lab register themselves, and are restarted one after the other
//! while others send requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proxy_agent::client::Client;
use proxy_agent::workloads::protocol::{Answer, Request, Talk};
use serde_json::{Value, json};
use support::{Lab, PORTOLAN, service};

const PODS: &str = "/api/v1/namespaces/default/pods";
const LIMIT: Duration = Duration::from_secs(60);
/// Requests of each of three nodes, in portions: 50,400 in all.
const REQUESTS: u64 = 16_800;
const PORTION: &str = "1400";

struct World {
    lab: Lab,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> World {
        let lab = Lab::up(3);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kubeconfig = lab.kubeconfig();
        let client = runtime.block_on(async { Client::from_kubeconfig(&kubeconfig).unwrap() });
        World { lab, client, runtime }
    }

    fn pod(&self, name: &str) -> Option<Value> {
        self.runtime.block_on(self.client.get(&format!("{PODS}/{name}"))).ok()
    }

    fn until(&self, what: &str, name: &str, holds: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let end = Instant::now() + LIMIT;
        loop {
            let pod = self.pod(name);
            if holds(pod.as_ref()) {
                return pod;
            }
            assert!(Instant::now() < end, "{name} is not {what}: {pod:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ready(&self, name: &str) -> Value {
        self.until("ready", name, |pod| pod.is_some_and(|pod| is(pod, "Ready"))).unwrap()
    }
}

fn is(pod: &Value, condition: &str) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && pod["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == condition && c["status"] == "True"))
}

/// `lab exec NODE -- portolan register … -- portolan echo …`, which ends with this.
struct Workload {
    exec: Child,
    number: u32,
}

impl Workload {
    fn start(lab: &Lab, number: u32) -> Workload {
        let name = format!("web-{number}");
        let mut command = Command::new(PORTOLAN);
        command.args(["lab", "exec", "--dir"]).arg(&lab.dir).args([&format!("node-{number}"), "--", PORTOLAN]);
        command.args(["register", "--name", &name, "--labels", "app=web,kind=process", "--port", "http=8080"]);
        command.args(["--readiness", "http:http/", "--probe-period", "1s", "--grace", "20s", "--"]);
        // It answers what it has for two seconds, as a good server does; who is sent here later gets no answer.
        command.args([PORTOLAN, "echo", "--tcp", "8080", "--pod", &name]);
        let exec = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Workload { exec, number }
    }

    fn pod(&self) -> String {
        format!("web-{0}-node-{0}", self.number)
    }

    /// The process of `portolan register`, the child of `lab exec`.
    fn register(&self) -> i32 {
        child_of(self.exec.id()).expect("`lab exec` has a child")
    }

    /// Sends it SIGTERM, and waits for its end; what it said comes with it.
    fn end(mut self) -> (ExitStatus, String) {
        signal(self.register(), "TERM");
        let mut said = String::new();
        self.exec.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.exec.wait().unwrap(), said)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.exec.kill();
        let _ = self.exec.wait();
    }
}

fn child_of(parent: u32) -> Option<i32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(process.path().join("status")).ok()?;
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()?;
        (of == parent).then_some(pid)
    })
}

fn signal(pid: i32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Sends requests from a node, a few at a time and each on a connection of its own, until that is enough.
fn send(lab: &Lab, node: u32, address: &str, enough: &AtomicBool) -> Vec<Value> {
    let (mut reports, mut sent) = (Vec::new(), 0);
    // Nobody says that it is enough when the restarts have failed.
    while (sent < REQUESTS || !enough.load(Ordering::SeqCst)) && reports.len() < 100 {
        let more = ["--count", PORTION, "--concurrency", "4", "--timeout-ms", "20000"];
        let report = lab.probe(&format!("node-{node}"), "tcp", address, &more);
        sent += report["sent"].as_u64().unwrap();
        reports.push(report);
    }
    reports
}

#[test]
fn a_rolling_restart_of_processes_loses_no_request() {
    let world = World::new();
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]});
    let path = "/api/v1/namespaces/default/services";
    let made = world.runtime.block_on(world.client.post(path, &service("web", spec))).unwrap();
    let address = format!("{}:80", made["spec"]["clusterIP"].as_str().unwrap());
    let mut workloads: Vec<Workload> = (1..=3).map(|number| Workload::start(&world.lab, number)).collect();
    for workload in &workloads {
        let pod = world.ready(&workload.pod());
        assert_eq!(pod["spec"]["hostNetwork"], true);
        assert_eq!(pod["status"]["podIP"], pod["status"]["hostIP"]);
        assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Node");
    }
    world.lab.wait();

    let enough = AtomicBool::new(false);
    let begun = Instant::now();
    let (restarts, reports) = std::thread::scope(|scope| {
        let load = |node: u32| {
            let (lab, enough, address) = (&world.lab, &enough, address.as_str());
            scope.spawn(move || send(lab, node, address, enough))
        };
        let load: Vec<_> = (1..=3).map(load).collect();
        let mut restarts = 0;
        while load.iter().any(|load| !load.is_finished()) {
            let old = workloads.remove(0);
            let (number, pod) = (old.number, old.pod());
            let before = world.pod(&pod).unwrap();
            let (status, said) = old.end();
            assert!(status.success() && !said.contains("not in order"), "{status}: {said}");
            let new = Workload::start(&world.lab, number);
            world.until("another and ready", &pod, |pod| {
                pod.is_some_and(|pod| pod["metadata"]["uid"] != before["metadata"]["uid"] && is(pod, "Ready"))
            });
            // As whoever restarts a fleet does: the next one goes when this one is back for everybody.
            world.lab.wait();
            workloads.push(new);
            restarts += 1;
            enough.store(restarts >= 3, Ordering::SeqCst);
        }
        let reports: Vec<Value> = load.into_iter().flat_map(|load| load.join().unwrap()).collect();
        (restarts, reports)
    });
    let sum = |field: &str| reports.iter().map(|report| report[field].as_u64().unwrap()).sum::<u64>();
    let (sent, answered) = (sum("sent"), sum("answered"));
    println!("{restarts} restarts in {:?}; {answered} of {sent} requests were answered", begun.elapsed());
    let lost: Vec<&Value> = reports.iter().filter(|report| report["sent"] != report["answered"]).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(restarts >= 3 && sent >= 50_000, "{restarts} restarts, {sent} requests");

    // An agent that is away for a moment takes nothing out of service.
    let web = world.ready("web-1-node-1");
    for what in ["stop", "start"] {
        assert!(world.lab.command(&[what, "node-1"]).status.success());
    }
    world.lab.wait();
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(world.ready("web-1-node-1")["metadata"]["uid"], web["metadata"]["uid"]);

    // A command that dies by itself is gone at once, and its exit code is told.
    let mut dying = workloads.remove(0);
    let command = child_of(u32::try_from(dying.register()).unwrap()).unwrap();
    signal(command, "KILL");
    assert_eq!(dying.exec.wait().unwrap().code(), Some(137));
    world.until("gone", &dying.pod(), |pod| pod.is_none());
    // So is one whose registration is killed: nobody is left who could say anything.
    let killed = workloads.remove(0);
    signal(killed.register(), "KILL");
    world.until("gone", &killed.pod(), |pod| pod.is_none());
}

/// An agent that does as the test says.
struct Agent {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    listener: Option<tokio::net::UnixListener>,
}

impl Agent {
    fn new(listens: bool) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bind = async { tokio::net::UnixListener::bind(dir.path().join("agent.sock")).unwrap() };
        let listener = listens.then(|| runtime.block_on(bind));
        Agent { dir, runtime, listener }
    }

    fn register(&self, more: &[&str]) -> Child {
        let mut command = Command::new(PORTOLAN);
        command
            .args(["register", "--name", "web", "--grace", "50s", "--socket"])
            .arg(self.dir.path().join("agent.sock"));
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Takes a connection.
    fn accept(&self) -> Talk {
        let listener = self.listener.as_ref().unwrap();
        let accept = async { tokio::time::timeout(LIMIT, listener.accept()).await };
        Talk::new(self.runtime.block_on(accept).unwrap().unwrap().0)
    }

    fn hear(&self, talk: &mut Talk) -> Option<Request> {
        let hear = async { tokio::time::timeout(LIMIT, talk.hear()).await };
        self.runtime.block_on(hear).unwrap().unwrap()
    }

    fn say(&self, talk: &mut Talk, answer: &Answer) {
        self.runtime.block_on(talk.say(answer)).unwrap();
    }

    /// Everything up to the registration.
    fn welcome(&self) -> Talk {
        let accepted = Answer::Accepted { pods: vec!["default/web-vm".into()] };
        let mut talk = self.accept();
        let Some(Request::Check { pods: checked }) = self.hear(&mut talk) else { panic!("it asks first") };
        self.say(&mut talk, &accepted);
        assert_eq!(self.hear(&mut talk), None);
        let mut talk = self.accept();
        let Some(Request::Register { pods }) = self.hear(&mut talk) else { panic!("then it registers") };
        assert_eq!((pods[0]["metadata"]["name"].as_str(), &pods), (Some("web"), &checked));
        self.say(&mut talk, &accepted);
        talk
    }
}

fn line(from: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn the_command_hears_of_its_end_after_the_nodes() {
    let agent = Agent::new(true);
    let script = "trap 'echo told; exit 7' TERM; trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done";
    let mut child = agent.register(&["--", "sh", "-c", script]);
    let mut talk = agent.welcome();
    let mut out = child.stdout.take().unwrap();
    assert_eq!(line(&mut out), "up");
    let pid = i32::try_from(child.id()).unwrap();
    signal(pid, "HUP");
    assert_eq!(line(&mut out), "hup");

    // The agent is restarted meanwhile: it is told anew, and then that this goes.
    drop(talk);
    talk = agent.accept();
    assert!(matches!(agent.hear(&mut talk), Some(Request::Register { .. })));
    agent.say(&mut talk, &Answer::Accepted { pods: vec!["default/web-vm".into()] });
    signal(pid, "TERM");
    let Some(Request::Deregister { pods, grace_milliseconds }) = agent.hear(&mut talk) else { panic!("it says so") };
    assert_eq!(pods, ["default/web-vm"]);
    assert!(grace_milliseconds <= 50_000 && grace_milliseconds > 30_000, "{grace_milliseconds}");
    // Nothing of it has reached the command: that would be the next line.
    signal(pid, "HUP");
    assert_eq!(line(&mut out), "hup");
    assert!(child.try_wait().unwrap().is_none());
    agent.say(&mut talk, &Answer::Deregistered { doubt: None });
    assert_eq!(line(&mut out), "told");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(agent.hear(&mut talk), None, "the connection lasts as long as the process");
}

#[test]
fn without_a_command_it_lasts_until_it_is_told() {
    let agent = Agent::new(true);
    let mut child = agent.register(&["--port", "8080"]);
    let mut talk = agent.welcome();
    signal(i32::try_from(child.id()).unwrap(), "TERM");
    assert!(matches!(agent.hear(&mut talk), Some(Request::Deregister { .. })));
    agent.say(&mut talk, &Answer::Deregistered { doubt: Some("vm-2 may still send to it".into()) });
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("not in order: vm-2 may still send to it"), "{said}");
}

#[test]
fn what_is_refused_is_not_started_and_no_agent_stops_nobody() {
    let agent = Agent::new(true);
    let made = agent.dir.path().join("made");
    let mut child = agent.register(&["--", "touch", made.to_str().unwrap()]);
    let mut talk = agent.accept();
    assert!(matches!(agent.hear(&mut talk), Some(Request::Check { .. })));
    agent.say(&mut talk, &Answer::Refused { reason: "the Pod default/web-vm is that of the file web.yaml".into() });
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the agent refuses: the Pod default/web-vm is that of the file web.yaml"), "{said}");
    assert!(!made.exists());

    let nobody = Agent::new(false);
    let mut child = nobody.register(&["--", "sh", "-c", "exit 3"]);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let mut child = nobody.register(&["--", "/nowhere"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Each unit is what systemd understands, and calls this binary with flags that it has.
#[test]
fn the_units_are_understood() {
    let (units, dir) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/systemd"), tempfile::tempdir().unwrap());
    let mut names = Vec::new();
    for unit in std::fs::read_dir(units).unwrap().flatten() {
        let text = std::fs::read_to_string(unit.path()).unwrap();
        let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/portolan ")).unwrap();
        let mut words = command.split_whitespace();
        let help = Command::new(PORTOLAN).args([words.next().unwrap(), "--help"]).output().unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for flag in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(&format!("{flag} ")), "{:?} has no {flag}", unit.file_name());
        }
        let name = unit.file_name().into_string().unwrap();
        std::fs::write(dir.path().join(&name), text.replace("/usr/bin/portolan", PORTOLAN)).unwrap();
        names.push(name.replace("@.", "@web."));
    }
    names.sort_unstable();
    let expected = ["portolan-agent.service", "portolan-edge.service", "portolan-register@web.service"];
    assert_eq!(names, [&expected[..], &["portolan-server.service"]].concat());
    std::fs::write(dir.path().join("web.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--generators=no"])
        .args(names.iter().map(|name| dir.path().join(name)))
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
        .output();
    match verify {
        Ok(verify) => {
            let said = String::from_utf8_lossy(&verify.stderr);
            assert!(verify.status.success() && said.is_empty(), "{said}");
        }
        Err(error) => println!("systemd-analyze is not here, so the units are not verified: {error}"),
    }
}
