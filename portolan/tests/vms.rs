//! docs/vms.md, command by command: two machines from nothing to a Service. What the page says is printed must be printed.
//!
//! Each machine is a network, mount and process namespace of its own, with empty directories where the page keeps things;
//! a pair of virtual Ethernet devices is the cable between them. When a machine's first process is killed, the kernel ends
//! everything in it. In the page's `console` blocks `vm-1# ` begins a command, `> ` continues it, and other lines are what
//! it prints, where `…` stands for anything. A command with `…` in it is one that was printed before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vms.md");
/// The machines of the page, their addresses in its network, and that network's prefix.
const MACHINES: [(&str, &str); 2] = [("vm-1", "192.168.56.11/24"), ("vm-2", "192.168.56.12/24")];
/// What a machine has for itself.
const OWN_DIRECTORIES: [&str; 3] = ["/var/lib", "/run", "/srv"];
/// How long a command may take to print what it must.
const PATIENCE: Duration = Duration::from_secs(40);
const LONGEST_COMMAND: &str = "60";

/// A command of the page and the lines that follow it.
#[derive(Debug)]
struct Step {
    machine: String,
    command: String,
    prints: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        if !inside {
            continue;
        }
        let prompt = MACHINES.iter().find_map(|(name, _)| Some((*name, line.strip_prefix(&format!("{name}# "))?)));
        if let Some((machine, command)) = prompt {
            steps.push(Step { machine: machine.to_owned(), command: command.to_owned(), prints: Vec::new() });
        } else {
            let step = steps.last_mut().expect("a block begins with a command");
            match line.strip_prefix("> ") {
                Some(more) if step.prints.is_empty() => step.command += &format!("\n{more}"),
                _ => step.prints.push(line.to_owned()),
            }
        }
    }
    steps
}

/// Whether a line is what the page says, in which `…` stands for anything and a run of blanks for one.
fn fits(pattern: &str, line: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (plain(pattern), plain(line));
    let parts: Vec<&str> = pattern.split('…').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    if parts.len() == 1 {
        return pattern == line;
    }
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in &parts[1..parts.len() - 1] {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

struct Machine {
    /// `unshare`, which ends when its child does, and takes it along when it is killed.
    holder: Child,
    /// The first process in the namespaces, as it is numbered outside.
    first: u32,
    home: PathBuf,
    background: RefCell<Vec<Child>>,
}

impl Machine {
    fn start(name: &str, home: &Path) -> Self {
        let home = home.join(name);
        fs::create_dir_all(&home).unwrap();
        let mut mounts = String::from("mount --make-rprivate /\n");
        for directory in OWN_DIRECTORIES {
            mounts += &format!("mkdir -p {directory} && mount -t tmpfs tmpfs {directory}\n");
        }
        let script = format!("{mounts}hostname {name}\nip link set lo up\nexec sleep 900");
        let holder = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .args(["sh", "-ec", &script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let begin = Instant::now();
        let first = loop {
            let child = fs::read_to_string(&children).unwrap_or_default();
            let child: Option<u32> = child.split_whitespace().next().and_then(|pid| pid.parse().ok());
            // It is ready when the script has become what it ends with.
            if let Some(pid) = child
                && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
            {
                break pid;
            }
            assert!(begin.elapsed() < PATIENCE, "{name} did not come up");
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { holder, first, home, background: RefCell::default() }
    }

    /// A command in the machine, by a shell, with this repository's programs in its path; `before` is what runs it.
    fn command(&self, before: &[&str], line: &str) -> Command {
        let first = self.first.to_string();
        let enter = ["nsenter", "--target", &first, "--net", "--mount", "--uts", "--pid", "--", "bash", "-c", line];
        let all = [before, &enter].concat();
        let mut command = Command::new(all[0]);
        let path = format!("{}:{}", self.home.with_file_name("bin").display(), std::env::var("PATH").unwrap());
        command.args(&all[1..]).env("PATH", path).env("HOME", &self.home).env_remove("KUBECONFIG");
        command.current_dir(&self.home).stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(&["timeout", LONGEST_COMMAND], line).output().unwrap()
    }

    /// What it prints goes to the machine's log; it ends with the machine at the latest.
    fn start_in_background(&self, line: &str) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.join("log")).unwrap();
        let child = self.command(&[], line).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.background.borrow_mut().push(child);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        // Those who led into the machine end with what they led in.
        for mut child in self.background.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Both machines with a cable between them.
fn machines(home: &Path) -> BTreeMap<&'static str, Machine> {
    let bin = home.join("bin");
    fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(support::PORTOLAN, bin.join("portolan")).unwrap();
    std::os::unix::fs::symlink(support::kubectl_path(), bin.join("kubectl")).unwrap();
    let machines: BTreeMap<_, _> = MACHINES.iter().map(|(name, _)| (*name, Machine::start(name, home))).collect();
    // The other end is named by a process as this side numbers it, so the cable is laid from outside.
    let (one, two) = (machines["vm-1"].first, machines["vm-2"].first);
    let laid = Command::new("nsenter")
        .args(["--target", &one.to_string(), "--net", "--"])
        .args(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &two.to_string()])
        .output()
        .unwrap();
    assert!(laid.status.success(), "{}", String::from_utf8_lossy(&laid.stderr));
    for (name, address) in MACHINES {
        let up = format!("ip addr add {address} dev eth0 && ip link set eth0 up && ip route add default dev eth0");
        let up = machines[name].run(&up);
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    }
    machines
}

/// The variables that `export` and `NAME=…` lines leave, for the commands that follow on the same machine: each runs in a
/// shell of its own.
fn remembers(command: &str) -> bool {
    let name = command.trim_start_matches("export ").split('=').next().unwrap_or("");
    command.contains('=') && !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// Runs one of these tests again where this user is root.
fn as_root_of_a_namespace(test: &str) {
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "--mount", "--"]).arg(std::env::current_exe().unwrap());
    let status = again.args(["--exact", test, "--nocapture"]).status().unwrap();
    assert!(status.success(), "{test} in a user namespace: {status}");
}

#[test]
fn the_page_does_what_it_says() {
    if !nix::unistd::geteuid().is_root() {
        return as_root_of_a_namespace("the_page_does_what_it_says");
    }
    let dir = tempfile::tempdir().unwrap();
    let machines = machines(dir.path());
    let mut shells: BTreeMap<String, String> = BTreeMap::new();
    let mut printed: Vec<String> = Vec::new();
    let steps = steps(&fs::read_to_string(PAGE).unwrap());
    assert!(steps.len() > 15, "only {} commands were found in the page", steps.len());
    for step in &steps {
        let machine = &machines[step.machine.as_str()];
        let mut command = step.command.clone();
        let in_background = command.ends_with(" &");
        if command.contains('…') {
            // What is added to it on this machine stands behind two blanks.
            let (start, more) = step.command.trim_end_matches(" &").split_once("  ").unwrap_or((&step.command, ""));
            let start = start.trim_end_matches(" &");
            let known = printed.iter().rev().find(|line| fits(start, line));
            let known = known.unwrap_or_else(|| panic!("nothing was printed like {start}"));
            command = format!("{known} {more}");
        }
        let before = shells.entry(step.machine.clone()).or_default();
        if in_background {
            machine.start_in_background(&format!("{before}exec {}", command.trim_end_matches(" &")));
            continue;
        }
        let line = format!("{before}{command}");
        if remembers(&command) {
            *before += &format!("{command}\n");
        }
        // What has just been started may not be there yet: a reader would look again, too.
        let begin = Instant::now();
        loop {
            let output = machine.run(&line);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let as_said = step.prints.is_empty()
                || (lines.len() == step.prints.len() && step.prints.iter().zip(&lines).all(|(p, l)| fits(p, l)));
            if output.status.success() && as_said {
                printed.extend(lines.into_iter().map(str::to_owned));
                break;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{}# {}\nwas to print:\n{}\nbut {}:\n{text}{}\nlogs of vm-1:\n{}\nlogs of vm-2:\n{}",
                step.machine,
                step.command,
                step.prints.join("\n"),
                output.status,
                String::from_utf8_lossy(&output.stderr),
                machines["vm-1"].log(),
                machines["vm-2"].log(),
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn patterns() {
    assert!(fits("a b", "a  b") && !fits("a", "ab") && fits("a…", "abc") && fits("a…c d…f", "a1c dxf"));
    assert!(!fits("a…z", "abc") && fits("…", "") && !fits("b…", "ab"));
    assert!(remembers("export KUBECONFIG=/x") && remembers("IP=$(x)") && !remembers("kubectl get --all=true"));
}
