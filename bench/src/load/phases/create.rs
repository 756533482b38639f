//! Services first, then Pods, each with its status behind it.

use std::time::Instant;

use proxy_agent::client::MERGE_PATCH;

use super::super::crew::{Crew, Due};
use super::super::report::{Created, Report};
use super::super::space::Space;
use super::super::tally::Kind;
use super::super::{Arguments, LoadError, objects};
use super::{bar, rate};
use crate::stop::Stop;

/// What there is now, as the changes need it.
#[derive(Debug)]
pub struct Made {
    /// Of each Pod, by its number, whether it is ready.
    pub ready: Vec<bool>,
    /// The Nodes that Pods are bound to, in turn; empty: to none.
    pub nodes: Vec<String>,
    /// Percent of the Pods that are bound.
    pub bind: u8,
}

impl Made {
    pub fn node(&self, pod: u32) -> Option<&str> {
        // Of any hundred so many, and not in a row.
        let bound = u64::from(pod) * 37 % 100 < u64::from(self.bind);
        let node = (pod as usize).checked_rem(self.nodes.len())?;
        self.nodes.get(node).filter(|_| bound).map(String::as_str)
    }
}

/// Makes what is not there yet.
///
/// # Errors
/// When the server cannot be read. A write that fails is counted.
pub async fn create(
    arguments: &Arguments,
    space: &Space,
    stop: &Stop,
    until: tokio::time::Instant,
    report: &mut Report,
) -> Result<Made, LoadError> {
    let mut present = space.present().await?;
    let nodes = if arguments.bind > 0 { space.nodes().await? } else { Vec::new() };
    let pods = arguments.services * arguments.pods;
    let mut made = Made { ready: vec![true; pods as usize], nodes, bind: arguments.bind };
    let mut crew = Crew::new(&arguments.client, arguments.clients);
    let began = Instant::now();
    let over = || stop.is_wanted() || tokio::time::Instant::now() >= until;

    let bar_of_services = bar("Services", arguments.services.into());
    for i in (0..arguments.services).take_while(|_| !over()) {
        bar_of_services.inc(1);
        if present.services.remove(&objects::service_name(i)) {
            continue;
        }
        let path = space.services();
        crew.give(|client, book| async move {
            let due = Due::now();
            let result = client.post(&path, &objects::service(i)).await;
            book.note(Kind::CreateService, due, None, result);
        })
        .await;
    }
    crew.done().await;
    bar_of_services.finish();
    let services = began.elapsed();

    let bar_of_pods = bar("Pods", pods.into());
    for i in (0..pods).take_while(|_| !over()) {
        bar_of_pods.inc(1);
        if let Some(ready) = present.pods.remove(&objects::pod_name(i)) {
            if let Some(kept) = made.ready.get_mut(i as usize) {
                *kept = ready;
            }
            continue;
        }
        let (path, pod) = (space.pods(), objects::pod(i, i / arguments.pods.max(1), made.node(i)));
        crew.give(|client, book| async move {
            let due = Due::now();
            let result = client.post(&path, &pod).await;
            if book.note(Kind::CreatePod, due, None, result) {
                let (due, path) = (Due::now(), format!("{path}/{}/status", objects::pod_name(i)));
                let result = client.patch(&path, MERGE_PATCH, &objects::status(i, true)).await;
                book.note(Kind::PodStatus, due, None, result);
            }
        })
        .await;
    }
    crew.done().await;
    bar_of_pods.finish();
    let requests = crew.book.take().tallies;
    let count = |kind| requests.get(&kind).map_or(0, |tally| tally.times.count());
    report.created = Some(Created {
        services: arguments.services,
        pods,
        seconds: began.elapsed().as_secs_f64(),
        services_per_second: rate(count(Kind::CreateService), services),
        pods_per_second: rate(count(Kind::CreatePod), began.elapsed().saturating_sub(services)),
        requests,
    });
    Ok(made)
}
