//! A server with many Services, Pods and hollow nodes: `portolan bench` as a user would call it, beside a server of the suite.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::process::cpu;
use super::{Server, portolan};

/// So many Services of so many Pods each, that are bound to no node and endpoints all the same.
#[derive(Clone, Copy)]
pub struct State {
    pub services: u32,
    pub pods: u32,
}

impl State {
    pub fn all_pods(self) -> u32 {
        self.services * self.pods
    }
}

fn command(server: &Server, which: &str) -> Command {
    let mut command = Command::new(portolan());
    command.args(["bench", which, "--output", "json", "--server", &format!("https://{}", server.address)]);
    command.arg("--kubeconfig").arg(server.kubeconfig()).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn report(what: &str, child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "bench {what} has failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Makes what is missing of `state`.
pub fn make(server: &Server, state: State) -> Value {
    report("load", load(server, state, &["--seconds", "0"]).spawn().unwrap())
}

/// Turns the readiness of Pods at this rate, and writes down when which was sent. `look` is called every half second.
pub fn churn(server: &Server, state: State, rate: u32, seconds: u32, record: &Path, mut look: impl FnMut()) -> Value {
    let (rate, seconds) = (rate.to_string(), seconds.to_string());
    let mut command = load(server, state, &["--rate", &rate, "--seconds", &seconds]);
    let mut child = command.arg("--record").arg(record).spawn().unwrap();
    // What it says in the end fits into the pipe.
    while child.try_wait().unwrap().is_none() {
        look();
        std::thread::sleep(Duration::from_millis(500));
    }
    report("load", child)
}

fn load(server: &Server, state: State, more: &[&str]) -> Command {
    let mut command = command(server, "load");
    command.args(["--keep", "--services", &state.services.to_string(), "--pods", &state.pods.to_string()]).args(more);
    command
}

/// A process of hollow nodes. They are gone when it has finished.
pub struct Hollow {
    child: Child,
    /// Reads what it says to people, so that it never waits for that.
    words: JoinHandle<()>,
    pub record: PathBuf,
}

impl Hollow {
    /// Returns when all of them watch.
    pub fn start(server: &Server, first: u32, nodes: u32) -> Self {
        let record = server.dir.path().join(format!("record-{first}"));
        let mut command = command(server, "hollow");
        command.args(["--first", &first.to_string(), "--nodes", &nodes.to_string(), "--record"]).arg(&record);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let begun =
            lines.by_ref().inspect(|line| eprintln!("    {line}")).any(|line| line.contains("hollow nodes watch"));
        assert!(begun, "the hollow nodes have not begun");
        let words = std::thread::spawn(move || lines.for_each(|line| eprintln!("    {line}")));
        Self { child, words, record }
    }

    pub fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What they have seen.
    pub fn finish(self) -> Value {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let report = report("hollow", self.child);
        self.words.join().unwrap();
        report
    }
}
