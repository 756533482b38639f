//! `lab status`, `wait`, `stop`, `start`, `exec` and `down`: what is asked of a running lab from outside.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use proxy_agent::Dataplane;

use crate::control::{Answer, Answered, Namespace, Request, ask};
use crate::{LabError, Status};

/// How long an answer may take that needs no waiting.
const PROMPT: Duration = Duration::from_secs(30);
/// How long a lab may take to end before it is killed.
const END_LIMIT: Duration = Duration::from_secs(15);

/// By which `portolan register` finds the agent of the node that it runs on.
const SOCKET: &str = "PORTOLAN_SOCKET";

/// Where the agent of a node listens for workloads.
pub(crate) fn agent_socket(dir: &Path, node: &str) -> PathBuf {
    dir.join("run").join(format!("{node}.sock"))
}

pub(crate) fn status(dir: &Path) -> Result<Status, LabError> {
    let answered = ask(dir, &Request::Status, PROMPT)?;
    let Answer::Status(mut status) = answered.answer else { return Err(unexpected()) };
    let outside = pids_outside(answered.supervisor);
    let translate = |pid: &mut Option<i32>| *pid = pid.and_then(|p| outside.get(&p).copied());
    translate(&mut status.server.pid);
    for node in &mut status.nodes {
        translate(&mut node.agent_pid);
    }
    for edge in &mut status.edges {
        translate(&mut edge.pid);
    }
    Ok(*status)
}

pub(crate) fn wait(dir: &Path, timeout: Duration) -> Result<(), LabError> {
    let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    match ask(dir, &Request::Wait { milliseconds }, timeout.saturating_add(PROMPT))?.answer {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

pub(crate) fn stop(dir: &Path, name: &str) -> Result<(), LabError> {
    match ask(dir, &Request::Stop { name: name.to_owned() }, PROMPT)?.answer {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

pub(crate) fn start(dir: &Path, name: &str, dataplane: Option<Dataplane>) -> Result<(), LabError> {
    match ask(dir, &Request::Start { name: name.to_owned(), dataplane }, PROMPT)?.answer {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

pub(crate) fn cut(dir: &Path, node: &str) -> Result<(), LabError> {
    match ask(dir, &Request::Cut { name: node.to_owned() }, PROMPT)?.answer {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

pub(crate) fn heal(dir: &Path, node: &str) -> Result<(), LabError> {
    match ask(dir, &Request::Heal { name: node.to_owned() }, PROMPT)?.answer {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

pub(crate) fn exec(dir: &Path, name: &str, command: &[OsString]) -> Result<i32, LabError> {
    let (program, arguments) = command.split_first().ok_or(LabError::NoCommand)?;
    let Answered { answer: Answer::Namespaces(kinds), descriptors, .. } =
        ask(dir, &Request::Enter { name: name.to_owned() }, PROMPT)?
    else {
        return Err(unexpected());
    };
    // Where this process stands may change with its namespaces.
    let own = dir.canonicalize();
    enter(&kinds, &descriptors)
        .map_err(|e| if e.kind() == io::ErrorKind::Other { LabError::Threads } else { LabError::Enter(e) })?;
    drop(descriptors);
    let start = |source| LabError::Start { program: program.into(), source };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Ok(dir) = &own {
        let socket = agent_socket(dir, name);
        if socket.exists() {
            command.env(SOCKET, socket);
        }
    }
    // SAFETY: bare system calls.
    unsafe {
        command.pre_exec(|| {
            // Ends with this process, and takes the terminal's signals itself.
            prctl::set_pdeathsig(Signal::SIGTERM)?;
            for terminal in [Signal::SIGINT, Signal::SIGQUIT] {
                signal(terminal, SigHandler::SigDfl)?;
            }
            Ok(())
        })
    };
    let mut child = command.spawn().map_err(start)?;
    for terminal in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(terminal, SigHandler::SigIgn) }.map_err(|e| start(e.into()))?;
    }
    let status = child.wait().map_err(start)?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

pub(crate) fn down(dir: &Path, purge: bool) -> Result<(), LabError> {
    match ask(dir, &Request::Down, PROMPT) {
        Ok(answered) => await_end(answered.supervisor)?,
        Err(LabError::NotRunning { dir: named }) => {
            // A lab that is only just coming up, or whose socket was deleted, still holds the lock.
            match lock_holder(dir) {
                Lock::Held(Some(pid)) => {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                    await_end(pid)?;
                }
                Lock::Held(None) => return Err(LabError::Starting { dir: named }),
                Lock::Free if purge && crate::launch::lock_path(dir).exists() => {}
                Lock::Free => return Err(LabError::NotRunning { dir: named }),
            }
        }
        Err(other) => return Err(other),
    }
    if purge { remove_files(dir) } else { Ok(()) }
}

/// Removes what a lab writes, and the directory if nothing else is in it.
fn remove_files(dir: &Path) -> Result<(), LabError> {
    for folder in ["server", "logs", "run", crate::joining::NODES, crate::joining::EDGES] {
        ignore_missing(fs::remove_dir_all(dir.join(folder))).map_err(LabError::file(dir.join(folder)))?;
    }
    for file in ["lab.sock", "lab.log", "inside.kubeconfig", "lab.lock"] {
        ignore_missing(fs::remove_file(dir.join(file))).map_err(LabError::file(dir.join(file)))?;
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => ignore_missing(other).map_err(LabError::file(dir)),
    }
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether somebody holds a lab's lock.
enum Lock {
    Free,
    /// With the supervisor's process, once there is one.
    Held(Option<i32>),
}

fn lock_holder(dir: &Path) -> Lock {
    let path = crate::launch::lock_path(dir);
    let Ok(file) = File::open(&path) else { return Lock::Free };
    if file.try_lock().is_ok() {
        return Lock::Free;
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    Lock::Held(text.trim().parse().ok().filter(|pid| *pid > 1))
}

/// Waits until the process, and with it its PID namespace, is gone. One that takes too long is killed.
///
/// The lock is no sign of that: the kernel closes PID 1's files before it kills what lives below it.
fn await_end(pid: i32) -> Result<(), LabError> {
    let process = match pidfd(pid) {
        Ok(process) => process,
        Err(Errno::ESRCH) => return Ok(()),
        Err(_) => return Err(LabError::Stuck { pid }),
    };
    if ended_within(process.as_fd(), END_LIMIT) {
        return Ok(());
    }
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    if ended_within(process.as_fd(), END_LIMIT) { Ok(()) } else { Err(LabError::Stuck { pid }) }
}

fn pidfd(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two integers; the descriptor it gives is new and belongs to nobody else.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn ended_within(process: BorrowedFd<'_>, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process, PollFlags::POLLIN)], timeout) {
            Ok(0) => return false,
            Err(Errno::EINTR) => {}
            other => return other.is_ok(),
        }
    }
}

/// Moves this process into the namespaces, and its children into the PID namespace.
fn enter(kinds: &[Namespace], descriptors: &[OwnedFd]) -> io::Result<()> {
    if kinds.len() != descriptors.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if fs::read_dir("/proc/self/task")?.count() > 1 {
        return Err(io::Error::other("several threads"));
    }
    // Entering a mount namespace leads to its root.
    let cwd = std::env::current_dir();
    for (kind, descriptor) in kinds.iter().zip(descriptors) {
        let flag = match kind {
            Namespace::User => CloneFlags::CLONE_NEWUSER,
            Namespace::Network => CloneFlags::CLONE_NEWNET,
            Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
            Namespace::Pid => CloneFlags::CLONE_NEWPID,
            Namespace::Mount => CloneFlags::CLONE_NEWNS,
        };
        setns(descriptor, flag)?;
    }
    match cwd {
        Ok(cwd) => std::env::set_current_dir(cwd),
        Err(_) => Ok(()),
    }
}

/// For every process in the PID namespace of which `supervisor` is the first: its number inside, and here.
fn pids_outside(supervisor: i32) -> HashMap<i32, i32> {
    let mut map = HashMap::new();
    let Ok(wanted) = fs::read_link(format!("/proc/{supervisor}/ns/pid")) else { return map };
    let Ok(processes) = fs::read_dir("/proc") else { return map };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if fs::read_link(process.path().join("ns/pid")).is_ok_and(|ns| ns == wanted)
            && let Some(inside) = fs::read_to_string(process.path().join("status")).ok().as_deref().and_then(pid_inside)
        {
            map.insert(inside, pid);
        }
    }
    map
}

/// The number in the innermost namespace, from the text of `/proc/PID/status`.
fn pid_inside(status: &str) -> Option<i32> {
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

fn unexpected() -> LabError {
    LabError::Refused { reason: "the lab was started by another version of portolan; restart it".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_number_comes_last() {
        assert_eq!(pid_inside("Name:\tx\nNSpid:\t4711\t12\n"), Some(12));
        assert_eq!(pid_inside("NSpid:\t4711\n"), Some(4711));
        assert_eq!(pid_inside("Name:\tx\n"), None);
    }

    #[test]
    fn a_directory_without_a_lab_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for outcome in [status(dir.path()).map(drop), wait(dir.path(), PROMPT), down(dir.path(), true)] {
            assert!(matches!(outcome, Err(LabError::NotRunning { .. })), "{outcome:?}");
        }
        let missing = dir.path().join("missing");
        assert!(matches!(status(&missing), Err(LabError::NotRunning { .. })));
        assert!(dir.path().exists(), "nothing that is no lab's is purged");
    }

    #[test]
    fn a_stale_socket_is_no_lab() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("lab.sock")).unwrap());
        assert!(matches!(status(dir.path()), Err(LabError::NotRunning { .. })));
        File::create(dir.path().join("lab.lock")).unwrap();
        down(dir.path(), true).unwrap();
        assert!(!dir.path().exists(), "its leavings are purged");
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = Command::new("sleep").arg("0.2").spawn().unwrap();
        await_end(i32::try_from(child.id()).unwrap()).unwrap();
        child.wait().unwrap();
    }
}
