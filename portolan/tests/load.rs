//! `portolan bench load` against a real server: it makes, changes, measures and takes away, and touches nobody else's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PORTOLAN, Server};

fn load(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(PORTOLAN);
    command.args(["bench", "load", "--output", "json", "--server", &format!("https://{}", server.address)]);
    command.arg("--kubeconfig").arg(server.kubeconfig()).args(args);
    command
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn get(server: &Server, path: &str) -> Option<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match server.client().get(path).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    })
}

#[test]
fn everything_is_made_changed_seen_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let record = dir.path().join("record");
    let kept = ["--services=10", "--pods=3", "--seconds=0", "--keep"];
    let first = report(&load(&server, &kept).output().unwrap());
    assert_eq!(first["created"]["requests"]["createPod"]["count"], 30);
    assert_eq!(first["churned"], Value::Null);
    let pods = get(&server, "/api/v1/namespaces/portolan-load/pods").unwrap();
    assert_eq!(pods["items"].as_array().unwrap().len(), 30);

    // The second run goes on with what the first has left.
    let more = ["--services=12", "--pods=3", "--seconds=1", "--rate=50", "--watchers=2", "--replace-pods=10"];
    let output = load(&server, &more).arg("--replace-services=2").arg("--record").arg(&record).output().unwrap();
    let second = report(&output);
    assert_eq!(second["created"]["requests"]["createPod"]["count"], 6);
    let churned = &second["churned"];
    assert_eq!(churned["changes"], 50);
    assert_eq!(churned["requests"]["podStatus"]["count"], 49);
    // Ten of a hundred changes, of which these are the first fifty.
    assert_eq!(churned["requests"]["deletePod"]["count"], 6);
    assert_eq!(churned["requests"]["deleteService"]["count"], 1);
    assert_eq!((&churned["lag"]["count"], &churned["lag"]["missing"]), (&json!(100), &json!(0)), "{churned}");
    let sent = bench::record::read(std::fs::read(&record).unwrap().as_slice()).unwrap();
    assert_eq!(sent.len(), 50);
    assert!(sent.iter().all(|sent| &*sent.service.namespace == "portolan-load" && sent.revision > 0));
    assert_eq!(get(&server, "/api/v1/namespaces/portolan-load"), None, "it is taken away");
}

#[test]
fn a_namespace_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let output = load(&server, &["--namespace=default"]).output().unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the namespace default is there, and not by this command")
    );
    let services = get(&server, "/api/v1/namespaces/default/services").unwrap();
    assert_eq!(services["items"].as_array().unwrap().len(), 1, "{services}");
}

#[test]
fn an_interrupt_ends_it_and_takes_away_what_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let endless = ["--services=5", "--pods=2", "--seconds=600", "--rate=20"];
    let child = load(&server, &endless).stdout(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while get(&server, "/api/v1/namespaces/portolan-load/pods/pod-9").is_none_or(|pod| pod["status"]["podIP"].is_null())
    {
        assert!(Instant::now() < until, "the last Pod is not there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    let report = report(&child.wait_with_output().unwrap());
    assert_eq!(report["stopped"], true);
    assert_eq!(get(&server, "/api/v1/namespaces/portolan-load"), None);
}
