//! A run: case after case, and then the report.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use bench::figures::{Better, Figures};
use bench::report::{Baseline, markdown, short};
use serde_json::json;

use crate::arguments::Orders;
use crate::case::{Case, Outcome, Size, file, folder, write};
use crate::cases;
use crate::support::process::tree;
use crate::support::{machine, root};

pub fn run(orders: &Orders, size: Size) -> ExitCode {
    std::fs::create_dir_all(folder()).unwrap();
    let chosen = |case: &&Case| match &orders.only[..] {
        [] => size == Size::Toy || case.from <= size,
        names => names.iter().any(|name| name == case.name),
    };
    let chosen: Vec<&Case> = cases::ALL.iter().filter(chosen).collect();
    let (mut outcomes, mut failed): (Vec<Outcome>, Vec<&str>) = (Vec::new(), Vec::new());
    for (i, case) in chosen.iter().enumerate() {
        eprintln!("[{}/{}] {}: {}", i + 1, chosen.len(), case.name, case.about);
        match outcome(case, size) {
            Ok(outcome) => {
                say(&outcome);
                outcomes.push(outcome);
            }
            Err(why) => {
                eprintln!("    {why}");
                failed.push(case.name);
            }
        }
    }
    report(&outcomes, size, orders.write_baseline && failed.is_empty());
    if orders.docs {
        for plot in plots(&outcomes) {
            let (from, to) = (folder().join(&plot), root().join("docs").join(&plot));
            std::fs::copy(&from, &to).unwrap_or_else(|error| panic!("writing {}: {error}", to.display()));
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn say(outcome: &Outcome) {
    for figure in &outcome.figures.0 {
        let arrow = if figure.better == Better::Higher { '↑' } else { '↓' };
        eprintln!("    {arrow} {:44} {:>12} {}", figure.name, short(figure.value), figure.unit.sign());
    }
    eprintln!("    {:.1} s", outcome.seconds);
}

/// Runs the case as a process of its own, and reads what it wrote.
fn outcome(case: &Case, size: Size) -> Result<Outcome, String> {
    let path = file(case.name);
    // What an earlier run has left is not to be taken for this one's.
    let _ = std::fs::remove_file(&path);
    for plot in plots_of(&[case.name]) {
        let _ = std::fs::remove_file(folder().join(plot));
    }
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let child = Command::new(me).args([size.flag(), "--case", case.name]).spawn().map_err(|error| error.to_string())?;
    wait(child, case.limit)?;
    let text = std::fs::read_to_string(&path).map_err(|_| "it wrote no figures".to_owned())?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn wait(mut child: Child, limit: Duration) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("it ended with {status}")),
            None if began.elapsed() > limit => {
                // What it started goes first: nothing would end it later.
                for pid in tree(child.id()).into_iter().skip(1) {
                    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                }
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it was ended after {} s", limit.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json")
}

fn report(outcomes: &[Outcome], size: Size, write_baseline: bool) {
    let figures = Figures(outcomes.iter().flat_map(|outcome| outcome.figures.0.clone()).collect());
    let machine = machine();
    let baseline: Option<Baseline> = std::fs::read_to_string(committed())
        .ok()
        .filter(|_| size != Size::Toy)
        .map(|text| serde_json::from_str(&text).expect("bench/baseline.json is what --write-baseline wrote"));
    write(
        &folder().join("report.json"),
        &serde_json::to_string_pretty(&json!({"machine": machine, "size": size, "cases": outcomes})).unwrap(),
    );
    let toy = if size == Size::Toy { ", as a toy: these figures mean nothing" } else { "" };
    let mut page = markdown(&format!("Portolan on {machine}{toy}"), &figures, &plots(outcomes), baseline.as_ref());
    if let Some(baseline) = &baseline {
        page.push_str(&format!("\nThe baseline was measured on {}.\n", baseline.machine));
    }
    write(&folder().join("report.md"), &page);
    eprintln!("target/bench/report.md, target/bench/report.json");
    if write_baseline {
        // What was not measured this time stays as it was.
        let mut new = Baseline::of(&machine, &figures);
        for (name, value) in baseline.map(|old| old.figures).unwrap_or_default() {
            new.figures.entry(name).or_insert(value);
        }
        write(&committed(), &(serde_json::to_string_pretty(&new).unwrap() + "\n"));
        eprintln!("bench/baseline.json is written");
    }
}

/// The plots that these cases have drawn.
fn plots(outcomes: &[Outcome]) -> Vec<String> {
    plots_of(&outcomes.iter().map(|outcome| outcome.case.as_str()).collect::<Vec<_>>())
}

fn plots_of(cases: &[&str]) -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let of_case = |file: &String| file.split_once('-').is_some_and(|(case, _)| cases.contains(&case));
    let mut plots: Vec<String> = files.filter(|f| f.ends_with(".svg")).filter(of_case).collect();
    plots.sort();
    plots
}
