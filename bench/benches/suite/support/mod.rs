//! What the benchmarks share: the real server on a free port of loopback, many clients at once, and figures of the
//! machine to hold the others against.
#![allow(dead_code, reason = "each case uses its own part of this")]

pub mod cluster;
pub mod connections;
pub mod crowd;
pub mod kernel;
pub mod lab;
pub mod namespace;
pub mod plans;
pub mod process;
pub mod wire;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use process::cpu;
use proxy_agent::client::Client;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// Clients that write at the same time, each on its own connection.
pub const CLIENTS: usize = 64;

/// Of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn target() -> PathBuf {
    root().join("target")
}

/// The binary that is measured: `PORTOLAN_BENCH_BINARY`, or the one that was built beside this program.
pub fn portolan() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTOLAN_BENCH_BINARY") {
        return path.into();
    }
    let me = std::env::current_exe().unwrap();
    let path = me.parent().and_then(Path::parent).unwrap().join("portolan");
    assert!(
        path.exists(),
        "{} is not there: `make bench` builds it, as does `cargo build -p portolan`",
        path.display()
    );
    path
}

pub fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown processor", |l| l.trim_start_matches([' ', '\t', ':']));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} × {model}, Linux {}", kernel.trim())
}

/// A runtime on this thread alone.
pub fn alone() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime with a thread for each core.
pub fn many_threads() -> Runtime {
    Builder::new_multi_thread().enable_all().build().unwrap()
}

/// A running `portolan server`, ended when dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    pub dir: Arc<tempfile::TempDir>,
}

impl Server {
    pub async fn start() -> Server {
        Self::start_with(&[]).await
    }

    /// With further arguments.
    pub async fn start_with(more: &[&str]) -> Server {
        std::fs::create_dir_all(target()).unwrap();
        Self::start_in(Arc::new(tempfile::tempdir_in(target()).unwrap()), more).await
    }

    /// On what another has left in this directory. It returns when the server is ready.
    pub async fn start_in(dir: Arc<tempfile::TempDir>, more: &[&str]) -> Server {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(portolan())
            .args(["server", "--listen", &address.to_string(), "--data-dir"])
            .arg(dir.path().join("data"))
            .args(more)
            .stdin(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Server { child, address, dir };
        let begun = Instant::now();
        loop {
            if server.kubeconfig().exists() && server.client().get_text("/readyz").await.is_ok() {
                return server;
            }
            let ended = server.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(server.dir.path().join("log")).unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(60), "the server is not ready: {}", log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it: at once, or by asking, which moves its write-ahead log into the database.
    pub fn stop(&mut self, kill: bool) {
        if kill {
            self.child.kill().unwrap();
        } else {
            assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        }
        self.child.wait().unwrap();
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("data/admin.kubeconfig")
    }

    pub fn client(&self) -> Client {
        Client::from_kubeconfig(&self.kubeconfig()).unwrap()
    }

    /// The processor time that the server has used so far.
    pub fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    pub fn resident_kib(&self) -> f64 {
        status_kib(self.child.id(), "VmRSS:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `portolan agent` for node-1, ended when dropped.
pub struct Agent {
    pub child: Child,
}

impl Agent {
    /// Returns when it has programmed the kernel.
    pub async fn start(server: &Server, since: Instant) -> Self {
        let child = Command::new(portolan())
            .args(["agent", "--node-name", "node-1", "--socket", "none", "--kubeconfig"])
            .arg(server.kubeconfig())
            .stderr(File::create(server.dir.path().join("agent.log")).unwrap())
            .spawn()
            .unwrap();
        let agent = Self { child };
        let metrics = Client::new("http://127.0.0.1:10249", None, None).unwrap();
        let programmed = |text: &str| {
            text.lines().any(|l| {
                l.starts_with("portolan_agent_programmed_revision{resource=\"services\"}") && !l.ends_with(" 0")
            })
        };
        while !metrics.get_text("/metrics").await.is_ok_and(|text| programmed(&text)) {
            assert!(since.elapsed() < Duration::from_secs(60), "the agent has programmed nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many open files as the machine lets this process have.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// This program, as what `cases::part` makes of these words, of which the first is the case's name.
pub fn part(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--part").args(words);
    command
}

/// Starts this case anew in a network namespace of its own, unless it is there already: namespaces belong to a whole
/// process, and this one may have threads. The first thing that a case does, if it does it.
pub fn inside() {
    if std::env::var_os("PORTOLAN_BENCH_INSIDE").is_some() {
        return;
    }
    let error = Command::new("unshare")
        .args(["--map-root-user", "--net", "--", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env("PORTOLAN_BENCH_INSIDE", "1")
        .exec();
    panic!("cannot run unshare: {error}");
}

/// Durable writes of 4 KiB per second that one file takes: what a store with one commit per write could reach.
pub fn fdatasync_rate(dir: &Path, writes: u32) -> f64 {
    let file = File::create(dir.join("fdatasync")).unwrap();
    let page = [7u8; 4096];
    let start = Instant::now();
    for i in 0..writes {
        file.write_all_at(&page, u64::from(i) * 4096).unwrap();
        file.sync_data().unwrap();
    }
    f64::from(writes) / start.elapsed().as_secs_f64()
}

/// Runs `count` requests, [`CLIENTS`] at a time, each client on its own connection; returns requests/s.
pub async fn rate<F>(server: &Server, count: usize, request: impl Fn(Client, usize) -> F + Send + Sync + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let request = Arc::new(request);
    let mut tasks = tokio::task::JoinSet::new();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
    for client in &clients {
        client.get_text("/readyz").await.unwrap();
    }
    let start = Instant::now();
    for client in clients {
        let (next, request) = (next.clone(), request.clone());
        tasks.spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    return;
                }
                request(client.clone(), i).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    count as f64 / start.elapsed().as_secs_f64()
}

pub fn service(name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

/// Resident memory in MiB: all of it, and the part that is the process's own (without mapped files).
pub fn memory(pid: u32) -> Value {
    json!({"residentMiB": status_kib(pid, "VmRSS:") / 1024.0, "anonymousMiB": status_kib(pid, "RssAnon:") / 1024.0})
}

fn status_kib(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A number of what was measured, by its JSON pointer.
pub fn number(of: &Value, pointer: &str) -> f64 {
    of.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {pointer}"))
}

/// p50, p90, p99 and the longest of these times.
pub fn spread(times: &[f64]) -> Value {
    let at = |q| quantile(times.to_vec(), q);
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)})
}

pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

pub fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}
