//! Starting a container: a process of this machine's own file system, inside the pod's network namespace,
//! with the pod's `/etc/resolv.conf` and `/etc/hosts`; and what `exec` probes run beside it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use tokio::net::unix::pipe;

use super::manifest::{Container, Facts, Manifest, environment, expand};
use crate::children::{Child, Children};
use crate::mounts::Mounts;
use crate::netns::Netns;

/// A log that is larger than this when its container starts is put aside, over the one put aside before.
const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// What is passed on of the lab's own environment.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Starts processes for pods.
#[derive(Clone, Debug)]
pub struct Launcher {
    pub children: Children,
    /// What runs `echo`: this program.
    pub program: PathBuf,
    pub logs: PathBuf,
}

/// A container's process.
#[derive(Debug)]
pub struct Started {
    pub child: Child,
    /// Gives a byte when the echo listens; a command has none and is ready at once.
    pub listening: Option<pipe::Receiver>,
}

impl Launcher {
    /// Starts one container. An error is the user's: no such program, no such directory.
    pub fn start(
        &self,
        pod: &Manifest,
        container: &Container,
        netns: &Arc<Netns>,
        mounts: Option<&Arc<Mounts>>,
        facts: &Facts,
    ) -> io::Result<Started> {
        let variables = environment(pod, container, facts);
        let expanded = |words: &[String]| -> Vec<String> { words.iter().map(|w| expand(w, &variables)).collect() };
        let mut ready = None;
        let mut command = match expanded(&container.command).split_first() {
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).args(expanded(&container.args));
                command
            }
            None => {
                let (reader, writer) = io::pipe()?;
                let mut command = echo(&self.program, container, OwnedFd::from(writer));
                ready = Some(pipe::Receiver::from_owned_fd(reader.into())?);
                command.arg0("portolan");
                command
            }
        };
        self.dress(&mut command, pod, container, variables, netns, mounts)?;
        let log = self.log(pod, container)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Started { child: self.children.spawn(&mut command)?, listening: ready })
    }

    /// Starts a command beside the container's process, with what that sees. Its words are taken as they are: Kubernetes
    /// expands no variables in them. Gives the pipe that it writes to.
    pub fn beside(
        &self,
        words: &[String],
        pod: &Manifest,
        container: &Container,
        netns: &Arc<Netns>,
        mounts: Option<&Arc<Mounts>>,
        facts: &Facts,
    ) -> io::Result<(Child, pipe::Receiver)> {
        let (program, rest) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(rest);
        self.dress(&mut command, pod, container, environment(pod, container, facts), netns, mounts)?;
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = self.children.spawn(&mut command)?;
        Ok((child, pipe::Receiver::from_owned_fd(reader.into())?))
    }

    /// The pod's environment, namespaces and directory.
    fn dress(
        &self,
        command: &mut Command,
        pod: &Manifest,
        container: &Container,
        variables: Vec<(String, String)>,
        netns: &Arc<Netns>,
        mounts: Option<&Arc<Mounts>>,
    ) -> io::Result<()> {
        command.env_clear();
        command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command
            .env("HOSTNAME", pod.hostname())
            .env("PORTOLAN_POD", pod.metadata.name())
            .env("PORTOLAN_NAMESPACE", pod.metadata.namespace())
            .env("PORTOLAN_NODE", &pod.spec.node_name)
            .envs(variables);
        let directory = if container.working_dir.is_empty() { "/" } else { &container.working_dir };
        let (netns, mounts) = (Arc::clone(netns), mounts.map(Arc::clone));
        if mounts.is_none() {
            command.current_dir(directory);
        }
        let directory = CString::new(directory)?;
        // SAFETY: setns and chdir are bare system calls on descriptors and a text that the closure keeps.
        unsafe {
            command.pre_exec(move || {
                setns(&*netns, CloneFlags::CLONE_NEWNET)?;
                // Entering a mount namespace leads to its root.
                mounts.as_ref().map_or(Ok(()), |mounts| mounts.enter(&directory))
            })
        };
        Ok(())
    }

    fn log(&self, pod: &Manifest, container: &Container) -> io::Result<std::fs::File> {
        let name = format!("{}_{}_{}.log", pod.metadata.namespace(), pod.metadata.name(), container.name);
        let path = self.logs.join(name);
        if std::fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES) {
            std::fs::rename(&path, path.with_extension("log.1"))?;
        }
        std::fs::OpenOptions::new().append(true).create(true).open(&path)
    }
}

/// `portolan echo` on every port of the container that has a protocol it knows. SCTP is left out: an echo for it
/// would need a kernel that has SCTP sockets, and many have none.
fn echo(program: &Path, container: &Container, ready: OwnedFd) -> Command {
    let mut command = Command::new(program);
    command.arg("echo");
    let mut seen = BTreeSet::new();
    for port in &container.ports {
        let flag = match port.protocol.as_str() {
            "" | "TCP" => "--tcp",
            "UDP" => "--udp",
            _ => continue,
        };
        if seen.insert((flag, port.container_port)) {
            command.arg(flag).arg(port.container_port.to_string());
        }
    }
    command.arg("--ready-fd").arg(ready.as_raw_fd().to_string());
    // SAFETY: fcntl is a bare system call on a descriptor that the closure, and so the command, keeps open.
    unsafe {
        command.pre_exec(move || {
            fcntl(&ready, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        })
    };
    command
}
