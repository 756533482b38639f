//! A watch of one Service by its name: its events carry the condition `portolan.dev/Programmed`, and when that changes
//! the watcher is told by a MODIFIED event of the same revision, since the object that is stored has not changed.

use std::sync::Arc;

use model::Object;
use store::EventKind;

use crate::programmed::{News, Programming, Verdict};

/// What such a watch knows of its Service.
pub struct Conditioned {
    programming: Arc<Programming>,
    news: News,
    /// The Service as the client has seen it last, and what it was told of it; None while there is none.
    last: Option<(Arc<Object>, Verdict)>,
    /// Whether the first look is still to come.
    fresh: bool,
}

impl Conditioned {
    /// `known` is what the client has seen before this watch. What it was told of that nobody knows; it is taken for "no
    /// node is live", so that it hears of anything else.
    pub fn new(programming: &Arc<Programming>, known: Option<Arc<Object>>) -> Self {
        let last = known.map(|object| (object, Verdict::NoNodes));
        Self { programming: Arc::clone(programming), news: programming.news(), last, fresh: true }
    }

    /// The object as this event shows it.
    pub fn event(&mut self, kind: EventKind, object: &Arc<Object>) -> Arc<Object> {
        if kind == EventKind::Deleted {
            self.left();
            return Arc::clone(object);
        }
        let (shown, verdict) = self.programming.shown(object, object);
        self.last = Some((Arc::clone(object), verdict));
        shown
    }

    /// The Service is none of this watch any more.
    pub fn left(&mut self) {
        self.last = None;
    }

    /// Returns when the condition may have changed. Cancel-safe.
    pub async fn more(&mut self) {
        if self.last.is_none() {
            return std::future::pending().await;
        }
        if !std::mem::take(&mut self.fresh) {
            self.news.more().await;
        }
    }

    /// The Service with its condition, if that is another than the client was told.
    pub fn changed(&mut self) -> Option<Arc<Object>> {
        let (object, told) = self.last.as_mut()?;
        let (shown, verdict) = self.programming.shown(object, object);
        (std::mem::replace(told, verdict) != verdict).then_some(shown)
    }
}
