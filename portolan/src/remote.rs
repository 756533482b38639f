//! The cluster as its API serves it, and its nodes as their agents answer through it: what `trace` and `check` look at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataplane::explain::Cluster;
use jiff::{SignedDuration, Timestamp};
use model::Key;
use model::snapshot::Snapshot;
use model::types::{EndpointSlice, Node, ObjectMeta, Pod, Service, ServiceCidr};
use proxy_agent::client::{Client, ClientError};
use proxy_agent::routes::{self, Asked, Question, Routes};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Failure;

/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A client of the server that the kubeconfig names.
pub fn client(path: Option<PathBuf>) -> Result<Client, Failure> {
    Client::from_kubeconfig(&kubeconfig(path)?).map_err(|e| Failure::new("reaching the server", &e))
}

/// Which kubeconfig: the flag's or `$KUBECONFIG`'s (clap reads both), else kubectl's.
pub fn kubeconfig(path: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".kube/config"));
    path.or_else(home).ok_or_else(|| Failure::text("say with --kubeconfig how to reach the server"))
}

/// Runs a command that talks to the server.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::new("starting the async runtime", &e))?.block_on(work)
}

/// Everything that decides about traffic, and the Pods. Not of one moment: what is written meanwhile may be in one list
/// and not in another.
pub async fn cluster(client: &Client) -> Result<Cluster, ClientError> {
    let mut snapshot = Snapshot::default();
    let mut revision = 0;
    let named = |meta: &ObjectMeta| Key::new(meta.namespace(), meta.name());
    let slices = "/apis/discovery.k8s.io/v1/endpointslices";
    let cidrs = "/apis/networking.k8s.io/v1/servicecidrs";
    revision = revision.max(
        each(client, "/api/v1/nodes", |node: Node| {
            snapshot.nodes.insert(node.metadata.name().to_owned(), Arc::new(node));
        })
        .await?,
    );
    revision = revision.max(
        each(client, cidrs, |cidr: ServiceCidr| {
            snapshot
                .service_cidrs
                .extend(cidr.spec.cidrs.iter().filter_map(|range| range.parse::<ipnet::IpNet>().ok()));
        })
        .await?,
    );
    revision = revision.max(
        each(client, "/api/v1/services", |service: Service| {
            snapshot.services.insert(named(&service.metadata), Arc::new(service));
        })
        .await?,
    );
    revision = revision.max(
        each(client, slices, |slice: EndpointSlice| {
            // A slice without the label belongs to nobody.
            let Some(service) = slice.metadata.labels.get(SERVICE_NAME) else { return };
            let of = snapshot.slices.entry(Key::new(slice.metadata.namespace(), service)).or_default();
            of.insert(slice.metadata.name().to_owned(), Arc::new(slice));
        })
        .await?,
    );
    let mut pods = BTreeMap::new();
    each(client, "/api/v1/pods", |pod: Pod| {
        pods.insert(named(&pod.metadata), pod);
    })
    .await?;
    snapshot.revision = revision;
    Ok(Cluster { snapshot, pods })
}

/// Every object of a list, and the list's revision.
async fn each<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    mut take: impl FnMut(T),
) -> Result<model::Revision, ClientError> {
    let mut list = client.list(path).await?;
    while let Some(bytes) = list.next().await? {
        take(
            serde_json::from_slice(&bytes)
                .map_err(|source| ClientError::Json { what: "an object of a list", source })?,
        );
    }
    list.revision()
}

/// Nodes whose agent has renewed their Lease in time.
pub async fn live_nodes(client: &Client, now: Timestamp) -> Result<Vec<String>, ClientError> {
    #[derive(Deserialize)]
    struct Lease {
        metadata: ObjectMeta,
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        renew_time: Option<String>,
        lease_duration_seconds: Option<i64>,
    }
    let mut nodes = Vec::new();
    each(client, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", |lease: Lease| {
        let duration = SignedDuration::from_secs(lease.spec.lease_duration_seconds.unwrap_or(40));
        let renewed = lease.spec.renew_time.and_then(|time| time.parse::<Timestamp>().ok());
        if renewed.is_some_and(|renewed| now.duration_since(renewed) < duration) {
            nodes.push(lease.metadata.name().to_owned());
        }
    })
    .await?;
    nodes.sort_unstable();
    Ok(nodes)
}

/// What the node's kernel would do with these packets; perhaps only with the first of them.
pub async fn ask(client: &Client, node: &str, packets: Vec<Asked>) -> Result<Routes, ClientError> {
    let path = format!("/apis/portolan.dev/v1alpha1/nodes/{node}/questions");
    let question = Question { kind: routes::ROUTE.to_owned(), packets };
    let answer = client.post(&path, &json!(question)).await?;
    serde_json::from_value(answer).map_err(|source| ClientError::Json { what: "the agent's answer", source })
}
