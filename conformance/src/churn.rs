//! Changes that informers must follow, and the sum that they are compared with.
//!
//! Services come, change and go, and so do Pods behind them; EndpointSlices follow by the server's own hand. Which
//! comes next is drawn from a seeded generator. What a write answers is not looked at, only that there was a server:
//! a kill in the middle may have taken the answer and not the write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Names of each resource that come and go.
const NAMES: u64 = 60;
/// Between two writes of one writer. The clients, the server and the writers share the machine.
const PAUSE: Duration = Duration::from_millis(8);

/// Objects by `resource/name`, with their revisions.
pub type Sum = BTreeMap<String, String>;

/// A seeded sequence of numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// Writes until `stop`; `written` counts what the server took.
pub async fn run(client: Client, seed: u64, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    while !stop.load(Ordering::Relaxed) {
        let name = format!("churn-{}", dice.below(NAMES));
        let app = format!("app-{}", dice.below(8));
        let step = dice.below(1 << 30);
        let taken = match dice.below(10) {
            0 => services.delete(&name, &DeleteParams::default()).await.is_ok(),
            1..=4 => {
                let body = json!({"metadata": {"name": name, "labels": {"step": step.to_string()}},
                    "spec": {"selector": {"app": app}, "ports": [{"port": 80}]}});
                put(&services, &name, &body).await
            }
            5 => pods.delete(&name, &DeleteParams::default().grace_period(0)).await.is_ok(),
            _ => {
                let body = json!({"metadata": {"name": name, "labels": {"app": app}},
                    "spec": {"containers": [{"name": "main", "image": "example.com/main"}]}});
                let address = format!("10.244.{}.{}", dice.below(200), 1 + dice.below(200));
                let ready = if dice.below(2) == 0 { "True" } else { "False" };
                let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                    "conditions": [{"type": "Ready", "status": ready}]}});
                put(&pods, &name, &body).await
                    && pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.is_ok()
            }
        };
        written.fetch_add(u64::from(taken), Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Creates, or changes the labels of what is there.
async fn put<K>(api: &Api<K>, name: &str, body: &serde_json::Value) -> bool
where
    K: kube::Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let labels = json!({"metadata": {"labels": body["metadata"]["labels"]}});
    let new: K = serde_json::from_value(body.clone()).unwrap();
    api.create(&PostParams::default(), &new).await.is_ok()
        || api.patch(name, &PatchParams::default(), &Patch::Merge(&labels)).await.is_ok()
}

/// What the server holds of the resources that informers follow.
pub async fn sum(client: &Client) -> Sum {
    let mut sum = Sum::new();
    add(&mut sum, "services", Api::<Service>::default_namespaced(client.clone())).await;
    add(&mut sum, "pods", Api::<Pod>::default_namespaced(client.clone())).await;
    add(&mut sum, "endpointslices", Api::<EndpointSlice>::default_namespaced(client.clone())).await;
    sum
}

async fn add<K>(sum: &mut Sum, resource: &str, api: Api<K>)
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    for object in api.list(&ListParams::default()).await.unwrap() {
        sum.insert(format!("{resource}/{}", object.name_any()), object.resource_version().unwrap_or_default());
    }
}
