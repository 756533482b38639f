//! Those who follow changes: one face for the scripts and for kube-rs in this process.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::churn::Sum;
use crate::script::Script;

/// What a follower believes, and what contradicts a faithful stream.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Believed {
    pub objects: Sum,
    /// Type, `resource/name` and revision of each change, in the order in which it came.
    pub events: Vec<(String, String, String)>,
    pub faults: Vec<String>,
    /// How often it had to list.
    pub lists: u64,
}

/// A client that follows Services, Pods and EndpointSlices.
pub enum Follower {
    Script(Script),
    KubeRs(KubeRs),
}

impl Follower {
    pub fn title(&self) -> String {
        match self {
            Follower::Script(script) => script.title().to_owned(),
            Follower::KubeRs(kube_rs) => kube_rs.title.clone(),
        }
    }

    pub fn believed(&mut self) -> Believed {
        match self {
            Follower::Script(script) => {
                script.say("SUM");
                serde_json::from_str(&script.hear()).unwrap()
            }
            Follower::KubeRs(kube_rs) => kube_rs.believed(),
        }
    }
}

/// kube-rs' watcher with a reflector behind it, for each resource.
pub struct KubeRs {
    title: String,
    state: Arc<Mutex<Believed>>,
    caches: Vec<Box<dyn Fn() -> Sum + Send>>,
    tasks: tokio::task::JoinSet<()>,
}

impl KubeRs {
    /// Follows with lists and watches, or with streaming lists, and stays away for `pause` when a stream has failed;
    /// returns when all three have synced.
    pub async fn start(client: &Client, streaming: bool, pause: Duration) -> KubeRs {
        let title = format!("kube-rs {}", if streaming { "streaming lists" } else { "list and watch" });
        let mut me = KubeRs { title, state: Arc::default(), caches: Vec::new(), tasks: tokio::task::JoinSet::new() };
        me.follow::<Service>(client, "services", streaming, pause).await;
        me.follow::<Pod>(client, "pods", streaming, pause).await;
        me.follow::<EndpointSlice>(client, "endpointslices", streaming, pause).await;
        me
    }

    async fn follow<K>(&mut self, client: &Client, resource: &'static str, streaming: bool, pause: Duration)
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api: Api<K> = Api::default_namespaced(client.clone());
        let config = watcher::Config::default().page_size(20);
        let config = if streaming { config.streaming_lists() } else { config };
        let (reader, writer) = reflector::store();
        let mut notes = Notes { resource, known: BTreeMap::new(), initial: BTreeMap::new(), state: self.state.clone() };
        // After a failure the watcher goes on from where it was; the library's own backoff would draw how long it waits.
        let stream = watch(api, config).reflect(writer);
        self.tasks.spawn(async move {
            let mut stream = std::pin::pin!(stream);
            loop {
                match stream.try_next().await {
                    Ok(Some(event)) => notes.take(&event),
                    Ok(None) => break,
                    Err(_) => tokio::time::sleep(pause).await,
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(60), reader.wait_until_ready()).await.unwrap().unwrap();
        self.caches.push(Box::new(move || {
            let entry = |o: Arc<K>| (format!("{resource}/{}", o.name_any()), o.resource_version().unwrap_or_default());
            reader.state().into_iter().map(entry).collect()
        }));
    }

    fn believed(&self) -> Believed {
        let mut believed = self.state.lock().unwrap().clone();
        believed.objects = self.caches.iter().flat_map(|cache| cache()).collect();
        believed
    }
}

/// Checks one resource's events against what was known before each.
struct Notes {
    resource: &'static str,
    known: BTreeMap<String, u64>,
    initial: BTreeMap<String, u64>,
    state: Arc<Mutex<Believed>>,
}

impl Notes {
    fn take<K: ResourceExt>(&mut self, event: &Event<K>) {
        let revision = |o: &K| o.resource_version().unwrap_or_default().parse::<u64>().unwrap();
        let mut state = self.state.lock().unwrap();
        match event {
            Event::Init => self.initial.clear(),
            Event::InitApply(o) => drop(self.initial.insert(o.name_any(), revision(o))),
            Event::InitDone => {
                self.known = std::mem::take(&mut self.initial);
                state.lists += 1;
            }
            Event::Apply(o) => {
                let (name, now) = (o.name_any(), revision(o));
                let before = self.known.insert(name.clone(), now);
                if before.is_some_and(|before| now <= before) {
                    state.faults.push(format!("{}/{name} goes from {before:?} to {now}", self.resource));
                }
                let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
                state.events.push((kind.to_owned(), format!("{}/{name}", self.resource), now.to_string()));
            }
            Event::Delete(o) => {
                let (name, now) = (o.name_any(), revision(o));
                if self.known.remove(&name).is_none_or(|before| now <= before) {
                    state.faults.push(format!("{}/{name} deleted at {now} and not known", self.resource));
                }
                state.events.push(("DELETED".to_owned(), format!("{}/{name}", self.resource), now.to_string()));
            }
        }
    }
}
