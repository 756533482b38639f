//! One request to a resource, as its action sees it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Version};
use model::admission::Subresource;
use model::{Resource, Revision};
use store::{Guard, Verb, Write, Written};

use crate::app::App;
use crate::body;
use crate::negotiate::{self, Accepted, Format};
use crate::options::{self, Deletion, WriteOptions};
use crate::query::Query;
use crate::routes::{Action, Special};
use crate::serve::Draining;
use crate::status::Status;

/// How long a revision that is not there yet is waited for, as in Kubernetes' watch cache.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything an action needs but the body, which is not `Sync` and so travels beside it; made by the router.
pub struct Call {
    pub app: Arc<App>,
    pub resource: Resource,
    pub action: Action,
    /// Whether the path ends in `/status`.
    pub status: bool,
    /// What else the path is for than objects and their status.
    pub special: Option<Special>,
    /// Empty for cluster-scoped resources; None for a list over every namespace.
    pub namespace: Option<String>,
    /// Empty for collections.
    pub name: String,
    pub query: Query,
    pub headers: HeaderMap,
    /// Of HTTP.
    pub version: Version,
    /// What the client can read; asked before the action does anything.
    pub accepted: Accepted,
    /// Who has a say in what it writes.
    pub guard: Option<Arc<dyn Guard>>,
    /// Tells streams that the server is about to stop.
    pub draining: Option<Draining>,
}

impl Call {
    /// The namespace as a key's part.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }

    /// The namespace that a list is of; None over all namespaces and for cluster-scoped resources.
    pub fn within(&self) -> Option<&str> {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty())
    }

    /// Waits a little for a revision that another replica of the client may have seen before this server has shown it.
    ///
    /// # Errors
    /// 504 when it does not come.
    pub async fn reach(&self, revision: Revision) -> Result<(), Status> {
        let current = self.app.store.reach(revision, PATIENCE).await;
        if revision > current { Err(Status::future_revision(revision, current)) } else { Ok(()) }
    }

    pub fn pretty(&self) -> bool {
        negotiate::pretty(&self.headers, &self.query)
    }

    pub fn subresource(&self) -> Subresource {
        match self.special {
            _ if self.status => Subresource::Status,
            Some(Special::Finalize) => Subresource::Finalize,
            _ => Subresource::None,
        }
    }

    /// Reads the body; its format is asked first, so that a wrong one costs no upload.
    ///
    /// # Errors
    /// 415, 413, 400.
    pub async fn read_body(&self, body: Body) -> Result<(Bytes, Format), Status> {
        let format = negotiate::body_format(&self.headers)?;
        Ok((body::read(&self.headers, body).await?, format))
    }

    /// The options of a delete.
    ///
    /// # Errors
    /// 415, 413, 400, 422.
    pub async fn delete_options(&self, body: Body) -> Result<Deletion, Status> {
        let bytes = body::read(&self.headers, body).await?;
        // Clients name a format also where they send nothing.
        let format = if bytes.is_empty() { Format::Json } else { negotiate::body_format(&self.headers)? };
        options::delete_options(&self.query, &bytes, format)
    }

    /// The options of a create, update or patch.
    ///
    /// # Errors
    /// 422.
    pub fn write_options(&self) -> Result<WriteOptions, Status> {
        let kind = match self.action {
            Action::Create => "CreateOptions",
            Action::Patch => "PatchOptions",
            _ => "UpdateOptions",
        };
        WriteOptions::read(&self.query, &self.headers, kind)
    }

    /// Sends a write to the store; `manager` is who is said to write.
    ///
    /// # Errors
    /// The store's refusal as a `Status`.
    pub async fn write(&self, name: &str, verb: Verb, manager: String, dry_run: bool) -> Result<Written, Status> {
        let write = Write {
            resource: self.resource,
            namespace: self.namespace().to_owned(),
            name: name.to_owned(),
            verb,
            manager,
            dry_run,
        };
        self.app
            .store
            .write_guarded(write, self.guard.clone())
            .await
            .map_err(|refusal| Status::refused(self.resource, name, &refusal))
    }
}
