//! One page of what a run measured, and how its ratios differ from the committed ones.
//!
//! A figure of two runs is compared by its ratio to what it stood beside in the same run, or by its value where it stands
//! alone (memory does, and lags that are bounded by clocks). [`Change`] is how many times as good it is now.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::figures::{Aim, Better, Figure, Figures};

/// By how much a figure may be worse before it is named: runs on one machine differ by a fifth, and a shared one by more.
pub const NAMED: f64 = 0.75;

/// What a run is compared with: per figure its ratio, or its value where it has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// On what it was measured.
    pub machine: String,
    pub figures: BTreeMap<String, f64>,
}

impl Baseline {
    pub fn of(machine: &str, run: &Figures) -> Self {
        let figures = run.0.iter().map(|f| (f.name.clone(), compared(run, f))).collect();
        Self { machine: machine.into(), figures }
    }
}

/// What two runs are compared by.
fn compared(run: &Figures, figure: &Figure) -> f64 {
    run.ratio(figure).unwrap_or(figure.value)
}

/// A figure beside that of the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub name: String,
    /// How many times as good as in the baseline: 2 is twice the rate, or half the time.
    pub times_as_good: f64,
}

/// What is in both, in the order of the run.
pub fn changes(run: &Figures, baseline: &Baseline) -> Vec<Change> {
    let change = |figure: &Figure| {
        let before = *baseline.figures.get(&figure.name)?;
        let now = compared(run, figure);
        let times_as_good = match figure.better {
            Better::Higher => now / before,
            Better::Lower => before / now,
        };
        times_as_good.is_finite().then(|| Change { name: figure.name.clone(), times_as_good })
    };
    run.0.iter().filter_map(change).collect()
}

/// A page in Markdown: what was measured on what, what of it had an aim, a table for every case with its plots, and what became
/// worse.
pub fn markdown(title: &str, run: &Figures, plots: &[String], baseline: Option<&Baseline>) -> String {
    let mut page = format!("# {title}\n");
    aims(&mut page, run);
    let changes: BTreeMap<String, f64> = baseline
        .map(|baseline| changes(run, baseline))
        .unwrap_or_default()
        .into_iter()
        .map(|change| (change.name, change.times_as_good))
        .collect();
    let mut case = "";
    for figure in &run.0 {
        let (of, _) = figure.name.split_once('/').unwrap_or((&figure.name, ""));
        if of != case {
            plots_of(&mut page, plots, case);
            case = of;
            let _ = write!(
                page,
                "\n## {case}\n\n| what | figure | ratio | aim | beside the baseline |\n|---|---|---|---|---|\n"
            );
        }
        row(&mut page, run, figure, changes.get(&figure.name).copied());
    }
    plots_of(&mut page, plots, case);
    let worse: Vec<_> = changes.iter().filter(|(_, times)| **times < NAMED).collect();
    if !worse.is_empty() {
        page.push_str("\n## Worse than the baseline\n\n");
        for (name, times) in worse {
            let _ = writeln!(page, "- `{name}`: {} of what it was", short(*times));
        }
    }
    page
}

fn plots_of(page: &mut String, plots: &[String], case: &str) {
    for plot in plots.iter().filter(|p| p.split('-').next() == Some(case) && !case.is_empty()) {
        let _ = write!(page, "\n![{}]({plot})\n", plot.trim_end_matches(".svg"));
    }
}

/// What had an aim, before everything else: it is what a reader comes for.
fn aims(page: &mut String, run: &Figures) {
    let aimed: Vec<&Figure> = run.0.iter().filter(|figure| figure.aim.is_some()).collect();
    if aimed.is_empty() {
        return;
    }
    page.push_str("\n## Aims\n\n| what | figure | ratio | aim |\n|---|---|---|---|\n");
    for figure in aimed {
        let (about, name, value, unit) = (&figure.about, &figure.name, short(figure.value), unit(figure));
        let (ratio, aim) = (ratio(run, figure), aim(run, figure));
        let _ = writeln!(page, "| {about} (`{name}`) | {value}{unit} | {ratio} | {aim} |");
    }
}

fn row(page: &mut String, run: &Figures, figure: &Figure, times: Option<f64>) {
    let times = times.map(|t| format!("× {}", short(t))).unwrap_or_default();
    let (value, unit) = (short(figure.value), unit(figure));
    let (ratio, aim) = (ratio(run, figure), aim(run, figure));
    let _ = writeln!(page, "| {} (`{}`) | {value}{unit} | {ratio} | {aim} | {times} |", figure.about, figure.name);
}

fn ratio(run: &Figures, figure: &Figure) -> String {
    match (run.ratio(figure), &figure.beside) {
        (Some(ratio), Some(beside)) => format!("{} of `{beside}`", short(ratio)),
        _ => String::new(),
    }
}

fn aim(run: &Figures, figure: &Figure) -> String {
    let sign = match figure.better {
        Better::Higher => "≥",
        Better::Lower => "≤",
    };
    let mark = match run.reached(figure) {
        Some(true) => " ✓",
        Some(false) => " missed",
        None => " not measured",
    };
    match figure.aim {
        Some(Aim::Value(limit)) => format!("{sign} {}{}{mark}", short(limit), unit(figure)),
        Some(Aim::Ratio(limit)) => format!("{sign} {} of it{mark}", short(limit)),
        None => String::new(),
    }
}

fn unit(figure: &Figure) -> String {
    match figure.unit.sign() {
        "" => String::new(),
        sign => format!(" {sign}"),
    }
}

/// Three digits: more would say more than was measured.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        let step = 10f64.powf((size.log10().floor() - 2.0).max(0.0));
        grouped(((value / step).round() * step) as i64)
    } else if size >= 10.0 {
        trimmed(format!("{value:.1}"))
    } else if size >= 1.0 || value == 0.0 {
        trimmed(format!("{value:.2}"))
    } else {
        let digits = (2.0 - size.log10().floor()).clamp(2.0, 6.0) as usize;
        trimmed(format!("{value:.digits$}"))
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1234567` as `1,234,567`.
fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
