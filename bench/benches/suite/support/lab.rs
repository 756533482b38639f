//! A lab of nodes in network namespaces, brought up by the binary that is measured.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use proxy_agent::client::Client;

use super::portolan;

/// A running lab, taken down when dropped.
pub struct Lab {
    kubeconfig: PathBuf,
    files: tempfile::TempDir,
}

impl Lab {
    /// Returns when every node has programmed its dataplane.
    pub fn up(nodes: u16) -> Self {
        Self::up_with(nodes, &[])
    }

    /// With further arguments.
    pub fn up_with(nodes: u16, more: &[&str]) -> Self {
        // Not below `target`: the path of the lab's socket would be too long for one.
        let mut lab = Self { kubeconfig: PathBuf::new(), files: tempfile::tempdir().unwrap() };
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = lab.command("up");
        command.args(["--detach", "--nodes", &nodes.to_string(), "--listen", &listen.to_string()]).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "lab up: {}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        let kubeconfig = printed.trim().strip_prefix("export KUBECONFIG=");
        lab.kubeconfig = kubeconfig.unwrap_or_else(|| panic!("lab up printed {printed:?}")).into();
        lab
    }

    pub fn client(&self) -> Client {
        Client::from_kubeconfig(&self.kubeconfig).unwrap()
    }

    /// What runs a program in the namespace of `name`, once the program and its words are added.
    pub fn inside(&self, name: &str) -> Command {
        let mut command = self.command("exec");
        command.args([name, "--"]);
        command
    }

    /// Returns when every node has programmed what the server has.
    pub fn wait(&self) {
        assert!(self.command("wait").output().unwrap().status.success(), "a node has not programmed all");
    }

    /// The process of the server, and those of the nodes' agents.
    pub fn processes(&self) -> (u32, Vec<u32>) {
        let status = String::from_utf8(self.command("status").output().unwrap().stdout).unwrap();
        let server = status.split("(process ").nth(1).and_then(|rest| rest.split([',', ')']).next());
        // NODE ADDRESSES DATAPLANE AGENT …
        let agents = status.lines().filter(|line| line.starts_with("node-"));
        let agents = agents.map(|line| line.split_whitespace().nth(3).unwrap().parse().unwrap());
        (server.unwrap().parse().unwrap(), agents.collect())
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(portolan());
        command.args(["lab", what, "--dir"]).arg(self.files.path().join("lab")).stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = self.command("down").arg("--purge").output().unwrap();
        if !down.status.success() && !std::thread::panicking() {
            panic!("lab down: {}", String::from_utf8_lossy(&down.stderr));
        }
    }
}
