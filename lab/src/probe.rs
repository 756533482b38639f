//! `portolan probe`: sends requests to a Service and counts who answered. Made for `portolan echo`, but any HTTP server
//! will do for TCP, and anything that answers datagrams for UDP.
//!
//! Each request has a connection of its own, since a Service chooses an endpoint for each connection; or all have one, to
//! see what becomes of a connection that lives. With a rate the requests begin when they are due, whatever has become of
//! those before: a Service that answers late must not thereby be asked less.

mod exchange;
mod report;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use report::{Failed, Report};

/// The most requests under way at a given rate; each has a socket.
const MAX_UNDER_WAY: u64 = 8000;
const NOT_SENT: &str = "not-sent";

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// How many requests, and when they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// `--count`, `--concurrency`: so many, each as soon as fewer than `concurrency` are under way.
    Count { count: u32, concurrency: u32 },
    /// `--rate`, `--seconds`: so many in each second, evenly. What cannot be sent since 8,000 are under way
    /// has failed.
    Rate { per_second: u32, seconds: u32 },
}

/// What `portolan probe tcp|udp ADDR:PORT` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub transport: Transport,
    pub target: SocketAddr,
    pub load: Load,
    /// `--keep`: one after the other on one connection, or from one UDP socket. A connection that broke, or that the server
    /// closes, is followed by another. A given rate is then the highest.
    pub keep: bool,
    /// `--timeout-ms`, default 2000, for each request.
    pub timeout: Duration,
    /// `--source IP`.
    pub source: Option<IpAddr>,
}

/// The probe could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("starting the probe's runtime")]
    Runtime(#[source] io::Error),
    #[error("the source {source_ip} and the target {target} are not of one family")]
    Families { source_ip: IpAddr, target: SocketAddr },
}

/// Sends the requests. Makes its own runtime.
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
    match options.load {
        _ if options.keep => on_one_connection(options).await,
        Load::Count { count, concurrency } => side_by_side(options, count, concurrency).await,
        Load::Rate { per_second, seconds } => when_due(options, per_second, seconds).await,
    }
}

async fn side_by_side(options: &Options, count: u32, concurrency: u32) -> Report {
    let (began, next) = (Instant::now(), Arc::new(AtomicU32::new(0)));
    let mut senders = JoinSet::new();
    for _ in 0..concurrency.clamp(1, count.max(1)) {
        let (options, next) = (options.clone(), Arc::clone(&next));
        senders.spawn(async move {
            let mut report = Report::default();
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let at = Instant::now();
                let outcome = exchange::once(&options).await;
                report.count(at.duration_since(began), at.elapsed(), outcome);
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

async fn when_due(options: &Options, per_second: u32, seconds: u32) -> Report {
    let limit = allow_many_files();
    let began = Instant::now();
    let shared = Arc::new(options.clone());
    let mut report = Report::default();
    let mut under_way = JoinSet::new();
    let add = |report: &mut Report, done: Result<_, tokio::task::JoinError>| {
        if let Ok((at, took, outcome)) = done {
            report.count(at, took, outcome);
        }
    };
    for n in 0..u64::from(per_second) * u64::from(seconds) {
        sleep_until(began + Duration::from_micros(n * 1_000_000 / u64::from(per_second.max(1)))).await;
        while let Some(done) = under_way.try_join_next() {
            add(&mut report, done);
        }
        let at = began.elapsed();
        if under_way.len() >= limit {
            report.count(at, Duration::ZERO, Err(NOT_SENT.to_owned()));
            continue;
        }
        let options = Arc::clone(&shared);
        under_way.spawn(async move {
            let outcome = exchange::once(&options).await;
            (at, began.elapsed().saturating_sub(at), outcome)
        });
    }
    while let Some(done) = under_way.join_next().await {
        add(&mut report, done);
    }
    report
}

/// Asks for room for that many sockets, and says how many there may be.
fn allow_many_files() -> usize {
    const OTHERS: u64 = 24;
    let Ok((mut soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1 };
    let wanted = hard.min(MAX_UNDER_WAY + OTHERS);
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
        soft = wanted;
    }
    usize::try_from(soft.saturating_sub(OTHERS).clamp(1, MAX_UNDER_WAY)).unwrap_or(1)
}

async fn on_one_connection(options: &Options) -> Report {
    let began = Instant::now();
    let (count, pause, end) = match options.load {
        Load::Count { count, .. } => (count, Duration::ZERO, None),
        Load::Rate { per_second, seconds } => {
            let end = began + Duration::from_secs(seconds.into());
            (u32::MAX, Duration::from_secs(1) / per_second.max(1), Some(end))
        }
    };
    let (mut report, mut kept, mut due) = (Report::default(), None, began);
    for _ in 0..count {
        if end.is_some_and(|end| due >= end) {
            break;
        }
        sleep_until(due).await;
        let at = Instant::now();
        let outcome = exchange::again(options, &mut kept).await;
        report.count(at.duration_since(began), at.elapsed(), outcome);
        due = (due + pause).max(Instant::now());
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_and_target_must_be_of_one_family() {
        let options = Options {
            transport: Transport::Tcp,
            target: "127.0.0.1:1".parse().unwrap(),
            load: Load::Count { count: 1, concurrency: 1 },
            keep: false,
            timeout: Duration::from_secs(1),
            source: Some("::1".parse().unwrap()),
        };
        assert!(matches!(run(&options), Err(ProbeError::Families { .. })));
    }
}
