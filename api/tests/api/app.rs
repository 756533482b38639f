//! The app under test: a temp directory, a store with a fixed clock and seed, the router, and short ways to ask it.

use std::sync::Arc;
use std::time::Duration;

use access::Certificate;
use access::service_account::Signer;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::{Config, Environment, Store};
use tower::ServiceExt;

pub const TOKEN: &str = "sesame";

pub struct App {
    pub store: Store,
    router: Router,
    _directory: tempfile::TempDir,
}

/// A whole answer.
pub struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl App {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let environment =
            Environment { clock: Box::new(|| "2024-05-01T12:00:00Z".parse().unwrap()), seed: [1, 2, 3, 4] };
        let mut config = Config::new(directory.path().join("portolan.db"));
        configure(&mut config);
        let store = Store::open_in(config, environment).await.unwrap();
        let config = api::Config { signer: Some(signer()), ..api::Config::new(store.clone(), TOKEN, "v0.1.0") };
        let router = api::router(&config);
        Self { store, router, _directory: directory }
    }

    /// The same, with somebody who counts the beats of nodes.
    pub async fn with_heartbeats(heartbeats: Arc<dyn api::Heartbeats>) -> Self {
        let mut app = Self::new().await;
        let config = api::Config::new(app.store.clone(), TOKEN, "v0.1.0");
        app.router = api::router(&api::Config { heartbeats: Some(heartbeats), ..config });
        app
    }

    /// A request with the token.
    pub fn request(method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("Authorization", format!("Bearer {TOKEN}"))
    }

    pub async fn start(&self, request: Request<Body>) -> http::Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.start(request).await.into_parts();
        let body = tokio::time::timeout(Duration::from_secs(10), body.collect()).await.expect("an answer that ends");
        Answer { code: parts.status, headers: parts.headers, body: body.unwrap().to_bytes() }
    }

    /// As [`send`](Self::send), over a connection on which this certificate was shown.
    pub async fn send_over(&self, certificate: Certificate, mut request: Request<Body>) -> Answer {
        let address = "192.0.2.7:7".parse().unwrap();
        request
            .extensions_mut()
            .insert(api::Peer { address, certificate: Some(Arc::new(api::Shown::judged(certificate))) });
        self.send(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Self::request("GET", path).body(Body::empty()).unwrap()).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Self::request("GET", path).header("Accept", accept).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Self::request("DELETE", path).body(Body::empty()).unwrap()).await
    }

    pub async fn with_body(&self, method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        self.send(Self::request(method, path).header("Content-Type", content_type).body(body.into()).unwrap()).await
    }

    pub async fn post(&self, path: &str, value: &Value) -> Answer {
        self.with_body("POST", path, "application/json", value.to_string()).await
    }

    pub async fn put(&self, path: &str, value: &Value) -> Answer {
        self.with_body("PUT", path, "application/json", value.to_string()).await
    }

    /// Creates a Service in `default` and returns it.
    pub async fn service(&self, name: &str, labels: Value) -> Value {
        let answer = self.post(SERVICES, &service(name, labels)).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
        answer.json()
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("Warning").iter().map(|v| v.to_str().unwrap()).collect()
    }

    /// `404 NotFound: services "x" not found`.
    pub fn status(&self) -> String {
        let value = self.json();
        assert_eq!(value["kind"], "Status", "{value}");
        assert_eq!(value["code"], self.code.as_u16());
        assert_eq!(self.header("Content-Type"), "application/json");
        format!(
            "{} {}: {}",
            value["code"],
            value["reason"].as_str().unwrap_or(""),
            value["message"].as_str().unwrap_or("")
        )
    }

    /// The body laid out, with what differs from run to run replaced.
    pub fn golden(&self) -> String {
        let mut value = self.json();
        mask(&mut value);
        format!("{} {}", self.code.as_u16(), serde_json::to_string_pretty(&value).unwrap())
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if matches!(key.as_str(), "uid" | "resourceVersion" | "clusterIP") && value.is_string() {
                    *value = format!("<{key}>").into();
                } else if key == "clusterIPs" {
                    *value = "<clusterIPs>".into();
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

pub const SERVICES: &str = "/api/v1/namespaces/default/services";

/// A new key for the tokens of ServiceAccounts.
fn signer() -> Arc<Signer> {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    Arc::new(Signer::new(ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap().as_ref()).unwrap())
}

/// A Service with one port; kind and apiVersion left to the server.
pub fn service(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 80}], "selector": {"app": name}}})
}
