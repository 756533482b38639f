//! One task per pod: gives it a place, does what the machine says, and writes the status that follows.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::Key;
use nix::sys::signal::Signal;
use proxy_agent::client::{ClientError, STRATEGIC_MERGE_PATCH};
use proxy_agent::events::{About, Note, Reason, Recorder};
use proxy_agent::leaving::Leaving;
use proxy_agent::pods::conditions::Conditions;
use proxy_agent::pods::status::{patch, rejected};
use proxy_agent::probes::{Before, News, OnFailure, Target};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

use super::container::Started;
use super::machine::{Action, Event, Machine, RestartPolicy, Role};
use super::manifest::{Facts, Manifest};
use super::node::HomeNode;
use super::probing::Beside;
use super::status::{self, Place};
use super::{Entry, Shared};
use crate::addresses;
use crate::children::{Exit, kill_inside};
use crate::mounts::Mounts;
use crate::netns::Netns;
use crate::network::{Sandbox, add_pod};
use proxy_agent::chain;

/// How long a write that could not reach the server waits before it is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long one write may take. The server may be restarting; the pod's processes must not wait for it.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How long a status may wait for a container that was just started to become ready: an echo needs a few milliseconds,
/// and a pod's start then costs the server one write instead of two.
const SETTLING: Duration = Duration::from_millis(50);

/// What the worker is to bring about. The newest order counts.
#[derive(Clone, Debug)]
pub enum Order {
    /// The pod as it stands; with a deletion timestamp, end it.
    Run(Arc<Manifest>),
    /// The pod is no longer in the store: end it at once and tell nobody.
    Vanish,
}

pub struct Worker {
    shared: Arc<Shared>,
    home: Arc<HomeNode>,
    recorder: Recorder,
    orders: watch::Receiver<Order>,
    pod: Arc<Manifest>,
    vanished: bool,
    /// Set once it is deleted.
    leaving: Option<Leaving>,
    machine: Machine,
    conditions: Conditions,
    place: Place,
    /// In which its files read as a pod's.
    mounts: Option<Arc<Mounts>>,
    /// The process number of each container, while it runs.
    pids: Vec<Option<i32>>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// How often each container was started, by which news of its probes is told from that of an earlier start.
    runs: Vec<u32>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    /// Only the readiness of its containers is still of interest.
    quiet: bool,
    /// The status that the server has.
    written: Option<Value>,
}

impl Worker {
    pub fn new(
        shared: Arc<Shared>,
        home: Arc<HomeNode>,
        recorder: Recorder,
        pod: Arc<Manifest>,
        orders: watch::Receiver<Order>,
    ) -> Self {
        let roles = pod.containers().map(|(role, _)| role).zip(pod.earlier_restarts());
        let machine = Machine::new(pod.restart_policy(), roles);
        let pids = vec![None; machine.containers.len()];
        let place = Place { host_ips: home.addresses.list(), ..Place::default() };
        let conditions = Conditions::of(&pod.status.conditions);
        let events = mpsc::channel(2 * pids.len() + 1);
        let (runs, news) = (vec![0; pids.len()], mpsc::channel(2 * pids.len() + 1));
        Self {
            shared,
            home,
            recorder,
            orders,
            pod,
            vanished: false,
            leaving: None,
            machine,
            conditions,
            place,
            mounts: None,
            pids,
            events,
            runs,
            news,
            quiet: false,
            written: None,
        }
    }

    /// Runs the pod until it has ended or is deleted; then nothing of it is left on this machine, and, if it was
    /// deleted, in the store.
    pub async fn run(mut self) {
        let sandbox = if self.pod.spec.host_network {
            self.place.pod_ips = self.home.addresses.list();
            None
        } else {
            match self.settle().await {
                Settled::Here(sandbox) => Some(sandbox),
                Settled::Rejected => return,
                Settled::Deleted => return self.remove().await,
            }
        };
        self.mounts = self.shared.names.of_pod(&self.pod, &self.place.pod_ips);
        let netns = Arc::clone(sandbox.as_ref().map_or(&self.home.net.netns, |s| &s.netns));
        let earlier = self.pod.status.start_time.as_deref().and_then(|at| at.parse().ok());
        self.place.started = Some(earlier.unwrap_or_else(Timestamp::now));
        self.live(&netns).await;
        for (_, container) in self.pod.containers() {
            self.shared.prober.forget(self.pod.metadata.uid(), &container.name);
        }
        // First of all nobody is to be sent here any more: not ready, before the address stops answering.
        let _ = self.write_status().await;
        if let Some(sandbox) = sandbox {
            self.tear_down(sandbox, netns).await;
        }
        self.shared.pods.forget(self.pod.metadata.uid());
        // It may have been deleted while it ended by itself.
        self.take_order();
        if self.machine.deleting() || self.pod.metadata.terminating() {
            self.remove().await;
        } else {
            while !self.vanished && self.write_status().await.is_err() {
                self.pause(RETRY).await;
            }
        }
    }

    /// Takes an address and makes the namespace; tries until it works or the pod is deleted.
    async fn settle(&mut self) -> Settled {
        let wish = self.pod.earlier_address().and_then(|a| addresses::pod_host(self.home.net.number, a));
        loop {
            if self.vanished || self.pod.metadata.terminating() {
                return Settled::Deleted;
            }
            let Some(host) = self.home.take_address(wish) else {
                let message =
                    format!("Node didn't have enough addresses: it runs {} pods", addresses::MAX_PODS_PER_NODE);
                let status = rejected("OutOfpods", &message);
                while self.patch(&status).await.is_err() && !self.vanished {
                    self.pause(RETRY).await;
                }
                return Settled::Rejected;
            };
            match add_pod(&self.home.net, host).await {
                Ok(sandbox) => {
                    self.place.pod_ips = sandbox.addresses.list();
                    return Settled::Here(sandbox);
                }
                Err(error) => {
                    tracing::error!("pod {}: {}", self.pod.full_name(), chain(&error));
                    self.home.give_address(host);
                    self.pause(4 * RETRY).await;
                }
            }
        }
    }

    /// From the first tick to the end of the last process.
    async fn live(&mut self, netns: &Arc<Netns>) {
        let mut waiting = vec![Event::Tick];
        if let Some(event) = self.deletion() {
            waiting.push(event);
        }
        let mut retry = None;
        let mut hold_until = tokio::time::Instant::now();
        loop {
            while let Some(event) = waiting.pop() {
                let now = Timestamp::now();
                if let Event::Ended { index, .. } = event {
                    self.ended(index);
                }
                for action in self.machine.handle(now, &event, self.pod.grace()) {
                    if matches!(action, Action::Start { .. }) {
                        hold_until = tokio::time::Instant::now() + SETTLING;
                    }
                    if let Some(consequence) = self.act(action, netns) {
                        waiting.push(consequence);
                    }
                }
            }
            self.show(netns);
            if self.machine.finished() {
                return;
            }
            if !self.machine.ready()
                && let Ok(events) = tokio::time::timeout_at(hold_until, self.next_events()).await
            {
                waiting.extend(events);
                continue;
            }
            retry = match self.write_status().await {
                Ok(()) => None,
                Err(()) => Some(retry.unwrap_or_else(|| tokio::time::Instant::now() + RETRY)),
            };
            // What is due while the status was being written comes first: a select takes any branch.
            let wake = self.machine.wake().map(|at| at.duration_since(Timestamp::now()));
            let wake = wake.map(|d| Duration::try_from(d).unwrap_or_default());
            tokio::select! {
                event = self.events.1.recv() => waiting.extend(event),
                Some(news) = self.news.1.recv() => waiting.extend(self.heard(&news)),
                changed = self.orders.changed() => {
                    if changed.is_err() { self.vanished = true; }
                    waiting.extend(self.take_order());
                }
                () = left(self.leaving.as_mut()) => waiting.extend(self.deletion()),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => waiting.push(Event::Tick),
                () = tokio::time::sleep_until(retry.unwrap_or_else(tokio::time::Instant::now)), if retry.is_some() => {
                    retry = None;
                }
            }
        }
    }

    /// What happens next. Cancel-safe.
    async fn next_events(&mut self) -> Vec<Event> {
        tokio::select! {
            event = self.events.1.recv() => event.into_iter().collect(),
            Some(news) = self.news.1.recv() => self.heard(&news),
        }
    }

    /// What probes say of a container, and what follows.
    fn heard(&self, news: &News) -> Vec<Event> {
        let pod = Arc::clone(&self.pod);
        let Some((index, (role, container))) =
            pod.containers().enumerate().find(|(_, (_, c))| *c.name == *news.container)
        else {
            return Vec::new();
        };
        if self.runs.get(index) != Some(&news.run) {
            return Vec::new();
        }
        let verdict = &news.verdict;
        let mut events =
            vec![Event::Stands { index, started: verdict.started, ready: verdict.ready, why: verdict.why.clone() }];
        if let Some(kind) = verdict.failed.filter(|_| !self.machine.is_ending(index) && !self.machine.deleting()) {
            let again = if role == Role::Sidecar || pod.restart_policy() != RestartPolicy::Never {
                ", will be restarted"
            } else {
                ""
            };
            let message = format!("Container {} failed {} probe{again}", container.name, kind.word());
            self.recorder.record(Note { about: self.about(role, &container.name), reason: Reason::Killing, message });
            let own = container.probes().get(kind).and_then(|probe| probe.grace);
            events.push(Event::Unhealthy { index, grace: own.unwrap_or_else(|| pod.grace()) });
        }
        events
    }

    fn about(&self, role: Role, container: &str) -> About {
        let meta = &self.pod.metadata;
        let list = if role == Role::Main { "containers" } else { "initContainers" };
        About::container(Key::new(meta.namespace(), meta.name()), meta.uid(), list, container)
    }

    /// A container's process is no more, and its probes with it.
    fn ended(&mut self, index: usize) {
        if let Some(pid) = self.pids.get_mut(index) {
            *pid = None;
        }
        if let Some((_, container)) = self.pod.containers().nth(index) {
            self.shared.prober.forget(self.pod.metadata.uid(), &container.name);
        }
    }

    /// What the prober is to know of a container that was just started; None where there is nothing to probe.
    fn target(&mut self, index: usize, netns: &Arc<Netns>) -> Option<Target> {
        let run = self.runs.get_mut(index).map(|run| {
            *run += 1;
            *run
        })?;
        let pod = Arc::clone(&self.pod);
        let (role, container) = pod.containers().nth(index)?;
        let probes = container.probes();
        if role == Role::Init || probes.is_empty() {
            return None;
        }
        let place = Beside {
            launcher: self.shared.launcher.clone(),
            node: Arc::clone(&self.home.net.netns),
            netns: Arc::clone(netns),
            mounts: self.mounts.clone(),
            pod: Arc::clone(&pod),
            index,
            facts: Facts { pod_ips: self.place.pod_ips.clone(), host_ips: self.place.host_ips.clone() },
        };
        Some(Target {
            uid: pod.metadata.uid().into(),
            container: container.name.as_str().into(),
            run,
            since: std::time::Instant::now(),
            probes,
            ip: *self.place.pod_ips.first()?,
            ports: container.named_ports(),
            place: Arc::new(place),
            before: Before::default(),
            on_failure: OnFailure::Restart,
            about: self.about(role, &container.name),
            events: self.recorder.clone(),
            news: self.news.0.clone(),
        })
    }

    /// Does one thing; what came of it at once.
    fn act(&mut self, action: Action, netns: &Arc<Netns>) -> Option<Event> {
        match action {
            Action::Start { index } => {
                let pod = Arc::clone(&self.pod);
                let (_, container) = pod.containers().nth(index)?;
                let facts = Facts { pod_ips: self.place.pod_ips.clone(), host_ips: self.place.host_ips.clone() };
                match self.shared.launcher.start(&pod, container, netns, self.mounts.as_ref(), &facts) {
                    Ok(started) => {
                        if let Some(slot) = self.pids.get_mut(index) {
                            *slot = Some(started.child.pid);
                        }
                        let target = self.target(index, netns);
                        self.attend(index, started, target)
                    }
                    Err(error) => {
                        let what = container.command.first().map_or("the echo", String::as_str);
                        Some(Event::Failed { index, message: format!("cannot start {what}: {error}") })
                    }
                }
            }
            Action::Terminate { index } => self.signal(index, Signal::SIGTERM),
            Action::Kill { index } => self.signal(index, Signal::SIGKILL),
        }
    }

    fn signal(&self, index: usize, signal: Signal) -> Option<Event> {
        if let Some(pid) = self.pids.get(index).copied().flatten() {
            self.shared.launcher.children.signal(pid, signal);
        }
        None
    }

    /// Reports what becomes of a process, and has it probed once it listens; gives what is known at once.
    fn attend(&self, index: usize, started: Started, target: Option<Target>) -> Option<Event> {
        let Started { child, listening } = started;
        let (events, prober, quiet) = (self.events.0.clone(), self.shared.prober.clone(), self.quiet);
        let up = move || match target {
            Some(target) => {
                let (uid, container) = (Arc::clone(&target.uid), Arc::clone(&target.container));
                prober.watch(target);
                if quiet {
                    prober.quiet(&uid, &container);
                }
                None
            }
            None => Some(Event::Stands { index, started: true, ready: true, why: String::new() }),
        };
        let mut up = Some(up);
        let at_once = if listening.is_none() { up.take().and_then(|up| up()) } else { None };
        tokio::spawn(async move {
            let mut exit = child.exit;
            if let Some(mut pipe) = listening {
                let ready = async {
                    if pipe.read_u8().await.is_err() {
                        // It closed the pipe without a word: it is about to end.
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    biased;
                    () = ready => {
                        if let Some(event) = up.and_then(|up| up()) {
                            let _ = events.send(event).await;
                        }
                    }
                    ended = &mut exit => {
                        let _ = events.send(end_event(index, ended.ok())).await;
                        return;
                    }
                }
            }
            let _ = events.send(end_event(index, exit.await.ok())).await;
        });
        at_once
    }

    /// Reads the newest order.
    fn take_order(&mut self) -> Option<Event> {
        match &*self.orders.borrow_and_update() {
            Order::Run(pod) => self.pod = Arc::clone(pod),
            Order::Vanish => self.vanished = true,
        }
        if !self.quiet && (self.vanished || self.pod.metadata.terminating()) {
            self.quiet = true;
            for (_, container) in self.pod.containers() {
                self.shared.prober.quiet(self.pod.metadata.uid(), &container.name);
            }
        }
        self.deletion()
    }

    /// The end, once it has come: for a pod that is deleted with some grace when no node sends to it any more.
    fn deletion(&mut self) -> Option<Event> {
        let grace = self.pod.grace();
        if self.vanished || (self.pod.metadata.terminating() && grace.is_zero()) {
            return Some(Event::Delete { grace: Duration::ZERO });
        }
        if !self.pod.metadata.terminating() {
            return None;
        }
        let (client, pod) = (&self.shared.client, &self.pod);
        let leaving = self.leaving.get_or_insert_with(|| Leaving::begin(client.clone(), pod.full_name(), grace));
        leaving.shorten(grace);
        leaving.is_over().then(|| Event::Delete { grace: leaving.grace() })
    }

    /// Waits, and takes in what is ordered meanwhile.
    async fn pause(&mut self, pause: Duration) {
        let changed = tokio::time::timeout(pause, self.orders.changed()).await;
        if let Ok(Err(_)) = changed {
            self.vanished = true;
        }
        self.take_order();
    }

    async fn tear_down(&mut self, sandbox: Sandbox, netns: Arc<Netns>) {
        if let Ok(inode) = netns.inode() {
            kill_inside(inode);
        }
        let host = sandbox.host;
        if let Err(error) = self.home.net.remove_pod(sandbox).await {
            tracing::error!("pod {}: {}", self.pod.full_name(), chain(&error));
        }
        self.home.give_address(host);
    }

    /// Tells the store that the pod is gone, until the store has heard it.
    async fn remove(&mut self) {
        while !self.vanished && !finish_deletion(&self.shared, &self.pod).await {
            self.pause(RETRY).await;
        }
    }

    /// Writes the status if it is another than the server has. Fails only when it makes sense to try again.
    async fn write_status(&mut self) -> Result<(), ()> {
        if self.vanished {
            return Ok(());
        }
        let status = status::render(&self.pod, &self.machine, &self.place, &mut self.conditions, Timestamp::now());
        if self.written.as_ref() == Some(&status) {
            return Ok(());
        }
        self.patch(&status).await?;
        self.written = Some(status);
        self.shared.pods.mark_reported(self.pod.metadata.uid());
        Ok(())
    }

    async fn patch(&self, status: &Value) -> Result<(), ()> {
        let meta = &self.pod.metadata;
        let path = format!("/api/v1/namespaces/{}/pods/{}/status", meta.namespace(), meta.name());
        let patch = patch(meta.uid(), status);
        let sent = self.shared.client.patch(&path, STRATEGIC_MERGE_PATCH, &patch);
        let sent = tokio::time::timeout(WRITE_LIMIT, sent).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_final(&error) => {
                // Not found, or another pod of that name: the watch will tell. Anything else is worth a word.
                if !error.is_not_found() && !error.is_conflict() {
                    tracing::warn!("the status of pod {} was refused: {}", self.pod.full_name(), chain(&error));
                }
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }

    /// What `lab status` and `lab exec` see of the pod.
    fn show(&self, netns: &Arc<Netns>) {
        self.shared.pods.put(Entry {
            uid: self.pod.metadata.uid().to_owned(),
            namespace: self.pod.metadata.namespace().to_owned(),
            name: self.pod.metadata.name().to_owned(),
            node: self.pod.spec.node_name.clone(),
            addresses: self.place.pod_ips.clone(),
            phase: self.machine.phase(),
            ready: self.machine.ready(),
            terminating: self.machine.deleting() || self.pod.metadata.terminating(),
            netns: Arc::clone(netns),
            mounts: self.mounts.clone(),
        });
    }
}

/// Returns when a pod that is deleted may end; never for one that is not, or was told so already.
async fn left(leaving: Option<&mut Leaving>) {
    match leaving {
        Some(leaving) if !leaving.is_over() => leaving.wait().await,
        _ => std::future::pending().await,
    }
}

enum Settled {
    Here(Sandbox),
    Rejected,
    Deleted,
}

/// Removes a pod that has ended from the store. False when it is to be tried again.
pub async fn finish_deletion(shared: &Shared, pod: &Manifest) -> bool {
    let meta = &pod.metadata;
    let path = format!("/api/v1/namespaces/{}/pods/{}", meta.namespace(), meta.name());
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": meta.uid()},
    });
    match tokio::time::timeout(WRITE_LIMIT, shared.client.delete(&path, Some(&options))).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => is_final(&error),
        Err(_) => false,
    }
}

/// Whether the server will say the same when asked again.
pub fn is_final(error: &ClientError) -> bool {
    error.code().is_some_and(|code| (400..500).contains(&code) && code != 429)
}

fn end_event(index: usize, exit: Option<Exit>) -> Event {
    match exit {
        Some(Exit::Code(code)) => Event::Ended { index, code, signal: None },
        Some(Exit::Signal(signal)) => Event::Ended { index, code: 128 + signal, signal: Some(signal) },
        None => Event::Ended { index, code: 255, signal: None },
    }
}
