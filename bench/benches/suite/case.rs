//! What a case is, and what it leaves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bench::figures::Figures;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::support;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Size {
    Toy,
    Usual,
    Full,
}

impl Size {
    /// One of three by size.
    pub fn pick<T>(self, toy: T, usual: T, full: T) -> T {
        match self {
            Size::Toy => toy,
            Size::Usual => usual,
            Size::Full => full,
        }
    }

    /// How long a server or agent that has begun is left alone before it is measured: it has its upkeep to do.
    pub fn settling(self) -> Duration {
        self.pick(Duration::from_millis(200), Duration::from_secs(2), Duration::from_secs(2))
    }

    pub fn flag(self) -> &'static str {
        self.pick("--toy", "--usual", "--full")
    }
}

pub struct Case {
    /// One word, with which its figures' names and plots begin.
    pub name: &'static str,
    pub about: &'static str,
    /// The least size of which a run has it, beside toys, which have all.
    pub from: Size,
    /// After so long it is ended, and has failed.
    pub limit: Duration,
    pub run: fn(&mut Outcome),
}

/// What a case has measured so far. The suite reads it from `target/bench/CASE.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub case: String,
    pub size: Size,
    pub seconds: f64,
    pub figures: Figures,
    /// Everything else that was measured, in the case's own shape.
    pub detail: Value,
}

impl Outcome {
    /// A place for a plot of this case, which the report shows below its table: `target/bench/CASE-what.svg`. With `--docs`
    /// it stands in `docs/`, too.
    pub fn plot(&self, what: &str) -> PathBuf {
        folder().join(format!("{}-{what}.svg", self.case))
    }
}

pub fn folder() -> PathBuf {
    support::target().join("bench")
}

pub fn file(case: &str) -> PathBuf {
    folder().join(case).with_extension("json")
}

/// Runs a case in this process, and writes what it measured.
pub fn measure(case: &Case, size: Size) {
    std::fs::create_dir_all(folder()).unwrap();
    let began = Instant::now();
    let mut outcome =
        Outcome { case: case.name.into(), size, seconds: 0.0, figures: Figures::default(), detail: Value::Null };
    (case.run)(&mut outcome);
    outcome.seconds = began.elapsed().as_secs_f64();
    for figure in &outcome.figures.0 {
        assert!(figure.name.starts_with(&format!("{}/", case.name)), "{} is no figure of {}", figure.name, case.name);
        assert!(figure.value.is_finite(), "{} is {}", figure.name, figure.value);
    }
    write(&file(case.name), &serde_json::to_string_pretty(&outcome).unwrap());
}

pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
