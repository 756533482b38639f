//! The few words that the suite understands.

use crate::case::Size;
use crate::cases;

const USAGE: &str =
    "cargo bench -p bench -- [--toy | --full] [--only CASE[,CASE…]] [--write-baseline] [--docs] [--list]";

pub struct Arguments {
    pub size: Size,
    pub task: Task,
}

pub enum Task {
    List,
    Run(Orders),
    /// One case, in this process. The suite says it to itself.
    Case(String),
    /// What a case has another process of this program for (`support::part`).
    Part(Vec<String>),
}

/// What a run is to do.
pub struct Orders {
    /// Of these cases; without any, of all that belong to the size.
    pub only: Vec<String>,
    pub write_baseline: bool,
    /// The plots are to be those of the documentation, too.
    pub docs: bool,
}

impl Arguments {
    /// `cargo bench` says `--bench`; `cargo test` does not, and wants to know that it works.
    pub fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut size, mut bench) = (None, false);
        let mut orders = Orders { only: Vec::new(), write_baseline: false, docs: false };
        let mut task = None;
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = |what: &str| words.next().ok_or_else(|| format!("{what} wants a value\n{USAGE}"));
            match word.as_str() {
                "--bench" => bench = true,
                "--toy" => size = Some(Size::Toy),
                "--usual" => size = Some(Size::Usual),
                "--full" => size = Some(Size::Full),
                "--write-baseline" => orders.write_baseline = true,
                "--docs" => orders.docs = true,
                "--list" => task = Some(Task::List),
                "--only" => orders.only.extend(value("--only")?.split(',').map(str::to_owned)),
                "--case" => task = Some(Task::Case(value("--case")?)),
                "--part" => {
                    task = Some(Task::Part(words.collect()));
                    break;
                }
                other => return Err(format!("{other} is not understood\n{USAGE}")),
            }
        }
        if let Some(unknown) = orders.only.iter().find(|name| !cases::ALL.iter().any(|case| case.name == *name)) {
            return Err(format!("there is no case {unknown}; --list names them"));
        }
        let size = size.unwrap_or(if bench { Size::Usual } else { Size::Toy });
        if (orders.write_baseline || orders.docs) && size == Size::Toy {
            return Err("a toy's figures mean nothing: they are no baseline, and nothing for the documentation".into());
        }
        Ok(Self { size, task: task.unwrap_or(Task::Run(orders)) })
    }
}
