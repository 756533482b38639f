//! The resources that an edge watches, each followed by a task of its own; what comes goes through one bounded queue.
//!
//! Objects come whole: there are few edge nodes, and unlike a node's agent an edge looks at labels of Nodes and at the status of
//! LoadBalancers.

use model::Resource;
use model::types::{AccessList, EndpointSlice, LoadBalancer, Node, Service};
use proxy_agent::client::Client;
use proxy_agent::follow::{self, Change, HasMeta};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::secret::Secret;

/// Updates that wait; the streams stop reading when it is full.
const QUEUE: usize = 256;
/// Of one stream.
const STREAM: usize = 16;
/// Of Secrets, those that an edge may read.
const TLS_ONLY: &str = "?fieldSelector=type%3Dkubernetes.io%2Ftls";

/// What happened.
#[derive(Debug)]
pub enum News {
    Service(Change<Service>),
    Slice(Change<EndpointSlice>),
    Node(Change<Node>),
    Balancer(Change<LoadBalancer>),
    AccessList(Change<AccessList>),
    Secret(Change<Secret>),
}

/// Every watch, from its list on. Dropping this ends them.
pub struct Watches {
    pub news: mpsc::Receiver<News>,
    _tasks: JoinSet<()>,
}

/// Follows everything, from now on.
pub fn all(client: &Client) -> Watches {
    let (sender, news) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    one(&mut tasks, client, &sender, collection(Resource::Services), News::Service);
    one(&mut tasks, client, &sender, collection(Resource::EndpointSlices), News::Slice);
    one(&mut tasks, client, &sender, collection(Resource::Nodes), News::Node);
    one(&mut tasks, client, &sender, collection(Resource::LoadBalancers), News::Balancer);
    one(&mut tasks, client, &sender, collection(Resource::AccessLists), News::AccessList);
    one(&mut tasks, client, &sender, collection(Resource::Secrets) + TLS_ONLY, News::Secret);
    Watches { news, _tasks: tasks }
}

fn one<T>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    news: &mpsc::Sender<News>,
    path: String,
    as_news: fn(Change<T>) -> News,
) where
    T: HasMeta + DeserializeOwned + Send + 'static,
{
    let (sender, mut changes) = mpsc::channel(STREAM);
    let (client, news) = (client.clone(), news.clone());
    tasks.spawn(async move {
        let passing = async {
            while let Some(change) = changes.recv().await {
                if news.send(as_news(change)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = follow::follow(client, &path, sender) => {}
            () = passing => {}
        }
    });
}

/// The path of a resource's collection, across namespaces.
pub fn collection(resource: Resource) -> String {
    let info = resource.info();
    let root = if info.group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}/{}", info.api_version(), info.plural)
}
