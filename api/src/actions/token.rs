//! A token for a ServiceAccount (`kubectl create token`). Sources: `pkg/registry/core/serviceaccount/storage/token.go`,
//! `pkg/apis/authentication/validation`.

use std::hash::{BuildHasher, RandomState};

use access::service_account::{Claims, ISSUER, Kubernetes, Reference};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use model::schema::Kind;
use model::{FieldError, Resource};
use serde_json::{Value, json};

use crate::call::Call;
use crate::encode::{self, Spelling};
use crate::incoming::{self, Target};
use crate::respond;
use crate::status::Status;

/// How long a token lasts, in seconds: if nobody says otherwise, at least, and at most. Kubernetes would make one for 136
/// years; what cannot be called back without its account should not outlive a year.
const LIFE: i64 = 3600;
const LIFE_SHORTEST: i64 = 600;
const LIFE_LONGEST: i64 = 365 * 24 * 3600;

/// Audiences of one token.
const AUDIENCES_MOST: usize = 16;

/// `POST …/serviceaccounts/{name}/token`: 201, and the request with the token in its status.
///
/// # Errors
/// As for any create; 404 where there is no such account, 409 where the object that the token is to be bound to is another.
pub async fn token(call: Call, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let (bytes, format) = call.read_body(body).await?;
    let target = Target { kind: Kind::TokenRequest, namespace: call.namespace(), name: "" };
    let mut incoming = incoming::read(&bytes, format, target, options.field_validation)?;
    let accounts = Resource::ServiceAccounts;
    let account = call.app.store.get(accounts, call.namespace(), &call.name);
    let account = account.ok_or_else(|| Status::not_found(accounts, &call.name))?;
    let signer = call.app.signer.as_ref().ok_or_else(Status::method_not_allowed)?;

    let spec = incoming.value["spec"].take();
    let (seconds, audiences) = checked(&spec)?;
    let bound = bound(&call, &spec["boundObjectRef"])?;
    let now = (call.app.clock)();
    let expires = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    let (pod, node) = match &bound {
        Some((Resource::Pods, reference)) => (Some(reference.clone()), None),
        Some((_, reference)) => (None, Some(reference.clone())),
        None => (None, None),
    };
    let claims = Claims {
        aud: audiences.clone(),
        exp: expires.as_second(),
        iat: now.as_second(),
        iss: ISSUER.to_owned(),
        jti: identity(),
        kubernetes: Kubernetes {
            namespace: call.namespace().to_owned(),
            node,
            pod,
            serviceaccount: Reference { name: call.name.clone(), uid: account.meta().uid().to_owned() },
        },
        nbf: now.as_second(),
        sub: access::user::service_account_name(call.namespace(), &call.name),
    };
    // A dry run shows what would be answered, but for the secret of it.
    let token = if options.dry_run {
        String::new()
    } else {
        signer.sign(&claims).map_err(|e| Status::internal(e.to_string()))?
    };
    let mut spec = spec;
    spec["audiences"] = audiences.into();
    spec["expirationSeconds"] = seconds.into();
    let answer = json!({
        "kind": Kind::TokenRequest.name(),
        "apiVersion": Kind::TokenRequest.api_version(),
        "metadata": { "name": call.name, "namespace": call.namespace(), "creationTimestamp": seconds_of(now) },
        "spec": spec,
        "status": { "token": token, "expirationTimestamp": seconds_of(expires) },
    });
    let spelling = Spelling { format: call.accepted.format, pretty: call.pretty() };
    let mut response = encode::response(StatusCode::CREATED, Bytes::from(answer.to_string()), spelling);
    respond::warn(response.headers_mut(), &incoming.warnings);
    Ok(response)
}

/// RFC 3339 in whole seconds.
fn seconds_of(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Seconds and audiences that are asked for.
fn checked(spec: &Value) -> Result<(i64, Vec<String>), Status> {
    let mut errors = Vec::new();
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(LIFE);
    let path = "spec.expirationSeconds";
    if seconds < LIFE_SHORTEST {
        errors.push(FieldError::invalid(path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > LIFE_LONGEST {
        errors.push(FieldError::invalid(path, seconds, "may not specify a duration larger than 365 days"));
    }
    let given = spec["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
    if given.len() > AUDIENCES_MOST {
        errors.push(FieldError::too_many("spec.audiences", given.len(), AUDIENCES_MOST));
    }
    let mut audiences: Vec<String> = given.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    if errors.is_empty() { Ok((seconds, audiences)) } else { Err(invalid(&errors)) }
}

fn invalid(errors: &[FieldError]) -> Status {
    Status::invalid_kind(Kind::TokenRequest.group(), Kind::TokenRequest.name(), "", errors)
}

/// The object that the token is to go with.
fn bound(call: &Call, reference: &Value) -> Result<Option<(Resource, Reference)>, Status> {
    if reference.is_null() {
        return Ok(None);
    }
    let text = |field: &str| reference[field].as_str().unwrap_or("");
    let (resource, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => (Resource::Pods, call.namespace()),
        ("v1", "Node") => (Resource::Nodes, ""),
        (_, kind) => {
            return Err(invalid(&[FieldError::not_supported("spec.boundObjectRef.kind", kind, &["Node", "Pod"])]));
        }
    };
    let (name, uid) = (text("name"), text("uid"));
    let object = call.app.store.get(resource, namespace, name).ok_or_else(|| Status::not_found(resource, name))?;
    if !uid.is_empty() && uid != object.meta().uid() {
        let detail = format!("the UID in the bound object reference ({uid}) does not match the UID in record");
        return Err(Status::conflict(resource, name, &detail));
    }
    Ok(Some((resource, Reference { name: name.to_owned(), uid: object.meta().uid().to_owned() })))
}

/// Tells one token from another, in an audit log; nobody needs to be unable to guess it.
fn identity() -> String {
    let chance = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", chance(), chance())
}
