//! etcd, and a client for it that does as little as can be: the load shares the machine's cores with what it measures.
//!
//! gRPC is spoken over plain HTTP/2 by hand ([`frames`]), with bytes that were made beforehand. A client of etcd's own, in
//! Go, takes several times the processor time.

mod frames;
mod messages;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::Running;
use crate::support::target;
pub use frames::Connection;
use messages::count;
pub use messages::{put, watch};

pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A single member, as it comes, but for what it says in its log.
pub struct Etcd {
    child: Running,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Etcd {
    pub async fn start() -> Self {
        std::fs::create_dir_all(target()).unwrap();
        let dir = tempfile::tempdir_in(target()).unwrap();
        let [address, peer] = free();
        let (client, peer) = (format!("http://{address}"), format!("http://{peer}"));
        let child = Command::new("etcd")
            .args(["--name=bench", "--log-level=error", "--logger=zap"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("bench={peer}"), "--data-dir"])
            .arg(dir.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("etcd is there: `scripts/install-deps bench` installs it");
        let etcd = Self { child: Running(child), address, dir };
        let began = Instant::now();
        while etcd.keys().await.is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "etcd is not ready: {}", etcd.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        etcd
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub async fn connect(&self) -> Option<Connection> {
        connect(self.address).await
    }

    /// How many keys it holds; None while it does not answer.
    pub async fn keys(&self) -> Option<u64> {
        let mut connection = self.connect().await?;
        connection.ask(RANGE, &count());
        let answer = connection.answer().await?;
        messages::counted(&answer.message?)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Another connection to a server at its address.
pub async fn connect(address: SocketAddr) -> Option<Connection> {
    Connection::open(TcpStream::connect(address).await.ok()?)
}

/// Two ports that nobody has.
fn free() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}
