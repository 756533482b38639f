//! From a shell in the host's namespaces to PID 1 in the lab's.
//!
//! The order is the point. The lock and the API's listening socket are taken first, where the user stands, so that
//! what can be refused is refused before anything exists, and `kubectl` outside reaches the socket. Then this process
//! moves into new namespaces and starts the supervisor, which thereby is PID 1 of the new PID namespace. Everything
//! runs in single-threaded code: a new user namespace can be entered in no other, and nothing is forked that has
//! locks in unknown states.
//!
//! The supervisor inherits the lock. A lab therefore runs in a directory exactly as long as the lock is held, and what
//! a crashed one left (a socket file, say) is known to be stale by the lock being free.

mod namespaces;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, PipeReader, Read, Seek, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use proxy_agent::Dataplane;

use crate::{LabError, MAX_EDGES, MAX_NODES, Ready, UpOptions};

#[cfg(test)]
pub(crate) use namespaces::enter_test_namespaces;

/// The program itself, whatever has become of the file it was started from.
pub(crate) const SELF: &str = "/proc/self/exe";
/// How long a port may still be held by a lab that was just killed.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

/// What the supervisor is told, as JSON in its only argument.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Absolute.
    pub dir: PathBuf,
    pub nodes: u8,
    pub edges: u8,
    pub dataplane: Dataplane,
    pub agent_args: Vec<String>,
    pub server_args: Vec<String>,
    pub detach: bool,
    /// Where the inherited socket listens.
    pub listen: SocketAddr,
    /// Whether the lab has a user namespace of its own.
    pub user_namespace: bool,
    /// Descriptors of the API's socket, of the lock, and of the pipe for the [`Report`].
    pub listener: RawFd,
    pub lock: RawFd,
    pub report: RawFd,
}

/// What the supervisor says, once, when it is up or has given up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Ready(Ready),
    Failed { reason: String },
}

pub(crate) fn up(options: &UpOptions, ready: &mut dyn FnMut(&Ready)) -> Result<(), LabError> {
    let nodes = u8::try_from(options.nodes).ok().filter(|n| (1..=MAX_NODES).contains(&usize::from(*n)));
    let nodes = nodes.ok_or(LabError::Nodes { asked: options.nodes })?;
    let edges = u8::try_from(options.edges).ok().filter(|n| usize::from(*n) <= MAX_EDGES);
    let edges = edges.ok_or(LabError::Edges { asked: options.edges })?;
    let dir = prepare(&options.dir)?;
    let mut lock = take_lock(&dir)?;
    let crashed = fs::symlink_metadata(crate::control::socket_path(&dir)).is_ok();
    let listener = listen(options.listen, if crashed { PORT_PATIENCE } else { Duration::ZERO })?;
    let address = listener.local_addr().map_err(|source| LabError::Listen { listen: options.listen, source })?;
    let (report, report_writer) = io::pipe().map_err(LabError::file("a pipe"))?;
    let log = dir.join("lab.log");

    let user_namespace = namespaces::enter()?;
    let spec = Spec {
        dir: dir.clone(),
        nodes,
        edges,
        dataplane: options.dataplane,
        agent_args: options.agent_args.clone(),
        server_args: options.server_args.clone(),
        detach: options.detach,
        listen: address,
        user_namespace,
        listener: listener.as_raw_fd(),
        lock: lock.as_raw_fd(),
        report: report_writer.as_raw_fd(),
    };
    let program = options.exe.clone().unwrap_or_else(|| SELF.into());
    let output = if options.detach { Some(append(&log)?) } else { None };
    let mut supervisor = start(&program, &spec, output)?;
    drop((listener, report_writer));
    // For the message of a second `lab up`, and nothing else: the lock says whether a lab runs.
    let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", supervisor.id()));
    drop(lock);

    match await_report(report) {
        Some(Report::Ready(lab)) => ready(&lab),
        Some(Report::Failed { reason }) => {
            let _ = supervisor.wait();
            return Err(LabError::Failed { reason });
        }
        None => {
            let _ = supervisor.wait();
            return Err(LabError::Died { log: if options.detach { log } else { dir.join("logs") } });
        }
    }
    if options.detach {
        return Ok(());
    }
    let ended = stand_by(&mut supervisor).map_err(LabError::file(&dir))?;
    if ended.success() { Ok(()) } else { Err(LabError::Ended { logs: dir.join("logs") }) }
}

/// Makes the lab's directory, private to its user, and gives its absolute path. A directory with other things in it is not
/// taken: `down --purge` removes what a lab's directory holds.
fn prepare(dir: &Path) -> Result<PathBuf, LabError> {
    if !lock_path(dir).exists() && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(LabError::Foreign { dir: dir.to_owned() });
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(LabError::file(dir))?;
    let dir = dir.canonicalize().map_err(LabError::file(dir))?;
    builder.create(dir.join("logs")).map_err(LabError::file(&dir))?;
    Ok(dir)
}

pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lab.lock")
}

fn take_lock(dir: &Path) -> Result<File, LabError> {
    let path = lock_path(dir);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = options.map_err(LabError::file(&path))?;
    match file.try_lock() {
        Ok(()) => {
            // The process of an earlier lab stands in it, and its number may be another's by now.
            file.set_len(0).map_err(LabError::file(&path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(LabError::Running { dir: dir.to_owned(), pid })
        }
        Err(TryLockError::Error(source)) => Err(LabError::File { path, source }),
    }
}

/// Listens; an address in use is tried again for `patience`.
fn listen(address: SocketAddr, patience: Duration) -> Result<TcpListener, LabError> {
    let until = Instant::now() + patience;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                if Instant::now() >= until {
                    return Err(LabError::PortInUse { listen: address });
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(source) => return Err(LabError::Listen { listen: address, source }),
        }
    }
}

pub(crate) fn append(path: &Path) -> Result<File, LabError> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(LabError::file(path))
}

/// Starts the supervisor: in a session of its own, so that a Ctrl-C at the terminal goes to this process alone, and
/// killed by the kernel when this process ends. A detached one lifts that when it is ready.
fn start(program: &Path, spec: &Spec, output: Option<File>) -> Result<Child, LabError> {
    let failed = |source| LabError::Start { program: program.to_owned(), source };
    let argument = serde_json::to_string(spec).map_err(|e| failed(e.into()))?;
    let mut command = Command::new(program);
    command.arg0("portolan").args(["lab", "supervise", &argument]).stdin(Stdio::null());
    if let Some(output) = output {
        command.stdout(output.try_clone().map_err(failed)?).stderr(output);
    }
    let inherited = [spec.listener, spec.lock, spec.report];
    // SAFETY: only system calls are made between fork and exec, on descriptors that are open in this function's caller.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            for fd in inherited {
                fcntl(std::os::fd::BorrowedFd::borrow_raw(fd), FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        })
    };
    command.spawn().map_err(failed)
}

/// Waits until the supervisor has spoken, or is gone.
fn await_report(mut pipe: PipeReader) -> Option<Report> {
    let mut text = Vec::new();
    pipe.read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Waits for the supervisor's end, and passes on what is meant for it. The second signal is the last.
fn stand_by(supervisor: &mut Child) -> io::Result<ExitStatus> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let pid = Pid::from_raw(i32::try_from(supervisor.id()).map_err(io::Error::other)?);
    let mut next = Signal::SIGTERM;
    loop {
        if let Some(status) = supervisor.try_wait()? {
            return Ok(status);
        }
        if signals.wait()? != Signal::SIGCHLD {
            let _ = kill(pid, next);
            next = Signal::SIGKILL;
        }
    }
}
