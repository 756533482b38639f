//! Who owns what of an object after a write: asked twice, before admission for what the client sent and after it for what
//! has become of that.

use jiff::Timestamp;
use model::Resource;
use model::admission::Subresource;
use model::managed_fields::{Author, Change, Tracking};
use serde_json::Value;
use serde_json::value::RawValue;

use super::stamp::Managers;

/// How it is found out who owns what after a write.
pub(super) enum Owners {
    /// The manager of this name owns what it adds and changes.
    Tracked(String),
    /// An apply has found it out.
    Applied {
        managed: Option<Box<RawValue>>,
        /// Whether nothing moved, so that only another change of the object makes these count.
        unmoved: bool,
    },
    /// The server makes the object for itself.
    Nobody,
}

/// [`Owners`] with what the client sent noted.
pub(super) enum Begun {
    Tracked(Box<Tracking>),
    Known(Managers),
}

impl Owners {
    /// Notes what was sent, and takes `managedFields` out of it.
    pub(super) fn begin(self, resource: Resource, sub: Subresource, now: Timestamp, sent: &mut Value) -> Begun {
        match self {
            Self::Tracked(manager) => {
                let author = Author::new(resource, manager, sub, now);
                Begun::Tracked(Box::new(Tracking::begin(resource, author, sent)))
            }
            Self::Applied { managed, unmoved: true } => Begun::Known(Managers::IfChanged(managed)),
            Self::Applied { managed, unmoved: false } => Begun::Known(Managers::Set(managed)),
            Self::Nobody => Begun::Known(Managers::Keep),
        }
    }
}

impl Begun {
    /// Decides; both states are without `managedFields`, `stored` are those of the old one.
    pub(super) fn finish(self, old: Option<&Value>, new: &Value, stored: Option<&str>) -> Managers {
        match self {
            Self::Known(managers) => managers,
            Self::Tracked(tracking) => match tracking.finish(old, new, stored) {
                Change::None => Managers::Keep,
                Change::Replaced(managers) => Managers::Set(managers),
            },
        }
    }
}
