//! Where the probes of a lab's pod are made: connections come from its node, as kubelet's do, and commands run in the pod,
//! with what its container sees.

use std::io;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use proxy_agent::probes::place::gather;
use proxy_agent::probes::{Place, Ran, Running};
use tokio::net::TcpSocket;

use super::container::Launcher;
use super::manifest::{Facts, Manifest};
use crate::children::{Children, Exit};
use crate::mounts::Mounts;
use crate::netns::Netns;

/// A container of a pod, and what is round it.
#[derive(Debug)]
pub struct Beside {
    pub launcher: Launcher,
    pub node: Arc<Netns>,
    pub netns: Arc<Netns>,
    pub mounts: Option<Arc<Mounts>>,
    pub pod: Arc<Manifest>,
    /// In the order of [`Manifest::containers`].
    pub index: usize,
    pub facts: Facts,
}

impl Place for Beside {
    /// The prober's thread goes to the node for as long as this takes: a thread for each socket would cost more than the
    /// probe.
    fn socket(&self, ipv6: bool) -> io::Result<TcpSocket> {
        let home = Netns::current()?;
        setns(&*self.node, CloneFlags::CLONE_NEWNET)?;
        let socket = if ipv6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
        setns(&home, CloneFlags::CLONE_NEWNET)?;
        socket
    }

    fn exec(&self, command: &[String]) -> Running {
        let started = match self.pod.containers().nth(self.index) {
            Some((_, container)) => {
                self.launcher.beside(command, &self.pod, container, &self.netns, self.mounts.as_ref(), &self.facts)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let children = self.launcher.children.clone();
        Box::pin(async move {
            let (child, reader) = started?;
            let _guard = Killed { children, pid: child.pid };
            let (exit, output) = gather(reader, child.exit).await;
            let code = match exit.map_err(io::Error::other)? {
                Exit::Code(code) => code,
                Exit::Signal(signal) => 128 + signal,
            };
            Ok(Ran { code, output })
        })
    }
}

/// Kills a child that is still there.
struct Killed {
    children: Children,
    pid: i32,
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.children.signal(self.pid, Signal::SIGKILL);
    }
}
