//! When to look again: once something has been written, or a time has come, and not more often than so.
//!
//! A look that finds nothing costs little, but twenty a second for ever are most of what an idle server would do. What is
//! written in the moment of a look is not missed: what was the newest before it began is what the next is compared with.

use std::time::Duration;

use model::Revision;
use store::Store;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The pace of one loop.
pub(crate) struct Pace {
    /// Between the beginnings of two looks, at least.
    rest: Duration,
    revisions: watch::Receiver<Revision>,
    /// When the last look began.
    looked: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(store: &Store, rest: Duration) -> Self {
        Self { rest, revisions: store.revisions(), looked: None }
    }

    /// Returns when it is time to look: at first at once, then when anything was written since the last look began, or
    /// at `until` if there is such a time, but rested. Cancel-safe.
    pub(crate) async fn next(&mut self, until: Option<Instant>) {
        if let Some(looked) = self.looked {
            sleep_until(looked + self.rest).await;
            tokio::select! {
                () = written(&mut self.revisions) => {}
                () = sleep_until(until.unwrap_or(looked)), if until.is_some() => {}
            }
        }
        self.revisions.borrow_and_update();
        self.looked = Some(Instant::now());
    }
}

/// Returns when something was written; never when the store is gone.
async fn written(revisions: &mut watch::Receiver<Revision>) {
    if revisions.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use model::Resource;
    use serde_json::json;
    use store::{Config, Verb, Write};

    use super::*;

    const REST: Duration = Duration::from_millis(50);

    async fn write(store: &Store, name: &str) {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let (namespace, name, manager) = (String::new(), name.to_owned(), "test".to_owned());
        let verb = Verb::Create { object };
        let write = Write { resource: Resource::Namespaces, namespace, name, verb, manager, dry_run: false };
        store.write(write).await.unwrap();
    }

    /// Whether it is time to look without anybody's doing: the clock of the test stands still otherwise.
    async fn is_time(pace: &mut Pace, until: Option<Instant>) -> bool {
        let mut next = std::pin::pin!(pace.next(until));
        std::future::poll_fn(|context| std::task::Poll::Ready(next.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_look_follows_a_write_or_a_time_and_a_rest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Config::new(directory.path().join("portolan.db"))).await.unwrap();
        let mut pace = Pace::new(&store, REST);
        tokio::time::pause();
        assert!(is_time(&mut pace, None).await, "the first is at once");
        let long_ago = Some(Instant::now());
        assert!(!is_time(&mut pace, long_ago).await, "it rests, though its time has come");
        tokio::time::advance(2 * REST).await;
        assert!(!is_time(&mut pace, None).await, "nothing happens");
        let soon = Instant::now() + REST;
        assert!(!is_time(&mut pace, Some(soon)).await);
        tokio::time::advance(2 * REST).await;
        assert!(is_time(&mut pace, Some(soon)).await);
        tokio::time::resume();
        write(&store, "a").await;
        tokio::time::pause();
        tokio::time::advance(2 * REST).await;
        assert!(is_time(&mut pace, None).await, "something was written since");
        tokio::time::advance(2 * REST).await;
        assert!(!is_time(&mut pace, None).await, "and that was seen");
    }
}
