//! Reviews: "may I?" and "who am I?", answered at once and never stored (`kubectl auth can-i`, `auth whoami`).
//!
//! The answer is that of [`crate::authorize`], which every request is asked by; what depends on the content of a write (a node
//! creates mirror Pods alone, nobody makes a role above their own) a review cannot tell, here as in Kubernetes.

use access::rbac::PolicyRule;
use access::{Attributes, Item, User};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use model::selector::FieldSelector;
use model::{FieldError, Resource, Review};
use serde_json::{Value, json};

use crate::asked::restricting;
use crate::authorize::{Authorizer, Rules, Verdict};
use crate::encode::{self, Spelling};
use crate::incoming::{self, Target};
use crate::negotiate::{self, Endpoint};
use crate::options::WriteOptions;
use crate::query::Query;
use crate::respond;
use crate::status::Status;

/// What a requirement of a selector may say.
const OPERATORS: [&str; 4] = ["DoesNotExist", "Exists", "In", "NotIn"];

/// Who asks, and whom.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub authorizer: &'a Authorizer,
    pub user: &'a User,
}

/// `POST` on a review's collection: 201 and the review with its status. `namespace` is the path's, empty for a review
/// that has none.
///
/// # Errors
/// As for any create; 422 for a question that is none (apiserver `pkg/apis/authorization/validation`).
pub async fn create(
    review: Review,
    asker: Asker<'_>,
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
    let status = answer(review, asker, namespace, &incoming.value)?;
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
fn answer(review: Review, asker: Asker<'_>, namespace: &str, value: &Value) -> Result<Value, Status> {
    let spec = &value["spec"];
    match review {
        Review::SelfSubject => Ok(json!({ "userInfo": user_info(asker.user) })),
        Review::SelfSubjectRules => {
            if text(&spec["namespace"]).is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            Ok(rules(asker, text(&spec["namespace"])))
        }
        Review::SelfSubjectAccess => {
            refuse(review, &question(spec))?;
            Ok(decided(asker.authorizer, asker.user, spec))
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
            Ok(decided(asker.authorizer, &asked_for(spec), spec))
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// A user as `UserInfo` has one.
fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// The user that a review of somebody else is about: what it says, and nothing besides.
fn asked_for(spec: &Value) -> User {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    User {
        name: text(&spec["user"]).to_owned(),
        uid: text(&spec["uid"]).to_owned(),
        groups: texts(&spec["groups"]),
        extra: (spec["extra"].as_object().into_iter().flatten())
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect(),
    }
}

/// `status` of a question.
fn decided(authorizer: &Authorizer, user: &User, spec: &Value) -> Value {
    let resource = &spec["resourceAttributes"];
    let field = |name: &str| text(&resource[name]);
    let (wish, selected) = if resource.is_null() {
        let path = &spec["nonResourceAttributes"];
        (Attributes::path(text(&path["verb"]), text(&path["path"])), None)
    } else {
        let item = Item {
            group: field("group"),
            resource: field("resource"),
            subresource: field("subresource"),
            namespace: field("namespace"),
            name: field("name"),
        };
        (Attributes::resource(field("verb"), item), selected(item, &resource["fieldSelector"]))
    };
    let Verdict { allowed, reason } = authorizer.explain(user, &wish, selected.as_deref());
    let mut status = json!({ "allowed": allowed });
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// What a field selector restricts a collection to.
fn selected(item: Item<'_>, selector: &Value) -> Option<String> {
    let of = |resource: &Resource| (resource.info().group, resource.info().plural) == (item.group, item.resource);
    let resource = Resource::ALL.into_iter().find(of)?;
    let field = restricting(resource)?;
    if let Some(raw) = selector["rawSelector"].as_str().filter(|raw| !raw.is_empty()) {
        let selector = FieldSelector::parse(resource, raw).ok()?;
        return selector.exact(field).map(str::to_owned);
    }
    let requirements = selector["requirements"].as_array()?;
    let exact = |requirement: &&Value| requirement["key"] == field && requirement["operator"] == "In";
    match requirements.iter().find(exact)?["values"].as_array()?.as_slice() {
        [value] => value.as_str().map(str::to_owned),
        _ => None,
    }
}

/// `status` of a question for everything that somebody may do in a namespace.
fn rules(asker: Asker<'_>, namespace: &str) -> Value {
    let Rules { rules, incomplete } = asker.authorizer.rules(asker.user, namespace);
    let (paths, resources): (Vec<PolicyRule>, Vec<PolicyRule>) =
        rules.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let mut status = json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete });
    if incomplete {
        status["evaluationError"] = "what somebody may by what they are, no rule says".into();
    }
    status
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
