//! The fair share as requests meet it: the real router, clients that hold what they have, and others beside them.

use std::net::SocketAddr;

use access::Certificate;
use axum::Router;
use axum::extract::Request;
use http::{Method, StatusCode, header};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::*;
use crate::Config;
use crate::peer::{Peer, Shown};

const SERVICES: &str = "/api/v1/namespaces/default/services";

struct Api {
    router: Router,
    _directory: tempfile::TempDir,
}

/// A body that arrives as its test says.
struct Piecewise(mpsc::Receiver<Bytes>);

impl HttpBody for Piecewise {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Api {
    async fn new(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = store::Store::open(store::Config::new(directory.path().join("portolan.db"))).await.unwrap();
        let router = crate::router(&Config { limits, ..Config::new(store, "sesame", "v0") });
        Self { router, _directory: directory }
    }

    /// Sends a request as this user, who has shown a certificate.
    fn send(&self, user: &User, method: Method, path: &str, body: Body) -> JoinHandle<Response> {
        let not_after = "9999-01-01T00:00:00Z".parse().unwrap();
        let certificate = Certificate { user: Arc::new(user.clone()), not_after };
        let address: SocketAddr = "192.0.2.1:4711".parse().unwrap();
        let peer = Peer { address, certificate: Some(Arc::new(Shown::judged(certificate))) };
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.extension(peer).body(body).unwrap();
        let router = self.router.clone();
        tokio::spawn(async move { router.oneshot(request).await.unwrap() })
    }

    async fn get(&self, user: &User, path: &str) -> Response {
        within(self.send(user, Method::GET, path, Body::empty())).await
    }

    /// What the metrics say of this sample.
    async fn metric(&self, sample: &str) -> f64 {
        let page = self.get(&master("metrics"), "/metrics").await.into_body().collect().await.unwrap().to_bytes();
        let page = String::from_utf8(page.to_vec()).unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{sample} is missing in\n{page}"))
    }

    async fn until(&self, sample: &str, value: f64) {
        let begun = Instant::now();
        while self.metric(sample).await != value {
            assert!(begun.elapsed() < Duration::from_secs(30), "{sample} is {}", self.metric(sample).await);
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn within(answer: JoinHandle<Response>) -> Response {
    timeout(Duration::from_secs(30), answer).await.expect("an answer").unwrap()
}

/// One who may do everything.
fn master(name: &str) -> User {
    User::named(name, [access::user::MASTERS.to_owned()])
}

fn service(name: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"ports":[{{"port":80}}]}}}}"#)
}

const EXECUTING: &str = r#"apiserver_flowcontrol_current_executing_seats{priority_level="mutating"}"#;
const QUEUED: &str = r#"apiserver_flowcontrol_current_inqueue_requests{priority_level="mutating"}"#;

/// One whose bodies never come holds its own share and its own queue, and nobody else waits. Nothing is lost of what it has
/// begun.
#[tokio::test]
async fn a_greedy_user_waits_for_itself_alone() {
    let limits = Limits {
        mutating_requests: 4,
        queued_per_user: 3,
        queue_timeout: Duration::from_secs(60),
        ..Limits::default()
    };
    let api = Api::new(limits).await;
    let greedy = master("greedy");
    let mut begun = Vec::new();
    for n in 0..5 {
        let (sender, pieces) = mpsc::channel(1);
        let answer = api.send(&greedy, Method::POST, SERVICES, Body::new(Piecewise(pieces)));
        begun.push((sender, answer, n));
        // In their order.
        let (executing, queued) = ((n + 1).min(2), (n + 1_i32 - 2).max(0));
        api.until(EXECUTING, executing.into()).await;
        api.until(QUEUED, queued.into()).await;
    }

    let refused = within(api.send(&greedy, Method::POST, SERVICES, Body::from(service("late")))).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");

    let other = within(api.send(&master("other"), Method::POST, SERVICES, Body::from(service("other")))).await;
    assert_eq!(other.status(), StatusCode::CREATED);
    assert_eq!(api.get(&greedy, SERVICES).await.status(), StatusCode::OK, "reading is another kind of seat");
    for (user, node) in [(User::node("vm-1"), "vm-1"), (greedy.clone(), "vm-2")] {
        let lease = format!(r#"{{"metadata":{{"name":"{node}"}},"spec":{{"holderIdentity":"{node}"}}}}"#);
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}");
        let beat = within(api.send(&user, Method::PUT, &path, Body::from(lease))).await;
        assert_eq!(beat.status(), StatusCode::CREATED, "{node}");
    }

    for (sender, answer, n) in begun {
        sender.send(Bytes::from(service(&format!("s{n}")))).await.unwrap();
        drop(sender);
        assert_eq!(within(answer).await.status(), StatusCode::CREATED);
    }
    api.until(EXECUTING, 0.0).await;
    api.until(r#"portolan_api_shared_taken{of="bodies"}"#, 0.0).await;
}

#[tokio::test]
async fn watches_are_counted_by_user_and_hold_no_seat() {
    let limits = Limits { requests: 1, user_share: 100, watches_per_user: 2, ..Limits::default() };
    let api = Api::new(limits).await;
    let (a, b) = (master("a"), master("b"));
    let path = &format!("{SERVICES}?watch=true");
    let (first, second) = (api.get(&a, path).await, api.get(&a, path).await);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(api.get(&a, path).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(api.get(&b, path).await.status(), StatusCode::OK);
    assert_eq!(api.get(&a, SERVICES).await.status(), StatusCode::OK);
    drop(second);
    assert_eq!(api.get(&a, path).await.status(), StatusCode::OK);
    // Nodes have watches of their own, however many there are of them.
    let nodes = ["vm-1", "vm-2", "vm-3", "vm-4", "vm-5"].map(User::node);
    let mut watching = Vec::new();
    for node in &nodes {
        for path in ["/api/v1/services?watch=true", "/api/v1/nodes?watch=true"] {
            let answer = api.get(node, path).await;
            assert_eq!(answer.status(), StatusCode::OK, "{} {path}", node.name);
            watching.push(answer);
        }
    }
    assert_eq!(api.get(&b, path).await.status(), StatusCode::OK, "theirs are not others'");
    drop((first, watching));
    api.until(r#"portolan_api_shared_taken{of="watches"}"#, 0.0).await;
    api.until(r#"portolan_api_shared_taken{of="node-watches"}"#, 0.0).await;
}

/// Whoever waits because it asked to wait is not in the way of those who want something now.
#[tokio::test]
async fn requests_that_wait_by_design_hold_no_seat() {
    let api = Api::new(Limits { requests: 1, mutating_requests: 1, user_share: 100, ..Limits::default() }).await;
    let user = master("a");
    assert_eq!(
        within(api.send(&user, Method::POST, SERVICES, Body::from(service("web")))).await.status(),
        StatusCode::CREATED
    );
    let waiting: Vec<_> = [
        "/apis/portolan.dev/v1alpha1/programmed?timeoutSeconds=60",
        "/apis/portolan.dev/v1alpha1/namespaces/default/services/web/programmed?timeoutSeconds=60",
        "/apis/portolan.dev/v1alpha1/nodes/vm-1/questions?timeoutSeconds=60",
    ]
    .map(|path| api.send(&user, Method::GET, path, Body::empty()))
    .into();
    api.until(r#"portolan_api_shared_taken{of="watches"}"#, 3.0).await;
    for n in 0..3 {
        assert_eq!(api.get(&user, SERVICES).await.status(), StatusCode::OK);
        let created = api.send(&user, Method::POST, SERVICES, Body::from(service(&format!("s{n}"))));
        assert_eq!(within(created).await.status(), StatusCode::CREATED);
    }
    waiting.iter().for_each(JoinHandle::abort);
    api.until(r#"portolan_api_shared_taken{of="watches"}"#, 0.0).await;
}

#[tokio::test]
async fn bodies_that_trickle_or_are_too_long_are_given_up() {
    let limits = Limits { request_bytes: 64 * 1024, body_timeout: Duration::from_millis(100), ..Limits::default() };
    let api = Api::new(limits).await;
    let user = master("a");
    let (sender, pieces) = mpsc::channel(1);
    let slow = api.send(&user, Method::POST, SERVICES, Body::new(Piecewise(pieces)));
    sender.send(Bytes::from_static(b"{")).await.unwrap();
    assert_eq!(within(slow).await.status(), StatusCode::GATEWAY_TIMEOUT);
    let long = api.send(&user, Method::POST, SERVICES, Body::from(vec![b' '; 64 * 1024 + 1]));
    assert_eq!(within(long).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    api.until(EXECUTING, 0.0).await;
}
