//! The `portolan` binary: the command line, and the only place where the sibling crates meet.
//!
//! `main` stays synchronous: the lab must leave for its namespaces before any thread exists, so each command
//! starts the runtime that it needs, and none is started before the command is known.

mod agent;
mod bench;
mod check;
mod cli;
mod dns;
mod edge;
mod files;
mod identity;
mod lab;
mod logging;
mod memory;
mod output;
mod register;
mod remote;
mod server;
mod token;
mod trace;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// The server's writer spends a fifth of its time in the C library's allocator, on objects that come and go by the
/// thousand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 done, 1 failed, 2 wrong usage (clap's own).
fn main() -> ExitCode {
    // A child of the lab is started through /proc/self/exe, and would be called that: `nft list` shows who owns a table.
    // Only a name in listings; nothing depends on it.
    let _ = nix::sys::prctl::set_name(c"portolan");
    let cli = Cli::parse();
    // A server wants them when it has much to keep, and says so itself.
    if !matches!(cli.command, Command::Agent(_) | Command::Server(_)) {
        memory::restore_pages();
    }
    // What happens to a thousand nodes is a number in a report, and no thousand lines.
    let level = if matches!(cli.command, Command::Bench(_)) { "error" } else { "info" };
    logging::start(cli.log_format, level);
    let result = match cli.command {
        Command::Server(args) => server::run(args).map(|()| ExitCode::SUCCESS),
        Command::Agent(args) => agent::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Edge(args) => edge::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Register(args) => register::run(args),
        Command::Dns(args) => dns::run(args).map(|()| ExitCode::SUCCESS),
        Command::Lab(args) => lab::run(args),
        Command::Echo(args) => lab::echo(&args).map(|()| ExitCode::SUCCESS),
        Command::Probe(args) => lab::probe(&args),
        Command::Trace(args) => trace::run(args),
        Command::Check(args) => check::run(args),
        Command::Token(args) => token::run(args).map(|()| ExitCode::SUCCESS),
        Command::Wait(args) => wait::run(args),
        Command::Bench(args) => bench::run(*args).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("portolan: {failure}");
        ExitCode::FAILURE
    })
}

/// A failure that ends a command: one sentence that says what was wrong and what to do.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// Says what was being done, and every cause below it.
    pub fn new(doing: impl Into<String>, error: &dyn std::error::Error) -> Self {
        let mut text = doing.into();
        let mut next = Some(error);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        Self(text)
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
