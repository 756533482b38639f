//! `portolan wait service/NAME`: returns when every live node has programmed the Service as it is now.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use proxy_agent::programmed::{self, Report};
use serde::Serialize;

use crate::cli::WaitArgs;
use crate::output::print;
use crate::{Failure, remote};

/// Waits; exit code 1 when the time was over first.
pub fn run(args: WaitArgs) -> Result<ExitCode, Failure> {
    let name = service_name(&args.service)?;
    let client = remote::client(args.kubeconfig)?;
    let report = remote::block_on(async {
        let report = programmed::service(&client, &args.namespace, name, args.timeout).await;
        let doing = || format!("waiting for service/{name} in namespace {}", args.namespace);
        report.map_err(|e| Failure::new(doing(), &e))
    })?;
    let outcome = Outcome { namespace: &args.namespace, name, report: &report };
    print(args.output, &outcome, &outcome)?;
    if report.programmed {
        return Ok(ExitCode::SUCCESS);
    }
    let late = report.nodes.iter().filter(|node| !node.programmed).count();
    let who = match report.nodes.len() {
        0 => "no node is live".to_owned(),
        live => format!("{late} of {live} live nodes have not programmed service/{name}"),
    };
    Err(Failure::text(format!("timed out after {:?}: {who}", args.timeout)))
}

/// `web` of `service/web`.
fn service_name(text: &str) -> Result<&str, Failure> {
    let wrong = || Failure::text(format!("{text:?} cannot be waited for; write service/NAME"));
    let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let known = ["service", "services", "svc"].contains(&kind);
    if known && !name.is_empty() && name.chars().all(plain) { Ok(name) } else { Err(wrong()) }
}

/// Reads `30`, which is seconds, `30s`, `1m30s` or `500ms`.
///
/// # Errors
/// A sentence for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write it as 30s, 1m30s or 500ms");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
        let (unit, next) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = match unit {
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "s" => Some(Duration::from_secs(number)),
            "ms" => Some(Duration::from_millis(number)),
            _ => None,
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = next;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// What is printed: as a table the nodes that lag.
#[derive(Serialize)]
struct Outcome<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { programmed, revision, nodes } = self.report;
        if *programmed {
            return writeln!(f, "service/{} is programmed on every live node ({})", self.name, nodes.len());
        }
        for node in nodes.iter().filter(|node| !node.programmed) {
            let has = match node.age_seconds {
                None => "has not said what it has".to_owned(),
                Some(age) => format!("has revision {} of {revision}, said {age} s ago", node.revision),
            };
            match &node.error {
                Some(error) => writeln!(f, "{}: {has}; its kernel refused the Service: {error}", node.name)?,
                None => writeln!(f, "{}: {has}", node.name)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proxy_agent::programmed::Node;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, milliseconds) in
            [("0", 0), ("30", 30_000), ("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text).map(|d| d.as_millis()), Ok(milliseconds), "{text}");
        }
        for wrong in ["", "s", "-1", "1x", "1s2", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_services_can_be_waited_for() {
        for good in ["service/web", "svc/web", "services/web.x"] {
            assert!(service_name(good).is_ok(), "{good}");
        }
        for wrong in ["web", "pod/web", "service/", "service/a/b", "service/a?b", ""] {
            assert!(service_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_node_that_lags() {
        let node = |name: &str, programmed, age, error: Option<&str>| Node {
            name: name.into(),
            programmed,
            revision: "5".into(),
            age_seconds: age,
            error: error.map(str::to_owned),
        };
        let nodes = vec![
            node("a", true, Some(1), None),
            node("b", false, Some(2), None),
            node("c", false, None, None),
            node("d", false, Some(3), Some("no memory")),
        ];
        let mut report = Report { programmed: false, revision: "7".into(), nodes };
        let text = |report: &Report| Outcome { namespace: "default", name: "web", report }.to_string();
        assert_eq!(
            text(&report),
            "b: has revision 5 of 7, said 2 s ago\n\
             c: has not said what it has\n\
             d: has revision 5 of 7, said 3 s ago; its kernel refused the Service: no memory\n"
        );
        report.programmed = true;
        assert_eq!(text(&report), "service/web is programmed on every live node (4)\n");
    }
}
