//! The Python and Node scripts in `clients/`, as processes: lines in, lines out, and an end.

use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::{home, kinds, tool};

/// Which interpreter, with which client library.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    Python,
    Node,
}

impl Language {
    fn program(self) -> PathBuf {
        match self {
            Language::Python => tool("python/bin/python"),
            Language::Node => tool("nodejs"),
        }
    }

    fn script(self, name: &str) -> PathBuf {
        match self {
            Language::Python => home().join(format!("clients/python/{name}.py")),
            Language::Node => home().join(format!("clients/node/{name}.js")),
        }
    }
}

/// A running script. Dropped, it is killed.
pub struct Script {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    title: String,
}

impl Script {
    pub fn start(language: Language, name: &str, args: &[&str], kubeconfig: &std::path::Path) -> Script {
        let mut child = Command::new(language.program())
            .arg(language.script(name))
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("KINDS", kinds::path())
            .env("NODE_HOME", tool("node"))
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Script { child, input, lines, title: format!("{language:?} {name} {}", args.join(" ")) }
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    /// Writes one line to the script.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").and_then(|()| input.flush()).unwrap_or_else(|e| panic!("{}: {e}", self.title));
    }

    /// The script's next line.
    pub fn hear(&mut self) -> String {
        match self.lines.recv_timeout(Duration::from_secs(120)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{} has said nothing for two minutes", self.title),
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended: {:?}", self.title, self.child.wait()),
        }
    }

    /// Waits for one particular line.
    pub fn expect(&mut self, wanted: &str) {
        let line = self.hear();
        assert_eq!(line, wanted, "{}", self.title);
    }

    /// Every line up to the end, which must be a success.
    pub fn finish(mut self) -> Vec<String> {
        drop(self.input.take());
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(120)) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("{} hangs after {:?}", self.title, lines.last()),
            }
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{} ended with {status} after {:?}", self.title, lines.last());
        lines
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
