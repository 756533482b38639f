//! The lab of the cases: what all share, how a Service comes to be, and how a client asks.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proxy_agent::client::{Client, MERGE_PATCH};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::support::Lab;

pub const CLIENT: &str = "172.31.255.100";
const LIMIT: Duration = Duration::from_secs(20);
const SERVICES: &str = "/api/v1/namespaces/default/services";
const OWN: &str = "/apis/portolan.dev/v1alpha1";
/// The prefix of most cases.
const CLOUD: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-";

type Check = fn(&World, &At) -> Result<(), String>;

/// One Service with annotations, and what a client sees of them.
#[derive(Clone)]
pub struct Case {
    /// The Service's name.
    pub name: &'static str,
    /// Suffixes of annotations.
    pub covers: &'static [&'static str],
    /// Whole, with its annotations.
    pub service: Value,
    /// What must be there before it: a path and the object.
    pub before: Vec<(String, Value)>,
    pub check: Check,
}

/// Where a case's Service is reached.
#[derive(Clone, Debug)]
pub struct At {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

impl At {
    pub fn ip(&self) -> String {
        self.addresses[0].to_string()
    }
}

/// A Service of the three backends at their own addresses: port 80 to their HTTP, and whatever the annotations say.
pub fn case(name: &'static str, covers: &'static [&'static str], annotations: &[(&str, &str)], check: Check) -> Case {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": {format!("{CLOUD}backend-type"): "eni"}},
        "spec": {
            "type": "LoadBalancer", "selector": {"app": "back"},
            "ports": [{"name": "main", "port": 80, "targetPort": 8080}],
        },
    });
    for (suffix, value) in annotations {
        let key = if suffix.contains('/') { (*suffix).to_owned() } else { format!("{CLOUD}{suffix}") };
        service["metadata"]["annotations"][key] = json!(value);
    }
    Case { name, covers, service, before: Vec::new(), check }
}

impl Case {
    /// Other ports: name, protocol, port, target port.
    pub fn ports(mut self, ports: &[(&str, &str, u16, u16)]) -> Self {
        let port = |(name, protocol, port, target): &(&str, &str, u16, u16)| json!({"name": name, "protocol": protocol, "port": port, "targetPort": target});
        self.service["spec"]["ports"] = ports.iter().map(port).collect();
        self
    }

    /// A field of the spec.
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.service["spec"][field] = value;
        self
    }

    /// Through nodes and node ports, with this traffic policy.
    pub fn nodes(mut self, policy: &str) -> Self {
        let annotations = self.service["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.remove(&format!("{CLOUD}backend-type"));
        self.spec("externalTrafficPolicy", json!(policy))
    }

    /// Backends of its own: the label `app` of the pods.
    pub fn app(self, app: &str) -> Self {
        self.spec("selector", json!({"app": app}))
    }

    pub fn before(mut self, path: &str, object: Value) -> Self {
        self.before.push((path.to_owned(), object));
        self
    }

    /// An instance made by hand, `lb-NAME`.
    pub fn instance(self, spec: Value) -> Self {
        let object = json!({"metadata": {"name": format!("lb-{}", self.name)}, "spec": spec});
        self.before(&format!("{OWN}/loadbalancers"), object)
    }
}

pub struct World {
    lab: Lab,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl World {
    pub fn new() -> World {
        let lab = Lab::up_edges_with(2, 2, &["--max-load-balancers=200"]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kubeconfig = lab.kubeconfig();
        let client = runtime.block_on(async { Client::from_kubeconfig(&kubeconfig).unwrap() });
        let world = World { lab, client, runtime };
        for (name, node, app) in [
            ("back-1", "node-1", "back"),
            ("back-2", "node-1", "back"),
            ("back-3", "node-2", "back"),
            ("drained", "node-1", "drained"),
            ("drained-2", "node-2", "drained"),
            ("cut", "node-1", "cut"),
            ("cut-2", "node-2", "cut"),
            ("blue", "node-1", "blue"),
            ("green", "node-2", "green"),
        ] {
            world.post("/api/v1/namespaces/default/pods", &backend(name, node, app));
        }
        for (name, entries) in
            [("office", vec![CLIENT, "fd00:31::100"]), ("others", vec!["203.0.113.0/24"]), ("empty", vec![])]
        {
            let entries: Vec<Value> = entries.into_iter().map(|cidr| json!({"cidr": cidr})).collect();
            let list = json!({"metadata": {"name": name}, "spec": {"entries": entries}});
            world.post(&format!("{OWN}/accesslists"), &list);
        }
        let special = json!({
            "metadata": {"name": "special"},
            "spec": {"addresses": ["172.31.255.230-172.31.255.239"], "autoAssign": false},
        });
        world.post(&format!("{OWN}/addresspools"), &special);
        // The lab's own pool has fewer addresses than there are cases.
        let more = json!({
            "metadata": {"name": "more"},
            "spec": {"addresses": ["172.31.255.101-172.31.255.127", "172.31.255.203-172.31.255.229"]},
        });
        world.post(&format!("{OWN}/addresspools"), &more);
        world.certificates();
        world
            .until("backends", || {
                let pods = world.get("/api/v1/namespaces/default/pods");
                let ready = |pod: &Value| {
                    pod["status"]["conditions"].as_array().is_some_and(|all| {
                        all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
                    })
                };
                pods["items"].as_array().unwrap().iter().all(ready).then_some(()).ok_or_else(|| "not ready".to_owned())
            })
            .unwrap();
        world
    }

    /// An authority, and what it has signed: Secrets for the listeners, files for the client.
    fn certificates(&self) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        std::fs::write(self.file("ca.crt"), &authority).unwrap();
        for name in ["a.test", "b.test", "c.test", "client"] {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap().pem();
            std::fs::write(self.file(&format!("{name}.crt")), &certificate).unwrap();
            std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
            let pair = json!({"tls.crt": certificate, "tls.key": key.serialize_pem(), "ca.crt": authority});
            let secret = json!({
                "metadata": {"name": name.replace('.', "-")}, "type": "kubernetes.io/tls", "stringData": pair,
            });
            self.post("/api/v1/namespaces/default/secrets", &secret);
        }
    }

    /// A file of the lab's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.lab.dir.join(name)
    }

    /// What the client needs to speak TLS: trust, and the name that it asks for.
    pub fn tls(&self, sni: Option<&str>) -> Value {
        json!({"ca": self.file("ca.crt"), "sni": sni})
    }

    pub fn post(&self, path: &str, object: &Value) {
        self.runtime.block_on(self.client.post(path, object)).unwrap_or_else(|e| panic!("{path}: {e:?}: {object}"));
    }

    pub fn patch(&self, path: &str, patch: &Value) {
        self.runtime.block_on(self.client.patch(path, MERGE_PATCH, patch)).unwrap_or_else(|e| panic!("{path}: {e:?}"));
    }

    pub fn delete(&self, path: &str) {
        self.runtime.block_on(self.client.delete(path, None)).unwrap_or_else(|e| panic!("{path}: {e:?}"));
    }

    pub fn get(&self, path: &str) -> Value {
        self.runtime.block_on(self.client.get(path)).unwrap_or_else(|e| panic!("{path}: {e:?}"))
    }

    pub fn make(&self, case: &Case) {
        for (path, object) in &case.before {
            self.post(path, object);
        }
        self.post(SERVICES, &case.service);
    }

    /// The object of an instance.
    pub fn instance(&self, name: &str) -> Value {
        self.get(&format!("{OWN}/loadbalancers/{name}"))
    }

    /// The instance of a Service.
    pub fn instance_of(&self, service: &str) -> Result<Value, String> {
        let all = self.get(&format!("{OWN}/loadbalancers"));
        let of = |lb: &&Value| lb["spec"]["owner"]["name"] == service;
        all["items"].as_array().unwrap().iter().find(of).cloned().ok_or_else(|| format!("no instance of {service}"))
    }

    /// Where a case's Service is reached, once its instance is carried out as it stands.
    pub fn ready(&self, case: &Case) -> Result<At, String> {
        self.until(case.name, || {
            let path = format!("{SERVICES}/{}", case.name);
            let service = self.runtime.block_on(self.client.get(&path)).unwrap_or_default();
            let id = case.service["metadata"]["annotations"][format!("{CLOUD}id")].as_str();
            let instance = match id {
                Some(id) => self.instance(id),
                None => self.instance_of(case.name)?,
            };
            let gone = service.is_null();
            let ingress = service["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|all| !all.is_empty());
            let programmed = instance["status"]["programmed"]["generation"] == instance["metadata"]["generation"];
            if !(gone || ingress && programmed) {
                return Err(format!("not ready: {} {}", service["status"], instance["status"]));
            }
            let addresses = instance["spec"]["addresses"].as_array().unwrap();
            let addresses = addresses.iter().map(|address| address.as_str().unwrap().parse().unwrap()).collect();
            Ok(At { name: case.name.to_owned(), addresses })
        })
    }

    pub fn until<T>(&self, what: &str, mut found: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        let end = Instant::now() + LIMIT;
        loop {
            match found() {
                Ok(found) => return Ok(found),
                Err(problem) if Instant::now() > end => return Err(format!("{what}: {problem}")),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Has the client do something (`annotations/client.py`), and returns what came of it.
    pub fn ask(&self, told: &Value) -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/annotations/client.py");
        let printed = self.lab.exec("client", &["python3", script, &told.to_string()]);
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{told} printed {printed:?}: {e}"))
    }

    /// Requests to port 80; `more` says how.
    pub fn http(&self, at: &At, more: Value) -> Vec<Value> {
        self.to(at, "http", 80, more).as_array().unwrap().clone()
    }

    /// One request to port 80, which must be answered with 200; its body.
    pub fn one(&self, at: &At, more: Value) -> Result<Value, String> {
        let answer = self.http(at, more).remove(0);
        if answer["status"] == 200 { Ok(answer["body"].clone()) } else { Err(format!("{}: {answer}", at.ip())) }
    }

    pub fn to(&self, at: &At, what: &str, port: u16, more: Value) -> Value {
        let mut told = json!({"do": what, "to": [at.ip(), port]});
        told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ask(&told)
    }

    /// What a command prints in a namespace of the lab.
    pub fn exec(&self, name: &str, argv: &[&str]) -> String {
        self.lab.exec(name, argv)
    }

    /// Tells every backend how to answer a path from now on.
    pub fn set(&self, pods: &[&str], path: &str, status: u16, delay: f32) {
        for pod in pods {
            let url = format!("http://127.0.0.1:8080/set?path={path}&status={status}&delay={delay}");
            self.exec(&format!("default/{pod}"), &["curl", "-sS", &url]);
        }
    }

    /// How a backend was asked for a path: seconds, method, Host, port.
    pub fn seen(&self, pod: &str, path: &str) -> Vec<(f64, String, String, u16)> {
        let url = format!("http://127.0.0.1:8080/seen?path={path}");
        let text = self.exec(&format!("default/{pod}"), &["curl", "-sS", &url]);
        let answer: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(answer["seen"].clone()).unwrap()
    }
}

/// A Pod with `annotations/backend.py`.
fn backend(name: &str, node: &str, app: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/annotations/backend.py");
    json!({
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "backend", "command": ["python3", script], "env": [{"name": "POD", "value": name}],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            }],
        },
    })
}

/// `Ok` if it holds, else what was seen.
pub fn holds(truth: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if truth { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// How many answers came from each pod, and those that were none.
pub fn pods(answers: &[Value]) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for answer in answers {
        let pod = answer["body"]["pod"].as_str().or(answer["pod"].as_str()).unwrap_or("none");
        *counts.entry(pod.to_owned()).or_default() += 1;
    }
    counts
}
