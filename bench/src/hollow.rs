//! Nodes that are all there except for their kernel: many to a process, with real TLS and watches.
//!
//! Each is a [`Hollow`] with a certificate, a Node and connections of its own ([`proxy_agent::hollow`] says what it is and what
//! it is not); [`sights`] is what all of them see together. They come in steps: first all are registered, then all watch, and
//! only then what they see counts. Nothing is kept of what comes but when which revision came, four bytes for each node, and
//! only where the record of `bench load` will say what that was.
//!
//! One process bears as many as its open files allow, three to a node; several bear more (`--first`).

mod arrivals;
mod nodes;
mod report;
mod sights;

use std::fs::File;
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proxy_agent::client::{Client, ClientError};
use proxy_agent::hollow::{Apart, Hollow};
use proxy_agent::join::IssueError;
use tokio::time::Instant;

use crate::record;
use crate::stop::Stop;

pub use report::{Begun, Report, Seen};

/// The most nodes: they have addresses in 198.18.0.0/15, which is for benchmarks (RFC 2544).
pub const MAX_NODES: u32 = 100_000;

/// How long the last that was written may take until all nodes have it, once the end is there.
const SETTLE: Duration = Duration::from_secs(1);

/// How hollow nodes get to know what there is when they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// The nodes of a process share one list of each resource.
    Shared,
    /// Each lists for itself, a few at a time.
    Own,
}

/// How many, where, and for how long.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// May ask for the certificates of nodes.
    pub client: Client,
    pub nodes: u32,
    /// The number of the first.
    pub first: u32,
    /// Once all are there; `None`: until they are to stop.
    pub seconds: Option<u32>,
    pub lists: Lists,
    /// What `bench load --record` writes.
    pub record: Option<PathBuf>,
}

/// Why there are no hollow nodes. What fails for a node that is there is counted, and is no error here.
#[derive(Debug, thiserror::Error)]
pub enum HollowError {
    #[error("{nodes} nodes from number {first} on are beyond number {MAX_NODES}, which is the last")]
    Number { nodes: u32, first: u32 },
    #[error("becoming the node {node}")]
    Issue {
        node: String,
        #[source]
        source: IssueError,
    },
    #[error("registering the node {node} took longer than {} s", limit.as_secs())]
    Registered { node: String, limit: Duration },
    #[error("deleting the node {node}")]
    Delete {
        node: String,
        #[source]
        source: ClientError,
    },
    #[error("starting the thread of the nodes' beats")]
    Beats(#[source] io::Error),
    #[error("reading {}", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a part of it ended unexpectedly")]
    Ended(#[source] tokio::task::JoinError),
}

/// Is these nodes for as long as it is to, and takes them away.
///
/// # Errors
/// When the server does not take the nodes, or the record cannot be read. What was made is taken away then, too.
pub async fn run(arguments: Arguments, stop: Stop) -> Result<Report, HollowError> {
    let Arguments { nodes, first, .. } = arguments;
    if first.checked_add(nodes).is_none_or(|end| end > MAX_NODES + 1) {
        return Err(HollowError::Number { nodes, first });
    }
    let mut made = Vec::new();
    let worked = work(&arguments, &stop, &mut made).await;
    // Nobody shall watch them go.
    drop(made);
    let deleted = tokio::select! {
        deleted = nodes::delete(&arguments.client, first, nodes) => deleted,
        () = stop.urgent() => Ok(()),
    };
    worked.and_then(|report| deleted.map(|()| report))
}

async fn work(arguments: &Arguments, stop: &Stop, made: &mut Vec<Hollow>) -> Result<Report, HollowError> {
    let began = Instant::now();
    let mut report = Report::default();
    nodes::register(arguments, stop, made).await?;
    report.nodes = u32::try_from(made.len()).unwrap_or(u32::MAX);
    let sights = Arc::new(sights::Sights::new(arguments.lists, arguments.record.is_some()));
    let beats = Apart::start("beats").map_err(HollowError::Beats)?;
    nodes::watch(made, &sights, &beats, stop).await;
    report.began = Begun { seconds: began.elapsed().as_secs_f64(), watches: sights.open(), listed: sights.listed() };
    eprintln!("{} hollow nodes watch after {:.1} s", report.nodes, report.began.seconds);
    let begin = Instant::now();
    sights.count_from_now();
    let time = arguments.seconds.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into()));
    tokio::select! {
        () = stop.wanted() => report.stopped = arguments.seconds.is_some(),
        () = tokio::time::sleep(time) => {}
    }
    tokio::select! {
        () = stop.urgent() => {}
        () = tokio::time::sleep(SETTLE) => {}
    }
    report.seen = sights.seen(begin.elapsed());
    if let Some(path) = &arguments.record {
        let failed = |source| HollowError::Record { path: path.clone(), source };
        let sent = File::open(path).and_then(|file| record::read(BufReader::new(file))).map_err(failed)?;
        report.lag = Some(sights.lag(&sent, report.nodes));
    }
    Ok(report)
}

/// What a node is called.
fn name(number: u32) -> String {
    format!("hollow-{number}")
}

/// Where it says to be.
fn address(number: u32) -> IpAddr {
    const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
    IpAddr::from(FIRST.wrapping_add(number).to_be_bytes())
}
