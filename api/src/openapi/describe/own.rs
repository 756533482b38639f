//! Portolan's own group as operations. What is sent and answered there are no kinds of the schema: each is described where
//! it stands.

use http::StatusCode;
use serde_json::{Value, json};

use super::pages::{list, object};
use super::{failures, parameters};
use crate::negotiate::{JSON, YAML};
use crate::openapi::operation::{Answer, Body, Operation, Parameter, Schema, Values, content, machinery};
use crate::programmed::FOLLOWED;
use crate::routes::Own;

/// What the operations are gathered under.
const TAG: &str = "portolan_v1alpha1";

/// One route of the group.
pub fn own(own: Own) -> Operation {
    Operation {
        id: id(own).to_owned(),
        method: own.method(),
        path: own.path(),
        tag: TAG.to_owned(),
        description: description(own).to_owned(),
        parameters: parameters_of(own),
        body: body(own).map(|schema| Body { required: true, content: content(&[JSON], &schema) }),
        answers: answers(own),
        // Discovery's verbs are those of subresources.
        action: own.subresource().map(|_| super::x_action(own.action())),
        kind: None,
        open: false,
    }
}

fn id(own: Own) -> &'static str {
    match own {
        Own::Acknowledge => "replacePortolanV1alpha1NodeAcknowledgement",
        Own::Beat => "replacePortolanV1alpha1NodeHeartbeat",
        Own::ServiceProgrammed => "readPortolanV1alpha1NamespacedServiceProgrammed",
        Own::Programmed => "readPortolanV1alpha1Programmed",
        Own::Listen => "readPortolanV1alpha1NodeQuestions",
        Own::Ask => "createPortolanV1alpha1NodeQuestion",
        Own::Answer => "createPortolanV1alpha1NodeAnswer",
        Own::Certificate => "createPortolanV1alpha1NodeCertificate",
    }
}

fn description(own: Own) -> &'static str {
    match own {
        Own::Acknowledge => "Say what the kernel of a node has. For the node's agent.",
        Own::Beat => {
            "Say that a node lives. For the node's agent. A body is not read, unless it is application/x-ndjson: then \
             each line of it is a beat, and answered by a line, for as long as the connection lasts."
        }
        Own::ServiceProgrammed => "Read which live nodes have programmed a Service as it is when asked.",
        Own::Programmed => "Read which live nodes have programmed everything up to a revision.",
        Own::Listen => "Wait for questions to a node. For the node's agent.",
        Own::Ask => "Ask the agent of a node, and wait for its answer.",
        Own::Answer => "Answer a question. For the node's agent.",
        Own::Certificate => "Get a client certificate for a node: by a join token, or by the node's own to renew it.",
    }
}

fn parameters_of(own: Own) -> Vec<Parameter> {
    let mut all = Vec::new();
    if own == Own::ServiceProgrammed {
        all.push(parameters::path("namespace", "Namespace of the Service."));
        all.push(parameters::path("name", "Name of the Service."));
    } else if own != Own::Programmed {
        all.push(parameters::path("name", "Name of the node."));
    }
    if own == Own::Answer {
        all.push(parameters::path("id", "The question's id."));
    }
    if own == Own::Programmed {
        let text = "Up to which revision; without it, up to the newest.";
        all.push(parameters::query("revision", Values::Integer(0), text));
    }
    if matches!(own, Own::ServiceProgrammed | Own::Programmed) {
        let text =
            "Answer when every live node has programmed it, and after so many seconds at the latest (at most 300).";
        all.push(parameters::query("timeoutSeconds", Values::Integer(0), text));
    }
    if own == Own::Listen {
        let text = "How long to wait for a question: 30 where nothing is said, at most 300.";
        all.push(parameters::query("timeoutSeconds", Values::Integer(0), text));
    }
    all.push(parameters::pretty());
    all
}

fn body(own: Own) -> Option<Schema> {
    match own {
        Own::Acknowledge => Some(Schema::Inline(acknowledgement())),
        // Any JSON: the server does not understand it.
        Own::Ask | Own::Answer => Some(Schema::Inline(json!({}))),
        Own::Certificate => Some(Schema::Inline(certificate_request())),
        Own::Beat | Own::ServiceProgrammed | Own::Programmed | Own::Listen => None,
    }
}

fn answers(own: Own) -> Vec<Answer> {
    let (code, text, schema) = match own {
        Own::Acknowledge => {
            let interval = object(&[("intervalMilliseconds", json!({ "type": "integer" }))]);
            (StatusCode::OK, "Taken; how long the agent is to wait before the next.", Schema::Inline(interval))
        }
        Own::Beat => {
            let mut interval = object(&[("intervalMilliseconds", json!({ "type": "integer" }))]);
            for name in ["kind", "apiVersion"] {
                interval["properties"][name] = text();
            }
            (StatusCode::OK, "Heard; after how long the next is to come.", Schema::Inline(interval))
        }
        Own::ServiceProgrammed | Own::Programmed => {
            (StatusCode::OK, "How the live nodes stand to it.", Schema::Inline(programmed()))
        }
        Own::Listen => {
            let question = object(&[("id", text()), ("question", json!({}))]);
            let questions = object(&[("kind", text()), ("apiVersion", text()), ("items", list(question))]);
            (StatusCode::OK, "The questions that wait, maybe none.", Schema::Inline(questions))
        }
        Own::Ask => {
            let text = "The answer. An agent that cannot answer sends a Status, which comes with its own code.";
            (StatusCode::OK, text, Schema::Inline(json!({})))
        }
        Own::Answer => (StatusCode::CREATED, "It was brought to who asked.", machinery("Status")),
        Own::Certificate => {
            let text = "The certificate, the authority that has signed it, and until when it holds.";
            (StatusCode::CREATED, text, Schema::Inline(certificate_response()))
        }
    };
    let mut all =
        vec![Answer { code: code.as_u16(), description: text.to_owned(), content: content(&[JSON, YAML], &schema) }];
    let codes: &[u16] = match own {
        Own::Acknowledge => &[400, 401, 406, 413, 415, 429, 500, 504],
        Own::Beat => &[400, 401, 404, 406, 429, 500, 504],
        Own::ServiceProgrammed => &[400, 401, 404, 406, 500, 504],
        Own::Programmed => &[400, 401, 406, 500, 504],
        Own::Listen => &[400, 401, 406, 429, 500, 504],
        Own::Ask => &[400, 401, 404, 406, 413, 415, 429, 500, 504],
        Own::Answer => &[400, 401, 404, 406, 413, 415, 500, 504],
        Own::Certificate => &[400, 401, 403, 405, 406, 409, 413, 415, 429, 500, 504],
    };
    all.extend(failures(codes));
    all
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn certificate_request() -> Value {
    let mut all = object(&[("request", text())]);
    for name in ["apiVersion", "kind"] {
        all["properties"][name] = text();
    }
    all
}

fn certificate_response() -> Value {
    let time = json!({ "type": "string", "format": "date-time" });
    object(&[("kind", text()), ("apiVersion", text()), ("certificate", text()), ("ca", text()), ("notAfter", time)])
}

fn acknowledgement() -> Value {
    let revisions = object(&FOLLOWED.map(|resource| (resource.info().plural, text())));
    let mut refused = object(&[("namespace", text()), ("name", text())]);
    refused["properties"]["error"] = text();
    let mut all = object(&[("agent", text()), ("revisions", revisions)]);
    for (name, schema) in [("apiVersion", text()), ("kind", text()), ("refused", list(refused))] {
        all["properties"][name] = schema;
    }
    all
}

fn programmed() -> Value {
    let mut node = object(&[("name", text()), ("programmed", json!({ "type": "boolean" })), ("revision", text())]);
    node["properties"]["ageSeconds"] = json!({ "type": "integer" });
    node["properties"]["error"] = text();
    object(&[
        ("kind", text()),
        ("apiVersion", text()),
        ("metadata", json!({ "type": "object" })),
        ("programmed", json!({ "type": "boolean" })),
        ("revision", text()),
        ("nodes", list(node)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_a_path_is_described() {
        for one in Own::ALL {
            let operation = own(one);
            let names: Vec<String> = operation.parameters.iter().map(|p| format!("{{{}}}", p.name)).collect();
            let wanted = operation.path.split('/').filter(|part| part.starts_with('{'));
            assert!(wanted.into_iter().all(|part| names.iter().any(|name| name == part)), "{}", operation.path);
            assert!(operation.id.contains("PortolanV1alpha1"), "{}", operation.id);
        }
    }
}
