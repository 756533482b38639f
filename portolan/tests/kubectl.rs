//! kubectl 1.32, unchanged, against a real server: what it prints is compared with `kubectl/transcript.golden`.
//!
//! The steps stand in `kubectl/steps.txt`: a line that begins with `$ ` is a command line of kubectl; `<<<` feeds the
//! lines up to the next blank one as its standard input. `$ SERVER …` changes the world by the API where kubectl
//! has no command for it (a Pod's status). Times, ages, uids and revisions are masked. `UPDATE_EXPECT=1` writes the
//! transcript anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use proxy_agent::client::MERGE_PATCH;
use serde_json::json;
use support::{Server, kubectl_path, service};

#[test]
fn transcript() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut transcript = String::new();
    for step in steps(include_str!("kubectl/steps.txt")) {
        writeln!(transcript, "$ kubectl {}", step.command).unwrap();
        let mut child = Command::new(kubectl_path())
            .arg("--kubeconfig")
            .arg(server.kubeconfig())
            .args(words(&step.command))
            .env("KUBECACHEDIR", dir.path().join("kubecache"))
            .env("HOME", dir.path())
            // An editor that changes one line, as a person would.
            .env("KUBE_EDITOR", "sed -i s/edit-me/edited/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(step.input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        transcript.push_str(&masked(&String::from_utf8_lossy(&output.stdout)));
        transcript.push_str(&masked(&String::from_utf8_lossy(&output.stderr)));
        if !output.status.success() {
            writeln!(transcript, "exit code {}", output.status.code().unwrap()).unwrap();
        }
        transcript.push('\n');
    }
    expect_test::expect_file!["kubectl/transcript.golden"].assert_eq(&transcript);
}

/// `get -w` prints each change as it comes, and does not end while nothing happens.
#[test]
fn watch_prints_changes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = server.client();
    let create = |name: &str| {
        let body = service(name, json!({"clusterIP": "None", "ports": [{"port": 80}]}));
        runtime.block_on(client.post("/api/v1/namespaces/default/services", &body)).unwrap();
    };
    create("first");
    let mut child = Command::new(kubectl_path())
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(["get", "services", "-w", "--no-headers"])
        .env("KUBECACHEDIR", dir.path().join("kubecache"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line.unwrap()))));
    let next = || {
        let line = receiver.recv_timeout(Duration::from_secs(30)).expect("kubectl get -w prints a line");
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!([next(), next()], ["first", "kubernetes"]);
    create("second");
    assert_eq!(next(), "second");
    let path = "/api/v1/namespaces/default/services/second";
    runtime.block_on(client.patch(path, MERGE_PATCH, &json!({"metadata": {"labels": {"a": "b"}}}))).unwrap();
    assert_eq!(next(), "second");
    runtime.block_on(client.delete(path, None)).unwrap();
    assert_eq!(next(), "second");
    assert!(child.try_wait().unwrap().is_none(), "kubectl get -w has ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
}

struct Step {
    command: String,
    input: String,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let (command, input) = match command.strip_suffix(" <<<") {
            None => (command, String::new()),
            Some(command) => {
                (command, lines.by_ref().take_while(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect())
            }
        };
        steps.push(Step { command: command.to_owned(), input });
    }
    steps
}

/// Splits at blanks outside single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

/// Masks what differs from run to run; runs of blanks become one, since columns are as wide as what is masked.
fn masked(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("CreationTimestamp:") {
            out.push_str("CreationTimestamp: TIME\n");
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        out.push_str(&line[..indent]);
        let mut first = true;
        for word in line.split_whitespace() {
            if !first {
                out.push(' ');
            }
            first = false;
            out.push_str(&masked_word(word));
        }
        out.push('\n');
    }
    out
}

fn masked_word(word: &str) -> String {
    let core = word.trim_matches(|c| "\"',()".contains(c));
    let mask = if is_age(core) {
        "AGE"
    } else if is_uid(core) {
        "UID"
    } else if is_time(core) {
        "TIME"
    } else if core.len() > 6 && core.len() == core.chars().filter(char::is_ascii_digit).count() {
        "NUMBER"
    } else {
        return word.to_owned();
    };
    word.replace(core, mask)
}

fn is_age(word: &str) -> bool {
    let Some(digits) = word.strip_suffix('s') else { return false };
    !digits.is_empty()
        && digits.chars().all(|c| c.is_ascii_digit() || c == 'm')
        && digits.ends_with(|c: char| c.is_ascii_digit())
}

fn is_uid(word: &str) -> bool {
    word.len() == 36
        && word.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.ends_with('Z') && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T'
}
