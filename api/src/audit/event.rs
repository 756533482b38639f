//! A record as a line. Pure.

use access::User;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Record, Stage};
use crate::asked::Asked;
use crate::fair;
use crate::query::Query;

/// Bytes of a URI and of a user agent that are written.
const URI_LONGEST: usize = 4_096;
const AGENT_LONGEST: usize = 256;

/// Parameters that have no business in a URL of this API, and that people put there all the same.
const SECRET: [&str; 6] = ["token", "access_token", "id_token", "client_secret", "password", "authorization"];

/// An `Event` of audit.k8s.io/v1; None for what is left out.
pub fn event(record: &Record) -> Option<Value> {
    let path = record.uri.path();
    let query = Query::parse(record.uri.query());
    let asked = Asked::read(&record.method, path, &query);
    if fair::is_health(path) || fair::is_of_nodes(&asked) && (200..300).contains(&record.code) {
        return None;
    }
    let mut event = begun(&record.id.to_string(), stage(record.stage), record.received, record.made);
    event.insert("requestURI".to_owned(), cut(&uri(record), URI_LONGEST).into());
    event.insert("verb".to_owned(), asked.verb.into());
    event.insert("user".to_owned(), record.user.as_deref().map_or_else(|| json!({}), user));
    if let Some(other) = &record.impersonated {
        event.insert("impersonatedUser".to_owned(), user(other));
    }
    if let Some(address) = record.address {
        event.insert("sourceIPs".to_owned(), json!([address]));
    }
    if let Some(agent) = &record.user_agent {
        event.insert("userAgent".to_owned(), cut(&String::from_utf8_lossy(agent.as_bytes()), AGENT_LONGEST).into());
    }
    if !asked.resource.is_empty() {
        event.insert("objectRef".to_owned(), object(&asked));
    }
    event.insert("responseStatus".to_owned(), answer(record));
    let decision = match record.code {
        401 => None,
        403 => Some("forbid"),
        _ => Some("allow"),
    };
    if let Some(decision) = decision {
        event.insert("annotations".to_owned(), json!({"authorization.k8s.io/decision": decision}));
    }
    Some(Value::Object(event))
}

/// What stands in the log for records that found no room in the queue.
pub fn dropped(count: u64, id: &str, now: Timestamp) -> Value {
    let mut event = begun(id, "Panic", now, now);
    event.insert("requestURI".to_owned(), "".into());
    event.insert("verb".to_owned(), "".into());
    event.insert("user".to_owned(), json!({"username": "system:apiserver"}));
    event.insert("annotations".to_owned(), json!({"portolan.dev/dropped-events": count.to_string()}));
    Value::Object(event)
}

fn begun(id: &str, stage: &str, received: Timestamp, made: Timestamp) -> Map<String, Value> {
    let mut event = Map::new();
    for (name, value) in [
        ("kind", "Event"),
        ("apiVersion", "audit.k8s.io/v1"),
        ("level", "Metadata"),
        ("auditID", id),
        ("stage", stage),
        ("requestReceivedTimestamp", &micro_time(received)),
        ("stageTimestamp", &micro_time(made)),
    ] {
        event.insert(name.to_owned(), value.into());
    }
    event
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::ResponseStarted => "ResponseStarted",
        Stage::ResponseComplete => "ResponseComplete",
    }
}

fn user(user: &User) -> Value {
    let mut json = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        json["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        json["extra"] = json!(user.extra);
    }
    json
}

fn object(asked: &Asked) -> Value {
    let mut object = Map::new();
    for (field, text) in [
        ("resource", &*asked.resource),
        ("namespace", &*asked.namespace),
        ("name", &*asked.name),
        ("apiGroup", &*asked.group),
        ("apiVersion", &*asked.version),
        ("subresource", &*asked.subresource),
    ] {
        if !text.is_empty() {
            object.insert(field.to_owned(), cut(text, URI_LONGEST).into());
        }
    }
    Value::Object(object)
}

fn answer(record: &Record) -> Value {
    let mut answer = json!({"metadata": {}, "code": record.code});
    if !record.reason.is_empty() {
        answer["status"] = "Failure".into();
        answer["reason"] = record.reason.into();
    }
    answer
}

/// Path and query, with what should not be there masked.
fn uri(record: &Record) -> String {
    let path = record.uri.path();
    let Some(query) = record.uri.query() else { return path.to_owned() };
    let pairs = query.split('&').map(|pair| {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = Query::parse(Some(pair));
        if SECRET.iter().any(|secret| decoded.get(secret).is_some()) { format!("{name}=***") } else { pair.to_owned() }
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = (0..=longest).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Kubernetes' `MicroTime`.
fn micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use access::User;
    use axum::body::Body;
    use axum::extract::Request;

    use super::*;
    use crate::peer::Peer;

    fn line(request: http::request::Builder, user: Option<User>, code: u16, reason: &'static str) -> String {
        let now: Timestamp = "2026-01-02T03:04:05.5Z".parse().unwrap();
        let mut request: Request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer::new("[::ffff:192.0.2.7]:4711".parse().unwrap()));
        let mut record = Record::begin(&request, now);
        record.id = uuid::Uuid::nil();
        if let Some(user) = user {
            record.user(&Arc::new(user));
        }
        let event = event(&record.answered(Stage::ResponseComplete, code, reason, now));
        event.map_or("nothing".to_owned(), |event| serde_json::to_string_pretty(&event).unwrap())
    }

    #[test]
    fn who_what_from_where_and_what_came_of_it() {
        let request = Request::patch("/api/v1/namespaces/shop/pods/web-1/status?fieldManager=a")
            .header("User-Agent", "kubectl/v1.32.0")
            .header("Authorization", "Bearer hidden");
        expect_test::expect![[r#"
            {
              "annotations": {
                "authorization.k8s.io/decision": "forbid"
              },
              "apiVersion": "audit.k8s.io/v1",
              "auditID": "00000000-0000-0000-0000-000000000000",
              "kind": "Event",
              "level": "Metadata",
              "objectRef": {
                "apiVersion": "v1",
                "name": "web-1",
                "namespace": "shop",
                "resource": "pods",
                "subresource": "status"
              },
              "requestReceivedTimestamp": "2026-01-02T03:04:05.500000Z",
              "requestURI": "/api/v1/namespaces/shop/pods/web-1/status?fieldManager=a",
              "responseStatus": {
                "code": 403,
                "metadata": {},
                "reason": "Forbidden",
                "status": "Failure"
              },
              "sourceIPs": [
                "192.0.2.7"
              ],
              "stage": "ResponseComplete",
              "stageTimestamp": "2026-01-02T03:04:05.500000Z",
              "user": {
                "groups": [
                  "system:nodes",
                  "system:authenticated"
                ],
                "username": "system:node:vm-1"
              },
              "userAgent": "kubectl/v1.32.0",
              "verb": "patch"
            }"#]]
        .assert_eq(&line(request, Some(User::node("vm-1")), 403, "Forbidden"));
        expect_test::expect![[r#"
            {
              "apiVersion": "audit.k8s.io/v1",
              "auditID": "00000000-0000-0000-0000-000000000000",
              "kind": "Event",
              "level": "Metadata",
              "requestReceivedTimestamp": "2026-01-02T03:04:05.500000Z",
              "requestURI": "/metrics",
              "responseStatus": {
                "code": 401,
                "metadata": {},
                "reason": "Unauthorized",
                "status": "Failure"
              },
              "sourceIPs": [
                "192.0.2.7"
              ],
              "stage": "ResponseComplete",
              "stageTimestamp": "2026-01-02T03:04:05.500000Z",
              "user": {},
              "verb": "get"
            }"#]]
        .assert_eq(&line(Request::get("/metrics"), None, 401, "Unauthorized"));
    }

    #[test]
    fn what_nodes_send_all_the_time_is_left_out_while_it_is_allowed() {
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/vm-1";
        let node = || Some(User::node("vm-1"));
        assert_eq!(line(Request::get("/readyz"), None, 200, ""), "nothing");
        assert_eq!(line(Request::put(lease), node(), 200, ""), "nothing");
        assert!(line(Request::put(lease), node(), 403, "Forbidden").contains("forbid"));
        assert!(line(Request::delete(lease), node(), 200, "").contains("allow"));
    }

    #[test]
    fn nothing_secret_and_nothing_endless() {
        let request = Request::get("/api/v1/pods?watch=1&tok%65n=hidden&limit=5&access_token=hidden")
            .header("Authorization", "Bearer hidden")
            .header("User-Agent", "x".repeat(10_000));
        let text = line(request, Some(User::admin()), 200, "");
        assert!(!text.contains("hidden") && text.len() < 1_500, "{text}");
        assert!(text.contains("/api/v1/pods?watch=1&tok%65n=***&limit=5&access_token=***"), "{text}");
        let long = format!("/{}", "ä".repeat(5_000));
        assert_eq!(cut(&long, URI_LONGEST).len(), URI_LONGEST - 1 + "…".len());
    }
}
