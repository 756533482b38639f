//! The processes below PID 1, of which it is the only parent that counts.
//!
//! PID 1 must also take in orphans, so nobody may wait for a single child: one task waits for all, and tells the one
//! who started the child. A signal is sent only while the child is known to be alive or not yet waited for, so it can
//! never hit a stranger that got the same number.
//!
//! Every child leads a process group of its own, and when the leader ends the rest of its group is killed: what a
//! pod's command started does not outlive it.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

const POLL: Duration = Duration::from_millis(10);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// A child that was started.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub exit: oneshot::Receiver<Exit>,
}

/// The children of this process, by process number.
#[derive(Clone, Debug, Default)]
pub struct Children {
    alive: Arc<Mutex<HashMap<i32, oneshot::Sender<Exit>>>>,
}

impl Children {
    /// Starts the task that waits for all children, on the current runtime.
    pub fn new() -> io::Result<Self> {
        let children = Self::default();
        let mut died = signal(SignalKind::child())?;
        let reaper = children.clone();
        tokio::spawn(async move {
            while died.recv().await.is_some() {
                reaper.reap();
            }
        });
        Ok(children)
    }

    /// Starts `command` in a session of its own.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // SAFETY: setsid is a bare system call.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                Ok(())
            })
        };
        // Held while starting: the reaper must not take a child away before it is known, nor the short-lived one that
        // the standard library waits for itself when the program cannot be executed.
        let mut alive = self.lock();
        let pid = i32::try_from(command.spawn()?.id()).map_err(io::Error::other)?;
        let (ended, exit) = oneshot::channel();
        alive.insert(pid, ended);
        Ok(Child { pid, exit })
    }

    /// Sends a signal to a child's process group, if the child has not ended.
    pub fn signal(&self, pid: i32, signal: Signal) {
        if self.lock().contains_key(&pid) {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// Sends a signal to every child's process group but that of `spared`.
    pub fn signal_all(&self, signal: Signal, spared: Option<i32>) {
        for pid in self.lock().keys().filter(|pid| Some(**pid) != spared) {
            let _ = killpg(Pid::from_raw(*pid), signal);
        }
    }

    /// Waits until none is left but `spared`, for at most `limit`.
    pub async fn all_ended(&self, spared: Option<i32>, limit: Duration) {
        let until = Instant::now() + limit;
        while self.lock().keys().any(|pid| Some(*pid) != spared) && Instant::now() < until {
            tokio::time::sleep(POLL).await;
        }
    }

    fn reap(&self) {
        let mut alive = self.lock();
        loop {
            // First look, so that the number is still the dead leader's while its group is killed.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let pid = match waitid(Id::All, flags) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                Err(Errno::EINTR) => continue,
                _ => return,
            };
            let ended = alive.remove(&pid.as_raw());
            if ended.is_some() {
                let _ = killpg(pid, Signal::SIGKILL);
            }
            let exit = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
                _ => continue,
            };
            if let Some(ended) = ended {
                // Nobody may be interested any more.
                let _ = ended.send(exit);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Exit>>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills every process whose network namespace is the one with this inode: what left its process group, and what
/// `lab exec` put there.
pub fn kill_inside(inode: u64) {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    let wanted = format!("net:[{inode}]");
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let inside =
            std::fs::read_link(process.path().join("ns/net")).is_ok_and(|ns| ns.as_os_str() == wanted.as_str());
        if inside && pid != 1 {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
