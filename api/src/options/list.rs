//! `ListOptions`: selectors, revisions and the life of a watch.

use std::time::Duration;

use model::selector::{FieldSelector, LabelSelector};
use model::{FieldError, Object, Resource, Revision};

use super::invalid;
use crate::query::Query;
use crate::status::Status;

/// A client that asks for a watch of a year gets one of a day.
const WATCH_LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How `resourceVersion` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionMatch {
    NotOlderThan,
    Exact,
}

/// What a list or a watch asks for.
#[derive(Debug)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub watch: bool,
    /// Revision 0 (`0` or absent) asks for any state; the newest is as good.
    pub revision: Revision,
    pub matching: RevisionMatch,
    pub bookmarks: bool,
    /// Synthetic ADDED events and then a bookmark that marks their end.
    pub send_initial_events: bool,
    /// How long a watch may last; `None` leaves it to the server.
    pub timeout: Option<Duration>,
}

/// What the store knows of revisions, for the rules that need it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The newest revision of all.
    pub current: Revision,
    /// The newest revision at which something of this resource changed.
    pub last_change: Revision,
}

impl ListOptions {
    /// Reads and checks the options (apimachinery `pkg/apis/meta/internalversion/validation`).
    ///
    /// # Errors
    /// 400 for selectors and numbers that cannot be read and for `continue`, 422 for combinations that are forbidden.
    pub fn read(resource: Resource, query: &Query) -> Result<Self, Status> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))
            .map_err(|e| Status::bad_request(e.to_string()))?;
        let fields = FieldSelector::parse(resource, query.get("fieldSelector").unwrap_or(""))
            .map_err(|e| Status::bad_request(e.to_string()))?;
        number::<i64>(query, "limit")?;
        let timeout = number::<u64>(query, "timeoutSeconds")?.filter(|s| *s > 0);
        let options = Self {
            labels,
            fields,
            watch: query.flag("watch"),
            revision: revision(query)?.unwrap_or(0),
            matching: if query.text("resourceVersionMatch") == Some("Exact") {
                RevisionMatch::Exact
            } else {
                RevisionMatch::NotOlderThan
            },
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.flag("sendInitialEvents"),
            timeout: timeout.map(|s| Duration::from_secs(s).min(WATCH_LONGEST)),
        };
        let errors = options.forbidden(query);
        if !errors.is_empty() {
            return Err(invalid("ListOptions", &errors));
        }
        if query.text("continue").is_some() {
            return Err(Status::bad_request(
                "continue key is not valid: paging is not served yet, every list is whole and hands out no continue token",
            ));
        }
        Ok(options)
    }

    fn forbidden(&self, query: &Query) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let matching = query.text("resourceVersionMatch");
        let initial = query.get("sendInitialEvents").is_some();
        if initial && !self.watch {
            errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        if initial && self.watch && matching != Some("NotOlderThan") {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden("resourceVersionMatch", detail));
        }
        let Some(matching) = matching else { return errors };
        if self.watch {
            if !initial {
                let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(FieldError::forbidden("resourceVersionMatch", detail));
            }
            return errors;
        }
        if query.text("resourceVersion").is_none() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden("resourceVersionMatch", detail));
        }
        if query.text("continue").is_some() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden("resourceVersionMatch", detail));
        }
        if matching != "NotOlderThan" && matching != "Exact" {
            errors.push(FieldError::not_supported("resourceVersionMatch", matching, &["Exact", "NotOlderThan"]));
        }
        if matching == "Exact" && query.text("resourceVersion") == Some("0") {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden("resourceVersionMatch", detail));
        }
        errors
    }

    /// Whether every object is selected, so that nobody needs to look at them.
    pub fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the selectors match an object.
    pub fn selects(&self, object: &Object) -> bool {
        self.labels.matches(object.labels()) && self.fields.matches(object)
    }

    /// Whether the newest state answers a list with these options.
    ///
    /// # Errors
    /// 504 for a revision of the future, 410 for exactly a revision since which something changed: memory holds the
    /// newest state alone.
    pub fn admit(&self, bounds: Bounds) -> Result<(), Status> {
        at_least(self.revision, bounds.current)?;
        if self.matching == RevisionMatch::Exact && self.revision < bounds.last_change {
            return Err(Status::expired_list());
        }
        Ok(())
    }
}

/// A revision that was not handed out yet is refused.
///
/// # Errors
/// 504, as Kubernetes answers after having waited in vain.
pub fn at_least(requested: Revision, current: Revision) -> Result<(), Status> {
    if requested > current { Err(Status::future_revision(requested, current)) } else { Ok(()) }
}

/// `resourceVersion` of a get, a list or a watch.
///
/// # Errors
/// 400 when it is no number.
pub fn revision(query: &Query) -> Result<Option<Revision>, Status> {
    number::<Revision>(query, "resourceVersion")
}

fn number<T: std::str::FromStr>(query: &Query, name: &str) -> Result<Option<T>, Status> {
    let Some(text) = query.text(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!("{name}: Invalid value: {}: must be a number", crate::status::quoted(text)))
    })
}
