//! Changes at a steady rate, and who gets to know of them.

use std::sync::Arc;
use std::time::Duration;

use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::json;

use super::super::agents::{self, Agent};
use super::super::arrivals::{Moment, followed, lags, reached};
use super::super::crew::{Book, Crew, Due};
use super::super::pace;
use super::super::plan::{Change, Plan};
use super::super::report::{Churned, Known, Report};
use super::super::space::Space;
use super::super::tally::Kind;
use super::super::watchers::{self, Watcher};
use super::super::{Arguments, LoadError, objects};
use super::create::Made;
use super::{bar, rate};
use crate::record::Sent;
use crate::stop::Stop;

/// How long after the last change whoever looks on has to see it.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Everything that a change needs beside itself.
struct Scene {
    space: Space,
    made: Made,
    pods: u32,
}

/// Changes what there is, for as long as is wanted.
///
/// # Errors
/// When the watches cannot be opened, an agent does not answer, or the record cannot be written.
pub async fn churn(
    arguments: &Arguments,
    space: &Space,
    mut made: Made,
    stop: &Stop,
    until: tokio::time::Instant,
    report: &mut Report,
) -> Result<(), LoadError> {
    let ready = std::mem::take(&mut made.ready);
    let mut plan = Plan::new(arguments.services, ready, arguments.replace_pods, arguments.replace_services);
    let watchers = watchers::open(arguments).await?;
    let agents = agents::follow(&arguments.agent_metrics).await?;
    let scene = Arc::new(Scene { space: space.clone(), made, pods: arguments.pods.max(1) });
    let mut crew = Crew::new(&arguments.client, arguments.clients);
    let changes = u64::from(arguments.rate) * u64::from(arguments.seconds);
    let bar = bar("changes", changes);
    let begin = Due::now().after(Duration::from_millis(10));
    let mut beats = pace::beat(begin.at, arguments.rate, changes).map_err(LoadError::Pace)?;
    let mut sent = 0;
    loop {
        let beat = tokio::select! {
            beat = beats.recv() => beat,
            () = stop.wanted() => break,
        };
        let Some(beat) = beat.filter(|_| tokio::time::Instant::now() < until) else { break };
        let (due, change) = (begin.after(pace::due(beat, arguments.rate)), plan.step());
        let scene = Arc::clone(&scene);
        crew.give(move |client, book| async move { scene.perform(&client, &book, change, due).await }).await;
        sent += 1;
        bar.inc(1);
    }
    crew.done().await;
    let seconds = begin.at.elapsed();
    bar.finish();
    let mut pages = crew.book.take();
    pages.writes.sort_by_key(|write| write.revision);
    let last = pages.writes.last().map_or(0, |write| write.revision);
    settle(last, &watchers, &agents, stop).await;
    if let Some(path) = &arguments.record {
        write_record(path, &arguments.namespace, &pages.writes)?;
    }
    let seen = watchers.iter().map(Watcher::seen).collect::<Vec<_>>();
    let (lag, kernels) = known(&pages.writes, &seen, &agents);
    report.churned = Some(Churned {
        rate: arguments.rate,
        seconds: seconds.as_secs_f64(),
        changes: sent,
        changes_per_second: rate(sent, seconds),
        requests: pages.tallies,
        lag: (!watchers.is_empty()).then_some(lag),
        cuts: watchers.iter().map(Watcher::cuts).sum(),
        kernels,
    });
    Ok(())
}

impl Scene {
    async fn perform(&self, client: &Client, book: &Book, change: Change, due: Due) {
        match change {
            Change::Turn { pod, ready } => {
                self.status(client, book, pod, ready, due).await;
            }
            Change::ReplacePod { pod, ready } => {
                let path = format!("{}/{}", self.space.pods(), objects::pod_name(pod));
                // No kubelet is there that would end it.
                let at_once = json!({"gracePeriodSeconds": 0});
                let result = client.delete(&path, Some(&at_once)).await;
                book.note(Kind::DeletePod, due, None, result);
                let due = Due::now();
                let object = objects::pod(pod, pod / self.pods, self.made.node(pod));
                let result = client.post(&self.space.pods(), &object).await;
                if book.note(Kind::CreatePod, due, None, result) {
                    self.status(client, book, pod, ready, Due::now()).await;
                }
            }
            Change::ReplaceService { service } => {
                let path = format!("{}/{}", self.space.services(), objects::service_name(service));
                let result = client.delete(&path, None).await;
                book.note(Kind::DeleteService, due, None, result);
                let due = Due::now();
                let result = client.post(&self.space.services(), &objects::service(service)).await;
                book.note(Kind::CreateService, due, Some(service), result);
            }
        }
    }

    async fn status(&self, client: &Client, book: &Book, pod: u32, ready: bool, due: Due) {
        let path = format!("{}/{}/status", self.space.pods(), objects::pod_name(pod));
        let result = client.patch(&path, MERGE_PATCH, &objects::status(pod, ready)).await;
        book.note(Kind::PodStatus, due, Some(pod / self.pods), result);
    }
}

/// Waits until all have seen the last write, if they do.
async fn settle(last: u64, watchers: &[Watcher], agents: &[Agent], stop: &Stop) {
    let until = tokio::time::Instant::now() + SETTLE;
    let behind = || watchers.iter().any(|w| w.revision() < last) || agents.iter().any(|a| a.revision() < last);
    while behind() && tokio::time::Instant::now() < until && !stop.is_wanted() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The lag of all watchers together, and of each kernel.
fn known(writes: &[Moment], seen: &[Vec<Moment>], agents: &[Agent]) -> (Known, Vec<(String, Known)>) {
    let mut all = Known::default();
    let mut first: Option<Vec<Option<Moment>>> = None;
    for seen in seen {
        let followed = followed(writes, seen);
        let (times, missing) = lags(writes, followed.iter().map(|moment| moment.map(|moment| moment.micros)));
        all.times.add(&times);
        all.missing += missing;
        first.get_or_insert(followed);
    }
    let followed = first.unwrap_or_default();
    let kernel = |agent: &Agent| {
        let progress = agent.progress();
        let arrived = followed.iter().map(|moment| reached(&progress, moment.as_ref()?.revision));
        let (times, missing) = lags(writes, arrived);
        (agent.url.clone(), Known { times, missing })
    };
    let kernels = agents.iter().map(kernel).collect();
    (all, kernels)
}

fn write_record(path: &std::path::Path, namespace: &str, writes: &[Moment]) -> Result<(), LoadError> {
    let line = |write: &Moment| {
        let service = model::Key::new(namespace, &objects::service_name(write.service));
        format!("{}\n", Sent { revision: write.revision, micros: write.micros, service })
    };
    let text: String = writes.iter().map(line).collect();
    std::fs::write(path, text).map_err(|source| LoadError::Record { path: path.to_owned(), source })
}
