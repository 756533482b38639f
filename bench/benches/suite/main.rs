//! What Portolan costs, beside its peers and what the machine can do at all, in one run.
//!
//! ```text
//! cargo bench -p bench -- [--toy | --full] [--only CASE[,CASE…]] [--write-baseline] [--docs]
//! ```
//!
//! Every case is a process of its own, so that none starts in what another left, and one that makes a network namespace
//! makes it for itself. It ends with its figures in `target/bench/CASE.json`; of all of them the suite makes
//! `target/bench/report.json` and `report.md` with plots, compared with `bench/baseline.json`. `--write-baseline` replaces
//! that file, `--docs` the plots of these cases in `docs/`. A case that fails fails the run, when the others are done.
//!
//! Without a word it measures the cases that take a minute or two each; `--full` adds the long ones and the big sizes.
//! `--toy` is for CI: every case, so small that its figures mean nothing and are compared with nothing. `cargo test` runs that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

mod arguments;
mod case;
mod cases;
mod peers;
mod plot;
mod run;
mod support;

use std::process::ExitCode;

use arguments::{Arguments, Task};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    match &arguments.task {
        Task::List => {
            for case in cases::ALL {
                println!("{:12} {}", case.name, case.about);
            }
            ExitCode::SUCCESS
        }
        Task::Case(name) => {
            let case = cases::ALL.iter().find(|case| case.name == name).expect("the suite names cases that there are");
            case::measure(case, arguments.size);
            ExitCode::SUCCESS
        }
        Task::Part(words) => {
            cases::part(words);
            ExitCode::SUCCESS
        }
        Task::Run(orders) => run::run(orders, arguments.size),
    }
}
