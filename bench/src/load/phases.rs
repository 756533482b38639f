//! What is done one after the other: everything is made, and then it is changed.

mod churn;
mod create;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub use churn::churn;
pub use create::create;

/// A bar on a terminal, and nothing where there is none.
fn bar(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len} {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// Per second, over a time that may be none.
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-6)
}
