//! kubectl in each version, unchanged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::tool;

/// What the installer fetched: the oldest that people still meet, one from the middle, the newest.
pub const VERSIONS: [&str; 3] = ["1.27", "1.32", "1.37"];

/// One version of kubectl, with a cache of its own: discovery documents of another server must not be believed.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    dir: PathBuf,
}

impl Kubectl {
    /// `dir` is for the cache and whatever else kubectl leaves in a home.
    pub fn new(version: &str, kubeconfig: &Path, dir: &Path) -> Kubectl {
        let dir = dir.join(format!("kubectl-{version}"));
        std::fs::create_dir_all(&dir).unwrap();
        Kubectl { program: tool(&format!("kubectl-{version}")), kubeconfig: kubeconfig.to_owned(), dir }
    }

    /// The command, for those who want to run it themselves.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(args)
            .current_dir(&self.dir)
            .env("KUBECACHEDIR", self.dir.join("cache"))
            .env("HOME", &self.dir)
            // An editor that changes one line, as a person would.
            .env("KUBE_EDITOR", "sed -i s/edit-me/edited/")
            // A diff whose lines do not tell where kubectl keeps its files.
            .env("KUBECTL_EXTERNAL_DIFF", "diff -u -N --label LIVE --label MERGED")
            .env("TMPDIR", &self.dir)
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    /// Runs it with `input` on its standard input.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S], input: &str) -> Output {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs it and returns what it printed; a failure is the test's.
    pub fn must<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(&self, args: &[S], input: &str) -> String {
        let output = self.run(args, input);
        assert!(
            output.status.success(),
            "{} {args:?}: {}{}",
            self.program.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}
