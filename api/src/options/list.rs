//! `ListOptions`: selectors, revisions, pages and the life of a watch.

use std::time::Duration;

use model::selector::{FieldSelector, LabelSelector};
use model::{FieldError, Object, Resource, Revision};

use super::continuation::Continuation;
use super::invalid;
use crate::query::Query;
use crate::status::{Status, quoted};

/// A client that asks for a watch of a year gets one of a day.
const WATCH_LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How `resourceVersion` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionMatch {
    NotOlderThan,
    Exact,
}

/// Which objects are meant.
#[derive(Debug, Default)]
pub struct Selectors {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Selectors {
    /// Whether every object is selected, so that nobody needs to look at them.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the selectors match an object.
    pub fn matches(&self, object: &Object) -> bool {
        self.labels.matches(object.labels()) && self.fields.matches(object)
    }
}

/// What a list or a watch asks for.
#[derive(Debug)]
pub struct ListOptions {
    pub selectors: Selectors,
    /// `Some(0)` where it says `0`, None where it is absent.
    pub revision: Option<Revision>,
    pub matching: Option<RevisionMatch>,
    /// Objects in one page; None: all of them.
    pub limit: Option<usize>,
    pub continuation: Option<Continuation>,
    pub bookmarks: bool,
    /// Synthetic ADDED events for what is there; None where nothing is said.
    pub send_initial_events: Option<bool>,
    /// How long a watch may last; `None` leaves it to the server.
    pub timeout: Option<Duration>,
}

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The newest one, once it is at least of this revision.
    AtLeast(Revision),
    /// The one of this revision.
    At(Revision),
}

impl ListOptions {
    /// Reads and checks the options (apimachinery `pkg/apis/meta/internalversion/validation`).
    ///
    /// # Errors
    /// 400 for selectors, numbers and tokens that cannot be read, 422 for combinations that are forbidden.
    pub fn read(resource: Resource, query: &Query) -> Result<Self, Status> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or(""))
            .map_err(|e| Status::bad_request(e.to_string()))?;
        let fields = FieldSelector::parse(resource, query.get("fieldSelector").unwrap_or(""))
            .map_err(|e| Status::bad_request(e.to_string()))?;
        let limit = number(query, "limit")?;
        let timeout = number(query, "timeoutSeconds")?;
        let errors = forbidden(query);
        if !errors.is_empty() {
            return Err(invalid("ListOptions", &errors));
        }
        let watch = query.flag("watch");
        let continuation = match query.text("continue").filter(|_| !watch) {
            None => None,
            Some(token) => {
                let continuation = Continuation::decode(token)
                    .map_err(|e| Status::bad_request(format!("invalid continue token: {e}")))?;
                if query.text("resourceVersion").is_some_and(|version| version != "0") {
                    let text = "specifying resource version is not allowed when using continue";
                    return Err(Status::bad_request(text));
                }
                Some(continuation)
            }
        };
        Ok(Self {
            selectors: Selectors { labels, fields },
            revision: revision(query)?,
            matching: match query.text("resourceVersionMatch") {
                Some("Exact") => Some(RevisionMatch::Exact),
                Some(_) => Some(RevisionMatch::NotOlderThan),
                None => None,
            },
            // A limit of nothing, and less, is none, as in Kubernetes.
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
            continuation,
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
            timeout: (timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0))
                .map(|seconds| Duration::from_secs(seconds).min(WATCH_LONGEST)),
        })
    }

    /// Which state a list shows. A page's revision is that of the first one, unless its token gave that up; with a limit
    /// a revision without a match means exactly that one, for reasons of history (apiserver `storage.ValidateListOptions`).
    pub fn state(&self) -> State {
        let revision = self.revision.unwrap_or(0);
        match (&self.continuation, self.matching) {
            (Some(Continuation { revision: Some(revision), .. }), _) => State::At(*revision),
            (Some(_), _) => State::AtLeast(0),
            (None, Some(RevisionMatch::Exact)) => State::At(revision),
            (None, None) if self.limit.is_some() && revision > 0 => State::At(revision),
            (None, _) => State::AtLeast(revision),
        }
    }

    /// Whether a watch begins with what is there. Without a revision it does unless it is told not to.
    pub fn begins_with_state(&self) -> bool {
        self.send_initial_events.unwrap_or(self.revision.unwrap_or(0) == 0)
    }
}

/// Combinations that are refused.
fn forbidden(query: &Query) -> Vec<FieldError> {
    const MATCH: &str = "resourceVersionMatch";
    let mut errors = Vec::new();
    let matching = query.text(MATCH);
    let initial = query.get("sendInitialEvents").is_some();
    let continued = query.text("continue").is_some();
    let not_with_continue = "resourceVersionMatch is forbidden when continue is provided";
    if query.flag("watch") {
        if initial && matching != Some("NotOlderThan") {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(MATCH, detail));
        }
        let Some(matching) = matching else { return errors };
        if !initial {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(MATCH, detail));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(MATCH, matching, &["NotOlderThan"]));
        }
        if continued {
            errors.push(FieldError::forbidden(MATCH, not_with_continue));
        }
        return errors;
    }
    if let Some(matching) = matching {
        if query.text("resourceVersion").is_none() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(MATCH, detail));
        }
        if continued {
            errors.push(FieldError::forbidden(MATCH, not_with_continue));
        }
        if matching != "NotOlderThan" && matching != "Exact" {
            errors.push(FieldError::not_supported(MATCH, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && query.text("resourceVersion") == Some("0") {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(MATCH, detail));
        }
    }
    if initial {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    errors
}

/// `resourceVersion` of a get, a list or a watch.
///
/// # Errors
/// 400 when it is no number.
pub fn revision(query: &Query) -> Result<Option<Revision>, Status> {
    let Some(text) = query.text("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {quoted}: {}",
            go_error("ParseUint", text, &error),
            quoted = quoted(text),
        ))
    })
}

fn number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    let Some(text) = query.text(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|error| Status::bad_request(go_error("ParseInt", text, &error)))
}

/// As Go's `strconv` says it.
fn go_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let problem =
        if matches!(error.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {}: {problem}", quoted(text))
}
