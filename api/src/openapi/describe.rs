//! Every route as an [`Operation`]: resources, reviews, Portolan's own group and pages.

mod own;
mod pages;
mod parameters;

use http::{Method, StatusCode};
use model::schema::Kind;
use model::{Resource, Review};
pub use own::own;
pub use pages::page;

use super::operation::{Answer, Body, Content, Operation, Schema, content, machinery};
use crate::actions::PATCH_CONTENT_TYPES;
use crate::negotiate::OBJECT_TYPES;
use crate::routes::{self, Action, Route, Scope, Special};

/// The operations of a resource.
pub fn resource(resource: Resource) -> Vec<Operation> {
    routes::of(resource).iter().map(operation).collect()
}

fn operation(route: &Route) -> Operation {
    let kind = route.special.map_or(Kind::from(route.resource), Special::kind);
    Operation {
        id: operation_id(route, kind),
        method: route.action.method(),
        path: route.path.clone(),
        tag: tag(kind),
        description: description(route, kind),
        parameters: parameters::of(route),
        body: body(route, kind),
        answers: answers(route, kind),
        action: Some(x_action(route.action)),
        kind: Some(kind),
        open: false,
    }
}

/// The one operation of a review.
pub fn review(review: Review) -> Operation {
    let kind = Kind::from(review);
    let info = review.info();
    let object = Schema::Named(kind.schema_name().to_owned());
    let group: String = tag(kind).split('_').map(capitalized).collect();
    let mut answers = vec![Answer {
        code: StatusCode::CREATED.as_u16(),
        description: "The review with its answer in `status`.".to_owned(),
        content: content(&OBJECT_TYPES, &object),
    }];
    answers.extend(failures(&[400, 401, 406, 413, 415, 422, 500, 504]));
    Operation {
        id: format!("create{group}{}{}", if info.namespaced { "Namespaced" } else { "" }, info.kind),
        method: Method::POST,
        path: routes::review_path(review),
        tag: tag(kind),
        description: format!("Ask by a {}; it is answered and not stored.", info.kind),
        parameters: parameters::of_review(info.namespaced),
        body: Some(Body { required: true, content: content(&OBJECT_TYPES, &object) }),
        answers,
        action: Some("post"),
        kind: Some(kind),
        open: false,
    }
}

fn body(route: &Route, kind: Kind) -> Option<Body> {
    match route.action {
        Action::Create | Action::Update => {
            let object = Schema::Named(kind.schema_name().to_owned());
            Some(Body { required: true, content: content(&OBJECT_TYPES, &object) })
        }
        Action::Patch => Some(Body { required: true, content: patches() }),
        Action::Delete | Action::DeleteCollection => {
            Some(Body { required: false, content: content(&OBJECT_TYPES, &machinery("DeleteOptions")) })
        }
        Action::Get | Action::List => None,
    }
}

fn patches() -> Vec<Content> {
    content(&PATCH_CONTENT_TYPES, &machinery("Patch"))
}

fn answers(route: &Route, kind: Kind) -> Vec<Answer> {
    let name = kind.schema_name();
    let object = || Schema::Named(name.to_owned());
    let list = || Schema::Named(format!("{name}List"));
    let success = |code: StatusCode, description: &str, schema: Schema| Answer {
        code: code.as_u16(),
        description: description.to_owned(),
        content: content(&OBJECT_TYPES, &schema),
    };
    let mut answers = match route.action {
        Action::Create if route.special == Some(Special::Binding) => {
            vec![success(StatusCode::CREATED, "The Pod is bound.", machinery("Status"))]
        }
        Action::Create if route.special == Some(Special::Token) => {
            vec![success(StatusCode::CREATED, "The request, with the token in its status.", object())]
        }
        Action::Create => vec![success(StatusCode::CREATED, "The object as it was stored.", object())],
        Action::Get => vec![success(StatusCode::OK, "The object.", object())],
        Action::Patch => {
            let mut answers = vec![success(StatusCode::OK, "The object as it is now.", object())];
            if !route.status {
                answers.push(success(StatusCode::CREATED, "An apply, and there was none: the new object.", object()));
            }
            answers
        }
        Action::Update => {
            let mut answers = vec![success(StatusCode::OK, "The object as it is now.", object())];
            if route.resource.info().create_on_update && !route.status {
                answers.push(success(StatusCode::CREATED, "There was none: the object as it was stored.", object()));
            }
            answers
        }
        Action::Delete => vec![
            success(
                StatusCode::OK,
                "The object as it was last, or a Status with its uid when the kind is one that answers so.",
                Schema::Inline(serde_json::json!({
                    "oneOf": [
                        { "$ref": format!("{}{name}", super::COMPONENTS) },
                        { "$ref": format!("{}io.k8s.apimachinery.pkg.apis.meta.v1.Status", super::COMPONENTS) },
                    ],
                })),
            ),
            success(
                StatusCode::ACCEPTED,
                "The object, which is not gone yet, for who said `orphanDependents: false`.",
                object(),
            ),
        ],
        Action::DeleteCollection => vec![success(StatusCode::OK, "What was deleted.", list())],
        Action::List => {
            let text = "The list; with `watch=true` a stream of WatchEvents, one a line, as `application/json`.";
            vec![success(StatusCode::OK, text, list())]
        }
    };
    answers.extend(failures(codes(route.action)));
    answers
}

/// How an action may fail, besides what the path itself does (405 for other methods, 404 for other paths).
fn codes(action: Action) -> &'static [u16] {
    match action {
        Action::Get => &[400, 401, 404, 406, 500, 504],
        Action::List => &[400, 401, 404, 406, 410, 422, 500, 504],
        Action::Create | Action::Update | Action::Patch | Action::Delete => {
            &[400, 401, 403, 404, 406, 409, 413, 415, 422, 429, 500, 503, 504]
        }
        Action::DeleteCollection => &[400, 401, 403, 404, 406, 409, 410, 413, 415, 422, 429, 500, 503, 504],
    }
}

/// A `Status` for each code.
pub fn failures(codes: &[u16]) -> Vec<Answer> {
    let failure = |code: &u16| Answer {
        code: *code,
        description: StatusCode::from_u16(*code)
            .ok()
            .and_then(|c| c.canonical_reason())
            .unwrap_or("Failure")
            .to_owned(),
        content: content(&OBJECT_TYPES, &machinery("Status")),
    };
    // Who is asked for a name may turn out to be somebody who may not.
    let forbidden = codes.contains(&401) && !codes.contains(&403);
    let mut codes: Vec<u16> = codes.iter().copied().chain(forbidden.then_some(403)).collect();
    codes.sort_unstable();
    codes.iter().map(failure).collect()
}

fn x_action(action: Action) -> &'static str {
    match action {
        Action::Create => "post",
        Action::Update => "put",
        other => other.verb(),
    }
}

/// `core_v1`, `discovery_v1`: how Kubernetes tags operations.
fn tag(kind: Kind) -> String {
    let group = if kind.group().is_empty() { "core" } else { kind.group().split('.').next().unwrap_or("") };
    format!("{group}_{}", kind.version())
}

/// `createCoreV1NamespacedService`.
fn operation_id(route: &Route, kind: Kind) -> String {
    let verb = match route.action {
        Action::Create => "create",
        Action::Delete => "delete",
        Action::DeleteCollection => "deleteCollection",
        Action::Get => "read",
        Action::List => "list",
        Action::Patch => "patch",
        Action::Update => "replace",
    };
    let group: String = tag(kind).split('_').map(capitalized).collect();
    let scope = if route.scope == Scope::Namespace { "Namespaced" } else { "" };
    let rest = match (route.scope, route.status) {
        (Scope::AllNamespaces, _) => "ForAllNamespaces",
        (_, true) => "Status",
        _ => "",
    };
    let what = match route.special {
        Some(special) if route.named() => format!("{}{}", route.resource.info().kind, capitalized(special.name())),
        _ => kind.name().to_owned(),
    };
    format!("{verb}{group}{scope}{what}{rest}")
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn description(route: &Route, kind: Kind) -> String {
    let name = kind.name();
    let what = match route.special {
        _ if route.status => format!("the status of a {name}"),
        Some(Special::Binding) => format!("a {name}, which says on which node a Pod runs"),
        Some(Special::Finalize) => format!("the finalizers in the spec of a {name}"),
        Some(Special::Token) => format!("a token of a ServiceAccount by a {name}"),
        None => format!("a {name}"),
    };
    match route.action {
        Action::Create => format!("Create {what}."),
        Action::Delete => format!("Delete {what}."),
        Action::DeleteCollection => format!("Delete every {name} that the selectors match."),
        Action::Get => format!("Read {what}."),
        Action::List => format!("List or watch objects of kind {name}."),
        Action::Patch => format!("Change parts of {what}."),
        Action::Update => format!("Replace {what}."),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::openapi::operations;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut seen = BTreeSet::new();
        for operation in operations() {
            assert!(seen.insert(operation.id.clone()), "{} stands twice", operation.id);
        }
        assert!(seen.contains("replaceDiscoveryV1NamespacedEndpointSlice"));
        assert!(seen.contains("listCoreV1ServiceForAllNamespaces"));
        assert!(seen.contains("patchCoreV1NamespaceStatus"));
        assert!(seen.contains("createCoreV1NamespacedPodBinding"));
        assert!(seen.contains("createCoreV1NamespacedBinding"));
        assert!(seen.contains("replaceCoreV1NamespaceFinalize"));
        assert!(seen.contains("createAuthorizationV1NamespacedLocalSubjectAccessReview"));
    }

    #[test]
    fn codes_are_in_order_and_none_stands_twice() {
        for operation in operations() {
            let codes: Vec<u16> = operation.answers.iter().map(|answer| answer.code).collect();
            assert!(codes.is_sorted_by(|a, b| a < b), "{}: {codes:?}", operation.id);
        }
    }
}
