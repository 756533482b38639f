//! The parameters of operations, with their types and bounds.

use crate::openapi::operation::{Parameter, Place, Values};
use crate::routes::{Action, Route, Scope};

/// Those of a resource's route: the path's first.
pub fn of(route: &Route) -> Vec<Parameter> {
    let mut all = Vec::new();
    if route.scope == Scope::Namespace {
        all.push(path("namespace", "Namespace of the object."));
    }
    if route.named() {
        all.push(path("name", "Name of the object."));
    }
    all.extend(match route.action {
        Action::Create | Action::Update => write(),
        Action::Patch => {
            let mut all = write();
            all.push(query("force", Values::Flag, "For an apply alone: take fields from their managers."));
            all
        }
        Action::Delete => delete(),
        Action::DeleteCollection => {
            let mut both = selection();
            both.extend(delete());
            both
        }
        Action::Get => vec![query("resourceVersion", Values::Text, "The least revision of the answer.")],
        Action::List => {
            let mut all = selection();
            all.extend([
                query("allowWatchBookmarks", Values::Flag, "Let the stream tell how far it has come."),
                query("sendInitialEvents", Values::Flag, "Begin the stream with the objects that there are."),
                query("watch", Values::Flag, "Stream changes instead of listing."),
            ]);
            all
        }
    });
    all.push(pretty());
    all
}

/// Those of a review.
pub fn of_review(namespaced: bool) -> Vec<Parameter> {
    let mut all = Vec::new();
    if namespaced {
        all.push(path("namespace", "Namespace that the question is about."));
    }
    all.extend(write());
    all.push(pretty());
    all
}

/// `pretty`.
pub fn pretty() -> Parameter {
    query("pretty", Values::Text, "Indent JSON if this is `true` or `1`.")
}

pub fn query(name: &'static str, values: Values, description: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, values, description }
}

pub fn path(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: Place::Path, values: Values::Segment, description }
}

fn write() -> Vec<Parameter> {
    vec![
        dry_run(),
        query(
            "fieldManager",
            Values::Text,
            "Who makes the change, at most 128 printable characters; an apply needs it.",
        ),
        query(
            "fieldValidation",
            Values::OneOf(&["Ignore", "Warn", "Strict"]),
            "What unknown and duplicate fields lead to: nothing, a warning (the default) or a refusal.",
        ),
    ]
}

fn dry_run() -> Parameter {
    query("dryRun", Values::OneOf(&["All"]), "Do everything but store.")
}

fn selection() -> Vec<Parameter> {
    vec![
        query("continue", Values::Text, "Go on with a list: what the previous answer's `metadata.continue` says."),
        query("fieldSelector", Values::Text, "Fields that the objects must have (`status.phase!=Running`)."),
        query("labelSelector", Values::Text, "Labels that the objects must have (`app=web,tier in (a,b),!old`)."),
        query("limit", Values::Integer(0), "How many objects one answer may hold; 0 is all of them."),
        query("resourceVersion", Values::Text, "The least revision of the answer; for a watch, where it begins."),
        query(
            "resourceVersionMatch",
            Values::OneOf(&["Exact", "NotOlderThan"]),
            "How `resourceVersion` is meant; not allowed without it.",
        ),
        query("timeoutSeconds", Values::Integer(0), "How long a watch lasts."),
    ]
}

fn delete() -> Vec<Parameter> {
    vec![
        dry_run(),
        query("gracePeriodSeconds", Values::Integer(0), "How long a Pod may take to end; 0 is at once."),
        query(
            "orphanDependents",
            Values::Flag,
            "The older word for `propagationPolicy=Orphan`; not allowed beside it.",
        ),
        query(
            "propagationPolicy",
            Values::OneOf(&["Background", "Foreground", "Orphan"]),
            "What becomes of objects that this one owns.",
        ),
    ]
}
