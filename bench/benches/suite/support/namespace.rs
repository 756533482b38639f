//! Network namespaces as machines: a thread stays in each, and does there what it is told.

use std::process::Command;
use std::sync::mpsc;

use nix::sched::{CloneFlags, unshare};

/// A network namespace; it goes with the last process and socket in it.
pub struct Namespace {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    /// By which `ip` names the namespace.
    pub thread: i32,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            enter_new();
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        Self { jobs, thread: is_ready.recv().unwrap() }
    }

    /// Does something in the namespace, and waits for its end.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.recv().unwrap()
    }

    pub fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || {
            let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("ip is needed");
            assert!(status.success(), "ip {arguments}");
        });
    }
}

/// Runs `measure` on a thread in a network namespace of its own, which goes with it.
pub fn isolated<T: Send + 'static>(measure: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        enter_new();
        measure()
    });
    thread.join().unwrap()
}

fn enter_new() {
    unshare(CloneFlags::CLONE_NEWNET).expect("making a network namespace (run as root, or under `unshare -Ur`)");
}
