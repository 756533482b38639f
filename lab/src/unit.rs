//! The lab's own programs: the server, and an agent per node. Each is started again when it ends, soon at first and
//! then less often, until the lab ends, except while it is to be stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::children::{Child, Children, Exit};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One that ran this long is started again at once.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// How long one that is to stop may take; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// How much of a log is searched for its last line.
const TAIL_BYTES: u64 = 4096;

/// A program that is kept running.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
    log: PathBuf,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// 0 while it does not run.
    pid: AtomicI32,
    restarts: AtomicU32,
    /// Whether it is to be stopped.
    held: watch::Sender<bool>,
}

impl Unit {
    /// Keeps what `command` makes running, as one of `tasks`; its output goes to `log`.
    pub fn keep(
        name: &str,
        tasks: &mut JoinSet<()>,
        children: &Children,
        log: PathBuf,
        command: impl Fn() -> io::Result<Command> + Send + 'static,
    ) -> Self {
        let unit = Self { name: name.to_owned(), log, state: Arc::default() };
        tasks.spawn(unit.clone().run(children.clone(), command));
        unit
    }

    /// Its process number, while it runs.
    pub fn pid(&self) -> Option<i32> {
        Some(self.state.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub fn restarts(&self) -> u32 {
        self.state.restarts.load(Ordering::Relaxed)
    }

    /// Ends it and keeps it from being started again; returns when it has ended.
    pub async fn stop(&self, children: &Children) {
        self.state.held.send_replace(true);
        let until = Instant::now() + STOP_LIMIT;
        let mut told = None;
        while let Some(pid) = self.pid() {
            let signal = if Instant::now() < until { Signal::SIGTERM } else { Signal::SIGKILL };
            if told != Some((pid, signal)) {
                children.signal(pid, signal);
                told = Some((pid, signal));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts it again after [`Unit::stop`].
    pub fn release(&self) {
        self.state.held.send_replace(false);
    }

    /// The last line that it wrote: why it ended, as a rule.
    pub fn last_words(&self) -> String {
        last_line(&self.log).unwrap_or_else(|| format!("it said nothing in {}", self.log.display()))
    }

    async fn run(self, children: Children, command: impl Fn() -> io::Result<Command>) {
        let mut pause = FIRST_PAUSE;
        let mut held = self.state.held.subscribe();
        loop {
            let began = Instant::now();
            match self.start(&children, &command) {
                Ok(child) => {
                    self.state.pid.store(child.pid, Ordering::Relaxed);
                    let exit = child.exit.await.unwrap_or(Exit::Code(255));
                    self.state.pid.store(0, Ordering::Relaxed);
                    let why = match exit {
                        Exit::Code(code) => format!("with code {code}: {}", self.last_words()),
                        Exit::Signal(signal) => format!("by signal {signal}"),
                    };
                    let then = if *held.borrow() { "as it was told" } else { "starting it again" };
                    tracing::warn!("{} ended {why}; {then}", self.name);
                }
                Err(error) => tracing::error!("{} cannot be started: {error}", self.name),
            }
            if began.elapsed() >= STEADY_AFTER {
                pause = FIRST_PAUSE;
            }
            if *held.borrow() {
                pause = FIRST_PAUSE;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // The other end is in the state that this task has, too.
            let _ = held.wait_for(|held| !held).await;
            self.state.restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn start(&self, children: &Children, command: &impl Fn() -> io::Result<Command>) -> io::Result<Child> {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(&self.log)?;
        let mut command = command()?;
        children.spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
    }
}

fn last_line(path: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    String::from_utf8_lossy(&tail).lines().rev().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
}
