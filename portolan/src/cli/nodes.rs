//! Flags about when a node counts as dead.

use std::time::Duration;

use clap::Args;

/// When a node that is not heard counts as not ready. Names are kube-controller-manager's where it has the same.
#[derive(Clone, Debug, Args)]
pub struct NodesArgs {
    /// How long a node may be silent before it is not ready and out of every endpoint list; its agent beats four times as often.
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second, default_value = "4s")]
    pub node_monitor_grace_period: Duration,
    /// The same for a node that does not beat and only renews its Lease, as other programs' agents do every 10 s.
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second, default_value = "40s")]
    pub node_lease_grace_period: Duration,
    /// For how long it counts that a node fell silent: one that did so often has to prove itself before it is taken back.
    #[arg(long, value_name = "DURATION", value_parser = at_least_a_second, default_value = "10m")]
    pub node_flap_window: Duration,
    /// For how long such a node must be heard without a gap: so long after the third time within the window, and twice as
    /// long for each time more.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub node_flap_hold: Duration,
}

impl NodesArgs {
    /// As the controller takes it.
    pub fn times(&self) -> controller::Times {
        controller::Times {
            grace: self.node_monitor_grace_period,
            lease_grace: self.node_lease_grace_period.max(self.node_monitor_grace_period),
            flap_window: self.node_flap_window,
            flap_hold: self.node_flap_hold,
        }
    }
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration < Duration::from_secs(1) {
        return Err("must be 1s or more".into());
    }
    Ok(duration)
}

/// Reads what Go's flags read, as far as anybody writes it: numbers with a unit each, such as `4s`, `1m30s` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write it as 4s, 1m30s or 500ms");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, next) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong()),
        };
        total = total.checked_add(unit.checked_mul(number).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = next;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, millis) in [("4s", 4000), ("1m30s", 90_000), ("500ms", 500), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "4", "s", "4 s", "-4s", "4s5", "1.5s", "99999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(at_least_a_second("999ms").is_err() && at_least_a_second("1s").is_ok());
    }
}
