//! What has changed of a resource since the last look, in bounded steps from the store's own history.

use std::sync::Arc;

use model::{Object, Resource};
use store::{Event, Store, Watch};

/// News of one resource.
pub(crate) enum News {
    /// Everything there is: at first, and when the history has forgotten where we were.
    All(Vec<Arc<Object>>),
    Changes(Vec<Arc<Event>>),
}

/// A place in the history.
pub(crate) struct Follow {
    resource: Resource,
    namespace: Option<&'static str>,
    watch: Option<Watch>,
}

impl Follow {
    pub(crate) fn new(resource: Resource, namespace: Option<&'static str>) -> Self {
        Self { resource, namespace, watch: None }
    }

    pub(crate) fn resource(&self) -> Resource {
        self.resource
    }

    /// What there is that was not returned yet, a batch at a time; None when that is all.
    pub(crate) fn next(&mut self, store: &Store) -> Option<News> {
        if let Some(watch) = &mut self.watch {
            match watch.ready() {
                Ok(events) => return (!events.is_empty()).then_some(News::Changes(events)),
                Err(_) => self.watch = None,
            }
        }
        let (revision, objects) = store.list(self.resource, self.namespace);
        self.watch = store.watch(self.resource, self.namespace, revision).ok();
        Some(News::All(objects))
    }
}
