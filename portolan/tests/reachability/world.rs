//! A lab that rows put their Pods and Services into, and what they may ask of it.
//!
//! Rows run side by side, so each has Services and addresses of its own. What all have: `caller` and `web-1` on node-1,
//! `web-2` on node-2, nothing on node-3, and a client outside whose routes lead to node-1.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proxy_agent::client::{Client, MERGE_PATCH};
use serde_json::{Value, json};

use super::support::{Lab, PORTOLAN, Running, service};

/// What is wrong, if anything.
pub type Outcome = Result<(), String>;

/// How often a random choice is made: that one of two endpoints never comes up happens once in eight million times.
const DRAWS: usize = 24;
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// How a Service is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}
pub use Transport::{Tcp, Udp};

impl Transport {
    pub fn name(self) -> &'static str {
        if self == Tcp { "tcp" } else { "udp" }
    }
}

/// Who answers on TCP port 80 of every address that the client has.
pub const ELSEWHERE: &str = "elsewhere";

pub struct World {
    _elsewhere: Running,
    pub lab: Lab,
    client: Client,
    runtime: tokio::runtime::Runtime,
    dataplane: &'static str,
}

/// A Service as the server stores it.
pub struct Made(Value);

impl Made {
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    pub fn address(&self, v6: bool) -> IpAddr {
        let all = self.0["spec"]["clusterIPs"].as_array().unwrap();
        of_family(all.iter().map(|ip| ip.as_str().unwrap().parse().unwrap()), v6)
    }

    pub fn node_port(&self, transport: Transport) -> u16 {
        let ports = self.0["spec"]["ports"].as_array().unwrap();
        let port = ports.iter().find(|p| p["name"] == transport.name()).unwrap();
        u16::try_from(port["nodePort"].as_u64().unwrap()).unwrap()
    }

    /// Its ClusterIP with port 80.
    pub fn at(&self, v6: bool) -> SocketAddr {
        SocketAddr::new(self.address(v6), 80)
    }

    /// Its node port on that address.
    pub fn on(&self, address: IpAddr, transport: Transport) -> SocketAddr {
        SocketAddr::new(address, self.node_port(transport))
    }
}

fn of_family(mut all: impl Iterator<Item = IpAddr>, v6: bool) -> IpAddr {
    all.find(|ip| ip.is_ipv6() == v6).expect("an address of this family")
}

/// The address of node `number`, which is the lab's promise.
pub fn node(number: u8, v6: bool) -> IpAddr {
    if v6 { format!("fd00:31::1{number}") } else { format!("172.31.255.1{number}") }.parse().unwrap()
}

pub fn client(v6: bool) -> IpAddr {
    if v6 { "fd00:31::100" } else { "172.31.255.100" }.parse().unwrap()
}

/// An address that the client and the nodes have no other route to than through node-1.
pub fn external(number: u8, v6: bool) -> IpAddr {
    if v6 { format!("2001:db8:113::{number}") } else { format!("203.0.113.{number}") }.parse().unwrap()
}

/// A dual-stack Service of TCP and UDP port 80; `more` is added to its spec.
pub fn spec(selector: Value, more: Value) -> Value {
    let mut spec = json!({"ipFamilyPolicy": "RequireDualStack", "selector": selector, "ports": [
        {"name": "tcp", "port": 80, "targetPort": 8080}, {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP"}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    // The tests write what a load balancer would, so no other may.
    if spec["type"] == "LoadBalancer" {
        spec["loadBalancerClass"] = "example.com/by-hand".into();
    }
    spec
}

/// The same in each family.
pub fn both_families(check: impl Fn(bool) -> Outcome) -> Outcome {
    for v6 in [false, true] {
        check(v6).map_err(|text| format!("IPv{}: {text}", if v6 { 6 } else { 4 }))?;
    }
    Ok(())
}

/// The same in each family, over TCP and UDP.
pub fn everywhere(check: impl Fn(bool, Transport) -> Outcome) -> Outcome {
    both_families(|v6| {
        for transport in [Tcp, Udp] {
            check(v6, transport).map_err(|text| format!("{transport:?}: {text}"))?;
        }
        Ok(())
    })
}

impl World {
    pub fn new(dataplane: &'static str, agent_args: &[&str]) -> World {
        let lab = Lab::up_on(dataplane, 3, agent_args);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async { Client::from_kubeconfig(&lab.kubeconfig()).unwrap() });
        let elsewhere = lab.start("client", &["echo", "--tcp", "80", "--pod", ELSEWHERE]);
        let world = World { _elsewhere: elsewhere, lab, client, runtime, dataplane };
        for node in ["node-1", "node-2", "node-3"] {
            // A refusal is said by ICMP, which the kernel sends one client no faster than one a second.
            let unlimited = "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit";
            world.lab.exec(node, &["sh", "-c", unlimited]);
        }
        for (range, via) in [
            ("203.0.113.0/24", node(1, false)),
            ("2001:db8:113::/64", node(1, true)),
            ("10.96.0.0/16", node(1, false)),
            ("fd00:10:96::/112", node(1, true)),
        ] {
            world.lab.exec("client", &["ip", "route", "add", range, "via", &via.to_string()]);
        }
        world.pod("caller", "node-1", json!({"app": "caller"}));
        world.pod("web-1", "node-1", json!({"app": "web", "at": "1"}));
        world.pod("web-2", "node-2", json!({"app": "web", "at": "2"}));
        world.ready(&["caller", "web-1", "web-2"]);
        let (own, deadline) = (SocketAddr::new(self::client(false), 80), Instant::now() + Duration::from_secs(10));
        while counts(&world.probe("client", Tcp, own, 1, 1000), "pods").is_empty() {
            assert!(Instant::now() < deadline, "the client's echo does not answer");
        }
        world
    }

    /// An echo on TCP and UDP port 8080.
    pub fn pod(&self, name: &str, node: &str, labels: Value) {
        let ports = json!([{"containerPort": 8080}, {"containerPort": 8080, "protocol": "UDP"}]);
        self.make_pod(name, node, labels, json!({"containers": [{"name": "echo", "ports": ports}]}));
    }

    pub fn make_pod(&self, name: &str, node: &str, labels: Value, mut spec: Value) {
        spec["nodeName"] = json!(node);
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec});
        self.runtime.block_on(self.client.post(PODS, &pod)).unwrap();
    }

    pub fn label(&self, pod: &str, labels: Value) {
        let patch = json!({"metadata": {"labels": labels}});
        self.runtime.block_on(self.client.patch(&format!("{PODS}/{pod}"), MERGE_PATCH, &patch)).unwrap();
    }

    /// Starts to delete a Pod.
    pub fn delete_pod(&self, name: &str) {
        self.runtime.block_on(self.client.delete(&format!("{PODS}/{name}"), None)).unwrap();
    }

    /// Deletes a Pod, and returns when it is gone.
    pub fn remove_pod(&self, name: &str) {
        let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 1});
        self.runtime.block_on(self.client.delete(&format!("{PODS}/{name}"), Some(&now))).unwrap();
        self.until(name, "gone", |pod| pod.is_none());
    }

    pub fn ready(&self, pods: &[&str]) {
        for name in pods {
            self.until(name, "ready", |pod| pod.is_some_and(|p| condition(p, "Ready")));
        }
    }

    pub fn terminating(&self, pods: &[&str]) {
        for name in pods {
            let deleted = |pod: Option<&Value>| pod.is_some_and(|p| p["metadata"]["deletionTimestamp"].is_string());
            self.until(name, "terminating", deleted);
        }
    }

    pub fn until(&self, pod: &str, what: &str, holds: impl Fn(Option<&Value>) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.runtime.block_on(self.client.get(&format!("{PODS}/{pod}")));
            let now = match answer {
                Ok(pod) => Some(pod),
                Err(error) if error.is_not_found() => None,
                Err(error) => panic!("{pod}: {error}"),
            };
            if holds(now.as_ref()) {
                return;
            }
            assert!(Instant::now() < deadline, "pod {pod} is not {what} after 30 s: {}", self.lab.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn service(&self, name: &str, spec: Value) -> Made {
        self.make_service(&service(name, spec))
    }

    pub fn make_service(&self, service: &Value) -> Made {
        Made(self.runtime.block_on(self.client.post(SERVICES, service)).unwrap())
    }

    /// What a load balancer would write: the addresses that it has for the Service.
    pub fn ingress(&self, service: &Made, number: u8, ip_mode: &str) {
        let entry = |v6| json!({"ip": external(number, v6), "ipMode": ip_mode});
        let patch = json!({"status": {"loadBalancer": {"ingress": [entry(false), entry(true)]}}});
        let path = format!("{SERVICES}/{}/status", service.name());
        self.runtime.block_on(self.client.patch(&path, MERGE_PATCH, &patch)).unwrap();
    }

    /// The addresses of every Service.
    pub fn addresses_in_use(&self) -> BTreeSet<IpAddr> {
        let list = self.runtime.block_on(self.client.get("/api/v1/services")).unwrap();
        let services = list["items"].as_array().unwrap().iter();
        let all = services.flat_map(|s| s["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default());
        all.filter_map(|ip| ip.as_str()?.parse().ok()).collect()
    }

    pub fn pod_address(&self, pod: &str, v6: bool) -> IpAddr {
        let pod = self.runtime.block_on(self.client.get(&format!("{PODS}/{pod}"))).unwrap();
        let ips = pod["status"]["podIPs"].as_array().unwrap().clone();
        of_family(ips.iter().map(|ip| ip["ip"].as_str().unwrap().parse().unwrap()), v6)
    }

    /// Returns when every node has what was written up to now.
    pub fn wait(&self) {
        self.lab.wait();
    }

    pub fn probe(&self, from: &str, transport: Transport, to: SocketAddr, count: usize, timeout_ms: u32) -> Value {
        let (count, timeout_ms) = (count.to_string(), timeout_ms.to_string());
        let more = ["--count", &count, "--concurrency", "4", "--timeout-ms", &timeout_ms];
        self.lab.probe(from, transport.name(), &to.to_string(), &more)
    }

    /// Every request is answered; the Pods are exactly these, and see clients of no other address than these.
    pub fn answered(
        &self,
        from: &str,
        transport: Transport,
        to: SocketAddr,
        pods: &[&str],
        seen: &[IpAddr],
    ) -> Outcome {
        let draws = if pods.len() == 1 { 4 } else { DRAWS };
        let report = self.probe(from, transport, to, draws, 5000);
        let answering: BTreeSet<String> = counts(&report, "pods").into_keys().collect();
        let clients: BTreeSet<IpAddr> = counts(&report, "clients").keys().map(|ip| ip.parse().unwrap()).collect();
        let right = report["answered"] == draws
            && answering == pods.iter().map(|p| (*p).to_owned()).collect()
            && clients.iter().all(|ip| seen.contains(ip));
        if right { Ok(()) } else { Err(format!("{from} → {to}: {report}, not {pods:?} asked by {seen:?}")) }
    }

    /// Every request is refused at once.
    pub fn refused(&self, from: &str, transport: Transport, to: SocketAddr) -> Outcome {
        self.failing(from, transport, to, "refused", 3000)
    }

    /// Nothing comes back.
    pub fn dropped(&self, from: &str, transport: Transport, to: SocketAddr) -> Outcome {
        self.failing(from, transport, to, "timeout", 600)
    }

    fn failing(&self, from: &str, transport: Transport, to: SocketAddr, kind: &str, timeout_ms: u32) -> Outcome {
        let report = self.probe(from, transport, to, 2, timeout_ms);
        let right = counts(&report, "failures") == [(kind.to_owned(), 2)].into();
        if right { Ok(()) } else { Err(format!("{from} → {to}: {report}, not {kind}")) }
    }

    /// Starts a client that asks twenty times a second from one socket, for six seconds, and returns when it does.
    pub fn keep_asking(&self, from: &str, transport: Transport, to: SocketAddr) -> Running {
        let more = ["--keep", "--rate", "20", "--seconds", "6", "--timeout-ms", "400"];
        let client = self.lab.start_probe(from, transport.name(), &to.to_string(), &more);
        let (sockets, peer) = (format!("cat /proc/net/{0} /proc/net/{0}6", transport.name()), in_proc(to));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.lab.exec(from, &["sh", "-c", &sockets]).contains(&peer) {
            assert!(Instant::now() < deadline, "{from} does not ask {to}");
        }
        client
    }

    /// Gives these addresses to somebody else, whom node-1 has a route to: [`ELSEWHERE`].
    pub fn give_elsewhere(&self, addresses: [IpAddr; 2]) {
        for ip in addresses {
            let (own, via) =
                (format!("{ip}/{}", if ip.is_ipv6() { 128 } else { 32 }), client(ip.is_ipv6()).to_string());
            self.lab.exec("client", &["ip", "address", "add", &own, "dev", "lo"]);
            self.lab.exec("node-1", &["ip", "route", "add", &ip.to_string(), "via", &via]);
        }
    }

    /// The lines of what node-1 has for IPv4 and IPv6 that name this Service.
    pub fn programmed(&self, name: &str) -> Vec<String> {
        let (programs, mark): (&[&[&str]], _) = match self.dataplane {
            "nftables" => (&[&["nft", "list", "ruleset"]], format!("\"default/{name}\"")),
            _ => (&[&["iptables-save"], &["ip6tables-save"]], format!("\"default/{name}:")),
        };
        let text: String = programs.iter().map(|program| self.lab.exec("node-1", program)).collect();
        text.lines().filter(|line| line.contains(&mark)).map(str::to_owned).collect()
    }

    /// The command of a container that answers on TCP and UDP port 8080 and goes on for so long when it is told to end.
    pub fn lasting_echo(drain_ms: &str) -> Value {
        json!([PORTOLAN, "echo", "--tcp", "8080", "--udp", "8080", "--drain-ms", drain_ms])
    }
}

/// As `/proc/net/udp` has it: each word of the address in the host's order.
fn in_proc(at: SocketAddr) -> String {
    let bytes = match at.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let word = |bytes: &[u8]| format!("{:08X}", u32::from_ne_bytes(bytes.try_into().unwrap()));
    format!("{}:{:04X}", bytes.chunks(4).map(word).collect::<String>(), at.port())
}

fn condition(pod: &Value, name: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == name && c["status"] == "True")
}

/// One of a report's tables.
pub fn counts(report: &Value, field: &str) -> BTreeMap<String, u64> {
    report[field].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_u64().unwrap())).collect()
}
