//! How `exec` probes run on a machine: those of the folder as the agent, those of a registration as the process that
//! registered. The command gets no more than a path to search: the agent's own environment is nobody's business.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::socket::Peer;
use crate::probes::place::gather;
use crate::probes::{Place, Ran, Running};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// This machine, for probes.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// As whom commands run; `None`: as the agent.
    pub peer: Option<Peer>,
}

impl Place for Machine {
    fn exec(&self, command: &[String]) -> Running {
        let started = self.start(command);
        Box::pin(async move {
            let (mut child, reader) = started?;
            let group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()));
            let exit = async {
                let status = child.wait().await;
                // What it left running ends with it.
                drop(group);
                status
            };
            let (status, output) = gather(reader, exit).await;
            let status = status?;
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            Ok(Ran { code, output })
        })
    }
}

impl Machine {
    fn start(self, command: &[String]) -> io::Result<(Child, pipe::Receiver)> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).current_dir("/");
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        command.process_group(0).kill_on_drop(true);
        // Who is not root can be nobody else, and need not where it is asked to be itself.
        if let Some(peer) = self.peer.filter(|peer| geteuid().is_root() || geteuid().as_raw() != peer.uid) {
            command.uid(peer.uid).gid(peer.gid);
        }
        Ok((command.spawn()?, pipe::Receiver::from_owned_fd(reader.into())?))
    }
}

/// The processes of a command, which end with it.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probes::MAX_OUTPUT_BYTES;

    async fn run(peer: Option<Peer>, script: &str) -> io::Result<Ran> {
        let command: Vec<String> = ["sh", "-c", script].map(str::to_owned).into();
        Machine { peer }.exec(&command).await
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind() {
        let ran = run(None, "echo out; echo err >&2; exit 3").await.unwrap();
        assert_eq!((ran.code, ran.output), (3, b"out\nerr\n".to_vec()));
        assert_eq!(run(None, "kill -9 $$").await.unwrap().code, 137);
        assert_eq!(run(None, "head -c 100000 /dev/zero").await.unwrap().output.len(), MAX_OUTPUT_BYTES);
        assert_eq!(run(None, "env | cut -d= -f1 | sort").await.unwrap().output, b"PATH\nPWD\n");
        assert!(Machine { peer: None }.exec(&["/nowhere".to_owned()]).await.is_err());
        assert!(Machine { peer: None }.exec(&[]).await.is_err());
    }

    #[tokio::test]
    async fn what_it_started_ends_with_it() {
        let running = run(None, "sleep 1000 & echo $!");
        let ran = tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
        let pid: i32 = String::from_utf8(ran.output).unwrap().trim().parse().unwrap();
        for _ in 0..200 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if status.is_empty() || status.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{pid} runs on");
    }

    #[tokio::test]
    async fn a_registration_is_probed_as_who_registered() {
        if !geteuid().is_root() {
            let other = Peer { uid: geteuid().as_raw() + 1, gid: 1 };
            assert!(run(Some(other), "true").await.is_err(), "nobody can become another");
            return;
        }
        let ran = run(Some(Peer { uid: 65534, gid: 65534 }), "id -u; id -G").await.unwrap();
        assert_eq!(String::from_utf8(ran.output).unwrap(), "65534\n65534\n");
    }
}
