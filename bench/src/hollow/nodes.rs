//! Many nodes that come and go, a few at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use proxy_agent::client::{Client, ClientError};
use proxy_agent::hollow::{Apart, Hollow, watched};
use proxy_agent::join::{IssueError, introduce};
use tokio::task::JoinSet;

use super::sights::Sights;
use super::{Arguments, HollowError, address, name};
use crate::stop::Stop;

/// Nodes that register, or are deleted, at the same time.
const AT_A_TIME: usize = 32;
/// Nodes that open their watches at the same time.
const OPENING: u64 = 64;
const LOOK: Duration = Duration::from_millis(5);
/// How long a node may take to register.
const REGISTER_LIMIT: Duration = Duration::from_secs(60);
/// How often a server is asked for a certificate that is busy, or still keeps the name for who was this node before (for up to
/// 40 s); and the pause before the second time, which doubles.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The label by which hollow nodes are known.
const LABEL: &str = "portolan.dev/hollow";

/// Registers all, as long as nobody wants an end.
pub async fn register(arguments: &Arguments, stop: &Stop, made: &mut Vec<Hollow>) -> Result<(), HollowError> {
    let bar = ProgressBar::new(arguments.nodes.into()).with_message("nodes");
    let mut numbers = arguments.first..arguments.first.saturating_add(arguments.nodes);
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < AT_A_TIME
            && !stop.is_wanted()
            && let Some(number) = numbers.next()
        {
            tasks.spawn(one(arguments.client.clone(), number));
        }
        let Some(done) = tasks.join_next().await else { break };
        made.push(done.map_err(HollowError::Ended)??);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn one(client: Client, number: u32) -> Result<Hollow, HollowError> {
    let node = name(number);
    let own = match certified(&client, &node).await {
        Ok(own) => own,
        Err(source) => return Err(HollowError::Issue { node, source }),
    };
    let labels = BTreeMap::from([(LABEL.to_owned(), "true".to_owned())]);
    let hollow = Hollow::start(own, &node, address(number), labels);
    match tokio::time::timeout(REGISTER_LIMIT, hollow.registered()).await {
        Ok(()) => Ok(hollow),
        Err(_) => Err(HollowError::Registered { node, limit: REGISTER_LIMIT }),
    }
}

async fn certified(client: &Client, node: &str) -> Result<Client, IssueError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match introduce(client, node).await {
            Err(IssueError::Client(error)) if is_passing(&error) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
    introduce(client, node).await
}

/// Whether it is the moment's fault.
fn is_passing(error: &ClientError) -> bool {
    match error.code() {
        Some(code) => code == 409 || code == 429 || code >= 500,
        None => !matches!(error, ClientError::Setup { .. } | ClientError::Tls(_)),
    }
}

/// Lets all watch; returns when all their watches are open, or somebody wants an end.
pub async fn watch(made: &mut [Hollow], sights: &Arc<Sights>, beats: &Apart, stop: &Stop) {
    let each = watched().count() as u64;
    let bar = ProgressBar::new(made.len() as u64 * each).with_message("watches");
    let mut wanted = 0;
    let opened = async |wanted: u64| {
        while sights.opened() < wanted && !stop.is_wanted() {
            tokio::time::sleep(LOOK).await;
            bar.set_position(sights.opened());
        }
    };
    for node in made {
        opened(u64::saturating_sub(wanted, OPENING * each)).await;
        node.watch(sights, beats);
        wanted += each;
    }
    opened(wanted).await;
    bar.finish_and_clear();
}

/// Deletes the Nodes, and with them their Leases and Pods. One that is not there is none to be deleted.
pub async fn delete(client: &Client, first: u32, nodes: u32) -> Result<(), HollowError> {
    let mut tasks = JoinSet::new();
    let mut numbers = first..first.saturating_add(nodes);
    loop {
        while tasks.len() < AT_A_TIME
            && let Some(number) = numbers.next()
        {
            let client = client.clone();
            tasks.spawn(async move {
                let node = name(number);
                match client.delete(&format!("/api/v1/nodes/{node}"), None).await {
                    Err(source) if !source.is_not_found() => Err(HollowError::Delete { node, source }),
                    _ => Ok(()),
                }
            });
        }
        let Some(done) = tasks.join_next().await else { return Ok(()) };
        done.map_err(HollowError::Ended)??;
    }
}
