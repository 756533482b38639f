//! Binding a Pod to a node, as schedulers do.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use model::FieldError;
use model::schema::Kind;
use serde_json::{Map, Value};
use store::{Binding, Preconditions, Verb};

use crate::call::Call;
use crate::incoming::{self, Target};
use crate::status::Status;

/// `POST` of a Binding on `…/pods/{name}/binding`, or on `…/bindings` with the Pod's name in it: 201 and a `Status`.
///
/// The target must be a Node; whether it exists is not asked, as in Kubernetes. Unlike there, a target that is wrong is
/// answered with a 422 that names the field, rather than with a 500.
pub async fn bind(call: Call, body: Body) -> Result<Response, Status> {
    let options = call.write_options()?;
    let (bytes, format) = call.read_body(body).await?;
    let target = Target { kind: Kind::Binding, namespace: call.namespace(), name: "" };
    let incoming = incoming::read(&bytes, format, target, options.field_validation)?;
    let metadata = |field: &str| incoming.value["metadata"][field].as_str().unwrap_or("").to_owned();
    let (name, in_path) = (metadata("name"), call.name.as_str());
    if !in_path.is_empty() && name != in_path {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let written = match binding(&incoming.value) {
        Ok(binding) => call.write(&name, Verb::Bind { binding }, options.manager, options.dry_run).await,
        Err(errors) => Err(Status::invalid_kind("", "Binding", &name, &errors)),
    };
    match written {
        Ok(written) => Ok(Status::created().with_warnings(&incoming.warnings).with_warnings(&written.warnings)),
        Err(status) => Err(status.with_warnings(&incoming.warnings)),
    }
    .map(IntoResponse::into_response)
}

fn binding(value: &Value) -> Result<Binding, Vec<FieldError>> {
    let text = |of: &Value| of.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (metadata, target) = (&value["metadata"], &value["target"]);
    let mut errors = Vec::new();
    if let Some(kind) = text(&target["kind"]).filter(|kind| kind != "Node") {
        errors.push(FieldError::not_supported("target.kind", kind.as_str(), &["<empty>", "Node"]));
    }
    let Some(node) = text(&target["name"]) else {
        errors.push(FieldError::required("target.name", ""));
        return Err(errors);
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let annotations = metadata["annotations"].as_object().cloned().unwrap_or_else(Map::new);
    let preconditions =
        Preconditions { uid: text(&metadata["uid"]), resource_version: text(&metadata["resourceVersion"]) };
    Ok(Binding { node, annotations, preconditions })
}
