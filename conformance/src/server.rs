//! A real server process on a port of loopback, which can be killed and started again on the same data.
//!
//! The process is ended by its own handle, in `Drop`; nothing is found by name.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

/// The binary under test: beside the test program, where `cargo test --workspace` and `cargo build` leave it, or the one
/// that `PORTOLAN_BIN` names.
pub fn portolan() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    if let Some(path) = std::env::var_os("PORTOLAN_BIN") {
        return path.into();
    }
    let path = me.parent().unwrap().parent().unwrap().join("portolan");
    assert!(path.exists(), "{} is missing: run cargo build -p portolan", path.display());
    path
}

/// A running `portolan server`.
pub struct Server {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
    flags: Vec<String>,
}

impl Server {
    /// Starts a server on an empty directory and returns when it is ready, and when there are addresses for load balancers.
    pub fn start(flags: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        let child = spawn(dir.path(), address, &flags);
        let mut server = Server { child, address, dir, flags };
        server.wait_until_ready();
        server.make_pool();
        server
    }

    /// Where the addresses of the LoadBalancers in `kinds.json` come from.
    fn make_pool(&self) {
        let pool = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "outside"},
            "spec": {"addresses": ["203.0.113.0-203.0.113.9"]},
        });
        let request = http::Request::post("/apis/portolan.dev/v1alpha1/addresspools");
        let request = request.header("Content-Type", "application/json").body(pool.to_string().into_bytes()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { self.client().await.request_text(request).await.unwrap() });
    }

    /// `kill -9`, and a new server on the same data and port.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.child = spawn(self.dir.path(), self.address, &self.flags);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended ({status}): {}", self.log());
            }
            let ready = self.kubeconfig().exists()
                && std::net::TcpStream::connect(self.address).is_ok()
                && runtime.block_on(async {
                    self.client().await.request_text(http_get("/readyz")).await.is_ok_and(|text| text == "ok")
                });
            if ready {
                return;
            }
            assert!(Instant::now() < deadline, "the server is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("data/admin.kubeconfig")
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// A directory that goes with the server, for what a client leaves.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A kube-rs client. It belongs to the runtime that calls this.
    pub async fn client(&self) -> Client {
        let file = Kubeconfig::read_from(self.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = std::fs::File::open(self.dir.path().join("server.log")).map(|mut f| f.read_to_string(&mut text));
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

fn spawn(dir: &Path, address: SocketAddr, flags: &[String]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log")).unwrap();
    Command::new(portolan())
        .args(["server", "--listen", &address.to_string(), "--data-dir"])
        .arg(dir.join("data"))
        // Clients write what a load balancer would, so no other may.
        .arg("--controllers=*,-service-lb-controller")
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A GET as kube-rs takes it.
pub fn http_get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}
