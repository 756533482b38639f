//! Scheduler and kubelet of every node of the lab, in one task: it follows Pods and Nodes, gives unbound Pods a node
//! ([`schedule`]), and keeps one [`worker`] for each Pod that is bound to a node of the lab.
//!
//! What is decided is decided in pure functions (`schedule`, `machine`, `manifest`, `status`); this file and `worker`
//! only carry it out.

mod container;
mod machine;
mod manifest;
mod node;
mod pods;
mod probing;
mod resolver;
mod schedule;
mod status;
mod worker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::types::Node;
use proxy_agent::client::{Client, MERGE_PATCH};
use proxy_agent::events::{self, Recorder};
use proxy_agent::follow::{Change, HasMeta, follow};
use proxy_agent::probes::Prober;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::addresses::MAX_PODS_PER_NODE;
use crate::children::Children;
use crate::mounts::{Mounts, Overlay};
use container::Launcher;
use manifest::Manifest;
use proxy_agent::chain;
use schedule::Candidate;
use worker::{Order, Worker, finish_deletion, is_final};

pub use machine::Phase;
pub use node::{HomeNode, register};
pub use pods::{Entry, Pods};

/// Events that wait to be taken in; a watch that is further ahead waits.
const QUEUE: usize = 256;
/// How long a binding that could not reach the server waits.
const RETRY: Duration = Duration::from_millis(500);
const WRITE_LIMIT: Duration = Duration::from_secs(5);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// What all workers use.
pub struct Shared {
    pub client: Client,
    launcher: Launcher,
    pub pods: Pods,
    names: NameService,
    /// Of all nodes: each pod says where its probes come from.
    prober: Prober,
}

/// What pods and nodes look names up by.
#[derive(Clone, Debug)]
pub struct NameService {
    /// The addresses of the cluster's DNS, as they were when the lab came up; none if it has no DNS.
    pub dns: Vec<IpAddr>,
    /// The lab's own directory, which is there.
    pub dir: PathBuf,
}

impl NameService {
    /// Asks the server where DNS is.
    pub async fn find(client: &Client, dir: PathBuf) -> Self {
        let dns = match client.get("/api/v1/namespaces/kube-system/services/kube-dns").await {
            Ok(service) => {
                let ips = service["spec"]["clusterIPs"].as_array().map(Vec::as_slice).unwrap_or_default();
                ips.iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
            }
            Err(error) => {
                tracing::warn!("the cluster's DNS is not known, pods use this machine's: {}", chain(&error));
                Vec::new()
            }
        };
        Self { dns, dir }
    }

    /// How a node's files read for `lab exec`; None where they cannot be made to.
    pub fn of_node(&self, name: &str) -> Option<Arc<Mounts>> {
        if self.dns.is_empty() {
            return None;
        }
        self.mounts(name, &[Overlay { path: RESOLV_CONF, text: resolver::node_resolv_conf(&self.dns) }])
    }

    fn of_pod(&self, pod: &Manifest, addresses: &[IpAddr]) -> Option<Arc<Mounts>> {
        let own = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let overlays = [
            Overlay { path: RESOLV_CONF, text: resolver::resolv_conf(pod, &self.dns, &own(RESOLV_CONF)) },
            Overlay { path: HOSTS, text: resolver::hosts(pod, addresses, &own(HOSTS)) },
        ];
        self.mounts(&pod.full_name(), &overlays)
    }

    /// What cannot be is said in the log, and done without.
    fn mounts(&self, name: &str, overlays: &[Overlay]) -> Option<Arc<Mounts>> {
        match Mounts::create(&self.dir, overlays) {
            Ok((mounts, missed)) => {
                for (path, error) in missed {
                    tracing::warn!("{name} reads this machine's {path}, over which nothing can be laid: {error}");
                }
                Some(Arc::new(mounts))
            }
            Err(error) => {
                tracing::warn!("{name} looks names up as this machine does: no mount namespace of its own: {error}");
                None
            }
        }
    }
}

impl Shared {
    /// `program` runs the echo; container logs go into `logs`.
    ///
    /// # Errors
    /// When the system gives no thread for the probes.
    pub fn new(
        client: Client,
        children: Children,
        program: PathBuf,
        logs: PathBuf,
        names: NameService,
    ) -> io::Result<Self> {
        let launcher = Launcher { children, program, logs };
        Ok(Self { client, launcher, pods: Pods::default(), names, prober: Prober::start()? })
    }
}

/// Runs the pods of `nodes`, for ever.
pub async fn run(shared: Arc<Shared>, nodes: Vec<Arc<HomeNode>>) {
    let (to_pods, mut pods) = mpsc::channel(QUEUE);
    let (to_nodes, mut node_changes) = mpsc::channel(QUEUE);
    // Dropped with this future, and with them the watches.
    let mut followers = JoinSet::new();
    followers.spawn(follow::<Manifest>(shared.client.clone(), "/api/v1/pods", to_pods));
    followers.spawn(follow::<Node>(shared.client.clone(), "/api/v1/nodes", to_nodes));
    let mut recorders = HashMap::new();
    for node in &nodes {
        let (recorder, writing) = events::recorder(shared.client.clone(), &node.name);
        recorders.insert(node.name.clone(), recorder);
        followers.spawn(writing);
    }
    let homes = nodes.into_iter().map(|n| (n.name.clone(), n)).collect();
    let mut kubelet = Kubelet {
        shared,
        homes,
        recorders,
        nodes: None,
        pods: BTreeMap::new(),
        listed: false,
        orders: HashMap::new(),
        finishing: HashSet::new(),
        tasks: JoinSet::new(),
        unplaced: HashMap::new(),
    };
    let mut again = false;
    loop {
        tokio::select! {
            Some(change) = pods.recv() => {
                kubelet.take_pods(change);
                while let Ok(change) = pods.try_recv() {
                    kubelet.take_pods(change);
                }
            }
            Some(change) = node_changes.recv() => kubelet.take_nodes(change),
            Some(ended) = kubelet.tasks.join_next() => {
                if let Ok(uid) = ended {
                    kubelet.finishing.remove(&uid);
                    kubelet.orders.remove(&uid);
                }
            }
            () = tokio::time::sleep(RETRY), if again => {}
        }
        again = kubelet.place_pods().await;
    }
}

type Name = (String, String);

struct Kubelet {
    shared: Arc<Shared>,
    homes: BTreeMap<String, Arc<HomeNode>>,
    /// Who writes Events, by node.
    recorders: HashMap<String, Recorder>,
    /// Unknown until the first list.
    nodes: Option<BTreeMap<String, Node>>,
    pods: BTreeMap<Name, Arc<Manifest>>,
    listed: bool,
    /// To each worker that runs, by the pod's uid.
    orders: HashMap<String, watch::Sender<Order>>,
    /// Pods without a worker that are being removed from the store, by uid.
    finishing: HashSet<String>,
    /// Workers and removals; each gives its pod's uid when it is done.
    tasks: JoinSet<String>,
    /// What the status of a pod without a node says, by uid.
    unplaced: HashMap<String, String>,
}

impl Kubelet {
    fn take_pods(&mut self, change: Change<Manifest>) {
        match change {
            Change::Reset(list) => {
                let now: HashSet<Name> = list.iter().map(name_of).collect();
                let gone: Vec<Arc<Manifest>> =
                    self.pods.iter().filter(|(name, _)| !now.contains(*name)).map(|(_, pod)| Arc::clone(pod)).collect();
                for pod in gone {
                    self.pod_gone(&pod);
                }
                for pod in list {
                    self.pod_is(pod);
                }
                self.listed = true;
                self.shared.pods.mark_listed();
            }
            Change::Set(pod) => self.pod_is(pod),
            Change::Gone(pod) => self.pod_gone(&pod),
        }
    }

    fn take_nodes(&mut self, change: Change<Node>) {
        let nodes = self.nodes.get_or_insert_default();
        match change {
            Change::Reset(list) => {
                *nodes = list.into_iter().map(|n| (n.metadata.name().to_owned(), n)).collect();
            }
            Change::Set(node) => {
                nodes.insert(node.metadata.name().to_owned(), node);
            }
            Change::Gone(node) => {
                nodes.remove(node.metadata.name());
            }
        }
    }

    /// The pod stands so now. What is older than what is known is ignored: the answer to a binding arrives before the
    /// watch tells of it.
    fn pod_is(&mut self, pod: Manifest) {
        let (name, pod) = (name_of(&pod), Arc::new(pod));
        if let Some(known) = self.pods.get(&name) {
            if known.revision() > pod.revision() {
                return;
            }
            if known.metadata.uid() != pod.metadata.uid() {
                let known = Arc::clone(known);
                self.pod_gone(&known);
            }
        }
        self.pods.insert(name, Arc::clone(&pod));
        let uid = pod.metadata.uid().to_owned();
        if let Some(orders) = self.orders.get(&uid) {
            orders.send_replace(Order::Run(pod));
            return;
        }
        let Some(home) = self.homes.get(&pod.spec.node_name).filter(|_| !pod.is_mirror()) else { return };
        let Some(recorder) = self.recorders.get(&home.name) else { return };
        if pod.metadata.terminating() {
            self.finish(pod);
        } else if !pod.is_over() {
            let (orders, receiver) = watch::channel(Order::Run(Arc::clone(&pod)));
            self.shared.pods.expect(&uid);
            self.orders.insert(uid.clone(), orders);
            let worker = Worker::new(Arc::clone(&self.shared), Arc::clone(home), recorder.clone(), pod, receiver);
            let shared = Arc::clone(&self.shared);
            self.tasks.spawn(async move {
                worker.run().await;
                shared.pods.forget(&uid);
                uid
            });
        }
    }

    fn pod_gone(&mut self, pod: &Manifest) {
        let uid = pod.metadata.uid();
        if let Some(orders) = self.orders.get(uid) {
            orders.send_replace(Order::Vanish);
        }
        self.unplaced.remove(uid);
        let name = name_of(pod);
        if self.pods.get(&name).is_some_and(|known| known.metadata.uid() == uid) {
            self.pods.remove(&name);
        }
    }

    /// Removes a pod from the store of which nothing runs.
    fn finish(&mut self, pod: Arc<Manifest>) {
        let uid = pod.metadata.uid().to_owned();
        if !self.finishing.insert(uid.clone()) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            while !finish_deletion(&shared, &pod).await {
                tokio::time::sleep(RETRY).await;
            }
            uid
        });
    }

    /// Binds every pod that wants a node, oldest first, and removes pods whose node has gone. Says whether something
    /// is left to be tried again.
    async fn place_pods(&mut self) -> bool {
        let Some(nodes) = self.nodes.as_ref().filter(|_| self.listed) else { return false };
        let lost: Vec<Arc<Manifest>> = self
            .pods
            .values()
            .filter(|p| is_lab_name(&p.spec.node_name) && !nodes.contains_key(&p.spec.node_name))
            .filter(|p| !self.homes.contains_key(&p.spec.node_name))
            .cloned()
            .collect();
        let mut waiting: Vec<Arc<Manifest>> =
            self.pods.values().filter(|p| schedule::wants_a_node(p)).cloned().collect();
        for pod in lost {
            tracing::info!("pod {} ran on {}, which is gone; removing it", pod.full_name(), pod.spec.node_name);
            self.finish(pod);
        }
        waiting.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
        let mut candidates = if waiting.is_empty() { Vec::new() } else { self.candidates() };
        let mut again = false;
        for pod in waiting {
            match schedule::choose(&pod, &candidates, MAX_PODS_PER_NODE) {
                Ok(index) => match candidates.get_mut(index) {
                    Some(node) => match self.bind(&pod, &node.name).await {
                        Bound::Yes(bound) => {
                            node.pods += 1;
                            self.unplaced.remove(pod.metadata.uid());
                            self.pod_is(*bound);
                        }
                        // Changed or gone meanwhile: the watch brings it again.
                        Bound::Refused => {}
                        Bound::Unreachable => return true,
                    },
                    None => again = true,
                },
                Err(schedule::Unschedulable(why)) => self.tell_unplaced(&pod, why).await,
            }
        }
        again
    }

    fn candidates(&self) -> Vec<Candidate> {
        let Some(nodes) = &self.nodes else { return Vec::new() };
        let mut all = Vec::with_capacity(self.homes.len());
        for home in self.homes.values() {
            let Some(node) = nodes.get(&home.name) else { continue };
            all.push(Candidate {
                name: home.name.clone(),
                number: home.net.number,
                labels: node.metadata.labels.clone(),
                schedulable: !node.spec.unschedulable && !node.metadata.terminating(),
                serves: node.serves(),
                pods: self.pods.values().filter(|p| p.spec.node_name == home.name && !p.is_over()).count(),
            });
        }
        all
    }

    async fn bind(&self, pod: &Manifest, node: &str) -> Bound {
        let meta = &pod.metadata;
        let path = format!("/api/v1/namespaces/{}/pods/{}", meta.namespace(), meta.name());
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name(), "uid": meta.uid(), "resourceVersion": meta.resource_version},
            "target": {"kind": "Node", "name": node},
        });
        let client = &self.shared.client;
        let bind = async {
            client.post(&format!("{path}/binding"), &binding).await?;
            // The answer is no Pod, and the watch may be slower than the next choice.
            client.get(&path).await
        };
        match tokio::time::timeout(WRITE_LIMIT, bind).await {
            Ok(Ok(bound)) => match serde_json::from_value(bound) {
                Ok(bound) => Bound::Yes(Box::new(bound)),
                Err(_) => Bound::Refused,
            },
            Ok(Err(error)) if is_final(&error) => {
                if !error.is_conflict() && !error.is_not_found() {
                    tracing::warn!("pod {} could not be bound to {node}: {}", pod.full_name(), chain(&error));
                }
                Bound::Refused
            }
            Ok(Err(_)) | Err(_) => Bound::Unreachable,
        }
    }

    /// Writes why a pod has no node, once for each reason.
    async fn tell_unplaced(&mut self, pod: &Manifest, why: String) {
        let meta = &pod.metadata;
        if self.unplaced.get(meta.uid()) == Some(&why) {
            return;
        }
        let path = format!("/api/v1/namespaces/{}/pods/{}/status", meta.namespace(), meta.name());
        let patch = json!({"metadata": {"uid": meta.uid()}, "status": status::unschedulable(&why, Timestamp::now())});
        let sent = tokio::time::timeout(WRITE_LIMIT, self.shared.client.patch(&path, MERGE_PATCH, &patch)).await;
        if matches!(sent, Ok(Ok(_))) {
            self.unplaced.insert(meta.uid().to_owned(), why);
        }
    }
}

enum Bound {
    Yes(Box<Manifest>),
    Refused,
    Unreachable,
}

fn name_of(pod: &Manifest) -> Name {
    (pod.metadata.namespace().to_owned(), pod.metadata.name().to_owned())
}

/// Whether a lab would give a node this name. Pods on other nodes are somebody else's.
fn is_lab_name(node: &str) -> bool {
    node.strip_prefix("node-").is_some_and(|n| n.parse::<u8>().is_ok())
}
