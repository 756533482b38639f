//! One task per name: brings the mirror Pod of that name about, step by step as [`mirror`](super::mirror) says, has its
//! containers probed, and writes the status that follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use super::exec::Machine;
use super::life::Life;
use super::manifest::{PodName, Wanted};
use super::mirror::{self, Aim, Knowledge, Seen, Step};
use super::order::{Heard, Order, Shared, Stage};
use super::standing;
use crate::chain;
use crate::client::{ClientError, STRATEGIC_MERGE_PATCH};
use crate::events::{About, Note, Reason};
use crate::leaving::Leaving;
use crate::pods::status;
use crate::probes::News;

/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Before a write that did not reach the server is tried again; and one that was refused, or that would be in the way
/// of somebody else's Pod.
const RETRY: Duration = Duration::from_millis(300);
const RETRY_REFUSED: Duration = Duration::from_secs(10);
/// Between two creations of one Pod that somebody deletes as often.
const BETWEEN: Duration = Duration::from_secs(1);
/// News of probes that wait.
const NEWS: usize = 64;

/// One keeper. When [`Keeper::run`] ends, nothing of the Pod is left.
pub struct Keeper {
    shared: Arc<Shared>,
    name: PodName,
    orders: watch::Receiver<Order>,
    order: Order,
    known: Knowledge,
    list: u64,
    stage: watch::Sender<Stage>,
    /// Woken when the stage changes.
    staged: Arc<Notify>,
    leaving: Option<Leaving>,
    /// What is probed and reported of the Pod that is there.
    life: Option<Life>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    /// Not before then is a Pod created again.
    create_at: Instant,
    /// What was said last about what does not work.
    told: Option<String>,
}

/// What a round came to.
enum Round {
    /// Look again at once.
    On,
    /// Wait for something to change, at most so long.
    Rest(Option<Duration>),
    Over,
}

impl Keeper {
    pub fn new(
        shared: Arc<Shared>,
        name: PodName,
        mut orders: watch::Receiver<Order>,
        stage: watch::Sender<Stage>,
        staged: Arc<Notify>,
    ) -> Self {
        let order = orders.borrow_and_update().clone();
        let mut known = Knowledge::default();
        if let Heard::Is(seen) = &order.heard {
            known.is(Some(Arc::clone(seen)));
        }
        let list = order.list;
        Self {
            shared,
            name,
            orders,
            order,
            known,
            list,
            stage,
            staged,
            leaving: None,
            life: None,
            news: mpsc::channel(NEWS),
            create_at: Instant::now(),
            told: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            let rest = match self.round().await {
                Round::On => Some(Duration::ZERO),
                Round::Rest(rest) => rest,
                Round::Over => break,
            };
            tokio::select! {
                changed = self.orders.changed() => {
                    // Nobody gives orders any more: the agent ends, and the Pod stays.
                    if changed.is_err() { return }
                    self.take_order();
                }
                Some(news) = self.news.1.recv() => self.hear(news),
                () = left(self.leaving.as_mut()) => {}
                () = sleep(rest) => {}
            }
        }
        self.forget();
    }

    fn stands_at(&self, stage: Stage) {
        let changed = self.stage.send_if_modified(|known| {
            let changed = *known != stage;
            *known = stage;
            changed
        });
        if changed {
            self.staged.notify_one();
        }
    }

    fn take_order(&mut self) {
        self.order = self.orders.borrow_and_update().clone();
        if self.order.list != self.list {
            self.list = self.order.list;
            self.known.is(match &self.order.heard {
                Heard::Is(seen) => Some(Arc::clone(seen)),
                Heard::Gone(_) | Heard::Nothing => None,
            });
        }
        match &self.order.heard {
            Heard::Is(seen) => self.known.hear(Arc::clone(seen)),
            Heard::Gone(uid) => self.known.gone(uid),
            Heard::Nothing => {}
        }
        if let Aim::Leave { grace, .. } = self.order.aim {
            if let Some(leaving) = &mut self.leaving {
                leaving.shorten(grace);
            }
        } else if matches!(self.order.aim, Aim::Run(_)) {
            self.leaving = None;
            self.stands_at(Stage::Present);
        }
    }

    fn hear(&mut self, news: News) {
        if let Some(life) = &mut self.life {
            life.hear(news);
        }
    }

    /// Takes one step.
    async fn round(&mut self) -> Round {
        let left = self.leaving.as_ref().is_some_and(Leaving::is_over);
        let over = self.leaving.as_ref().is_some_and(|leaving| leaving.grace().is_zero());
        if left && let Some(leaving) = &self.leaving {
            self.stands_at(Stage::Left(leaving.doubt().map(str::to_owned)));
        }
        let seen = self.known.seen().cloned();
        match mirror::next(&self.order.aim, seen.as_deref(), &self.shared.node, left, over) {
            Step::Create => self.create().await,
            Step::Delete { grace } => self.delete(seen.as_deref(), grace).await,
            Step::Remove => self.remove(seen.as_deref()).await,
            Step::Report => self.report(seen.as_deref()).await,
            Step::Wait => self.wait(),
            Step::Conflict => {
                self.complain("there is a Pod of that name, which is not this node's to replace".to_owned());
                if seen.is_some_and(|seen| seen.is_of(&self.shared.node)) {
                    return Round::Rest(None);
                }
                // Of Pods of other nodes nothing is heard, so it is tried again.
                self.known.is(None);
                self.create_at = Instant::now() + RETRY_REFUSED;
                Round::On
            }
            Step::Done => Round::Over,
        }
    }

    async fn create(&mut self) -> Round {
        self.forget();
        let Aim::Run(wanted) = self.order.aim.clone() else { return Round::Rest(None) };
        if self.order.own.uid.is_empty() {
            // The Node is not registered yet; an order comes when it is.
            return Round::Rest(None);
        }
        let now = Instant::now();
        if now < self.create_at {
            return Round::Rest(Some(self.create_at - now));
        }
        self.create_at = now + BETWEEN;
        let mut object = wanted.object.clone();
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "Node", "name": self.shared.node, "uid": self.order.own.uid, "controller": true,
        }]);
        let path = format!("/api/v1/namespaces/{}/pods", self.name.namespace);
        match within(self.shared.client.post(&path, &object)).await {
            Ok(created) => {
                info!(pod = %self.name, "a Pod stands for a workload");
                self.told = None;
                self.learn(created)
            }
            Err(Failed::Refused(error)) if error.is_conflict() => self.look().await,
            Err(Failed::Refused(error)) => {
                self.complain(format!("its Pod is refused: {}", chain(&error)));
                Round::Rest(Some(RETRY_REFUSED))
            }
            Err(Failed::Unreachable) => {
                self.create_at = now;
                Round::Rest(Some(RETRY))
            }
        }
    }

    /// There is one, which was not heard of: a watch may be late, and tells nothing of Pods of other nodes.
    async fn look(&mut self) -> Round {
        match within(self.shared.client.get(&self.path())).await {
            Ok(found) => self.learn(found),
            Err(Failed::Refused(error)) if error.is_not_found() => Round::Rest(Some(RETRY)),
            Err(Failed::Refused(_)) => {
                self.complain("there is a Pod of that name, which is not this node's".to_owned());
                Round::Rest(Some(RETRY_REFUSED))
            }
            Err(Failed::Unreachable) => Round::Rest(Some(RETRY)),
        }
    }

    fn learn(&mut self, object: Value) -> Round {
        match serde_json::from_value::<Seen>(object) {
            Ok(seen) => {
                self.known.is(Some(Arc::new(seen)));
                Round::On
            }
            Err(error) => {
                self.complain(format!("the server's answer cannot be read: {error}"));
                Round::Rest(Some(RETRY_REFUSED))
            }
        }
    }

    /// Says that the Pod is about to go; who hears of it sends nobody there.
    async fn delete(&mut self, seen: Option<&Seen>, grace: Duration) -> Round {
        let Some(seen) = seen else { return Round::On };
        // Less than a second is none, and takes it away at once.
        match self.send_deletion(seen.uid(), grace.as_secs().max(1)).await {
            Ok(answer) if answer["kind"] == "Pod" => self.learn(answer),
            Ok(_) => Round::Rest(Some(RETRY)),
            Err(rest) => rest,
        }
    }

    async fn remove(&mut self, seen: Option<&Seen>) -> Round {
        let Some(seen) = seen else { return Round::On };
        match self.send_deletion(seen.uid(), 0).await {
            Ok(_) => {
                self.known.gone(seen.uid());
                Round::On
            }
            Err(rest) => rest,
        }
    }

    async fn send_deletion(&mut self, uid: &str, grace_seconds: u64) -> Result<Value, Round> {
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace_seconds,
            "preconditions": {"uid": uid},
        });
        match within(self.shared.client.delete(&self.path(), Some(&options))).await {
            Ok(answer) => Ok(answer),
            // It is gone, or another one is there.
            Err(Failed::Refused(error)) if error.is_not_found() || error.is_conflict() => {
                self.known.gone(uid);
                Err(Round::On)
            }
            Err(Failed::Refused(error)) => {
                self.complain(format!("its Pod cannot be taken away: {}", chain(&error)));
                Err(Round::Rest(Some(RETRY_REFUSED)))
            }
            Err(Failed::Unreachable) => Err(Round::Rest(Some(RETRY))),
        }
    }

    /// It is going: waits for the nodes, and while it does its readiness is still told.
    fn wait(&mut self) -> Round {
        let Aim::Leave { grace, .. } = self.order.aim else { return Round::Rest(None) };
        let (client, name) = (&self.shared.client, &self.name);
        let leaving = self.leaving.get_or_insert_with(|| Leaving::begin(client.clone(), name.to_string(), grace));
        let rest = leaving.is_over().then(|| leaving.grace());
        if let Some(life) = &mut self.life {
            life.quiet(&self.shared.prober);
        }
        Round::Rest(rest)
    }

    /// Has the Pod probed, and writes its status if that is another than the server has.
    async fn report(&mut self, seen: Option<&Seen>) -> Round {
        let (Some(seen), Aim::Run(wanted)) = (seen, self.order.aim.clone()) else { return Round::Rest(None) };
        self.attend(seen, &wanted);
        let Some(life) = &mut self.life else { return Round::Rest(None) };
        if let Some(rest) = life.settling() {
            return Round::Rest(Some(rest));
        }
        let status = life.status(seen, &self.order.own.addresses, Timestamp::now());
        if life.written.as_ref() == Some(&status) {
            return Round::Rest(None);
        }
        let patch = status::patch(&life.uid, &status);
        let path = format!("{}/status", self.path());
        match within(self.shared.client.patch(&path, STRATEGIC_MERGE_PATCH, &patch)).await {
            Ok(_) => {
                if let Some(life) = &mut self.life {
                    life.written = Some(status);
                }
                if self.told.take().is_some() {
                    info!(pod = %self.name, "what was in the way of its Pod is so no more");
                }
                Round::Rest(None)
            }
            Err(Failed::Refused(error)) if error.is_not_found() || error.is_conflict() => {
                self.known.gone(seen.uid());
                Round::On
            }
            Err(Failed::Refused(error)) => {
                self.complain(format!("its status is refused: {}", chain(&error)));
                Round::Rest(Some(RETRY_REFUSED))
            }
            Err(Failed::Unreachable) => Round::Rest(Some(RETRY)),
        }
    }

    /// Has this very Pod probed from now on, if it is not.
    fn attend(&mut self, seen: &Seen, wanted: &Wanted) {
        let addresses = standing::addresses(wanted, &self.order.own.addresses);
        if self.life.as_ref().is_some_and(|life| life.is_of(seen, wanted, &addresses)) {
            return;
        }
        self.forget();
        let machine = Machine { peer: self.order.peer };
        self.life = Life::begin(&self.shared, &self.name, seen, wanted, addresses, machine, &self.news.0);
    }

    fn forget(&mut self) {
        if let Some(life) = self.life.take() {
            life.end(&self.shared.prober);
        }
    }

    /// Says once what does not work: in the log, and in an Event on the Node.
    fn complain(&mut self, message: String) {
        if self.told.as_ref() == Some(&message) {
            return;
        }
        warn!(pod = %self.name, "{message}");
        let about = About::node(&self.shared.node);
        let text = format!("workload {}: {message}", self.name);
        self.shared.events.record(Note { about, reason: Reason::FailedCreate, message: text });
        self.told = Some(message);
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.name.namespace, self.name.name)
    }
}

/// Why a write has not been done.
enum Failed {
    /// It would be refused again.
    Refused(ClientError),
    Unreachable,
}

async fn within(request: impl Future<Output = Result<Value, ClientError>>) -> Result<Value, Failed> {
    match tokio::time::timeout(WRITE_LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.code().is_some_and(|code| (400..500).contains(&code) && code != 429) => {
            Err(Failed::Refused(error))
        }
        Ok(Err(_)) | Err(_) => Err(Failed::Unreachable),
    }
}

/// Completes when a Pod that goes may do so; never for one that does not, or was told so already.
async fn left(leaving: Option<&mut Leaving>) {
    match leaving {
        Some(leaving) if !leaving.is_over() => leaving.wait().await,
        _ => std::future::pending().await,
    }
}

async fn sleep(rest: Option<Duration>) {
    match rest {
        Some(rest) => tokio::time::sleep(rest).await,
        None => std::future::pending().await,
    }
}
