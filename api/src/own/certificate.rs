//! A machine asks for the certificate of a node, or of an edge node: which of them, its credential says.
//!
//! Who may send this at all is authorization's to say: a join token for any name, a node for its own. What is decided here
//! is whether the name is free: a node renews its own certificate at any time, everybody else gets only that of a node that
//! is not alive.

use access::user::EDGE_BOOTSTRAPPERS;
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use model::balancing::lease;
use model::syntax;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::Call;
use crate::issuer::{IssueError, Issued, Issuer, MachineRole};
use crate::joining::{self, Refused};
use crate::routes::{API_VERSION, Own};
use crate::status::{Status, quoted};

/// Bytes of a request in PEM; that of an RSA key of 8,192 bits has less than 3,000.
const REQUEST_MOST: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateRequest {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    request: String,
}

/// `POST …/nodes/{name}/certificate`: 201 with the certificate; 409 when the name is another machine's.
pub async fn create(call: Call, body: Body) -> Result<Response, Status> {
    let node = call.node()?;
    if let Some(problem) = syntax::dns1123_subdomain(node).first() {
        return Err(Status::bad_request(format!("{} cannot be the name of a node: {problem}", quoted(node))));
    }
    let request = read(&call.body(body).await?)?;
    let issuer = call.app.issuer.as_ref().ok_or_else(Status::method_not_allowed)?;
    let user = call.user.as_deref();
    let is_edge = user.is_some_and(|user| user.edge_name().is_some() || user.in_group(EDGE_BOOTSTRAPPERS));
    let role = if is_edge { MachineRole::Edge } else { MachineRole::Node };
    let itself = user.is_some_and(|user| user.node_name().or(user.edge_name()) == Some(node));
    let issued = if itself {
        // It has been heard of: from now on its Lease alone says whether its name is free.
        call.app.joining.release(&claimed(role, node));
        issue(&**issuer, role, node, &request)?
    } else {
        join(&call, &**issuer, role, node, &request)?
    };
    let answer = json!({
        "kind": "CertificateResponse",
        "apiVersion": API_VERSION,
        "certificate": issued.certificate,
        "ca": issued.ca,
        "notAfter": issued.not_after.to_string(),
    });
    Ok(call.answer(StatusCode::CREATED, &answer))
}

fn read(body: &[u8]) -> Result<String, Status> {
    let kind = Own::Certificate.kind();
    let read: CertificateRequest = serde_json::from_slice(body)
        .map_err(|e| Status::bad_request(format!("{kind} in version \"v1alpha1\" cannot be handled: {e}")))?;
    for (field, told, expected) in [("apiVersion", &read.api_version, API_VERSION), ("kind", &read.kind, kind)] {
        if !told.is_empty() && told != expected {
            return Err(Status::bad_request(format!("the {field} in the data ({told}) is not {expected}")));
        }
    }
    if read.request.is_empty() || read.request.len() > REQUEST_MOST {
        let problem = format!("must be a PKCS #10 request in PEM of at most {REQUEST_MOST} bytes");
        return Err(Status::bad_request(format!("{kind} is invalid: request: {problem}")));
    }
    Ok(read.request)
}

/// Edge nodes and nodes do not take names from each other.
fn claimed(role: MachineRole, name: &str) -> String {
    match role {
        MachineRole::Node => name.to_owned(),
        MachineRole::Edge => lease::name_of(name),
    }
}

/// For a machine that is not the node yet.
fn join(call: &Call, issuer: &dyn Issuer, role: MachineRole, node: &str, request: &str) -> Result<Issued, Status> {
    let taken = |why: String, seconds: u64| {
        let (what, program, flag) = match role {
            MachineRole::Node => ("node", "agent", "--node-name"),
            MachineRole::Edge => ("edge node", "edge", "--edge-name"),
        };
        let advice = format!("stop the {program} there and join {seconds} s later, or under another name ({flag})");
        Status::node_taken(node, format!("{what} {} {why}; {advice}", quoted(node)))
    };
    let alive = match role {
        MachineRole::Node => call.app.programming.alive(node),
        MachineRole::Edge => call.app.programming.edge_alive(node),
    };
    if let Some(until) = alive {
        let left = until.duration_since((call.app.clock)()).as_secs().max(1).unsigned_abs();
        return Err(taken(format!("is alive: its Lease holds for {left} s more"), left));
    }
    let name = claimed(role, node);
    call.app.joining.claim(&name, request, Instant::now()).map_err(|refused| match refused {
        Refused::Taken(since) => {
            taken(format!("was joined by another machine {} s ago", since.as_secs()), joining::KEPT.as_secs())
        }
        Refused::Full => Status::too_many("too many machines join at a time"),
    })?;
    let issued = issue(issuer, role, node, request);
    if issued.is_err() {
        call.app.joining.release(&name);
    }
    issued
}

fn issue(issuer: &dyn Issuer, role: MachineRole, node: &str, request: &str) -> Result<Issued, Status> {
    issuer.issue(role, node, request).map_err(|error| match error {
        IssueError::Request(problem) => {
            Status::bad_request(format!("{} is invalid: request: {problem}", Own::Certificate.kind()))
        }
        IssueError::Failed(source) => Status::internal(format!("signing a certificate: {source}")),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    /// Signs by writing down what it was asked.
    struct Pen;

    impl Issuer for Pen {
        fn issue(&self, role: MachineRole, node: &str, request: &str) -> Result<Issued, IssueError> {
            assert_eq!(role, MachineRole::Node);
            match request {
                "broken" => Err(IssueError::Request("it is broken".to_owned())),
                "unlucky" => Err(IssueError::Failed("no ink".into())),
                request => Ok(Issued {
                    certificate: format!("{node} with {request}"),
                    ca: "the authority".to_owned(),
                    not_after: "2030-01-01T00:00:00Z".parse().unwrap(),
                }),
            }
        }
    }

    async fn ask(router: &axum::Router, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("Authorization", "Bearer t");
        let request = request.header("Content-Type", "application/json").body(Body::from(body.to_string())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap())
    }

    async fn router(issuer: Option<Arc<dyn Issuer>>) -> (axum::Router, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = store::Store::open(store::Config::new(directory.path().join("portolan.db"))).await.unwrap();
        let config = crate::Config { issuer, ..crate::Config::new(store, "t", "v0") };
        (crate::router(&config), directory)
    }

    fn path(node: &str) -> String {
        Own::Certificate.path().replace("{name}", node)
    }

    fn asks(request: &str) -> Value {
        json!({"apiVersion": API_VERSION, "kind": "CertificateRequest", "request": request})
    }

    #[tokio::test]
    async fn a_machine_gets_the_certificate_of_a_name_that_is_free() {
        let (router, _directory) = router(Some(Arc::new(Pen))).await;
        let (code, answer) = ask(&router, "POST", &path("web"), &asks("key 1")).await;
        let expected = json!({
            "kind": "CertificateResponse", "apiVersion": API_VERSION, "certificate": "web with key 1", "ca": "the authority",
            "notAfter": "2030-01-01T00:00:00Z",
        });
        assert_eq!((code, answer), (201, expected));
        assert_eq!(ask(&router, "POST", &path("web"), &asks("key 1")).await.0, 201, "the answer was lost");
        let (code, answer) = ask(&router, "POST", &path("web"), &asks("key 2")).await;
        let text = answer["message"].as_str().unwrap();
        assert_eq!((code, answer["reason"].as_str().unwrap()), (409, "Conflict"));
        assert!(
            text.starts_with("node \"web\" was joined by another machine") && text.contains("--node-name"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_node_that_is_alive_keeps_its_name() {
        let (router, _directory) = router(Some(Arc::new(Pen))).await;
        let lease = |renewed: jiff::Timestamp| {
            json!({
                "metadata": {"name": "web", "namespace": "kube-node-lease"},
                "spec": {"renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string(), "leaseDurationSeconds": 40},
            })
        };
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let now = jiff::Timestamp::now();
        assert_eq!(ask(&router, "POST", leases, &lease(now)).await.0, 201);
        let (code, answer) = ask(&router, "POST", &path("web"), &asks("key")).await;
        let text = answer["message"].as_str().unwrap();
        assert_eq!(code, 409);
        assert!(text.starts_with("node \"web\" is alive") && text.contains("stop the agent there"), "{text}");
        let long_ago = now.checked_sub(std::time::Duration::from_secs(60)).unwrap();
        assert_eq!(ask(&router, "DELETE", &format!("{leases}/web"), &json!({})).await.0, 200);
        assert_eq!(ask(&router, "POST", leases, &lease(long_ago)).await.0, 201);
        assert_eq!(ask(&router, "POST", &path("web"), &asks("key")).await.0, 201);
    }

    #[tokio::test]
    async fn what_cannot_be_signed_is_refused_and_takes_no_name() {
        let (router, _directory) = router(Some(Arc::new(Pen))).await;
        for (node, body, code, hint) in [
            ("web", asks("broken"), 400, "it is broken"),
            ("web", asks("unlucky"), 500, "no ink"),
            ("web", asks(""), 400, "PKCS #10"),
            ("web", asks(&"x".repeat(REQUEST_MOST + 1)), 400, "PKCS #10"),
            ("web", json!({"kind": "Pod", "request": "key"}), 400, "CertificateRequest"),
            ("web", json!([]), 400, "CertificateRequest"),
            ("Web", asks("key"), 400, "lower case"),
            ("web", asks("key"), 201, "web with key"),
        ] {
            let (answered, answer) = ask(&router, "POST", &path(node), &body).await;
            assert_eq!(answered, code, "{answer}");
            assert!(answer.to_string().contains(hint), "{answer}");
        }
    }

    #[tokio::test]
    async fn without_an_issuer_nothing_is_signed() {
        let (router, _directory) = router(None).await;
        assert_eq!(ask(&router, "POST", &path("web"), &asks("key")).await.0, 405);
    }
}
