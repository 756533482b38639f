//! The thin end: runs `iptables-restore` and `iptables-save` of one variant, in the calling thread's network namespace.
//!
//! A program has a deadline, the later the more it is to write, and is ended when that is over; what it prints is bounded by
//! what the kernel has. It waits for others that hold the lock of legacy iptables (`-w`), and does not wait longer than its
//! deadline.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::rule::Table;
use super::shadow::Batch;
use super::variant::Variant;
use crate::plan::Family;

/// How long a program may take whatever it is to do.
const DEADLINE: Duration = Duration::from_secs(120);
/// As much more time it has for each second's worth of text. Legacy iptables takes some seconds for a quarter of a million
/// rules. The nft variant's time grows with the square of the chains (1.8.9: a minute for 10,000 Services of ten endpoints,
/// 13 MB), and who is ended before it is through comes to nothing each time anew.
const BYTES_PER_SECOND: usize = 25_000;
/// How long another's lock is waited for.
const LOCK_SECONDS: &str = "60";
/// How many lines a message has that every process may send.
const PART: usize = 100;
/// How much of what a program says about a failure is kept.
const MAX_WORDS: usize = 2_000;

/// The programs of one variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    pub variant: Variant,
    /// Whether they are to be called by the names that say the variant (`iptables-legacy-restore`), or by the host's plain
    /// ones.
    pub named: bool,
}

/// A batch was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub bytes: usize,
    pub took: Duration,
}

/// A program did not do what it was asked. A table that it was to change has not changed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("starting {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} did not end within {seconds} s")]
    Deadline { program: String, seconds: u64 },
    #[error("speaking to {program}")]
    Pipe {
        program: String,
        #[source]
        source: io::Error,
    },
    /// It says why. `line` is what it did not take, where it says which.
    #[error("{program} refused{}: {words}", refused(line.as_deref()))]
    Refused { program: String, words: String, line: Option<String>, status: Option<i32> },
}

fn refused(line: Option<&str>) -> String {
    line.map(|line| format!(" {line:?}")).unwrap_or_default()
}

impl RunError {
    /// The program is not there.
    pub fn missing(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The process lacks the right.
    pub fn not_permitted(&self) -> bool {
        matches!(self, Self::Refused { words, .. } if words.contains("Permission denied") || words.contains("you must be root"))
    }
}

impl Tools {
    /// The name of a program of a family: `""`, `restore` or `save`.
    pub fn program(&self, family: Family, what: &str) -> String {
        let mut name = match family {
            Family::V4 => "iptables".to_owned(),
            Family::V6 => "ip6tables".to_owned(),
        };
        for part in [if self.named { self.variant.word() } else { "" }, what] {
            if !part.is_empty() {
                name.push('-');
                name.push_str(part);
            }
        }
        name
    }

    /// Makes one table of a family take a batch, whole or not at all.
    ///
    /// Only where a process may not have as large a message as that takes (in a user namespace, over nf_tables) it is taken in
    /// [parts](parts).
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn restore(&self, batch: &Batch) -> Result<Restored, RunError> {
        let start = Instant::now();
        match self.restore_text(batch.family, &batch.text) {
            Err(RunError::Refused { words, .. }) if words.contains("Message too long") => {
                tracing::warn!("the kernel takes no message as long as this; the rules are written in parts");
                parts(&batch.text).iter().try_for_each(|part| self.restore_text(batch.family, part))?;
            }
            outcome => outcome?,
        }
        Ok(Restored { bytes: batch.text.len(), took: start.elapsed() })
    }

    fn restore_text(&self, family: Family, text: &str) -> Result<(), RunError> {
        match run(&self.program(family, "restore"), &["--noflush", "-w", LOCK_SECONDS], text.as_bytes()) {
            Ok(_) => Ok(()),
            Err(RunError::Refused { program, words, status, .. }) => {
                let line = failed_line(&words).and_then(|number| text.lines().nth(number.checked_sub(1)?));
                Err(RunError::Refused { line: line.map(str::to_owned), program, words, status })
            }
            Err(error) => Err(error),
        }
    }

    /// What `iptables-save` prints of a table; nothing where there is no such table, which legacy iptables would make of it.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn save(&self, family: Family, table: Table) -> Result<String, RunError> {
        if self.variant == Variant::Legacy && !has_legacy(family, table) {
            return Ok(String::new());
        }
        run(&self.program(family, "save"), &["-t", table.name()], &[])
    }

    /// What `iptables-save` prints of all tables that there are.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn save_all(&self, family: Family) -> Result<String, RunError> {
        run(&self.program(family, "save"), &[], &[])
    }

    /// One chain with its rules; `None` when there is none.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn list(&self, family: Family, table: Table, chain: &str) -> Result<Option<String>, RunError> {
        match run(&self.program(family, ""), &["-w", LOCK_SECONDS, "-t", table.name(), "-S", chain], &[]) {
            Ok(text) => Ok(Some(text)),
            Err(RunError::Refused { status: Some(1), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A batch as several: first the chains, empty, then their rules, and when all are there what leads into them and what goes.
fn parts(batch: &str) -> Vec<String> {
    let begin = batch.lines().next().unwrap_or_default();
    let with = |lines: &[&str]| format!("{begin}\n{}\nCOMMIT\n", lines.join("\n"));
    let (mut chains, mut rules, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for line in batch.lines().skip(1).filter(|line| *line != "COMMIT") {
        match line.get(..2) {
            Some("-A") => rules.push(line),
            Some("-D" | "-I" | "-X") => last.push(line),
            _ => chains.push(line),
        }
    }
    let lists = chains.chunks(PART).chain(rules.chunks(PART)).chain(last.chunks(PART));
    lists.map(with).collect()
}

/// Whether the calling thread's network namespace has the table of legacy iptables. One that has it looks at every packet.
fn has_legacy(family: Family, table: Table) -> bool {
    let names = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match std::fs::read_to_string(names) {
        Ok(names) => names.lines().any(|name| name == table.name()),
        // Without the file there is no legacy iptables in this kernel yet; one that may not be read says nothing.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Runs a program with this input and returns what it prints.
///
/// # Errors
/// See [`RunError`].
pub fn run(program: &str, arguments: &[&str], input: &[u8]) -> Result<String, RunError> {
    let pipe = |source| RunError::Pipe { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(arguments)
        // The words are looked at, and shall be the same everywhere.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| RunError::Start { program: program.to_owned(), source })?;
    let time = patience(input.len());
    let late = || RunError::Deadline { program: program.to_owned(), seconds: time.as_secs() };
    let deadline = Instant::now() + time;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ended = std::thread::scope(|scope| {
        let (send, received) = mpsc::channel();
        let send_error = send.clone();
        scope.spawn(move || {
            // A program that ends early has said why.
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(input);
            }
        });
        scope.spawn(move || send.send((false, read(stdout))));
        scope.spawn(move || send_error.send((true, read(stderr))));
        let (mut printed, mut words) = (Ok(Vec::new()), Vec::new());
        for _ in 0..2 {
            match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((true, text)) => words = text.unwrap_or_default(),
                Ok((false, text)) => printed = text,
                Err(_) => {
                    // Its ends of the pipes go with it, and so do the threads.
                    end(&mut child);
                    return None;
                }
            }
        }
        Some((printed, words))
    });
    let Some((printed, words)) = ended else { return Err(late()) };
    let status = wait(&mut child, deadline).map_err(pipe)?;
    let Some(status) = status else {
        end(&mut child);
        return Err(late());
    };
    if !status.success() {
        let words = String::from_utf8_lossy(&words);
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect();
        return Err(RunError::Refused { program: program.to_owned(), words, line: None, status: status.code() });
    }
    String::from_utf8(printed.map_err(pipe)?).map_err(|error| pipe(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// How long a program may take that is to read so many bytes.
fn patience(bytes: usize) -> Duration {
    DEADLINE + Duration::from_secs(u64::try_from(bytes / BYTES_PER_SECOND).unwrap_or(u64::MAX))
}

fn read(from: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.map(|mut from| from.read_to_end(&mut bytes)).transpose()?;
    Ok(bytes)
}

/// It has closed its ends of the pipes, which a program does when it ends, if not before.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The number of the line that the program says it failed at, counted from 1. `COMMIT` is none: what the kernel refuses then
/// may be any.
fn failed_line(words: &str) -> Option<usize> {
    let after = |marker: &str| {
        let rest = words.split_once(marker)?.1.trim_start_matches(':').trim_start();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    // `Error occurred at line: 5`; `iptables-restore: line 7 failed`; `line 5: RULE_APPEND failed (…)`.
    after("at line").or_else(|| after("line "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_line_is_found() {
        assert_eq!(
            failed_line("iptables-restore v1.8.9 (legacy): Couldn't load match `x' Error occurred at line: 5"),
            Some(5)
        );
        assert_eq!(failed_line("iptables-restore: line 7 failed"), Some(7));
        assert_eq!(
            failed_line("iptables-nft-restore v1.8.9 (nf_tables): line 19: RULE_INSERT failed (No such file)"),
            Some(19)
        );
        assert_eq!(failed_line("Fatal: can't open lock file"), None);
    }

    #[test]
    fn a_batch_in_parts() {
        let rules: String = (0..150).map(|n| format!("-A A -p tcp -m tcp --dport {n} -j ACCEPT\n")).collect();
        let parts = parts(&format!("*nat\n:A - [0:0]\n:B - [0:0]\n-I OUTPUT -j A\n{rules}-X B\nCOMMIT\n"));
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[0], "*nat\n:A - [0:0]\n:B - [0:0]\nCOMMIT\n");
        assert_eq!(parts[3], "*nat\n-I OUTPUT -j A\n-X B\nCOMMIT\n");
        assert!(parts.iter().all(|part| part.starts_with("*nat\n") && part.ends_with("\nCOMMIT\n")));
    }

    #[test]
    fn programs_are_named_after_their_variant() {
        let tools = Tools { variant: Variant::Legacy, named: true };
        assert_eq!(tools.program(Family::V6, "restore"), "ip6tables-legacy-restore");
        assert_eq!(Tools { named: false, ..tools }.program(Family::V4, "save"), "iptables-save");
    }

    #[test]
    fn who_reads_more_may_take_longer() {
        assert_eq!(patience(0), DEADLINE);
        assert_eq!(patience(13_000_000), DEADLINE + Duration::from_secs(520));
    }

    #[test]
    fn a_program_is_heard_to_its_end() {
        let text = "x".repeat(200_000);
        assert_eq!(run("cat", &[], text.as_bytes()).unwrap(), text);
        assert!(run("portolan-has-no-such-program", &[], &[]).unwrap_err().missing());
        let error = run("sh", &["-c", "echo no >&2; exit 3"], &[]).unwrap_err();
        assert!(matches!(&error, RunError::Refused { words, status: Some(3), .. } if words == "no"), "{error}");
    }
}
