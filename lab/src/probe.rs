//! `portolan probe`: sends requests to a Service, each on a connection of its own, and counts who answered. Made for
//! `portolan echo`, but any HTTP server will do for TCP, and anything that answers datagrams for UDP.

mod exchange;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Serialize;

use exchange::Seen;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// What `portolan probe tcp|udp ADDR:PORT` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub transport: Transport,
    pub target: SocketAddr,
    /// `--count`, default 1.
    pub count: u32,
    /// `--concurrency`, default 1: requests under way at a time.
    pub concurrency: u32,
    /// `--timeout-ms`, default 2000, for each request.
    pub timeout: Duration,
    /// `--source IP`.
    pub source: Option<IpAddr>,
}

/// What the answers said. `Display` is the table, the serialised form is that of `-o json|yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub sent: u32,
    pub answered: u32,
    /// Answers by pod; `unknown` for an answer that names none.
    pub pods: BTreeMap<String, u32>,
    /// Answers by the client address that the pod saw.
    pub clients: BTreeMap<String, u32>,
    /// Failures by kind: refused, reset, timeout, unreachable, `http-CODE`, other.
    pub failures: BTreeMap<String, u32>,
}

impl Report {
    /// Whether a request failed: exit code 1.
    pub fn failed(&self) -> bool {
        self.answered < self.sent
    }

    fn count(&mut self, outcome: Result<Seen, String>) {
        let add = |counts: &mut BTreeMap<String, u32>, key: String| *counts.entry(key).or_default() += 1;
        self.sent += 1;
        match outcome {
            Ok(seen) => {
                self.answered += 1;
                add(&mut self.pods, seen.pod);
                add(&mut self.clients, seen.client);
            }
            Err(kind) => add(&mut self.failures, kind),
        }
    }

    fn merge(&mut self, other: Report) {
        self.sent += other.sent;
        self.answered += other.answered;
        let pairs =
            [(&mut self.pods, other.pods), (&mut self.clients, other.clients), (&mut self.failures, other.failures)];
        for (into, from) in pairs {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} sent, {} answered", self.sent, self.answered)?;
        for (title, counts) in [("POD", &self.pods), ("CLIENT", &self.clients), ("FAILURE", &self.failures)] {
            if counts.is_empty() {
                continue;
            }
            let width = counts.keys().map(String::len).chain([title.len()]).max().unwrap_or(0);
            writeln!(f, "\n{title:width$}   COUNT")?;
            for (key, count) in counts {
                writeln!(f, "{key:width$}   {count}")?;
            }
        }
        Ok(())
    }
}

/// The probe could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("starting the probe's runtime")]
    Runtime(#[source] io::Error),
    #[error("the source {source_ip} and the target {target} are not of one family")]
    Families { source_ip: IpAddr, target: SocketAddr },
}

/// Sends the requests, each on a connection of its own. Makes its own runtime.
///
/// # Errors
/// When it cannot start; failed requests are in the report.
pub fn run(options: &Options) -> Result<Report, ProbeError> {
    if let Some(source_ip) = options.source.filter(|s| s.is_ipv4() != options.target.is_ipv4()) {
        return Err(ProbeError::Families { source_ip, target: options.target });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ProbeError::Runtime)?;
    Ok(runtime.block_on(send(options)))
}

/// As [`run`], on the current runtime.
pub async fn send(options: &Options) -> Report {
    let next = std::sync::Arc::new(AtomicU32::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..options.concurrency.clamp(1, options.count.max(1)) {
        let (options, next) = (options.clone(), std::sync::Arc::clone(&next));
        senders.spawn(async move {
            let mut report = Report::default();
            while next.fetch_add(1, Ordering::Relaxed) < options.count {
                report.count(exchange::once(&options).await);
            }
            report
        });
    }
    let mut report = Report::default();
    while let Some(part) = senders.join_next().await {
        report.merge(part.unwrap_or_default());
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_tables() {
        let mut report = Report::default();
        for pod in ["web-1", "web-2", "web-1"] {
            report.count(Ok(Seen { pod: pod.into(), client: "10.0.0.1".into() }));
        }
        report.count(Err("timeout".into()));
        assert!(report.failed());
        let expected = "\
4 sent, 3 answered

POD     COUNT
web-1   2
web-2   1

CLIENT     COUNT
10.0.0.1   3

FAILURE   COUNT
timeout   1
";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn source_and_target_must_be_of_one_family() {
        let options = Options {
            transport: Transport::Tcp,
            target: "127.0.0.1:1".parse().unwrap(),
            count: 1,
            concurrency: 1,
            timeout: Duration::from_secs(1),
            source: Some("::1".parse().unwrap()),
        };
        assert!(matches!(run(&options), Err(ProbeError::Families { .. })));
    }
}
