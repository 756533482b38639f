//! Services, Pods and their churn, at given sizes and rates, and how long what follows from them takes.
//!
//! Everything is in one namespace of its own. First it is made ([`phases::create`]), by as many clients as there are to be, each
//! with one request at a time. Then it is changed at a steady rate ([`phases::churn`]): an open loop, in which each change
//! is due at a time that no other change decides. What is late counts from when it was due: a server that stands still
//! for a second has made a hundred changes late and not one (coordinated omission). In the end the namespace goes.
//!
//! How long it takes until others know is found afterwards ([`arrivals`]): the writes and the watches each keep revisions
//! with times, and a watch has a write once it has seen its revision or a later one. Only the server and the agents that
//! were named are spoken to.

mod agents;
pub mod arrivals;
mod crew;
pub mod objects;
pub mod pace;
mod phases;
mod plan;
mod report;
mod space;
mod tally;
pub mod watchers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proxy_agent::client::{Client, ClientError};

use crate::stop::Stop;

pub use report::{Churned, Created, Known, Report};
pub use tally::{Failed, Kind, Tally};

/// The most Pods.
pub const MAX_PODS: u32 = 1_000_000;

/// What is to be made and changed, where, and who looks on. What the fields mean in full is said by `portolan bench load
/// --help`.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub client: Client,
    pub namespace: String,
    pub services: u32,
    /// Of each Service.
    pub pods: u32,
    /// Percent of the Pods that are bound to a Node.
    pub bind: u8,
    pub clients: u16,
    /// Changes per second.
    pub rate: u32,
    pub seconds: u32,
    /// Percent of the changes that replace a Pod.
    pub replace_pods: u8,
    /// Percent of the changes that replace a Service.
    pub replace_services: u8,
    pub watchers: u16,
    pub agent_metrics: Vec<String>,
    pub record: Option<PathBuf>,
    pub keep: bool,
    /// For making and changing; taking away comes after it.
    pub timeout: Duration,
}

/// Why there is no load. A single request that fails is counted and is no error here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{0}")]
    Arguments(String),
    #[error("{doing}")]
    Client {
        doing: &'static str,
        #[source]
        source: ClientError,
    },
    #[error("the namespace {0} is there, and not by this command; name another one")]
    Taken(String),
    #[error("starting a thread")]
    Pace(#[source] std::io::Error),
    #[error("writing {}", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Makes, changes and takes away.
///
/// # Errors
/// When what is asked for is too much, the namespace is somebody else's, or the server, an agent or the file cannot be used
/// at all.
pub async fn run(arguments: Arguments, stop: Stop) -> Result<Report, LoadError> {
    check(&arguments)?;
    let arguments = Arc::new(arguments);
    let space = space::open(&arguments).await?;
    let work = async {
        let mut report = Report::default();
        let until = tokio::time::Instant::now() + arguments.timeout;
        let present = phases::create(&arguments, &space, &stop, until, &mut report).await?;
        if arguments.seconds > 0 && !stop.is_wanted() {
            phases::churn(&arguments, &space, present, &stop, until, &mut report).await?;
        }
        report.stopped = stop.is_wanted();
        Ok(report)
    };
    let worked = work.await;
    if !arguments.keep {
        tokio::select! {
            gone = space.remove() => gone?,
            () = stop.urgent() => {}
        }
    }
    worked
}

fn check(arguments: &Arguments) -> Result<(), LoadError> {
    let wrong = |text: String| Err(LoadError::Arguments(text));
    if arguments.services.saturating_mul(arguments.pods) > MAX_PODS {
        return wrong(format!(
            "{} Services of {} Pods are more than {MAX_PODS} Pods",
            arguments.services, arguments.pods
        ));
    }
    if arguments.replace_pods.saturating_add(arguments.replace_services) > 100 {
        return wrong("more than 100 % of the changes are to replace something".into());
    }
    if !arguments.agent_metrics.is_empty() && arguments.watchers == 0 {
        return wrong("what an agent has is told by what a watcher has seen; give --watchers 1 or more".into());
    }
    if arguments.seconds > 0 && arguments.services.saturating_mul(arguments.pods) == 0 {
        return wrong("there is no Pod that could change; give --services and --pods, or --seconds 0".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
