//! Questions to a node's agent, and its answers.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use model::Resource;
use serde::Deserialize;
use serde_json::value::RawValue;
use store::Place;

use super::Call;
use crate::questions::{PATIENCE, Question, Unheard};
use crate::routes::API_VERSION;
use crate::status::Status;

/// How long an agent's poll lasts that does not say.
const POLL: Duration = Duration::from_secs(30);

/// `GET …/nodes/{name}/questions`: the questions to this node, at once or as soon as there is one; none at the end of
/// `timeoutSeconds`.
pub async fn listen(call: Call) -> Result<Response, Status> {
    let until = call.until(POLL)?;
    let (node, store) = (call.node()?, &call.app.store);
    let nodes = || store.count(Resource::Nodes, None, store.revision(), &Place::default()).unwrap_or(0);
    let questions = &call.app.questions;
    let heard = questions.listen(node, until, call.draining.clone(), nodes).await;
    let heard = heard.map_err(|unheard| refused(&call, node, unheard))?;
    let item = |question: &Question| {
        let body = String::from_utf8_lossy(&question.body);
        format!("{{\"id\":\"{}\",\"question\":{body}}}", questions.id(question))
    };
    let items: Vec<String> = heard.iter().map(item).collect();
    let list = format!(
        "{{\"kind\":\"QuestionList\",\"apiVersion\":\"{API_VERSION}\",\"metadata\":{{}},\"items\":[{}]}}",
        items.join(",")
    );
    Ok(call.text(StatusCode::OK, Bytes::from(list)))
}

/// `POST …/nodes/{name}/questions`: the answer of the node's agent. Where that is a `Status`, so is this.
pub async fn ask(call: Call, body: Body) -> Result<Response, Status> {
    let node = call.node()?;
    let question = json(call.body(body).await?)?;
    let answer = call.app.questions.ask(node, question).await.map_err(|unheard| refused(&call, node, unheard))?;
    Ok(call.text(code_of(&answer), answer))
}

/// `POST …/nodes/{name}/answers/{id}`: 201; 404 when nobody waits for it any more.
pub async fn answer(call: Call, body: Body) -> Result<Response, Status> {
    let node = call.node()?;
    let answer = json(call.body(body).await?)?;
    let id = call.value(1);
    if call.app.questions.answer(node, id, answer) {
        return Ok(Status::created().into_response());
    }
    Err(Status::nobody_asks(id))
}

/// The body, if it is JSON: it will stand inside of an answer.
fn json(body: Bytes) -> Result<Bytes, Status> {
    match serde_json::from_slice::<&RawValue>(&body) {
        Ok(_) => Ok(body),
        Err(error) => Err(Status::bad_request(format!("the body is not JSON: {error}"))),
    }
}

/// The code of an answer: its own where it is a failure that has one.
fn code_of(answer: &[u8]) -> StatusCode {
    #[derive(Deserialize)]
    struct Failure {
        kind: String,
        code: u16,
    }
    let failure = serde_json::from_slice::<Failure>(answer).ok().filter(|failure| failure.kind == "Status");
    let code = failure.and_then(|failure| StatusCode::from_u16(failure.code).ok());
    code.filter(|code| code.is_client_error() || code.is_server_error()).unwrap_or(StatusCode::OK)
}

fn refused(call: &Call, node: &str, unheard: Unheard) -> Status {
    match unheard {
        Unheard::Nobody if call.app.store.get(Resource::Nodes, "", node).is_none() => {
            Status::not_found(Resource::Nodes, node)
        }
        Unheard::Nobody => Status::timeout(format!("no agent of node {node} listens for questions")),
        Unheard::Busy(open) => Status::too_many(format!("{open} questions to node {node} are open")),
        Unheard::Full(nodes) => Status::too_many(format!("{nodes} nodes listen, more than there are Node objects")),
        Unheard::NoAnswer => {
            Status::timeout(format!("the agent of node {node} has not answered within {} s", PATIENCE.as_secs()))
        }
    }
}
