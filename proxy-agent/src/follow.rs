//! Follows one collection: a list, then a watch from there, for ever.
//!
//! What goes wrong is healed here: a watch that ended is resumed where it stood; a position that the server has
//! forgotten (410) means a new list, which the reader gets as one [`Change::Reset`]; a server that is away is asked
//! again, ever less often.

use std::time::Duration;

use model::Revision;
use model::types::{AccessList, EndpointSlice, LoadBalancer, Node, ObjectMeta, Service};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::chain;
use crate::client::{Client, ClientError, WatchEvent};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An object with metadata.
pub trait HasMeta {
    fn meta(&self) -> &ObjectMeta;

    fn revision(&self) -> Revision {
        self.meta().resource_version.as_deref().and_then(|r| r.parse().ok()).unwrap_or(0)
    }
}

macro_rules! has_meta {
    ($($kind:ty),+) => {
        $(impl HasMeta for $kind {
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
        })+
    };
}

has_meta!(AccessList, EndpointSlice, LoadBalancer, Node, Service);

/// What happened to the collection.
#[derive(Debug)]
pub enum Change<T> {
    /// This is all there is now.
    Reset(Vec<T>),
    /// Added or changed.
    Set(T),
    /// Deleted; its last state.
    Gone(T),
}

/// Follows `path`, which may have a query, until nobody reads `changes` any more.
pub async fn follow<T: HasMeta + DeserializeOwned>(client: Client, path: &str, changes: mpsc::Sender<Change<T>>) {
    let mut pause = FIRST_PAUSE;
    let mut position = None;
    loop {
        match round(&client, path, &changes, &mut position).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(Broken::Unread) => return,
            Err(Broken::Expired) => position = None,
            Err(Broken::Client(error)) => {
                tracing::debug!("following {path}: {}", chain(&error));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

enum Broken {
    /// The reader is gone.
    Unread,
    Expired,
    Client(ClientError),
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Status(status) if status.is_expired() => Self::Expired,
            _ => Self::Client(error),
        }
    }
}

/// One list, unless a position is known, and one watch to its end.
async fn round<T: HasMeta + DeserializeOwned>(
    client: &Client,
    path: &str,
    changes: &mpsc::Sender<Change<T>>,
    position: &mut Option<Revision>,
) -> Result<(), Broken> {
    let from = match *position {
        Some(revision) => revision,
        None => {
            let mut list = client.list(path).await?;
            let mut items = Vec::new();
            while let Some(bytes) = list.next().await? {
                match serde_json::from_slice(&bytes) {
                    Ok(item) => items.push(item),
                    Err(error) => tracing::warn!("an object of {path} cannot be read and is ignored: {error}"),
                }
            }
            let revision = list.revision()?;
            changes.send(Change::Reset(items)).await.map_err(|_| Broken::Unread)?;
            *position = Some(revision);
            revision
        }
    };
    let more = if path.contains('?') { '&' } else { '?' };
    let query = format!("{path}{more}watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let mut watch = client.watch(&query).await?;
    while let Some(event) = watch.next().await? {
        let Some(step) = read(path, &event)? else { continue };
        if let Some(change) = step.change {
            changes.send(change).await.map_err(|_| Broken::Unread)?;
        }
        *position = Some(step.revision);
    }
    Ok(())
}

/// What an event tells.
struct Step<T> {
    revision: Revision,
    /// None for a bookmark.
    change: Option<Change<T>>,
}

/// Reads an event; `None` when it is to be passed over.
fn read<T: HasMeta + DeserializeOwned>(path: &str, event: &WatchEvent) -> Result<Option<Step<T>>, Broken> {
    let change: fn(T) -> Change<T> = match event.kind.as_str() {
        "ADDED" | "MODIFIED" => Change::Set,
        "DELETED" => Change::Gone,
        "BOOKMARK" => return Ok(Some(Step { revision: event.decode::<Bookmark>()?.revision(), change: None })),
        _ => return Err(ClientError::Status(event.status()).into()),
    };
    match event.decode::<T>() {
        Ok(object) => Ok(Some(Step { revision: object.revision(), change: Some(change(object)) })),
        Err(error) => {
            tracing::warn!("an event of {path} cannot be read and is ignored: {}", chain(&error));
            Ok(None)
        }
    }
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: ObjectMeta,
}

impl HasMeta for Bookmark {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}
