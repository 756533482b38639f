//! What a process and those that it started have used, from `/proc`.

use std::time::Duration;

/// Processor time of a process and its descendants so far. Of those that have ended it has what was waited for.
pub fn cpu(pid: u32) -> Duration {
    tree(pid).into_iter().map(own_cpu).sum()
}

/// Memory in MiB of a process and its descendants; what they share is counted once.
pub fn memory_mib(pid: u32) -> f64 {
    tree(pid).into_iter().map(proportional_kib).sum::<f64>() / 1024.0
}

/// Processor time of this process so far: that of the load, where a case makes it.
pub fn own() -> Duration {
    own_cpu(std::process::id())
}

/// A process, those that it started, and those that they did.
pub fn tree(of: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten().flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    [of].into_iter().chain(children.flat_map(tree)).collect()
}

fn own_cpu(pid: u32) -> Duration {
    // It may have ended since it was listed.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15, in hundredths, and behind
    // them those of children that were waited for.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(4).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn proportional_kib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}
