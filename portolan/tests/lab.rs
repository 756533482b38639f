//! The lab as its users meet it: without root, leaving no trace on the host, also after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Lab, PORTOLAN, free_port, kubectl};

/// What the lab must leave alone: links, addresses, routes, rules, namespaces, mounts of the host.
fn host() -> String {
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
        format!("{program} {args:?}\n{}", String::from_utf8_lossy(&output.stdout))
    };
    let mut text = run("ip", &["-o", "link"]);
    text += &run("ip", &["route", "show", "table", "all"]);
    text += &run("ip", &["netns"]);
    text += &run("nft", &["list", "ruleset"]);
    text += &fs::read_to_string("/proc/self/mountinfo").unwrap();
    text
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn leaves_the_host_alone_and_no_trace_after_a_crash() {
    let before = host();
    let lab = Lab::up(2);
    assert_eq!(host(), before, "a running lab shows on the host");
    let again = lab.command(&["up", "--detach", "--listen", &free_port().to_string()]);
    assert!(!again.status.success(), "a second lab in the same directory came up");

    // The crash: the first process of the lab is killed, so the kernel ends everything below it.
    let status = lab.status();
    let server = status["server"]["pid"].as_u64().unwrap();
    let agents: Vec<u64> =
        status["nodes"].as_array().unwrap().iter().map(|n| n["agentPid"].as_u64().unwrap()).collect();
    let supervisor = parent_of(server);
    // SAFETY of the aim: the parent of this lab's own server, which the lab itself has named.
    assert!(fs::read_to_string(format!("/proc/{supervisor}/cmdline")).unwrap().contains("supervise"));
    stdout(&Command::new("kill").args(["-9", &supervisor.to_string()]).output().unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    for pid in agents.iter().chain([&server]) {
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "process {pid} has outlived the lab");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(host(), before, "a crashed lab has left something on the host");

    // And a new lab takes over what the crashed one stored.
    stdout(&lab.command(&["up", "--detach", "--nodes", "2", "--listen", &free_port().to_string()]));
    assert_eq!(lab.status()["nodes"].as_array().unwrap().len(), 2);
}

fn parent_of(pid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// An ordinary user's lab carries traffic, and kubectl reaches it from outside.
#[test]
fn needs_no_root() {
    const NOBODY: u32 = 65534;
    let files = tempfile::tempdir().unwrap();
    // The user must be able to reach the program, wherever this checkout lies.
    let program = files.path().join("portolan");
    fs::copy(PORTOLAN, &program).unwrap();
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = files.path().join("home");
    fs::create_dir(&home).unwrap();
    let root = nix::unistd::getuid().is_root();
    if root {
        chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let portolan = |args: &[&str]| -> Output {
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        command.args(args).current_dir(&home).env("HOME", &home).stdin(Stdio::null()).output().unwrap()
    };
    let listen = free_port().to_string();
    let up = stdout(&portolan(&["lab", "up", "--detach", "--nodes", "2", "--listen", &listen]));
    let result = std::panic::catch_unwind(|| {
        let kubeconfig = up.trim().strip_prefix("export KUBECONFIG=").unwrap();
        let hello = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello.yaml");
        let kubectl = |args: &[&str]| stdout(&kubectl(Path::new(kubeconfig), files.path(), args));
        kubectl(&["apply", "-f", hello.to_str().unwrap()]);
        kubectl(&["wait", "--for=condition=Ready", "pod", "-l", "app=hello", "--timeout=60s"]);
        stdout(&portolan(&["lab", "wait"]));
        let program = program.to_str().unwrap();
        let target = "172.31.255.12:30080";
        let probe = ["lab", "exec", "client", "--", program, "probe", "tcp", target, "-n", "30", "-o", "json"];
        let report: Value = serde_json::from_str(&stdout(&portolan(&probe))).unwrap();
        assert_eq!(report["answered"], 30, "{report}");
        let inside = |name: &str, path: &str| stdout(&portolan(&["lab", "exec", name, "--", "cat", path]));
        let resolver = inside("hello-1", "/etc/resolv.conf");
        let search = "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        assert!(resolver.starts_with("nameserver 10.96.0.10\n") && resolver.ends_with(search), "{resolver}");
        assert!(inside("hello-1", "/etc/hosts").contains("\thello-1\n"));
        assert!(inside("node-1", "/etc/resolv.conf").contains("search svc.cluster.local cluster.local\n"));
        assert_eq!(inside("client", "/etc/resolv.conf"), fs::read_to_string("/etc/resolv.conf").unwrap());
    });
    stdout(&portolan(&["lab", "down"]));
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Words for people who mistype.
#[test]
fn mistakes_get_a_sentence() {
    let files = tempfile::tempdir().unwrap();
    let dir = files.path().join("nothing").display().to_string();
    for args in [&["status"][..], &["wait"], &["down"], &["exec", "client", "--", "true"]] {
        let mut command = Command::new(PORTOLAN);
        let (name, more) = args.split_first().unwrap();
        let output = command.args(["lab", name, "--dir", &dir]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("no lab runs in") && text.lines().count() == 1, "{args:?}: {text}");
    }
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let output = Command::new(PORTOLAN).args(["lab", "up", "--dir", &dir, "--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
}
