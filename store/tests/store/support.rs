//! A store in a directory of its own, with a clock that stands still, and short ways to write.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use model::admission::Subresource;
use model::patch::PatchKind;
use model::{Object, Resource};
use serde_json::{Value, json};
use store::{Config, DeleteOptions, Environment, OpenError, Refusal, Store, Verb, Write, Written};

/// 2023-11-14T22:13:20Z.
pub const START: i64 = 1_700_000_000;

pub struct Home {
    pub store: Store,
    pub config: Config,
    pub seconds: Arc<AtomicI64>,
    directory: tempfile::TempDir,
}

impl Home {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path().join("portolan.db"));
        configure(&mut config);
        let seconds = Arc::new(AtomicI64::new(START));
        let store = open(config.clone(), Arc::clone(&seconds)).await.unwrap();
        Self { store, config, seconds, directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Closes the store and opens it again.
    pub async fn reopen(&mut self) {
        self.store.close().await;
        self.store = open(self.config.clone(), Arc::clone(&self.seconds)).await.unwrap();
    }

    pub async fn create(&self, resource: Resource, object: Value) -> Result<Written, Refusal> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        self.write(resource, &namespace, &name, Verb::Create { object }).await
    }

    pub async fn update(
        &self,
        resource: Resource,
        object: Value,
        subresource: Subresource,
    ) -> Result<Written, Refusal> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        self.write(resource, &namespace, &name, Verb::Update { object, subresource }).await
    }

    pub async fn merge(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Written, Refusal> {
        let verb = Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::None, strict: true };
        self.write(resource, namespace, name, verb).await
    }

    pub async fn status(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        status: Value,
    ) -> Result<Written, Refusal> {
        let patch = json!({ "status": status });
        let verb = Verb::Patch { kind: PatchKind::Merge, patch, subresource: Subresource::Status, strict: true };
        self.write(resource, namespace, name, verb).await
    }

    pub async fn delete(&self, resource: Resource, namespace: &str, name: &str) -> Result<Written, Refusal> {
        self.write(resource, namespace, name, Verb::Delete { options: DeleteOptions::default() }).await
    }

    pub async fn write(&self, resource: Resource, namespace: &str, name: &str, verb: Verb) -> Result<Written, Refusal> {
        self.store
            .write(Write {
                resource,
                namespace: namespace.into(),
                name: name.into(),
                verb,
                manager: "test".into(),
                dry_run: false,
            })
            .await
    }

    pub fn value(&self, resource: Resource, namespace: &str, name: &str) -> Value {
        self.store.get(resource, namespace, name).unwrap_or_else(|| panic!("no {resource} {name}")).value().unwrap()
    }

    pub fn names(&self, resource: Resource, namespace: &str) -> Vec<String> {
        let namespace = resource.info().namespaced.then_some(namespace);
        self.store.list(resource, namespace).1.iter().map(|object| object.key.name.to_string()).collect()
    }

    /// Every object of every resource, as stored.
    pub fn dump(&self) -> Vec<(String, String)> {
        Resource::ALL
            .iter()
            .flat_map(|resource| self.store.list(*resource, None).1)
            .map(|object| (format!("{} {:?}", object.resource, object.key), text(&object)))
            .collect()
    }

    pub fn tick(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

pub async fn open(config: Config, seconds: Arc<AtomicI64>) -> Result<Store, OpenError> {
    let clock = move || Timestamp::from_second(seconds.load(Ordering::Relaxed)).unwrap();
    Store::open_in(config, Environment { clock: Box::new(clock), seed: [1, 2, 3, 4] }).await
}

pub fn text(object: &Object) -> String {
    String::from_utf8(object.bytes.to_vec()).unwrap()
}

pub fn service(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}

/// One port, selecting `app: NAME`.
pub fn web(name: &str) -> Value {
    service(name, json!({ "ports": [{ "port": 80 }], "selector": { "app": name } }))
}

pub fn pod(name: &str, app: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": app } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "i" }] } })
}

pub fn running(ip: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
        "conditions": [{ "type": "Ready", "status": status, "lastTransitionTime": "2023-11-14T22:13:19Z" }] })
}

pub fn node(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } })
}

pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

pub fn config_map_like(name: &str) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": name, "namespace": "default" }, "spec": { "holderIdentity": "a" } })
}
