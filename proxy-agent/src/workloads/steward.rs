//! The one who knows what is wanted and what is there: gives every name its keeper, and every keeper its orders.
//!
//! What is decided here is what becomes of a Pod that nobody wants any more. A file's goes in order; that of a process
//! that asked for it goes in order, too, and stays until the process has ended; that of a process that ended goes at
//! once. After a restart of the agent nobody has asked for anything yet: nothing goes before the folder was read, and
//! processes have some time to come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::board::{Board, Complaint, Holder, Scan};
use super::keeper::Keeper;
use super::manifest::{Origin, PodName, Wanted};
use super::mirror::{Aim, Seen};
use super::order::{Heard, Order, Shared, Stage};
use super::protocol::Answer;
use super::socket::{Ask, Peer};
use crate::events::{About, Note, Reason};
use crate::follow::{Change, HasMeta, follow};
use crate::state::OwnNode;

/// Changes of Pods that wait to be taken in.
const QUEUE: usize = 256;

/// Where news comes from.
pub struct Sources {
    pub scans: mpsc::Receiver<Scan>,
    pub asks: mpsc::Receiver<Ask>,
    pub own: watch::Receiver<OwnNode>,
    /// Whether the Pods are to go, since the agent ends.
    pub ending: watch::Receiver<bool>,
}

/// Runs the workloads until it is dropped, or all Pods have gone because they were to.
pub async fn run(shared: Arc<Shared>, has_folder: bool, reconnect: Duration, mut sources: Sources) {
    let mut steward = Steward::new(shared, has_folder, Instant::now() + reconnect);
    steward.follow();
    loop {
        tokio::select! {
            Some(scan) = sources.scans.recv() => steward.scanned(scan),
            Some(ask) = sources.asks.recv() => steward.asked(ask),
            Some(change) = next(&mut steward.following) => steward.heard_all(change),
            Ok(()) = sources.own.changed() => {}
            Ok(()) = sources.ending.changed() => steward.ending |= *sources.ending.borrow(),
            Some(ended) = steward.keepers.join_next() => steward.ended(ended),
            () = steward.staged.notified() => {}
            () = tokio::time::sleep_until(steward.patience), if Instant::now() < steward.patience => {}
        }
        let own = sources.own.borrow_and_update().clone();
        steward.follow();
        steward.settle(&own);
        if steward.ending && steward.listed && steward.held.is_empty() {
            info!("no Pod stands for a workload of this node any more");
            return;
        }
    }
}

/// The Pods of this node, followed.
struct Following {
    changes: mpsc::Receiver<Change<Seen>>,
    /// Dropped with this.
    _task: JoinSet<()>,
}

async fn next(following: &mut Option<Following>) -> Option<Change<Seen>> {
    match following {
        Some(following) => following.changes.recv().await,
        None => std::future::pending().await,
    }
}

struct Steward {
    shared: Arc<Shared>,
    following: Option<Following>,
    has_folder: bool,
    board: Board,
    /// Whether the folder was read.
    scanned: bool,
    /// Pods of this node, as the server has them.
    known: BTreeMap<PodName, Arc<Seen>>,
    /// Uids that are no more, of names that have a keeper.
    gone: BTreeMap<PodName, String>,
    listed: bool,
    /// How often, ever.
    lists: u64,
    /// Until when registrations of an earlier agent are kept for processes that come back.
    patience: Instant,
    /// Names that nobody wants any more, and how they go.
    released: BTreeMap<PodName, Aim>,
    sessions: HashMap<u64, Session>,
    held: HashMap<PodName, Handle>,
    keepers: JoinSet<PodName>,
    /// Who waits for Pods to be left.
    waiting: Vec<Waiting>,
    staged: Arc<Notify>,
    ending: bool,
}

struct Session {
    peer: Peer,
    /// What it has asked to go in order.
    leaving: BTreeSet<PodName>,
}

/// A keeper, from outside.
struct Handle {
    orders: watch::Sender<Order>,
    stage: watch::Receiver<Stage>,
}

struct Waiting {
    names: BTreeSet<PodName>,
    doubt: Option<String>,
    reply: oneshot::Sender<Answer>,
}

impl Steward {
    fn new(shared: Arc<Shared>, has_folder: bool, patience: Instant) -> Self {
        Self {
            shared,
            following: None,
            has_folder,
            board: Board::default(),
            scanned: false,
            known: BTreeMap::new(),
            gone: BTreeMap::new(),
            listed: false,
            lists: 0,
            patience,
            released: BTreeMap::new(),
            sessions: HashMap::new(),
            held: HashMap::new(),
            keepers: JoinSet::new(),
            waiting: Vec::new(),
            staged: Arc::default(),
            ending: false,
        }
    }

    fn scanned(&mut self, scan: Scan) {
        self.scanned = true;
        let complaints =
            self.change(|board| board.scanned(scan), |wanted| Aim::Leave { grace: wanted.grace, held: false });
        self.complain(complaints);
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Check { session, pods, reply } => {
                let answer = self.board.check(session, &pods).map(|()| names(&pods));
                let _ = reply.send(accepted(answer));
            }
            Ask::Register { session, peer, pods, reply } => {
                let answer = self.board.check(session, &pods).map(|()| names(&pods));
                if answer.is_ok() {
                    self.sessions.insert(session, Session { peer, leaving: BTreeSet::new() });
                    let complaints = self.change(|board| board.registered(session, pods), |_| Aim::Go);
                    self.complain(complaints);
                }
                let _ = reply.send(accepted(answer));
            }
            Ask::Deregister { session, pods, grace, reply } => self.deregister(session, &pods, grace, reply),
            Ask::Closed { session } => {
                let complaints = self.change(|board| board.released(session), |_| Aim::Go);
                self.complain(complaints);
                for name in self.sessions.remove(&session).map(|session| session.leaving).unwrap_or_default() {
                    if let Some(aim) = self.released.get_mut(&name) {
                        *aim = Aim::Go;
                    }
                }
            }
        }
    }

    /// These go in order, whether this connection registered them or one to an earlier agent did.
    fn deregister(&mut self, session: u64, pods: &[String], grace: Duration, reply: oneshot::Sender<Answer>) {
        let mut names = BTreeSet::new();
        for pod in pods {
            let name =
                pod.split_once('/').map(|(namespace, name)| PodName { namespace: namespace.into(), name: name.into() });
            let holder = name.as_ref().and_then(|name| self.board.held().get(name)).map(|(holder, _)| holder.clone());
            let (Some(name), true) = (name, holder.is_none_or(|holder| holder == Holder::Session(session))) else {
                let _ = reply.send(Answer::Refused { reason: format!("the Pod {pod} is none of this process") });
                return;
            };
            names.insert(name);
        }
        let aim = Aim::Leave { grace, held: true };
        let complaints = self.change(|board| board.released(session), |_| aim.clone());
        self.complain(complaints);
        for name in &names {
            let ours = self.known.get(name).is_none_or(|seen| seen.origin() == Some(Origin::Socket));
            if ours && !self.board.held().contains_key(name) {
                self.released.insert(name.clone(), aim.clone());
            }
        }
        let peer = Peer { uid: 0, gid: 0 };
        self.sessions
            .entry(session)
            .or_insert(Session { peer, leaving: BTreeSet::new() })
            .leaving
            .extend(names.clone());
        self.waiting.push(Waiting { names, doubt: None, reply });
    }

    /// Changes the board; what nobody holds afterwards goes as `how` says.
    fn change(
        &mut self,
        change: impl FnOnce(&mut Board) -> Vec<Complaint>,
        how: impl Fn(&Wanted) -> Aim,
    ) -> Vec<Complaint> {
        let before = self.board.held().clone();
        let complaints = change(&mut self.board);
        for (name, (_, wanted)) in before {
            if !self.board.held().contains_key(&name) {
                self.released.insert(name, how(&wanted));
            }
        }
        complaints
    }

    fn complain(&self, complaints: Vec<Complaint>) {
        for Complaint { file, message } in complaints {
            warn!(file, "a manifest is not taken: {message}");
            let about = About::node(&self.shared.node);
            let message = format!("manifest {file}: {message}");
            self.shared.events.record(Note { about, reason: Reason::FailedValidation, message });
        }
    }

    /// Takes in a change, and what waits behind it.
    fn heard_all(&mut self, first: Change<Seen>) {
        let mut next = Some(first);
        while let Some(change) = next {
            self.heard(change);
            next = self.following.as_mut().and_then(|following| following.changes.try_recv().ok());
        }
    }

    fn heard(&mut self, change: Change<Seen>) {
        match change {
            Change::Reset(list) => {
                self.known = list.into_iter().map(|seen| (name_of(&seen), Arc::new(seen))).collect();
                self.gone.clear();
                self.listed = true;
                self.lists += 1;
            }
            Change::Set(seen) => {
                let name = name_of(&seen);
                self.gone.remove(&name);
                self.known.insert(name, Arc::new(seen));
            }
            Change::Gone(seen) => {
                let name = name_of(&seen);
                if self.held.contains_key(&name) {
                    self.gone.insert(name.clone(), seen.meta().uid().to_owned());
                }
                self.known.remove(&name);
            }
        }
    }

    fn ended(&mut self, ended: Result<PodName, tokio::task::JoinError>) {
        match ended {
            Ok(name) => {
                self.held.remove(&name);
                self.gone.remove(&name);
                // What a keeper took away may still be known by hearsay.
                if self.released.remove(&name).is_some() {
                    self.known.remove(&name);
                }
            }
            Err(error) => warn!("a workload's keeper failed: {error}"),
        }
    }

    /// Follows the Pods of this node while there is a reason to: most nodes have no workload of this kind, and each of
    /// them would be one more who is told of every Pod.
    fn follow(&mut self) {
        let ours = |seen: &Arc<Seen>| seen.is_of(&self.shared.node) && seen.origin().is_some();
        let needed = self.lists == 0
            || !self.board.held().is_empty()
            || !self.held.is_empty()
            || !self.waiting.is_empty()
            || !self.released.is_empty()
            || self.known.values().any(ours);
        if needed && self.following.is_none() {
            let (sender, changes) = mpsc::channel(QUEUE);
            let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.shared.node);
            let client = self.shared.client.clone();
            let mut task = JoinSet::new();
            task.spawn(async move { follow::<Seen>(client, &path, sender).await });
            self.following = Some(Following { changes, _task: task });
        } else if !needed && self.following.take().is_some() {
            self.listed = false;
            self.known.clear();
        }
    }

    /// What is to become of each name, and who waits for what has come about.
    fn settle(&mut self, own: &OwnNode) {
        if self.listed {
            let mut aims = BTreeMap::new();
            for (name, (holder, wanted)) in self.board.held() {
                let peer = match holder {
                    Holder::Session(session) => self.sessions.get(session).map(|session| session.peer),
                    Holder::File(_) => None,
                };
                let leaving = Aim::Leave { grace: wanted.grace, held: false };
                let aim = if self.ending { leaving } else { Aim::Run(Arc::clone(wanted)) };
                aims.insert(name.clone(), (aim, peer));
            }
            self.released.retain(|name, _| !aims.contains_key(name));
            for (name, aim) in &self.released {
                aims.insert(name.clone(), (aim.clone(), None));
            }
            for (name, seen) in &self.known {
                if !aims.contains_key(name)
                    && let Some(aim) = self.left_over(seen)
                {
                    aims.insert(name.clone(), (aim, None));
                }
            }
            for (name, (aim, peer)) in aims {
                self.order(name, aim, peer, own);
            }
        }
        self.answer();
    }

    /// What becomes of a Pod of an earlier agent that nobody has asked for; `None`: nothing yet.
    fn left_over(&self, seen: &Seen) -> Option<Aim> {
        if !seen.is_of(&self.shared.node) {
            return None;
        }
        let origin = seen.origin()?;
        let in_order = Aim::Leave { grace: seen.grace(), held: false };
        match origin {
            _ if self.ending => Some(in_order),
            Origin::File(_) if self.has_folder && !self.scanned || self.board.keeps(&origin) => None,
            Origin::File(_) => Some(in_order),
            Origin::Socket => (Instant::now() >= self.patience).then_some(Aim::Go),
        }
    }

    fn order(&mut self, name: PodName, aim: Aim, peer: Option<Peer>, own: &OwnNode) {
        let heard = match (self.known.get(&name), self.gone.get(&name)) {
            (Some(seen), _) => Heard::Is(Arc::clone(seen)),
            (None, Some(uid)) => Heard::Gone(uid.clone()),
            (None, None) => Heard::Nothing,
        };
        let order = Order { aim, peer, heard, list: self.lists, own: own.clone() };
        if let Some(handle) = self.held.get(&name) {
            handle.orders.send_if_modified(|known| {
                let changed = !known.same(&order);
                *known = order;
                changed
            });
            return;
        }
        // Nothing is there that could go.
        if !matches!(order.aim, Aim::Run(_)) && matches!(order.heard, Heard::Nothing) {
            self.released.remove(&name);
            return;
        }
        let (orders, taken) = watch::channel(order);
        let (stage, watched) = watch::channel(Stage::Present);
        let keeper = Keeper::new(Arc::clone(&self.shared), name.clone(), taken, stage, Arc::clone(&self.staged));
        self.held.insert(name.clone(), Handle { orders, stage: watched });
        self.keepers.spawn(async move {
            keeper.run().await;
            name
        });
    }

    /// Answers those whose Pods are left by everybody, or gone.
    fn answer(&mut self) {
        let (held, released) = (&self.held, &self.released);
        let listed = self.listed;
        for waiting in &mut self.waiting {
            let doubt = &mut waiting.doubt;
            waiting.names.retain(|name| match held.get(name).map(|handle| handle.stage.borrow().clone()) {
                Some(Stage::Present) => true,
                Some(Stage::Left(why)) => {
                    *doubt = doubt.take().or(why);
                    false
                }
                None => !listed || released.contains_key(name),
            });
        }
        let (done, waiting) = self.waiting.drain(..).partition(|waiting| waiting.names.is_empty());
        self.waiting = waiting;
        for Waiting { doubt, reply, .. } in done {
            let _ = reply.send(Answer::Deregistered { doubt });
        }
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
    }
}

fn names(pods: &[Arc<Wanted>]) -> Vec<String> {
    pods.iter().map(|pod| pod.name.to_string()).collect()
}

fn accepted(outcome: Result<Vec<String>, String>) -> Answer {
    match outcome {
        Ok(pods) => Answer::Accepted { pods },
        Err(reason) => Answer::Refused { reason },
    }
}

fn name_of(seen: &Seen) -> PodName {
    PodName { namespace: seen.metadata.namespace().to_owned(), name: seen.metadata.name().to_owned() }
}
