//! The namespace that everything is made in, and what is in it already.

use std::collections::BTreeSet;
use std::time::Duration;

use model::types::ObjectMeta;
use proxy_agent::client::{Client, ClientError};
use serde::Deserialize;

use super::{Arguments, LoadError, objects};

/// Between two looks at whether the namespace is gone.
const LOOK: Duration = Duration::from_millis(200);
/// How long that may take; then it is the server's.
const GONE: Duration = Duration::from_secs(300);

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Space {
    client: Client,
    namespace: String,
}

/// What there was before.
#[derive(Debug, Default)]
pub struct Present {
    pub services: BTreeSet<String>,
    /// By name, whether they are ready.
    pub pods: std::collections::BTreeMap<String, bool>,
}

fn failed(doing: &'static str) -> impl FnOnce(ClientError) -> LoadError {
    move |source| LoadError::Client { doing, source }
}

/// Makes the namespace, or takes that of an earlier run.
pub async fn open(arguments: &Arguments) -> Result<Space, LoadError> {
    let (client, namespace) = (arguments.client.clone(), arguments.namespace.clone());
    let space = Space { client, namespace };
    match space.client.post("/api/v1/namespaces", &objects::namespace(&space.namespace)).await {
        Ok(_) => return Ok(space),
        Err(error) if error.is_conflict() => {}
        Err(error) => return Err(failed("making the namespace")(error)),
    }
    let there = space.client.get(&space.path()).await.map_err(failed("reading the namespace"))?;
    let (key, value) = objects::MARK;
    let ours = there["metadata"]["labels"][key] == value && there["metadata"]["deletionTimestamp"].is_null();
    if ours { Ok(space) } else { Err(LoadError::Taken(space.namespace)) }
}

impl Space {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}", self.namespace)
    }

    pub fn services(&self) -> String {
        self.path() + "/services"
    }

    pub fn pods(&self) -> String {
        self.path() + "/pods"
    }

    /// What an earlier run has left.
    pub async fn present(&self) -> Result<Present, LoadError> {
        #[derive(Deserialize)]
        struct Named {
            metadata: ObjectMeta,
        }
        let mut present = Present::default();
        each(&self.client, &self.services(), |service: Named| {
            present.services.insert(service.metadata.name().to_owned());
        })
        .await?;
        each(&self.client, &self.pods(), |pod: model::types::Pod| {
            let conditions = &pod.status.conditions;
            let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            present.pods.insert(pod.metadata.name().to_owned(), ready);
        })
        .await?;
        Ok(present)
    }

    /// The names of all Nodes.
    pub async fn nodes(&self) -> Result<Vec<String>, LoadError> {
        let mut nodes = Vec::new();
        each(&self.client, "/api/v1/nodes", |node: model::types::Node| nodes.push(node.metadata.name().to_owned()))
            .await?;
        Ok(nodes)
    }

    /// Deletes the namespace, and waits until it is gone with all that was in it.
    pub async fn remove(&self) -> Result<(), LoadError> {
        match self.client.delete(&self.path(), None).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(failed("deleting the namespace")(error)),
        }
        let until = tokio::time::Instant::now() + GONE;
        loop {
            match self.client.get(&self.path()).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(failed("waiting until the namespace is gone")(error)),
                Ok(_) if tokio::time::Instant::now() > until => {
                    let limit = GONE;
                    let error = ClientError::Timeout { what: "emptying the namespace", limit };
                    return Err(failed("waiting until the namespace is gone")(error));
                }
                Ok(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

async fn each<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    mut take: impl FnMut(T),
) -> Result<(), LoadError> {
    let doing = "reading what there is";
    let mut list = client.list(path).await.map_err(failed(doing))?;
    while let Some(bytes) = list.next().await.map_err(failed(doing))? {
        let object = serde_json::from_slice(&bytes)
            .map_err(|source| failed(doing)(ClientError::Json { what: "an object of a list", source }))?;
        take(object);
    }
    Ok(())
}
