//! What others make of the same work: servers from Debian's packages (`scripts/install-deps bench`), each a child of this
//! process with data of its own below `target/`, ended when dropped. Their durability is as they come: fsync is on.
//!
//! They get the better hand where there is a choice: no TLS, no authentication, an empty database for each measurement.

pub mod etcd;
pub mod postgres;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::process;

/// How long a peer may take to end in order.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer's process, which ends when this is dropped.
pub struct Running(pub Child);

impl Running {
    /// Starts a program that Debian has, quietly. A peer that is missing is a failure: nothing is left out in silence.
    pub fn start(command: &mut Command) -> Self {
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn();
        let name = command.get_program().display();
        Self(child.unwrap_or_else(|error| panic!("{name}: {error}; scripts/install-deps bench installs it")))
    }

    /// Returns when somebody listens there.
    pub fn await_listening(&mut self, at: SocketAddr) {
        let began = Instant::now();
        while std::net::TcpStream::connect(at).is_err() {
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "nobody listens at {at}; {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processor time of the process and those that it started.
    pub fn cpu(&self) -> Duration {
        process::cpu(self.0.id())
    }
}

impl Drop for Running {
    /// In order if it can: what was killed leaves shared memory behind.
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = kill(pid, Signal::SIGINT);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
