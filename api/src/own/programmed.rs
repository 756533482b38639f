//! Whether every live node has a Service, or everything up to a revision.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use model::{Resource, Revision};
use serde_json::{Map, Value, json};

use super::Call;
use crate::programmed::{Report, Standing};
use crate::query::Query;
use crate::routes::{API_VERSION, Own};
use crate::status::{Status, quoted};

/// How long a revision that is not there yet is waited for, as for a list.
const PATIENCE: Duration = Duration::from_secs(3);

/// `GET …/services/{name}/programmed`: how the live nodes stand to the Service as it is when asked. With
/// `timeoutSeconds` the answer comes when all have it, or then.
pub async fn service(call: Call) -> Result<Response, Status> {
    let (namespace, name) = (call.value(0), call.value(1));
    let until = call.until(Duration::ZERO)?;
    let service = call.app.store.get(Resource::Services, namespace, name);
    let service = service.ok_or_else(|| Status::not_found(Resource::Services, name))?;
    let programming = &call.app.programming;
    let target = programming.of(&service);
    let report = programming.wait(target, Some((namespace, name)), until, call.draining.clone()).await;
    let metadata = json!({
        "name": name,
        "namespace": namespace,
        "uid": service.meta().uid(),
        "resourceVersion": service.revision.to_string(),
    });
    Ok(call.answer(StatusCode::OK, &answer(Own::ServiceProgrammed, metadata, &report)))
}

/// `GET …/programmed`: the same for every Service and EndpointSlice, up to `revision`, or as they are when asked. What a
/// kernel refused is told and does not count: it may be refused for ever.
pub async fn everything(call: Call) -> Result<Response, Status> {
    let until = call.until(Duration::ZERO)?;
    let store = &call.app.store;
    let revision = match revision(&call.query)? {
        None => store.revision(),
        Some(revision) => {
            let current = store.reach(revision, PATIENCE).await;
            if revision > current {
                return Err(Status::future_revision(revision, current));
            }
            revision
        }
    };
    let programming = &call.app.programming;
    let report = programming.wait(programming.up_to(revision), None, until, call.draining.clone()).await;
    let report = Report { revision, ..report };
    Ok(call.answer(StatusCode::OK, &answer(Own::Programmed, json!({}), &report)))
}

fn revision(query: &Query) -> Result<Option<Revision>, Status> {
    let Some(text) = query.text("revision") else { return Ok(None) };
    let wrong = |_| Status::bad_request(format!("invalid revision: {} is no revision", quoted(text)));
    text.parse().map(Some).map_err(wrong)
}

fn answer(own: Own, metadata: Value, report: &Report) -> Value {
    json!({
        "kind": own.kind(),
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "programmed": report.programmed(),
        "revision": text(report.revision),
        "nodes": report.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

/// One node; without an age it has never acknowledged, and without an error its kernel has refused nothing.
fn node(standing: &Standing) -> Value {
    let mut node = Map::new();
    let mut put = |name: &str, value: Value| node.insert(name.to_owned(), value);
    put("name", standing.name.as_str().into());
    put("programmed", standing.programmed.into());
    put("revision", text(standing.revision));
    if let Some(age) = standing.age {
        put("ageSeconds", age.as_secs().into());
    }
    if let Some(error) = &standing.error {
        put("error", error.as_str().into());
    }
    Value::Object(node)
}

/// As `resourceVersion` is written.
fn text(revision: Revision) -> Value {
    revision.to_string().into()
}
