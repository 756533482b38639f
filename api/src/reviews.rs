//! Reviews: "may I?" and "who am I?", answered at once and never stored (`kubectl auth can-i`, `auth whoami`).
//!
//! There is one user, who holds the server's token and may do everything. So the answers are constant but for one
//! question: a review of somebody else, whom this server does not know, says that it has no opinion.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use model::{FieldError, Review};
use serde_json::{Value, json};

use crate::encode::{self, Spelling};
use crate::incoming::{self, Target};
use crate::negotiate::{self, Endpoint};
use crate::options::WriteOptions;
use crate::query::Query;
use crate::respond;
use crate::status::Status;

/// The holder of the token, by the name that Kubernetes gives to the credentials that an installation begins with.
pub const USER: &str = "system:admin";

/// What a requirement of a selector may say.
const OPERATORS: [&str; 4] = ["DoesNotExist", "Exists", "In", "NotIn"];

/// The user's groups; members of the first may do everything.
pub const GROUPS: [&str; 2] = ["system:masters", "system:authenticated"];

/// `POST` on a review's collection: 201 and the review with its status. `namespace` is the path's, empty for a review
/// that has none.
///
/// # Errors
/// As for any create; 422 for a question that is none (apiserver `pkg/apis/authorization/validation`).
pub async fn create(
    review: Review,
    namespace: &str,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Status> {
    // There is no table of a review and nothing of it but the whole: other shapes get that.
    let accepted = negotiate::accept(headers, Endpoint::Objects)?;
    let options = WriteOptions::read(query, headers, "CreateOptions")?;
    let format = negotiate::body_format(headers)?;
    let bytes = crate::body::read(headers, body).await?;
    let target = Target { kind: review.into(), namespace, name: "" };
    let mut incoming = incoming::read(&bytes, format, target, options.field_validation)?;
    model::schema::settle_nulls(review, &mut incoming.value);
    let status = answer(review, namespace, &incoming.value)?;
    if let Some(object) = incoming.value.as_object_mut() {
        // A review has no name and no history; what a client writes there means nothing.
        let metadata = if namespace.is_empty() { json!({}) } else { json!({ "namespace": namespace }) };
        object.insert("metadata".to_owned(), metadata);
        object.insert("status".to_owned(), status);
    }
    let spelling = Spelling { format: accepted.format, pretty: negotiate::pretty(headers, query) };
    let mut response = encode::response(StatusCode::CREATED, Bytes::from(incoming.value.to_string()), spelling);
    respond::warn(response.headers_mut(), &incoming.warnings);
    Ok(response)
}

/// The status of a review; its shape was checked.
fn answer(review: Review, namespace: &str, value: &Value) -> Result<Value, Status> {
    let spec = &value["spec"];
    match review {
        Review::SelfSubject => Ok(json!({ "userInfo": { "username": USER, "groups": GROUPS } })),
        Review::SelfSubjectRules => {
            if text(&spec["namespace"]).is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            Ok(json!({
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
                "incomplete": false,
            }))
        }
        Review::SelfSubjectAccess => {
            refuse(review, &question(spec))?;
            Ok(allowed())
        }
        Review::LocalSubjectAccess | Review::SubjectAccess => {
            let mut errors = question(spec);
            errors.extend(subject(spec));
            if review == Review::LocalSubjectAccess {
                let asked = text(&spec["resourceAttributes"]["namespace"]);
                if asked != namespace {
                    let detail = format!("must match metadata.namespace {namespace:?}");
                    errors.push(FieldError::invalid("spec.resourceAttributes.namespace", asked, detail));
                }
                if !spec["nonResourceAttributes"].is_null() {
                    let detail = "disallowed on this kind of request";
                    errors.push(FieldError::forbidden("spec.nonResourceAttributes", detail));
                }
            }
            refuse(review, &errors)?;
            let groups = spec["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
            let known = text(&spec["user"]) == USER || groups.iter().any(|group| text(group) == GROUPS[0]);
            Ok(if known { allowed() } else { unknown(text(&spec["user"])) })
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn allowed() -> Value {
    json!({ "allowed": true, "reason": format!("the holder of the token is {USER}, who may do everything") })
}

fn unknown(user: &str) -> Value {
    json!({ "allowed": false, "reason": format!("this server knows one user, {USER}, and not {user:?}") })
}

/// A question is about a resource or about a path, never both; the selectors of a resource must be ones.
fn question(spec: &Value) -> Vec<FieldError> {
    if spec["resourceAttributes"].is_null() != spec["nonResourceAttributes"].is_null() {
        return ["fieldSelector", "labelSelector"].into_iter().flat_map(|name| selector(spec, name)).collect();
    }
    let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    vec![FieldError::invalid("spec.resourceAttributes", Value::Null, detail)]
}

/// `requirements` of `fieldSelector` or `labelSelector`.
fn selector(spec: &Value, name: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let requirements = spec["resourceAttributes"][name]["requirements"].as_array();
    for (index, requirement) in requirements.into_iter().flatten().enumerate() {
        let path = format!("spec.resourceAttributes.{name}.requirements[{index}]");
        if text(&requirement["key"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.key"), "must be specified"));
        }
        let operator = text(&requirement["operator"]);
        if !OPERATORS.contains(&operator) {
            errors.push(FieldError::not_supported(format!("{path}.operator"), operator, &OPERATORS));
        }
    }
    errors
}

fn subject(spec: &Value) -> Option<FieldError> {
    let nobody = text(&spec["user"]).is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    nobody.then(|| FieldError::invalid("spec.user", "", "at least one of user or group must be specified"))
}

fn refuse(review: Review, errors: &[FieldError]) -> Result<(), Status> {
    let info = review.info();
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid_kind(info.group, info.kind, "", errors)) }
}
