//! What the tests of the whole share: a real server process on a free port of loopback, and a lab.
//!
//! Processes are ended by their own handles, in `Drop`; nothing is found by name.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use proxy_agent::client::Client;
use serde_json::{Value, json};

/// The binary under test.
pub const PORTOLAN: &str = env!("CARGO_BIN_EXE_portolan");

/// The kubectl that `scripts/install-deps` put there.
pub fn kubectl_path() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/tools/kubectl");
    assert!(path.exists(), "kubectl is missing: run scripts/install-deps test (make test does)");
    path
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What is served at a path over HTTP, head and body; empty when nobody listens.
pub fn get(at: impl ToSocketAddrs, path: &str) -> String {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(at) {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut text));
    }
    text
}

/// A running `portolan server` on a data directory.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub dir: PathBuf,
}

impl Server {
    /// Starts a server and returns when it is ready.
    pub fn start(dir: &Path) -> Server {
        Self::start_on(dir, free_port(), &[])
    }

    pub fn start_on(dir: &Path, address: SocketAddr, more: &[&str]) -> Server {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log")).unwrap();
        let child = Command::new(PORTOLAN)
            .args(["server", "--listen", &address.to_string(), "--data-dir"])
            .arg(dir.join("data"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server { child, address, dir: dir.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended ({status}): {}", server.log());
            }
            if server.is_ready() {
                return server;
            }
            assert!(Instant::now() < deadline, "the server is not ready: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.kubeconfig().exists()
            && runtime.block_on(async {
                match Client::from_kubeconfig(&self.kubeconfig()) {
                    Ok(client) => client.get_text("/readyz").await.is_ok(),
                    Err(_) => false,
                }
            })
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data/admin.kubeconfig")
    }

    pub fn client(&self) -> Client {
        Client::from_kubeconfig(&self.kubeconfig()).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Runs kubectl against this server.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        kubectl(&self.kubeconfig(), &self.dir, args)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs kubectl with a cache of its own: discovery documents of another test's server must not be believed.
pub fn kubectl(kubeconfig: &Path, dir: &Path, args: &[&str]) -> Output {
    Command::new(kubectl_path())
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .env("KUBECACHEDIR", dir.join("kubecache"))
        .env("HOME", dir)
        .env("KUBE_EDITOR", "false")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A Service of TCP port 80 with one selector.
pub fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// A lab in a directory of its own, taken down when dropped.
pub struct Lab {
    pub dir: PathBuf,
    kubeconfig: PathBuf,
    _files: tempfile::TempDir,
}

impl Lab {
    /// Brings a lab up, and returns when every node has programmed its dataplane.
    pub fn up(nodes: u16) -> Lab {
        Self::up_with(nodes, &[])
    }

    /// The same, with further arguments for the agents.
    pub fn up_with(nodes: u16, agent_args: &[&str]) -> Lab {
        let args: Vec<&str> = agent_args.iter().flat_map(|arg| ["--agent-arg", *arg]).collect();
        Self::up_as(nodes, &args)
    }

    /// The same, with this dataplane.
    pub fn up_on(dataplane: &str, nodes: u16, agent_args: &[&str]) -> Lab {
        let more = agent_args.iter().flat_map(|arg| ["--agent-arg", *arg]);
        Self::up_as(nodes, &["--dataplane", dataplane].into_iter().chain(more).collect::<Vec<_>>())
    }

    /// The same, with so many edge nodes.
    pub fn up_edges(nodes: u16, edges: u16) -> Lab {
        Self::up_edges_with(nodes, edges, &[])
    }

    /// And with further arguments for the server.
    pub fn up_edges_with(nodes: u16, edges: u16, server_args: &[&str]) -> Lab {
        let edges = edges.to_string();
        let server = server_args.iter().flat_map(|arg| ["--server-arg", *arg]);
        Self::up_as(nodes, &["--edges", &edges].into_iter().chain(server).collect::<Vec<_>>())
    }

    fn up_as(nodes: u16, more: &[&str]) -> Lab {
        let files = tempfile::tempdir().unwrap();
        let mut lab = Lab { dir: files.path().join("lab"), kubeconfig: PathBuf::new(), _files: files };
        let (nodes, listen) = (nodes.to_string(), free_port().to_string());
        let mut up = vec!["up", "--detach", "--nodes", &nodes, "--listen", &listen];
        up.extend(more);
        let up = lab.command(&up);
        assert!(up.status.success(), "lab up: {}", String::from_utf8_lossy(&up.stderr));
        let printed = String::from_utf8_lossy(&up.stdout);
        let kubeconfig = printed.trim().strip_prefix("export KUBECONFIG=");
        lab.kubeconfig = kubeconfig.unwrap_or_else(|| panic!("lab up printed {printed:?}")).into();
        lab
    }

    /// Runs `portolan lab SUB --dir DIR ARGS…`.
    pub fn command(&self, args: &[&str]) -> Output {
        Command::new(PORTOLAN)
            .args(["lab", args[0], "--dir"])
            .arg(&self.dir)
            .args(&args[1..])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub fn status(&self) -> Value {
        let output = self.command(&["status", "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// Runs kubectl as the administrator; it must succeed. Returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = kubectl(&self.kubeconfig, &self.dir, args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `kubectl apply` of one object.
    pub fn apply(&self, object: &Value) {
        let file = self.dir.join("object.json");
        std::fs::write(&file, object.to_string()).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    pub fn wait(&self) {
        let output = self.command(&["wait", "--timeout", "60"]);
        assert!(output.status.success(), "lab wait: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command in the namespace of `name`, which must succeed, and returns what it printed.
    pub fn exec(&self, name: &str, argv: &[&str]) -> String {
        let mut args = vec!["exec", name, "--"];
        args.extend_from_slice(argv);
        let output = self.command(&args);
        assert!(output.status.success(), "{argv:?} in {name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a command of this binary in the namespace of `name`; it ends with what is returned.
    pub fn start(&self, name: &str, argv: &[&str]) -> Running {
        let mut command = Command::new(PORTOLAN);
        command.args(["lab", "exec", "--dir"]).arg(&self.dir).args([name, "--", PORTOLAN]).args(argv);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { child: Some(child), what: format!("{argv:?} in {name}") }
    }

    /// Starts `portolan probe` in the namespace of `from`.
    pub fn start_probe(&self, from: &str, transport: &str, target: &str, more: &[&str]) -> Running {
        let mut argv = vec!["probe", transport, target, "-o", "json"];
        argv.extend_from_slice(more);
        self.start(from, &argv)
    }

    /// Runs `portolan probe` in the namespace of `from`, and returns its report.
    pub fn probe(&self, from: &str, transport: &str, target: &str, more: &[&str]) -> Value {
        let mut args = vec!["exec", from, "--", PORTOLAN, "probe", transport, target, "-o", "json"];
        args.extend_from_slice(more);
        let output = self.command(&args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("probe from {from} to {target} printed no report ({e}): {}", String::from_utf8_lossy(&output.stderr))
        })
    }
}

/// A command that runs in a lab.
pub struct Running {
    child: Option<Child>,
    what: String,
}

impl Running {
    /// Waits for its end, and reads what it printed as JSON.
    pub fn report(mut self) -> Value {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("{} printed no report ({e}): {}", self.what, String::from_utf8_lossy(&output.stderr))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = self.command(&["down", "--purge"]);
        if !down.status.success() && !std::thread::panicking() {
            panic!("lab down: {}", String::from_utf8_lossy(&down.stderr));
        }
    }
}
