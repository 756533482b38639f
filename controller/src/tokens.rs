//! Tokens that have expired are removed: they open nothing any more, and are in the way of who looks through those that do.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::{Object, Resource};
use serde::Deserialize;
use store::{EventKind, Refusal, Store};

use crate::follow::{Follow, News};
use crate::writes;

/// Tokens that one look removes at most.
const REMOVED_MOST: usize = 64;

/// The tokens that have an end, the next first.
pub(crate) struct Tokens {
    follow: Follow,
    ends: BTreeSet<(Timestamp, Box<str>)>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self { follow: Follow::new(Resource::Tokens, None), ends: BTreeSet::new() }
    }

    /// Removes those whose end has come. What has not been removed for some fault is looked at again at the next change of
    /// a token, or after a restart: it opens nothing meanwhile.
    pub(crate) async fn look(&mut self, store: &Store, now: Timestamp) {
        self.read(store);
        for _ in 0..REMOVED_MOST {
            let Some((end, name)) = self.ends.first().filter(|(end, _)| *end <= now).cloned() else { return };
            self.ends.pop_first();
            let Some(token) = store.get(Resource::Tokens, "", &name) else { continue };
            if expires(&token) != Some(end) {
                continue;
            }
            match store.write(writes::delete(Resource::Tokens, &name, token.meta().uid())).await {
                Ok(_) => tracing::info!(token = &*name, "an expired token was removed"),
                Err(Refusal::NotFound { .. } | Refusal::Conflict { .. }) => {}
                Err(error) => tracing::warn!(token = &*name, %error, "an expired token was not removed"),
            }
        }
    }

    fn read(&mut self, store: &Store) {
        while let Some(news) = self.follow.next(store) {
            match news {
                News::All(tokens) => {
                    self.ends.clear();
                    tokens.iter().for_each(|token| self.add(token));
                }
                // What an earlier state said is found out when its time has come.
                News::Changes(events) => {
                    let there = events.iter().filter(|event| event.kind != EventKind::Deleted);
                    there.for_each(|event| self.add(&event.object));
                }
            }
        }
    }

    fn add(&mut self, token: &Object) {
        if let Some(end) = expires(token) {
            self.ends.insert((end, token.key.name.clone()));
        }
    }
}

/// When a token ends, if it does.
fn expires(token: &Object) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Token {
        spec: Option<Spec>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        expires_at: Option<String>,
    }
    serde_json::from_slice::<Token>(&token.bytes).ok()?.spec?.expires_at?.parse().ok()
}
